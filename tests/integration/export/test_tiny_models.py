"""Tiny XLM-R and BERT models, exported and compared with transformers."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import pytest
from late import late, needs_torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from alignstream.export.encoders import sentence_transformers as folders
from alignstream.export.encoders.parity_texts import parity_texts
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import Manifest, Pooling
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import AlignstreamError, ExportError
from alignstream.ops.cli import app

onnx_export = late("alignstream.export.encoders.onnx_export")
parity = late("alignstream.export.encoders.parity")
torch = late("torch")
transformers = late("transformers")

pytestmark = needs_torch

Build = Callable[..., Path]
Vectors = NDArray[np.float32]

LAYERS = 4
TEXTS = [
    "The river rises.",
    "boats",
    "Die Boote bleiben im Hafen, und der Fluss steigt.",
    "雨后河水上涨",
    "река",
]
#: Float32 sums in another order, after four layers.
TOLERANCE = 1e-5


def export(model: Path, output: Path, **options: Any) -> Manifest:
    """Export without warnings, unless the test takes them."""

    def fail(message: str) -> None:
        pytest.fail(f"unexpected warning: {message}")

    manifest: Manifest = onnx_export.export_onnx(str(model), output, **({"warn": fail} | options))
    assert manifest == artifact.read_manifest(output)
    return manifest


def by_transformers(
    folder: Path, texts: list[str], *, layer: int, pooling: Pooling, prefix: str = ""
) -> Vectors:
    """Encode with transformers alone: one text at a time, from the hidden states of the whole model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(prefix + text, return_tensors="pt", truncation=True, max_length=512)
        with torch.no_grad():
            hidden = model(**inputs, output_hidden_states=True).hidden_states[layer][0]
            x = {
                "mean": lambda hidden=hidden: hidden.mean(0),
                "cls": lambda hidden=hidden: hidden[0],
                "pooler": lambda hidden=hidden: model.pooler(hidden[None])[0],
            }[pooling]()
        rows.append((x / x.norm()).numpy())
    return np.stack(rows)


class Exports(Protocol):
    """Gives the artifact of a tiny model: exported once for all tests that only read it."""

    def __call__(self, family: str, pooling: Pooling, layer: int | None, /) -> Path: ...


@pytest.fixture(scope="module")
def exported(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exports:
    @functools.cache
    def once(family: str, pooling: Pooling, layer: int | None, /) -> Path:
        folder = tmp_path_factory.mktemp("exported") / "artifact"
        export(models[family], folder, pooling=pooling, layer=layer)
        return folder

    return once


@pytest.mark.parametrize("family", ["xlm-r", "bert-cased", "bert-uncased"])
@pytest.mark.parametrize(
    ("pooling", "layer"), [("mean", None), ("cls", None), ("pooler", None), ("mean", 2), ("cls", 1)]
)
def test_an_exported_model_gives_what_transformers_gives(
    models: dict[str, Path], exported: Exports, family: str, pooling: Pooling, layer: int | None
) -> None:
    folder = exported(family, pooling, layer)
    manifest, encoder = artifact.read_manifest(folder), OnnxEncoder(folder)
    expected = by_transformers(models[family], TEXTS, layer=layer or LAYERS, pooling=pooling)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=TOLERANCE)
    assert (manifest.layer, manifest.pooling, manifest.dense) == (layer, pooling, None)
    assert (manifest.dim, manifest.max_tokens, manifest.opset) == (32, 512, 18)
    assert manifest.family == ("xlm-roberta" if family == "xlm-r" else "bert")


@pytest.mark.parametrize("family", ["xlm-r", "bert-cased"])
def test_the_report_covers_ten_scripts_and_one_to_512_tokens(exported: Exports, family: str) -> None:
    report = artifact.read_manifest(exported(family, "mean", None)).parity
    assert report is not None
    assert len({row["script"] for row in report["per_text"]}) >= 10
    lengths = {row["tokens"] for row in report["per_text"]}
    assert (min(lengths), max(lengths)) == (1, 512)
    assert report["largest_difference"] <= parity.MAX_DIFFERENCE
    assert report["lowest_cosine"] >= parity.MIN_COSINE


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("family", ["xlm-r", "bert-uncased"])
def test_a_text_gives_the_same_bytes_in_every_batch(exported: Exports, family: str, pooling: Pooling) -> None:
    encoder = OnnxEncoder(exported(family, pooling, None), max_batch_tokens=100_000)
    tokens = encoder.tokenize([text for _, text in parity_texts()])
    alone = [encoder.encode([item])[0].tobytes() for item in tokens]
    assert [row.tobytes() for row in encoder.encode(tokens[::-1])] == alone[::-1]


def test_token_vectors_are_those_of_the_chosen_layer(models: dict[str, Path], exported: Exports) -> None:
    encoder = OnnxEncoder(exported("bert-cased", "mean", 2))
    (ours,) = encoder.token_matrices(encoder.tokenize([TEXTS[0]]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(models["bert-cased"])
    model = transformers.AutoModel.from_pretrained(models["bert-cased"]).eval()
    with torch.no_grad():
        hidden = model(**tokenizer(TEXTS[0], return_tensors="pt"), output_hidden_states=True).hidden_states[
            2
        ][0]
    np.testing.assert_allclose(ours, hidden.numpy(), atol=1e-4)


def test_another_pooling_or_layer_is_another_space_by_more_than_the_parity_tolerance(
    models: dict[str, Path],
) -> None:
    right = by_transformers(models["xlm-r"], TEXTS, layer=LAYERS, pooling="mean")
    others: tuple[tuple[int, Pooling], ...] = ((LAYERS, "cls"), (LAYERS, "pooler"), (LAYERS - 1, "mean"))
    for layer, pooling in others:
        wrong = by_transformers(models["xlm-r"], TEXTS, layer=layer, pooling=pooling)
        assert np.abs(right - wrong).max() > 100 * parity.MAX_DIFFERENCE


def test_an_uncased_model_gives_one_vector_for_both_cases_and_a_cased_one_does_not(
    exported: Exports,
) -> None:
    texts = ["The Harbour", "the harbour"]
    for family, is_equal in (("bert-uncased", True), ("bert-cased", False)):
        first, second = OnnxEncoder(exported(family, "mean", None)).encode_texts(texts)
        assert np.array_equal(first, second) is is_equal


def test_a_prefix_stands_in_front_of_every_text(models: dict[str, Path], tmp_path: Path) -> None:
    manifest = export(models["xlm-r"], tmp_path / "out", prefix="passage: ")
    expected = by_transformers(models["xlm-r"], TEXTS, layer=LAYERS, pooling="mean", prefix="passage: ")
    np.testing.assert_allclose(OnnxEncoder(tmp_path / "out").encode_texts(TEXTS), expected, atol=TOLERANCE)
    assert manifest.prefix == "passage: "


def test_e5_models_get_their_prefix_by_name_and_others_none(build: Build, tmp_path: Path) -> None:
    for number, (name, prefix) in enumerate(
        {
            "multilingual-e5-tiny": "query: ",
            "e5-tiny": "query: ",
            "e5-tiny-instruct": "",
            "huge5-tiny": "",
        }.items()
    ):
        manifest = export(build("xlm-r", name=name), tmp_path / str(number))
        assert (manifest.source, manifest.prefix) == (name, prefix)


def test_the_fingerprint_covers_the_tensors_that_are_used_and_no_others(build: Build, tmp_path: Path) -> None:
    def change_layer_4(model: torch.nn.Module) -> None:
        model.encoder.layer[3].output.dense.bias += 1

    def change_pooler(model: torch.nn.Module) -> None:
        model.pooler.dense.bias += 1

    plain = build("bert-cased")
    others = {
        "layer 4": build("bert-cased", change=change_layer_4),
        "pooler": build("bert-cased", change=change_pooler),
    }

    def fingerprint(folder: Path, **options: object) -> str:
        return export(folder, tmp_path / "out", overwrite=True, **options).fingerprint

    assert fingerprint(plain, layer=2) == fingerprint(others["layer 4"], layer=2)
    assert fingerprint(plain) != fingerprint(others["layer 4"])
    assert fingerprint(plain) == fingerprint(others["pooler"])
    assert fingerprint(plain, pooling="pooler") != fingerprint(others["pooler"], pooling="pooler")
    assert fingerprint(plain, layer=LAYERS) == fingerprint(plain)
    assert fingerprint(plain, layer=3) != fingerprint(plain)


def test_a_model_of_fewer_positions_cuts_earlier(build: Build, tmp_path: Path) -> None:
    manifest = export(build("xlm-r", max_position_embeddings=66), tmp_path / "out")
    assert manifest.max_tokens == 64
    assert manifest.parity is not None
    assert manifest.parity["longest_tokens"] == 64
    assert OnnxEncoder(tmp_path / "out").encode_texts([" ".join(TEXTS * 20)]).shape == (1, 32)


# -- sentence-transformers folders ------------------------------------------------------------------


def sentence_folder(
    base: Path,
    target: Path,
    *,
    pooling: str = "pooling_mode_cls_token",
    activation: str | None = "Tanh",
    settings: dict[str, Any] | None = None,
    in_subfolder: bool = False,
) -> tuple[Path, Any]:
    """Write a folder as sentence-transformers does; return it and its dense layer."""
    target.mkdir()
    encoder = target / "0_Transformer" if in_subfolder else target
    shutil.copytree(base, encoder, dirs_exist_ok=True)
    (encoder / "sentence_bert_config.json").write_text(json.dumps(settings or {"do_lower_case": False}))
    package = "sentence_transformers.models"
    modules = [("Transformer", encoder.name if in_subfolder else ""), ("Pooling", "1_Pooling")]
    dense = None
    if activation is not None:
        modules.append(("Dense", "2_Dense"))
        torch.manual_seed(11)
        dense = torch.nn.Linear(32, 12)
        (target / "2_Dense").mkdir()
        config = {
            "in_features": 32,
            "out_features": 12,
            "bias": True,
            "activation_function": f"torch.nn.modules.activation.{activation}",
        }
        (target / "2_Dense" / "config.json").write_text(json.dumps(config))
        tensors = {"linear.weight": dense.weight.detach(), "linear.bias": dense.bias.detach()}
        pytest.importorskip("safetensors.torch").save_file(tensors, target / "2_Dense" / "model.safetensors")
    modules.append(("Normalize", "3_Normalize"))
    (target / "1_Pooling").mkdir()
    modes = dict.fromkeys(
        ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens"), False
    ) | {pooling: True}
    (target / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))
    (target / "modules.json").write_text(
        json.dumps(
            [
                {"idx": number, "name": str(number), "path": path, "type": f"{package}.{kind}"}
                for number, (kind, path) in enumerate(modules)
            ]
        )
    )
    return target, dense


@pytest.mark.parametrize("in_subfolder", [False, True])
def test_a_folder_like_labse_is_exported_with_its_dense_layer(
    models: dict[str, Path], tmp_path: Path, in_subfolder: bool
) -> None:
    folder, dense = sentence_folder(models["bert-cased"], tmp_path / "labse", in_subfolder=in_subfolder)
    manifest = export(folder, tmp_path / "out")
    assert (manifest.pooling, manifest.dense, manifest.dim) == ("cls", "tanh", 12)
    pooled = []
    tokenizer = transformers.AutoTokenizer.from_pretrained(models["bert-cased"])
    model = transformers.AutoModel.from_pretrained(models["bert-cased"]).eval()
    with torch.no_grad():
        for text in TEXTS:
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
            x = torch.tanh(dense(hidden))
            pooled.append((x / x.norm()).numpy())
    encoder = OnnxEncoder(tmp_path / "out")
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), np.stack(pooled), atol=TOLERANCE)
    tokens = encoder.tokenize(TEXTS)
    alone = [encoder.encode([item])[0].tobytes() for item in tokens]
    assert [row.tobytes() for row in encoder.encode(tokens)] == alone


def test_a_dense_layer_kept_as_a_torch_file_is_read_as_tensors_alone(
    models: dict[str, Path], tmp_path: Path
) -> None:
    folder, dense = sentence_folder(models["bert-cased"], tmp_path / "labse")
    first = export(folder, tmp_path / "first")
    (folder / "2_Dense" / "model.safetensors").unlink()
    tensors = {"linear.weight": dense.weight.detach(), "linear.bias": dense.bias.detach()}
    torch.save(tensors, folder / "2_Dense" / "pytorch_model.bin")
    assert export(folder, tmp_path / "second").fingerprint == first.fingerprint
    torch.save({"linear.weight": Path("code")}, folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ExportError, match="dense layer cannot be read"):
        export(folder, tmp_path / "third")


def test_a_sentence_folder_decides_the_pooling_and_an_option_overrides_it(
    models: dict[str, Path], tmp_path: Path
) -> None:
    folder, _ = sentence_folder(
        models["xlm-r"], tmp_path / "st", pooling="pooling_mode_cls_token", activation=None
    )
    assert export(folder, tmp_path / "a").pooling == "cls"
    assert export(folder, tmp_path / "b", pooling="mean").pooling == "mean"


def test_a_folder_that_asks_for_what_a_graph_cannot_do_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    base = models["bert-cased"]
    folder, _ = sentence_folder(base, tmp_path / "max", pooling="pooling_mode_max_tokens", activation=None)
    with pytest.raises(ExportError, match="pooling_mode_max_tokens"):
        export(folder, tmp_path / "out")
    folder, _ = sentence_folder(base, tmp_path / "act", activation="Softplus")
    with pytest.raises(ExportError, match="softplus"):
        export(folder, tmp_path / "out")
    folder, _ = sentence_folder(base, tmp_path / "case", settings={"do_lower_case": True})
    with pytest.raises(ExportError, match="do_lower_case"):
        export(folder, tmp_path / "out")
    folder, _ = sentence_folder(base, tmp_path / "odd")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.LSTM"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ExportError, match="LSTM"):
        export(folder, tmp_path / "out")
    modules[2] |= {"type": "sentence_transformers.models.Dense", "path": "../elsewhere"}
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ExportError, match="outside its folder"):
        export(folder, tmp_path / "out")
    (folder / "modules.json").write_text("[")
    with pytest.raises(ExportError, match="cannot be read"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_default_prompt_of_a_sentence_folder_becomes_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    steps = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "passage"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    recipe = folders.read_recipe(tmp_path)
    assert (recipe.pooling, recipe.prompt) == ("mean", "passage: ")


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, -1, LAYERS + 1])
def test_a_layer_out_of_range_is_refused(models: dict[str, Path], tmp_path: Path, layer: int) -> None:
    with pytest.raises(ExportError, match=f"layers 1 to {LAYERS}"):
        export(models["xlm-r"], tmp_path / "out", layer=layer)


def test_an_unknown_precision_or_pooling_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unknown precision 'int8'; supported: fp32"):
        export(models["xlm-r"], tmp_path / "out", precision="int8")
    with pytest.raises(ExportError, match="unknown pooling 'max'"):
        export(models["xlm-r"], tmp_path / "out", pooling="max")


def test_a_raw_model_is_exported_with_a_warning_unless_a_layer_is_chosen(
    build: Build, tmp_path: Path
) -> None:
    folder = build("xlm-r", head=True)
    warnings: list[str] = []
    export(folder, tmp_path / "out", warn=warnings.append)
    assert len(warnings) == 1
    assert "--layer 3" in warnings[0]
    export(folder, tmp_path / "middle", layer=3)


def test_a_checkpoint_without_a_pooler_is_not_given_a_random_one(build: Build, tmp_path: Path) -> None:
    folder = build("xlm-r", head=True)
    with pytest.raises(ExportError, match="has no pooler"):
        export(folder, tmp_path / "out", pooling="pooler", warn=lambda _: None)


def test_an_incomplete_checkpoint_is_not_filled_up_with_random_numbers(build: Build, tmp_path: Path) -> None:
    folder = build("bert-cased")
    library = pytest.importorskip("safetensors.torch")
    tensors = library.load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    library.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"incomplete.*encoder\.layer\.1\.output\.dense\.weight"):
        export(folder, tmp_path / "out")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match=r"no config\.json"):
        export(tmp_path / "empty", tmp_path / "out")


def test_a_folder_without_a_tokenizer_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["xlm-r"], tmp_path / "model")
    for path in (tmp_path / "model").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ExportError, match="no readable config and tokenizer"):
        export(tmp_path / "model", tmp_path / "out")


def test_a_model_of_another_family_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["bert-cased"], tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text()) | {"model_type": "gpt2"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=r"gpt2 model; supported are bert"):
        export(tmp_path / "model", tmp_path / "out")


def test_a_model_too_large_for_one_file_is_refused_before_the_export(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignstream.export.encoders.onnx_export._MAX_WEIGHT_BYTES", 1000)
    with pytest.raises(ExportError, match="one ONNX file holds less"):
        export(models["xlm-r"], tmp_path / "out")


def test_a_graph_that_departs_from_torch_is_refused_and_leaves_nothing(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = onnx_export.append_pooling

    def damage(graph: onnx.ModelProto, **options: object) -> int:
        # A change too small for the golden vectors, and above the tolerance of the comparison.
        for item in graph.graph.initializer:
            if item.name.endswith("embeddings.LayerNorm.weight"):
                values = np.frombuffer(item.raw_data, dtype="<f4") * np.float32(1.0005)
                item.raw_data = values.tobytes()
        return int(original(graph, **options))

    monkeypatch.setattr("alignstream.export.encoders.onnx_export.append_pooling", damage)
    with pytest.raises(parity.ParityError, match="does not give torch's vectors"):
        export(models["xlm-r"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_file_that_does_not_say_all_is_replaced_by_the_tokenizer_in_use(
    models: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["bert-cased"], folder)
    # As published folders do: the settings lower the case, tokenizer.json does not.
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    export(folder, tmp_path / "out")
    first, second = OnnxEncoder(tmp_path / "out").encode_texts(["The Harbour", "the harbour"])
    np.testing.assert_array_equal(first, second)


def test_an_artifact_is_replaced_only_with_overwrite(models: dict[str, Path], tmp_path: Path) -> None:
    export(models["bert-cased"], tmp_path / "out")
    with pytest.raises(ExportError, match="--overwrite"):
        export(models["bert-cased"], tmp_path / "out", pooling="cls")
    assert export(models["bert-cased"], tmp_path / "out", pooling="cls", overwrite=True).pooling == "cls"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        "model.onnx",
        "tokenizer.json",
    ]


# -- the command line -------------------------------------------------------------------------------


def test_the_command_prints_the_report_and_writes_the_artifact(
    models: dict[str, Path], tmp_path: Path
) -> None:
    arguments = ["export", "onnx", "--model", str(models["bert-cased"]), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--layer", "2", "--pooling", "cls", "--prefix", "find: "])
    assert done.exit_code == 0, done.output
    manifest = artifact.read_manifest(tmp_path / "out")
    assert (manifest.layer, manifest.pooling, manifest.prefix) == (2, "cls", "find: ")
    for shown in ("lowest cosine", "Ethiopic", "18 scripts", manifest.fingerprint[:12]):
        assert shown in done.stdout
    again = CliRunner().invoke(app, [*arguments, "--overwrite", "--json"])
    assert json.loads(again.stdout)["layer"] is None


def test_the_command_passes_errors_on(models: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["export", "onnx", "-m", str(models["bert-cased"]), "-o", str(tmp_path / "out")]
    for wrong, message in ((["--layer", "9"], "no layer 9"), (["--precision", "int4"], "unknown precision")):
        done = CliRunner().invoke(app, [*arguments, *wrong])
        assert isinstance(done.exception, AlignstreamError)
        assert message in str(done.exception)
    assert CliRunner().invoke(app, [*arguments, "--pooling", "max"]).exit_code == 2
