"""Fitting: ranks are chosen by what was measured, and a file is never replaced unasked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from toy_languages import DIM, ENCODER, encode, toy_texts, write
from typer.testing import CliRunner

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.parallel import Parallel
from alignstream.export.data.texts import Texts
from alignstream.export.data.vector_sets import DevTexts
from alignstream.export.evaluate.measures import MIXED_POOL
from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
from alignstream.export.fit.default_adapter import (
    NOT_USED,
    USED_TO_CHOOSE,
    choose_rank,
    default_rank,
    fit_adapter,
    fit_from_texts,
)
from alignstream.models.adapter.adapter import from_bytes
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError, FitError, TextError
from alignstream.ops.cli import fit as command

LANGUAGES = ("de", "en", "fr", "sw", "ta", "zu")


def encode_clearly(texts: Sequence[str]) -> Matrix:
    """Encode toy texts with little that is a text's own."""
    return encode(texts, noise=0.4)


def vectors(part: str, n: int = 25) -> dict[str, Matrix]:
    return {language: encode_clearly(texts) for language, texts in toy_texts(n, LANGUAGES, part).items()}


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode_clearly)


def parallel(part: str, n: int = 25) -> Parallel:
    return Parallel(name=part, pivot="en", by_language=toy_texts(n, LANGUAGES, part))


def test_without_development_text_the_rank_is_fifteen_or_half_the_languages() -> None:
    assert [default_rank(n) for n in (2, 3, 27, 30, 200)] == [1, 1, 13, 15, 15]


def test_the_smallest_rank_near_the_best_is_chosen() -> None:
    means = np.stack([X.mean(axis=0) for X in vectors("fit", 60).values()]).astype(np.float64)
    rank, trials = choose_rank(means, DevTexts(parallel=vectors("dev"), pivot="en"))
    best = max(trial.score for trial in trials)
    assert [trial.rank for trial in trials] == [0, 1, 2, 3, 4]
    assert rank == min(trial.rank for trial in trials if trial.score >= best - 0.1)
    assert rank > 0


def test_fitting_finds_translations_that_language_had_hidden(cache: EmbeddingCache) -> None:
    texts = Texts(toy_texts(60, LANGUAGES, "fit"), {})
    adapter, (dev, test) = fit_from_texts(
        texts, cache, encoder=ENCODER, dev=parallel("dev"), test=parallel("test")
    )
    assert (dev.use, test.use) == (USED_TO_CHOOSE, NOT_USED)
    assert test.mean(MIXED_POOL).adapter > test.mean(MIXED_POOL).raw + 20.0
    assert adapter.report["rank_from"] == "chosen on dev"
    assert adapter.report["texts"] == dict.fromkeys(LANGUAGES, 60)
    assert [item["set"] for item in adapter.report["sets"]] == ["dev", "test"]


def test_a_given_rank_is_taken_and_the_same_fit_gives_the_same_bytes(cache: EmbeddingCache) -> None:
    texts = Texts(toy_texts(10, LANGUAGES, "fit"), {})
    first, _ = fit_from_texts(texts, cache, encoder=ENCODER, rank=2)
    backwards = Texts(dict(reversed(texts.by_language.items())), {})
    second, _ = fit_from_texts(backwards, cache, encoder=ENCODER, rank=2)
    assert first.blob == second.blob
    assert first.report["rank_from"] == "given"
    assert first.describe()[1].startswith("remove-subspace: project out 2 ")


@pytest.mark.parametrize("rank", [-1, 6])
def test_a_rank_beyond_the_languages_is_refused(cache: EmbeddingCache, rank: int) -> None:
    with pytest.raises(AdapterError, match="--rank must lie between 0 and 5 for 6 languages"):
        fit_from_texts(Texts(toy_texts(3, LANGUAGES, "fit"), {}), cache, encoder=ENCODER, rank=rank)


# --- writing, and the command ------------------------------------------------------------------------------


def test_an_adapter_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    output = write(tmp_path / "a.safetensors", "precious")
    adapter = fit_adapter(np.eye(3, DIM), rank=1, encoder=ENCODER, report={"a": 1})
    with pytest.raises(FitError, match="is there already; add --overwrite"):
        write_adapter(adapter, output, overwrite=False)
    assert output.read_text() == "precious"
    write_adapter(adapter, output, overwrite=True)
    assert from_bytes(output.read_bytes(), encoder=ENCODER).version == adapter.version
    with pytest.raises(FitError, match="is a folder"):
        write_adapter(adapter, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def run(*arguments: str | Path) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, ["fit", "default", *map(str, arguments)])
    return result.exit_code, result.output, result.exception


def test_the_command_refuses_bad_texts_and_taken_places_before_it_loads_an_encoder(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "de\teins\nfr\tun\n")
    taken = write(tmp_path / "taken.safetensors", "precious")
    _, _, error = run("--text", table, "--output", taken, "--artifact", tmp_path / "nowhere")
    assert isinstance(error, FitError)
    bad = write(tmp_path / "bad.tsv", "no tab\n")
    _, _, error = run("--text", bad, "--output", tmp_path / "new", "--artifact", tmp_path / "nowhere")
    assert isinstance(error, TextError)
    assert not (tmp_path / "new").exists()


def test_the_command_takes_a_rank_or_development_texts_but_not_both(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "de\teins\nfr\tun\n")
    code, output, _ = run("--text", table, "--output", tmp_path / "new", "--rank", "1", "--dev", table)
    assert code == 2
    assert "not both" in output


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    check_adapter_output(tmp_path / "new" / "a.safetensors", overwrite=False)
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FitError, match="is there already"):
        check_adapter_output(tmp_path / "file", overwrite=False)
    check_adapter_output(tmp_path / "file", overwrite=True)
    with pytest.raises(FitError, match="is a folder"):
        check_adapter_output(tmp_path, overwrite=True)
    for place in (tmp_path / "file" / "a.safetensors", tmp_path / ("a" * 300)):
        with pytest.raises(FitError, match="cannot write"):
            check_adapter_output(place, overwrite=False)
