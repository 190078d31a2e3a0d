"""The shipped adapter: it belongs to the embedded encoder, does what its page says, and can be made again."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from alignstream.export.data.public_sets import PublicSets
from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.export.evaluate.measures import mixed_pool
from alignstream.export.figures import shipped_adapter as recipe
from alignstream.export.figures.sources import N_NTREX_LINES, Sources
from alignstream.export.fit.default_adapter import USED_TO_CHOOSE
from alignstream.models.adapter.adapter import Adapter, from_bytes
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.labels import zero_shot
from alignstream.ops.admin.gate_texts import load_texts
from alignstream.ops.cli import fit as command
from alignstream.streams.wire.codec import float16_field, read_float16

#: Encoders on other machines differ in the last bits of float32; means and sums over many texts average that out.
MAX_DIFFERENCE = 1e-4
#: It is in every wheel and in every worker's memory.
MAX_BYTES = 4_000_000
#: Languages that are encoded anew in every run: near to English, far from it, and unknown to the encoder.
SAMPLE = ("deu", "tam", "wol")
SAMPLE_AND_PIVOT = ("eng", *SAMPLE)
#: Of SIB-200: the same texts that other tests here encode.
JUDGED = ("deu_Latn", "arb_Arab", "tha_Thai", "swh_Latn")


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    found = packaged_adapter(embedded_fingerprint())
    assert found is not None
    return found


def test_it_is_small_and_fitted_on_the_embedded_encoder(adapter: Adapter, encoder: OnnxEncoder) -> None:
    assert adapter.encoder == encoder.fingerprint
    assert adapter.dim == encoder.dim
    assert len(adapter.blob) < MAX_BYTES
    attention, pooled = adapter.steps
    assert isinstance(attention, PrototypeAttention)
    assert isinstance(pooled, LinearMap)
    assert len(attention.languages) == adapter.report["languages"] > 200


def test_a_wrong_tag_costs_next_to_nothing(adapter: Adapter, encoder: OnnxEncoder) -> None:
    """The vector outvotes the tag: a German text that is tagged Swahili stays with its translations."""
    path = Path(__file__).parents[3] / "ops" / "admin" / "gate-texts.json"
    texts = [item["text"] for item in json.loads(path.read_text(encoding="utf-8"))["texts"]]
    raw = {
        language: encoder.encode_texts([text[language] for text in texts]) for language in ("en", "de", "hi")
    }
    right, wrong = (
        mixed_pool({
            language: adapter.transform_many(X, Context(language=tags[language])) for language, X in raw.items()
        }).figures
        for tags in ({"en": "en", "de": "de", "hi": "hi"}, {"en": "sw", "de": "zu", "hi": "th"})
    )  # fmt: skip
    assert statistics.fmean(wrong.values()) > statistics.fmean(right.values()) - 3.0


def test_its_page_is_the_page_of_this_version(adapter: Adapter) -> None:
    page = (Path(__file__).parents[3] / recipe.PAGE).read_text(encoding="utf-8")
    assert f"Version `{adapter.version}`" in page
    for item in adapter.report["sets"]:
        for measure, (raw, aligned) in item["mean"].items():
            assert measure in page
            assert f"{raw} | {aligned} | {item['wins'][measure]} |" in page


@pytest.mark.parametrize("name", ["alignment.md", "following.md"])
def test_other_pages_measure_the_adapter_of_this_version(adapter: Adapter, name: str) -> None:
    assert adapter.version in (Path(__file__).parents[3] / recipe.PAGE.parent / name).read_text(
        encoding="utf-8"
    )


def test_its_report_says_what_it_gains_and_names_every_loss(adapter: Adapter) -> None:
    for item in adapter.report["sets"]:
        for column, measure in enumerate(item["measures"]):
            figures = {
                language: row[column]
                for language, row in item["by_language"].items()
                if row[column] is not None
            }
            # Rounded to one decimal, so the border itself may go either way.
            clear = {language for language, (raw, aligned) in figures.items() if aligned < raw - 0.65}
            assert clear <= set(item["losses"][measure])
            raw, aligned = np.mean(list(figures.values()), axis=0)
            assert item["mean"][measure] == pytest.approx([raw, aligned], abs=0.11)


def test_translations_come_closer_in_texts_that_nobody_fitted_on(
    adapter: Adapter, encoder: OnnxEncoder
) -> None:
    path = Path(__file__).parents[3] / "ops" / "admin" / "gate-texts.json"
    texts = [item["text"] for item in json.loads(path.read_text(encoding="utf-8"))["texts"]]
    raw = {
        language: encoder.encode_texts([text[language] for text in texts]) for language in list(texts[0])[::3]
    }
    before = mixed_pool(raw).figures
    after = mixed_pool({language: adapter.transform_many(X) for language, X in raw.items()}).figures
    assert statistics.fmean(after.values()) > statistics.fmean(before.values()) + 3.0


def test_texts_encoded_anew_attend_to_their_own_language(
    adapter: Adapter, encoder: OnnxEncoder, public_data: Path
) -> None:
    texts = PublicSets(public_data).ntrex(SAMPLE_AND_PIVOT, is_dev=True, n_lines=40)
    for language in SAMPLE:
        X = encoder.encode_texts(texts.by_language[language])
        mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        assert adapter.nearest_languages(mean, 1)[0][0] == language_key(language)


def test_a_vector_aligned_from_float16_is_next_to_the_one_from_float32(
    adapter: Adapter, encoder: OnnxEncoder
) -> None:
    """The figures of ``measurements/realign.md``: what ``raw_vector`` loses on all demonstration texts."""
    items = [(tag, text) for item in load_texts().texts for tag, text in item.text.items()]
    X = encoder.encode(encoder.tokenize([text for _, text in items]))
    halves = [read_float16(float16_field(x), x.size) for x in X]
    contexts = [Context(language=tag) for tag, _ in items]
    full, half = (
        np.stack(
            [adapter.transform_one(x, context) for x, context in zip(rows, contexts, strict=True)]
        ).astype(np.float64)
        for rows in (X, halves)
    )
    lengths = np.linalg.norm(full, axis=1) * np.linalg.norm(half, axis=1)
    assert len(items) == 945
    assert 1 - ((full * half).sum(axis=1) / lengths).min() < 1e-7
    before, after = full @ full.T, half @ half.T
    assert np.abs(before - after).max() < 1e-4
    for similarities in (before, after):
        np.fill_diagonal(similarities, -1.0)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.995


def test_its_prototypes_are_made_of_the_public_sets(adapter: Adapter, cached_sources: Sources) -> None:
    """News in every language is moved by the same shift, which two of them do not differ by."""
    texts = cached_sources.sets.ntrex(("eng", "deu"), is_dev=False, n_lines=N_NTREX_LINES)
    X = cached_sources.embed(texts.name, texts.by_language)
    attention = adapter.steps[0]
    assert isinstance(attention, PrototypeAttention)
    german, english = (attention.languages.index(language_key(name)) for name in ("deu", "eng"))
    assert attention.counts[german] == attention.counts[english] == N_NTREX_LINES
    made = X["deu"].mean(axis=0, dtype=np.float64) - X["eng"].mean(axis=0, dtype=np.float64)
    stored = attention.means[german].astype(np.float64) - attention.means[english]
    assert np.abs(made - stored).max() <= MAX_DIFFERENCE
    assert np.abs(stored).max() > 50 * MAX_DIFFERENCE


def test_the_constants_of_labels_are_next_to_the_best_for_a_sample_of_languages(
    adapter: Adapter, cached_sources: Sources
) -> None:
    texts, labels = cached_sources.sets.sib_dev(JUDGED)
    labelled = cached_sources.labelled(labels, {label: label for label in labels})
    temperature, midpoint = recipe.tune_labels(labelled, cached_sources.embed("sib-dev", texts), adapter)
    assert temperature == pytest.approx(zero_shot.TEMPERATURE, rel=0.5)
    assert midpoint == pytest.approx(zero_shot.MULTI_LABEL_MIDPOINT, abs=0.05)


def test_people_fit_an_adapter_of_their_own_with_one_command(encoder: OnnxEncoder, tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "ops" / "admin" / "gate-texts.json"
    texts = [item["text"] for item in json.loads(path.read_text(encoding="utf-8"))["texts"]]
    languages = ("en", "de", "ru", "hi")
    fit, dev, output = tmp_path / "fit.tsv", tmp_path / "dev.tsv", tmp_path / "own.safetensors"
    fit.write_text(
        "".join(f"{language}\t{text[language]}\n" for text in texts[:20] for language in languages),
        encoding="utf-8",
    )
    rows = [languages, *([text[language] for language in languages] for text in texts[20:])]
    dev.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    app = typer.Typer()
    command.register(app)
    arguments = ["fit", "default", "--text", fit, "--dev", dev, "--output", output]
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    own = from_bytes(output.read_bytes(), encoder=encoder.fingerprint)
    assert own.version == report["version"]
    assert own.report["texts"] == dict.fromkeys(sorted(languages), 20)
    assert report["sets"][0]["use"] == USED_TO_CHOOSE
    shown = CliRunner().invoke(app, [*map(str, arguments), "--overwrite"], catch_exceptions=False)
    assert "wins / losses" in shown.stdout
    assert own.blob == output.read_bytes()
