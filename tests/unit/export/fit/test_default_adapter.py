"""Fitting: what people give is read exactly or refused with its line; ranks are chosen by what was measured."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from alignstream.export.data import texts as datasets
from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.texts import Parallel, evenly_spaced, read_parallel, read_texts
from alignstream.export.data.vector_sets import DevTexts, LabelledTexts
from alignstream.export.evaluate.set_report import (
    FROM_PIVOT,
    LABELS,
    MIXED_POOL,
    TO_PIVOT,
    Change,
    SetReport,
    judge,
    mixed_pool,
    neighbours_kept,
    retrieval,
    transform_of,
)
from alignstream.export.fit.default_adapter import (
    NOT_USED,
    USED_TO_CHOOSE,
    check_output,
    choose_rank,
    default_rank,
    fit_adapter,
    fit_from_texts,
    write_adapter,
)
from alignstream.models.adapter.adapter import from_bytes, identity
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError, CacheError, FitError, TextError
from alignstream.ops.cli import fit as command

ENCODER = "e" * 64
DIM = 32
LANGUAGES = ("de", "en", "fr", "sw", "ta", "zu")


def direction(name: str) -> Matrix:
    """A direction that follows from a name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    x: Matrix = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return x / np.float32(np.linalg.norm(x))


class ToyEncoder:
    """Texts are ``language:meaning``; the vector is the sum of both, as in an encoder with language bias."""

    def __init__(self) -> None:
        self.n_texts = 0

    def __call__(self, texts: Sequence[str]) -> Matrix:
        self.n_texts += len(texts)
        rows = []
        for text in texts:
            language, _, meaning = text.partition(":")
            x = direction(f"language {language}") * np.float32(1.5) + direction(meaning)
            rows.append(x + direction(text) * np.float32(0.4))
        X = np.stack(rows)
        unit: Matrix = X / np.linalg.norm(X, axis=1, keepdims=True)
        return unit


@pytest.fixture
def encode() -> ToyEncoder:
    return ToyEncoder()


@pytest.fixture
def cache(tmp_path: Path, encode: ToyEncoder) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)


def toy_texts(part: str, n: int, languages: Sequence[str] = LANGUAGES) -> dict[str, list[str]]:
    return {language: [f"{language}:{part} {i}" for i in range(n)] for language in languages}


def toy_parallel(part: str, n: int = 25) -> Parallel:
    return Parallel(name=part, pivot="en", by_language=toy_texts(part, n))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --- reading -----------------------------------------------------------------------------------------------


def test_a_folder_a_table_and_json_lines_hold_the_same_texts(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder / "de.txt", "\ufeffEins\n\n  zwei \r\n")
    write(folder / "fr.txt", "un\u2028deux\n")
    write(folder / "notes.md", "not a language")
    table = write(tmp_path / "table.tsv", "de\tEins\nfr\tun\u2028deux\n\nde\tzwei\n")
    lines = write(
        tmp_path / "lines.jsonl",
        "".join(
            json.dumps({"language": language, "text": text, "id": 1}) + "\n"
            for language, text in (("fr", "un\u2028deux"), ("de", "Eins"), ("de", "zwei"))
        ),
    )
    expected = {"de": ["Eins", "zwei"], "fr": ["un\u2028deux"]}
    shouted = write(tmp_path / "SHOUTED.JSONL", lines.read_text(encoding="utf-8"))
    for path in (folder, table, lines, shouted):
        assert read_texts([path]).by_language == expected
    assert read_texts([folder, table, lines]).by_language == expected


def test_a_repeated_text_counts_once_and_is_counted(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "de\tja\nde\tja\nde\tja\nfr\tja\n")
    texts = read_texts([table])
    assert texts.by_language == {"de": ["ja"], "fr": ["ja"]}
    assert texts.n_repeated == {"de": 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"de\teins\nfr un\n", r"t\.tsv, line 2: language<TAB>text is needed"),
        ("t.tsv", b"de\teins\nfr\tu\xffn\n", r"t\.tsv, line 2: not UTF-8 at byte 5"),
        ("t.tsv", b"de\teins\n\tun\n", r"t\.tsv, line 2: '' is not a language tag"),
        ("t.tsv", b"two words\teins\n", r"t\.tsv, line 1: 'two words' is not a language tag"),
        (
            "t.tsv",
            b"language\ttext\nde\teins\n",
            r"t\.tsv, line 1: 'language' .*; take its code, or x- and a name",
        ),
        ("t.tsv", b"de\teins\ndeu\tzwei\n", "at least 2 languages .* hold 1: de, deu are one language"),
        ("t.tsv", b"de\teins\nde\tzwei\n", "at least 2 languages are needed.* hold 1"),
        ("t.tsv", b"", "at least 2 languages are needed.* hold 0"),
        ("t.tsv", b"de\teins\nfr\t \n", "no text for language fr"),
        ("t.jsonl", b'{"language": "de", "text": "eins"}\n{"language": "de"', r"t\.jsonl, line 2: not JSON"),
        ("t.jsonl", b'{"language": "de", "text": NaN}\n', r"t\.jsonl, line 1: an object with strings"),
        ("t.jsonl", b'{"language": 1, "text": "x"}\n', r"t\.jsonl, line 1: an object with strings"),
        ("t.jsonl", b"[1]\n", r"t\.jsonl, line 1: an object with strings"),
        ("t.jsonl", b"[" * 100_000 + b"\n", r"t\.jsonl, line 1: not JSON"),
        ("t.jsonl", b'{"language": "de", "text": "\\ud800"}\n', r"line 1: the text holds a lone surrogate"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_texts([path])


def test_an_empty_language_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "de.txt", "eins\n")
    write(tmp_path / "a" / "fr.TXT", "\n \n")
    (tmp_path / "b").mkdir()
    with pytest.raises(TextError, match="no text for language fr"):
        read_texts([tmp_path / "a"])
    with pytest.raises(TextError, match=r"holds no <language>\.txt"):
        read_texts([tmp_path / "b"])
    with pytest.raises(TextError, match=r"cannot read .*nowhere: No such file"):
        read_texts([tmp_path / "nowhere"])


def test_parallel_text_is_read_by_column_and_its_first_language_is_the_pivot(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "en\tde\none\teins\n\ntwo\tzwei\n")
    found = read_parallel(path)
    assert (found.pivot, found.n_lines) == ("en", 2)
    assert found.by_language == {"en": ["one", "two"], "de": ["eins", "zwei"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("en\tde\none\teins\ntwo\n", r"line 3: 2 texts .* but there are 1 in 1 cells"),
        ("en\tde\none\teins\ntwo\t \n", r"line 3: 2 texts .* but there are 1 in 2 cells"),
        ("en\tde\none\teins\tun\n", r"line 2: 2 texts .* but there are 3 in 3 cells"),
        ("en\none\n", "line 1: the header must name at least two languages"),
        ("en\ten\none\teins\n", "each once"),
        ("yo\ten\tyor_Latn\na\tb\tc\n", "line 1: 'yo' and 'yor_Latn' are one language; .* each once"),
        ("cat\tchat\ndog\tchien\n", r"dev\.tsv, line 1: 'chat' is not the tag .*; is the header missing\?"),
        ("", "line 1: '' is not a language tag"),
        ("en\tde\none\teins\n", "at least two rows"),
    ],
)
def test_malformed_parallel_text_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        read_parallel(write(tmp_path / "dev.tsv", content))


def test_long_parallel_text_is_thinned_evenly_unless_every_row_is_asked_for(tmp_path: Path) -> None:
    rows = "".join(f"one {i}\teins {i}\n" for i in range(datasets.MAX_POOL_TEXTS))
    path = write(tmp_path / "dev.tsv", f"en\tde\n\n{rows}")
    assert read_parallel(path).n_lines == datasets.MAX_POOL_TEXTS // 2
    found = read_parallel(path, limit=10)
    assert found.by_language["de"] == [f"eins {i}" for i in (0, 2400, 4800, 7200, 9600)]
    assert found.lines == (3, 2403, 4803, 7203, 9603)
    everything = read_parallel(path, limit=None)
    assert everything.n_lines == datasets.MAX_POOL_TEXTS
    assert everything.lines == tuple(range(3, datasets.MAX_POOL_TEXTS + 3))


def test_evenly_spaced_positions_are_distinct_and_start_at_the_first() -> None:
    for n, wanted in ((10, 3), (10, 10), (3, 10), (1697, 80), (0, 5)):
        found = evenly_spaced(n, wanted)
        assert len(found) == len(set(found)) == min(n, wanted)
        assert found == sorted(found)
        assert all(0 <= position < n for position in found)


# --- the cache of vectors ----------------------------------------------------------------------------------


def test_a_text_is_encoded_once_and_comes_back_bit_for_bit(
    cache: EmbeddingCache, encode: ToyEncoder, tmp_path: Path
) -> None:
    texts = ["de:a", "de:b", "de:a"]
    first = cache.embed({"set": texts})["set"]
    assert encode.n_texts == 2
    again = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    assert again.embed({"set": texts})["set"].tobytes() == first.tobytes()
    assert first.tobytes() == ToyEncoder()(texts).tobytes()
    assert encode.n_texts == 2
    grown = again.embed({"set": ["de:c", *texts]})["set"]
    assert encode.n_texts == 3
    assert grown[1:].tobytes() == first.tobytes()


def test_another_encoder_shares_nothing(cache: EmbeddingCache, encode: ToyEncoder, tmp_path: Path) -> None:
    cache.embed({"set": ["de:a"]})
    other = EmbeddingCache(tmp_path / "cache", fingerprint="f" * 64, dim=DIM, encode=encode)
    other.embed({"set": ["de:a"]})
    assert encode.n_texts == 2


def test_a_damaged_file_of_the_cache_is_encoded_again(
    cache: EmbeddingCache, encode: ToyEncoder, tmp_path: Path
) -> None:
    expected = cache.embed({"set": ["de:a", "de:b"]})["set"]
    (path,) = (tmp_path / "cache").rglob("*.npz")
    whole = path.read_bytes()
    last_number = whole.rindex(expected[1].tobytes()) + DIM * 4 - 4
    flipped = whole[:last_number] + bytes([whole[last_number] ^ 1]) + whole[last_number + 1 :]
    damaged = [whole[: len(whole) // 2], b"", b"nothing of ours", flipped]
    for n_times, blob in enumerate(damaged, start=1):
        path.write_bytes(blob)
        assert cache.embed({"set": ["de:a", "de:b"]})["set"].tobytes() == expected.tobytes()
        assert encode.n_texts == 2 + 2 * n_times


def test_any_tag_is_a_safe_file_name_and_no_text_is_stored(cache: EmbeddingCache, tmp_path: Path) -> None:
    names = ["../../evil", "zh-Hant", "a/b", "", ".hidden", "ñ", "x" * 300]
    cache.embed({name: [f"de:secret {name}"] for name in names})
    stored = list((tmp_path / "cache").rglob("*.npz"))
    assert len(stored) == len(names)
    assert {path.parent for path in stored} == {tmp_path / "cache" / "embeddings" / ENCODER}
    assert not any(b"secret" in path.read_bytes() for path in stored)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path not in stored] == []


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_do(
    encode: ToyEncoder, tmp_path: Path
) -> None:
    blocked = write(tmp_path / "file", "")
    cache = EmbeddingCache(blocked, fingerprint=ENCODER, dim=DIM, encode=encode)
    with pytest.raises(CacheError, match="ALIGNSTREAM_CACHE_DIR"):
        cache.embed({"set": ["de:a"]})


# --- judging -----------------------------------------------------------------------------------------------


def toy_vectors(part: str, n: int = 25) -> dict[str, Matrix]:
    encode = ToyEncoder()
    return {language: encode(texts) for language, texts in toy_texts(part, n).items()}


def nearest(x: Matrix, candidates: Sequence[Matrix], n: int = 1) -> list[int]:
    cosines = [float(x @ candidate) for candidate in candidates]
    return sorted(range(len(candidates)), key=lambda i: -cosines[i])[:n]


def test_measures_agree_with_their_definitions_written_out() -> None:
    raw = toy_vectors("x", 8)
    found = retrieval(raw, "en")
    assert set(found[TO_PIVOT]) == set(LANGUAGES) - {"en"}
    expected = [line for line, x in enumerate(raw["de"]) if nearest(x, list(raw["en"])) == [line]]
    assert found[TO_PIVOT]["de"] == pytest.approx(100 * len(expected) / 8)
    expected = [line for line, x in enumerate(raw["en"]) if nearest(x, list(raw["de"])) == [line]]
    assert found[FROM_PIVOT]["de"] == pytest.approx(100 * len(expected) / 8)

    pool = [(language, line) for language in LANGUAGES for line in range(8)]
    hits = 0
    for line, x in enumerate(raw["de"]):
        others = [item for item in pool if item != ("de", line)]
        vectors = [raw[language][other] for language, other in others]
        hits += sum(others[i][1] == line for i in nearest(x, vectors, len(LANGUAGES) - 1))
    assert mixed_pool(raw)["de"] == pytest.approx(100 * hits / (8 * (len(LANGUAGES) - 1)))


def test_neighbours_are_all_kept_by_the_identity_and_not_by_a_random_map() -> None:
    X = toy_vectors("x", 40)["de"]
    assert neighbours_kept(X, X) == 100.0
    assert neighbours_kept(X, X[::-1]) < 60.0
    assert neighbours_kept(X[:2], X[:2]) == 100.0


def test_labels_are_judged_with_aligned_label_texts() -> None:
    raw = toy_vectors("x", 3)
    labelled = LabelledTexts(prototypes=raw["en"], gold=np.arange(3))
    report = judge("s", raw, transform_of(identity(ENCODER, DIM)), use=NOT_USED, labelled=labelled)
    assert list(report.measures) == [LABELS]
    assert report.measures[LABELS]["en"] == Change(raw=100.0, adapter=100.0)


def test_the_identity_wins_and_loses_nothing() -> None:
    report = judge("s", toy_vectors("x"), transform_of(identity(ENCODER, DIM)), use=NOT_USED, pivot="en")
    for name in (TO_PIVOT, FROM_PIVOT, MIXED_POOL):
        assert report.mean(name).raw == report.mean(name).adapter
        assert report.wins(name) == report.losses(name) == []
    assert set(report.kept.values()) == {100.0}


def test_every_language_beyond_half_a_point_is_a_win_or_a_loss_by_name() -> None:
    changes = {
        "a": Change(50.0, 50.5),
        "b": Change(50.0, 50.6),
        "c": Change(50.0, 49.0),
        "d": Change(9.0, 2.0),
    }
    report = SetReport("s", NOT_USED, "en", 10, {TO_PIVOT: changes}, dict.fromkeys("abcd", 70.0))
    assert report.wins(TO_PIVOT) == ["b"]
    assert report.losses(TO_PIVOT) == ["d", "c"]
    summary = report.summary()
    assert summary["losses"] == {TO_PIVOT: ["d", "c"]}
    assert summary["measures"] == [TO_PIVOT]
    assert summary["by_language"]["d"] == [[9.0, 2.0]]
    assert json.loads(json.dumps(summary)) == summary


def test_sets_that_are_not_parallel_are_refused() -> None:
    raw = toy_vectors("x")
    raw["de"] = raw["de"][:-1]
    with pytest.raises(AdapterError, match="same number of lines"):
        judge("s", raw, transform_of(identity(ENCODER, DIM)), use=NOT_USED, pivot="en")


# --- fitting -----------------------------------------------------------------------------------------------


def test_without_development_text_the_rank_is_fifteen_or_half_the_languages() -> None:
    assert [default_rank(n) for n in (2, 3, 27, 30, 200)] == [1, 1, 13, 15, 15]


def test_the_smallest_rank_near_the_best_is_chosen() -> None:
    means = np.stack([X.mean(axis=0) for X in toy_vectors("fit", 60).values()]).astype(np.float64)
    rank, trials = choose_rank(means, DevTexts(parallel=toy_vectors("dev"), pivot="en"))
    best = max(trial.score for trial in trials)
    assert [trial.rank for trial in trials] == [0, 1, 2, 3, 4]
    assert rank == min(trial.rank for trial in trials if trial.score >= best - 0.1)
    assert rank > 0


def test_fitting_finds_translations_that_language_had_hidden(cache: EmbeddingCache) -> None:
    texts = datasets.Texts(toy_texts("fit", 60), {})
    adapter, (dev, test) = fit_from_texts(
        texts, cache, encoder=ENCODER, dev=toy_parallel("dev"), test=toy_parallel("test")
    )
    assert (dev.use, test.use) == (USED_TO_CHOOSE, NOT_USED)
    assert test.mean(MIXED_POOL).adapter > test.mean(MIXED_POOL).raw + 20.0
    assert adapter.report["rank_from"] == "chosen on dev"
    assert adapter.report["texts"] == dict.fromkeys(LANGUAGES, 60)
    assert [item["set"] for item in adapter.report["sets"]] == ["dev", "test"]


def test_a_given_rank_is_taken_and_the_same_fit_gives_the_same_bytes(cache: EmbeddingCache) -> None:
    texts = datasets.Texts(toy_texts("fit", 10), {})
    first, _ = fit_from_texts(texts, cache, encoder=ENCODER, rank=2)
    backwards = datasets.Texts(dict(reversed(texts.by_language.items())), {})
    second, _ = fit_from_texts(backwards, cache, encoder=ENCODER, rank=2)
    assert first.blob == second.blob
    assert first.report["rank_from"] == "given"
    assert first.describe()[1].startswith("remove-subspace: project out 2 ")


@pytest.mark.parametrize("rank", [-1, 6])
def test_a_rank_beyond_the_languages_is_refused(cache: EmbeddingCache, rank: int) -> None:
    with pytest.raises(AdapterError, match="--rank must lie between 0 and 5 for 6 languages"):
        fit_from_texts(datasets.Texts(toy_texts("fit", 3), {}), cache, encoder=ENCODER, rank=rank)


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
    check_output(tmp_path / "new" / "a.safetensors", overwrite=False)
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FitError, match="is there already"):
        check_output(tmp_path / "file", overwrite=False)
    check_output(tmp_path / "file", overwrite=True)
    with pytest.raises(FitError, match="is a folder"):
        check_output(tmp_path, overwrite=True)
    for place in (tmp_path / "file" / "a.safetensors", tmp_path / ("a" * 300)):
        with pytest.raises(FitError, match="cannot write"):
            check_output(place, overwrite=False)
