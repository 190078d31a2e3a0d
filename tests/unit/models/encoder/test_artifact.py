"""The loader's laws on a tiny graph written by hand: what it accepts, and how it refuses everything else."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper

from alignstream.export.encoders.artifact_folder import new_folder
from alignstream.export.encoders.pooling import Activation, Dense, append_pooling
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import GoldenText, Manifest, Pooling
from alignstream.models.encoder.onnx import OnnxEncoder, refuse_external_data
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactIncomplete,
    ArtifactMismatch,
    ExportError,
    InferenceError,
)

DIM = 8
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(60)), "cat", "sits", "mat"]


def write_tokenizer(path: Path, words: list[str] | None = None) -> None:
    vocabulary = {word: position for position, word in enumerate(words or WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 (a word)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))


def tiny_graph() -> onnx.ModelProto:
    """Give an encoder whose token vectors are rows of a table."""
    table = np.random.default_rng(3).standard_normal((len(WORDS), DIM)).astype(np.float32)
    shape = ["batch_size", "sequence_length"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["hidden"], axis=0)],
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*shape, DIM])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def fields(**changes: object) -> dict[str, Any]:
    return {
        "source": "tiny",
        "revision": "1",
        "family": "bert",
        "layer": None,
        "pooling": "mean",
        "dense": None,
        "prefix": "",
        "dim": DIM,
        "max_tokens": 32,
        "precision": "fp32",
        "opset": 18,
        "weights_sha256": "0" * 64,
        "golden": [],
        "created_by": "a test",
        **changes,
    }


def expected(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Give the mean of the table's rows, by numpy alone."""
    table = numpy_helper.to_array(tiny_graph().graph.initializer[0])
    ids = [2, *(WORDS.index(word) if word in WORDS else 1 for word in text.split()), 3]
    mean = table[ids].astype(np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "artifact")


def build(path: Path, *, pooling: Pooling = "mean", dense: tuple[Dense, ...] = (), **changes: object) -> Path:
    path.mkdir()
    model = tiny_graph()
    append_pooling(model, pooling=pooling, pooler=None, dense=dense)
    onnx.save(model, str(path / artifact.MODEL))
    write_tokenizer(path / artifact.TOKENIZER)
    text = "cat sits mat"
    golden = [GoldenText(text, artifact.encode_vector(expected(text)))]
    artifact.seal(path, **fields(**{"golden": golden, **changes}))
    return path


def rewrite(folder: Path, **changes: object) -> None:
    """Change fields of a manifest as text, past everything that keeps it consistent."""
    path = folder / artifact.MANIFEST
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps(manifest | changes))


def reseal(folder: Path, **changes: object) -> Manifest:
    """Seal again, consistently, with other fields."""
    manifest = artifact.read_manifest(folder)
    kept = {
        name: getattr(manifest, name)
        for name in Manifest.__struct_fields__
        if name not in {"format", "files", "fingerprint"}
    }
    return artifact.seal(folder, **(kept | changes))


def test_an_intact_artifact_gives_the_vectors_that_numpy_gives(folder: Path) -> None:
    encoder = OnnxEncoder(folder)
    texts = ["w1", "w2 w3 w4", "cat sits", "a word that is not known"]
    np.testing.assert_allclose(encoder.encode_texts(texts), [expected(text) for text in texts], atol=1e-6)
    assert encoder.dim == DIM


def test_a_text_gives_the_same_bytes_alone_in_any_batch_in_any_order_and_under_any_padding(
    folder: Path,
) -> None:
    rng = np.random.default_rng(5)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 60, size=length)) for length in range(1, 31)]
    encoder = OnnxEncoder(folder)
    tokens = encoder.tokenize(texts)
    alone = [encoder.encode([item])[0].tobytes() for item in tokens]
    for max_batch_tokens in (1, 64, 100_000):
        other = OnnxEncoder(folder, max_batch_tokens=max_batch_tokens, threads=1)
        order = rng.permutation(len(texts))
        X = other.encode([tokens[position] for position in order])
        assert [row.tobytes() for row in X] == [alone[position] for position in order]


def test_token_vectors_have_one_row_for_each_token(folder: Path) -> None:
    encoder = OnnxEncoder(folder)
    tokens = encoder.tokenize(["w1", "w1 w2 w3"])
    first, second = encoder.token_matrices(tokens)
    assert (first.shape, second.shape) == ((3, DIM), (5, DIM))
    np.testing.assert_array_equal(first[1], second[1])


def test_a_text_behind_the_limit_is_cut_and_the_rest_is_counted(folder: Path) -> None:
    (tokens,) = OnnxEncoder(folder).tokenize([" ".join(["w1"] * 100)])
    assert len(tokens.input_ids) == 32
    assert tokens.dropped == 70
    assert tokens.input_ids[-1] == WORDS.index("[SEP]")


def test_no_texts_give_no_vectors(folder: Path) -> None:
    assert OnnxEncoder(folder).encode_texts([]).shape == (0, DIM)


def test_an_id_outside_the_vocabulary_is_an_inference_error(folder: Path) -> None:
    encoder = OnnxEncoder(folder)
    with pytest.raises(InferenceError):
        encoder.encode([Tokens(input_ids=(2, 999, 3), dropped=0)])


@pytest.mark.parametrize("name", [artifact.MODEL, artifact.TOKENIZER])
def test_one_corrupted_byte_is_refused_before_anything_parses_the_file(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactCorrupt, match=f"sha256 of {name} differs"):
        OnnxEncoder(folder)


def test_a_file_cut_short_is_refused_by_its_size(folder: Path) -> None:
    path = folder / artifact.MODEL
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorrupt, match="but the manifest says"):
        OnnxEncoder(folder)


@pytest.mark.parametrize("name", [artifact.MANIFEST, artifact.MODEL, artifact.TOKENIZER])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactIncomplete, match=f"{name} is missing"):
        OnnxEncoder(folder)


def test_a_folder_that_does_not_exist_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactIncomplete, match="is missing"):
        OnnxEncoder(tmp_path / "nothing")


@pytest.mark.parametrize("name", [artifact.MANIFEST, artifact.MODEL, artifact.TOKENIZER])
def test_a_symlink_is_refused_even_to_the_right_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ArtifactIncomplete, match=f"{name} is not a plain file"):
        OnnxEncoder(folder)


def test_the_tokenizer_of_another_model_is_refused_by_its_sha256(folder: Path) -> None:
    write_tokenizer(folder / artifact.TOKENIZER, [*WORDS[:4], *reversed(WORDS[4:])])
    with pytest.raises(ArtifactCorrupt, match=artifact.TOKENIZER):
        OnnxEncoder(folder)


def test_a_wrong_tokenizer_sealed_into_the_manifest_is_refused_by_the_golden_vectors(folder: Path) -> None:
    write_tokenizer(folder / artifact.TOKENIZER, [*WORDS[:4], *reversed(WORDS[4:])])
    reseal(folder)
    with pytest.raises(ArtifactMismatch, match="gives a different vector"):
        OnnxEncoder(folder)


def test_another_pooling_written_into_the_manifest_is_refused_by_the_fingerprint(folder: Path) -> None:
    rewrite(folder, pooling="cls")
    with pytest.raises(ArtifactMismatch, match=r"pooling \(cls\)"):
        OnnxEncoder(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer", 3),
        ("prefix", "query: "),
        ("max_tokens", 16),
        ("weights_sha256", "1" * 64),
        ("dense", "tanh"),
    ],
)
def test_every_field_that_changes_the_space_is_held_by_the_fingerprint(
    folder: Path, name: str, value: object
) -> None:
    rewrite(folder, **{name: value})
    with pytest.raises(ArtifactMismatch, match="its fingerprint"):
        OnnxEncoder(folder)


def test_a_graph_with_another_pooling_is_refused_by_the_golden_vectors(tmp_path: Path) -> None:
    folder = build(tmp_path / "artifact", pooling="cls")
    with pytest.raises(ArtifactMismatch, match="the pooling differs"):
        OnnxEncoder(folder)


def test_a_golden_vector_of_another_text_is_refused(tmp_path: Path) -> None:
    golden = [GoldenText("cat", artifact.encode_vector(expected("mat")))]
    with pytest.raises(ArtifactMismatch, match="cosine"):
        OnnxEncoder(build(tmp_path / "artifact", golden=golden))


def test_a_golden_vector_of_another_length_is_refused(tmp_path: Path) -> None:
    golden = [GoldenText("cat", artifact.encode_vector(np.ones(3, dtype=np.float32)))]
    with pytest.raises(ArtifactMismatch, match="instead of 3"):
        OnnxEncoder(build(tmp_path / "artifact", golden=golden))


def test_a_golden_vector_that_is_no_vector_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        OnnxEncoder(build(tmp_path / "artifact", golden=[GoldenText("cat", "not base64!")]))


def test_an_artifact_without_golden_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match="no golden vector"):
        OnnxEncoder(build(tmp_path / "artifact", golden=[]))


@pytest.mark.parametrize("dim", [DIM - 1, 2 * DIM])
def test_a_dim_that_the_graph_does_not_give_is_an_artifact_error(folder: Path, dim: int) -> None:
    reseal(folder, dim=dim)
    with pytest.raises(ArtifactError):
        OnnxEncoder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "another/1"}', "\ud800"])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / artifact.MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArtifactCorrupt, match="is not a"):
        OnnxEncoder(folder)


def test_a_manifest_that_names_other_files_is_refused(folder: Path) -> None:
    files = json.loads((folder / artifact.MANIFEST).read_bytes())["files"]
    rewrite(folder, files={**files, "../outside": files[artifact.MODEL]})
    with pytest.raises(ArtifactCorrupt, match="must name"):
        OnnxEncoder(folder)


def test_a_graph_without_sentence_vectors_is_refused(folder: Path) -> None:
    onnx.save(tiny_graph(), str(folder / artifact.MODEL))
    reseal(folder)
    with pytest.raises(ArtifactMismatch, match="sentence_embedding"):
        OnnxEncoder(folder)


def test_a_graph_that_does_not_parse_is_corrupt(folder: Path) -> None:
    (folder / artifact.MODEL).write_bytes(b"\xff" * 64)
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match="not an ONNX graph"):
        OnnxEncoder(folder)


def _external(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    return tensor


def _tensor() -> TensorProto:
    return numpy_helper.from_array(np.ones(4, dtype=np.float32), "value")


def _in_initializer(model: onnx.ModelProto) -> None:
    _external(model.graph.initializer[0])


def _in_initializer_without_the_flag(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def _in_attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["constant"], value=_external(_tensor())))


def _sparse() -> onnx.SparseTensorProto:
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(_external(_tensor()))
    sparse.dims.append(4)
    return sparse


def _in_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(_sparse())


def _in_sparse_attribute(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["constant"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.CopyFrom(_sparse())
    model.graph.node.append(node)


def _in_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [_external(_tensor())])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner))


def _in_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["y"], value=_external(_tensor()))
    model.functions.append(
        helper.make_function("local", "f", [], ["y"], [node], [helper.make_opsetid("", 18)])
    )


def _in_training_graph(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(_external(_tensor()))


@pytest.mark.parametrize(
    "hide",
    [
        _in_initializer,
        _in_initializer_without_the_flag,
        _in_attribute,
        _in_sparse_initializer,
        _in_sparse_attribute,
        _in_subgraph,
        _in_function,
        _in_training_graph,
    ],
)
def test_external_data_is_refused_wherever_it_hides(
    folder: Path, hide: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load(str(folder / artifact.MODEL))
    hide(model)
    (folder / artifact.MODEL).write_bytes(model.SerializeToString())
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match="external data is refused"):
        refuse_external_data(folder / artifact.MODEL)
    with pytest.raises(ArtifactCorrupt, match="external data is refused"):
        OnnxEncoder(folder)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "gelu", "identity"])
def test_a_dense_layer_does_what_numpy_does(tmp_path: Path, activation: Activation) -> None:
    rng = np.random.default_rng(8)
    layer = Dense(
        rng.standard_normal((5, DIM)).astype(np.float32),
        rng.standard_normal(5).astype(np.float32),
        activation,
    )
    table = numpy_helper.to_array(tiny_graph().graph.initializer[0])
    # The first token of every text is [CLS].
    product = (layer.weight @ table[2] + layer.bias).astype(np.float64)
    erf = np.vectorize(math.erf)
    activations: dict[str, Callable[[Any], Any]] = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "identity": lambda x: x,
    }
    vector = activations[activation](product)
    vector /= np.linalg.norm(vector)
    golden = [GoldenText("cat", artifact.encode_vector(vector.astype(np.float32)))]
    folder = build(tmp_path / "artifact", pooling="cls", dense=(layer,), dim=5, golden=golden)
    np.testing.assert_allclose(OnnxEncoder(folder).encode_texts(["mat"])[0], vector, atol=1e-6)


def test_the_fingerprint_does_not_depend_on_the_bytes_of_the_graph(folder: Path) -> None:
    before = artifact.read_manifest(folder)
    model = onnx.load(str(folder / artifact.MODEL))
    model.doc_string = "another exporter wrote this"
    onnx.save(model, str(folder / artifact.MODEL))
    after = reseal(folder)
    assert after.files[artifact.MODEL] != before.files[artifact.MODEL]
    assert after.fingerprint == before.fingerprint


def test_the_digest_of_weights_tells_names_shapes_and_values_apart_but_not_their_order() -> None:
    x = np.arange(6, dtype=np.float32)
    tensors = {"a": x.reshape(2, 3), "b": x}
    digest = artifact.weights_sha256(tensors)
    assert artifact.weights_sha256(dict(reversed(tensors.items()))) == digest
    others = [
        {"a": x.reshape(3, 2), "b": x},
        {"a": x.reshape(2, 3), "c": x},
        {"a": x.reshape(2, 3) + 1, "b": x},
    ]
    assert digest not in {artifact.weights_sha256(other) for other in others}


def test_a_vector_survives_the_manifest_bit_for_bit() -> None:
    x = np.random.default_rng(0).standard_normal(384).astype(np.float32)
    assert artifact.decode_vector(artifact.encode_vector(x)).tobytes() == x.tobytes()


def test_a_manifest_survives_a_round_trip(folder: Path) -> None:
    manifest = artifact.read_manifest(folder)
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


# -- writing a folder whole or not at all -----------------------------------------------------------


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError), new_folder(tmp_path / "out", overwrite=False) as folder:  # noqa: PT012 (both belong)
        (folder / artifact.MODEL).write_bytes(b"half")
        raise ArithmeticError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_keeps_the_artifact_that_was_there(folder: Path) -> None:
    before = (folder / artifact.MANIFEST).read_bytes()
    with pytest.raises(ArithmeticError), new_folder(folder, overwrite=True):
        raise ArithmeticError
    assert (folder / artifact.MANIFEST).read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_artifact_is_replaced_only_when_asked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--overwrite"), new_folder(folder, overwrite=False):
        pass
    with new_folder(folder, overwrite=True) as replacement:
        (replacement / artifact.MANIFEST).write_text("new")
    assert [path.name for path in folder.iterdir()] == [artifact.MANIFEST]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_folder_that_holds_anything_else_is_never_replaced(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="not an encoder artifact"), new_folder(folder, overwrite=True):
        pass
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_empty_folder_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", overwrite=False) as folder:
        (folder / "x").write_text("1")
    assert (tmp_path / "out" / "x").read_text() == "1"


def test_a_file_or_a_link_is_no_place_for_an_artifact(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(folder)
    for name in ("file", "link"):
        with pytest.raises(ExportError, match="not a folder"), new_folder(tmp_path / name, overwrite=True):
            pass


def test_tokens_are_values() -> None:
    tokens = Tokens(input_ids=(1, 2), dropped=0)
    assert dataclasses.replace(tokens, dropped=1) != tokens
