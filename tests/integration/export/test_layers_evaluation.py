"""Layers and poolings of an encoder, compared before it is exported."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from late import late, needs_torch
from typer.testing import CliRunner

from alignstream.export.data.parallel import Parallel
from alignstream.export.evaluate.measures import TO_PIVOT, retrieval
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import ExportError, ExtraMissing
from alignstream.ops.cli import evaluate as command

layers = late("alignstream.export.evaluate.layers")
torch = late("torch")
transformers = late("transformers")

pytestmark = needs_torch

Build = Callable[..., Path]

LAYERS = 4
#: Float32 sums in another order and padding, after four layers.
TOLERANCE = 1e-5
TEXTS = Parallel(
    name="toy",
    pivot="en",
    by_language={
        "en": [
            "The river rises.",
            "boats stay in the harbour",
            "evening",
            "The Children of the Harbour sing.",
        ],
        "de": ["Der Fluss steigt.", "Boote bleiben im Hafen", "Abend", "Die Kinder des Hafens singen."],
        "ru": ["Река поднимается.", "лодки остаются в гавани", "вечер", "Дети гавани поют."],
    },
)


@pytest.mark.parametrize("family", ["xlm-r", "bert-cased"])
def test_every_layer_is_pooled_as_transformers_gives_it_text_by_text(
    models: dict[str, Path], family: str
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(models[family])
    model = transformers.AutoModel.from_pretrained(models[family]).eval()
    texts = [text for column in TEXTS.by_language.values() for text in column]
    with layers._opened(str(models[family])) as opened:
        found = layers._encode(opened, texts, ("mean", "cls"))
    assert sorted(found) == [
        (layer, pooling) for layer in range(1, LAYERS + 1) for pooling in ("cls", "mean")
    ]
    for row, text in enumerate(texts):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        for (layer, pooling), X in found.items():
            x = states[layer][0].mean(0) if pooling == "mean" else states[layer][0, 0]
            np.testing.assert_allclose(X[row], (x / x.norm()).numpy(), atol=TOLERANCE)


def test_the_best_layer_is_what_the_printed_command_exports(models: dict[str, Path], tmp_path: Path) -> None:
    exporter = pytest.importorskip("alignstream.export.encoders.onnx_export")
    report = layers.compare_layers(str(models["xlm-r"]), TEXTS)
    assert len(report.results) == 2 * LAYERS
    assert report.best.score == pytest.approx(max(item.score for item in report.results), abs=1e-6)
    options = report.command.split()
    assert options[:3] == ["alignstream", "export", "onnx"]
    named = dict(zip(options[3::2], options[4::2], strict=True))
    assert named["--model"] == str(models["xlm-r"])
    exporter.export_onnx(
        named["--model"],
        tmp_path / "out",
        layer=int(named["--layer"]),
        pooling=named["--pooling"],
        warn=lambda _: None,
    )
    encoder = OnnxEncoder(tmp_path / "out")
    vectors = {language: encoder.encode_texts(column) for language, column in TEXTS.by_language.items()}
    expected = retrieval(vectors, "en")[TO_PIVOT]
    assert report.best.to_pivot == pytest.approx(np.mean(list(expected.figures.values())))


def test_of_equals_the_lowest_layer_is_best(models: dict[str, Path]) -> None:
    same = Parallel("same", "en", {"en": ["boats", "evening"], "de": ["boats", "evening"]})
    report = layers.compare_layers(str(models["bert-cased"]), same, poolings=("mean",))
    assert {result.score for result in report.results} == {100.0}
    assert (report.best.layer, report.best.pooling) == (1, "mean")


def test_e5_models_get_their_prefix_by_name(build: Build) -> None:
    for name, prefix in {"multilingual-e5-tiny": "query: ", "e5-tiny-instruct": "", "tiny": ""}.items():
        with layers._opened(str(build("xlm-r", name=name))) as opened:
            assert opened.prefix == prefix


def test_an_unknown_pooling_and_a_folder_without_a_model_are_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="unknown pooling 'max'"):
        layers.compare_layers(str(models["xlm-r"]), TEXTS, poolings=("max",))
    # The library names every kind of model that it knows: several thousand characters.
    with pytest.raises(ExportError, match="no model can be loaded") as caught:
        layers.compare_layers(str(tmp_path), TEXTS)
    assert len(str(caught.value)) < 250 + 2 * len(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_layers_are_compared_with_the_best_over_languages(models: dict[str, Path]) -> None:
    report = layers.compare_layers(str(models["xlm-r"]), TEXTS, seed=3)
    assert (report.seed, report.n_draws) == (3, 2000)
    assert report.seconds > 0.0
    for item in report.results:
        assert set(item.by_language) == {"de", "ru"}
        assert item.score == pytest.approx(((item.to_pivot + item.from_pivot) / 2 + item.mixed_pool) / 2)
        if item == report.best:
            assert item.change is None
            continue
        assert item.change.mean == pytest.approx(item.score - report.best.score)
        changes = [
            item.by_language[language] - report.best.by_language[language] for language in ("de", "ru")
        ]
        assert item.change.low == pytest.approx(min(changes))
        assert item.change.high == pytest.approx(max(changes))
    two = Parallel("two", "en", {language: TEXTS.by_language[language] for language in ("en", "de")})
    report = layers.compare_layers(str(models["xlm-r"]), two, poolings=("mean",))
    assert "there is one language" in report.all_notes()[0]
    assert "none" in report.rows()[1 if report.best.layer == 1 else 0]


def test_lines_that_repeat_cost_layers_nothing(models: dict[str, Path]) -> None:
    columns = {language: [*texts, texts[0], texts[0]] for language, texts in TEXTS.by_language.items()}
    found = layers.compare_layers(
        str(models["bert-cased"]), Parallel("again", "en", columns), poolings=("mean",)
    )
    once = layers.compare_layers(str(models["bert-cased"]), TEXTS, poolings=("mean",))
    assert found.notes[0].startswith(
        "6 lines repeat the text of an earlier one in the same language (en 2, de 2, ru 2)"
    )
    for item, expected in zip(found.results, once.results, strict=True):
        if expected.to_pivot == 100.0:
            assert item.to_pivot == 100.0
    same = Parallel("same", "en", {"en": ["boats"] * 5 + ["evening"], "de": ["boats"] * 5 + ["evening"]})
    report = layers.compare_layers(str(models["bert-cased"]), same, poolings=("mean",))
    assert {result.score for result in report.results} == {100.0}


def invoke(*arguments: str | Path) -> Any:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["evaluate", "layers", *map(str, arguments)])


@pytest.fixture
def parallel(tmp_path: Path) -> Path:
    columns = TEXTS.by_language
    rows = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    path = tmp_path / "p.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_the_command_prints_layers_and_what_to_do_next(models: dict[str, Path], parallel: Path) -> None:
    done = invoke("--model", models["bert-cased"], "--data", parallel, "--poolings", "mean")
    assert done.exit_code == 0, done.output
    assert "alignstream export onnx --model" in done.output
    assert "mixed pool" in done.output
    done = invoke("--model", models["bert-cased"], "--data", parallel, "--json", "--limit", "2")
    value = json.loads(done.stdout)
    assert (value["n_lines"], value["pivot"], len(value["results"])) == (2, "en", 2 * LAYERS)


def test_the_command_writes_a_page_and_a_picture(
    models: dict[str, Path], parallel: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    page, picture = tmp_path / "layers.md", tmp_path / "layers.png"
    done = invoke(
        "--model", models["bert-cased"], "--data", parallel, "--markdown", page, "--png", picture, "--seed", "5"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "seed 5" in done.output
    text = page.read_text(encoding="utf-8")
    for wanted in ("# Layers", "95 % interval", "alignstream export onnx --model", "| de |", "seed 5"):
        assert wanted in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_torch_the_command_says_what_to_install(
    parallel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "alignstream.export.evaluate.layers":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    done = invoke("--model", "m", "--data", parallel)
    assert isinstance(done.exception, ExtraMissing)
    assert "pip install 'alignstream[export]'" in str(done.exception)
