"""Evaluation: exact search in bounded memory, columns that never mix, honest statistics, formats refused by line."""

import hashlib
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.evaluate import formats, search, tasks, within
from alignstream.export.evaluate import label_tasks as labelling
from alignstream.export.evaluate import public_tasks as sets
from alignstream.export.evaluate import set_report as small
from alignstream.export.evaluate.chart import write_png
from alignstream.export.evaluate.public_tasks import Choice
from alignstream.export.evaluate.report import KINDS, Evaluation, measures, notes, summary_rows
from alignstream.export.evaluate.run import TASKS, check, evaluate
from alignstream.export.evaluate.search import (
    Centred,
    Stacked,
    centred,
    csls_penalty,
    hubness,
    stream_queries,
)
from alignstream.export.evaluate.session import Data, Session
from alignstream.export.evaluate.statistics import (
    Interval,
    bootstrap_interval,
    is_chance,
    significantly_worse,
    spearman,
    worse_p_value,
)
from alignstream.export.evaluate.tasks import ADAPTER, RAW, STREAM, Column, Scores
from alignstream.export.evaluate.word_alignment import (
    WORDS,
    WordTokens,
    align_words,
    f1,
    judge_words,
    word_tokens,
)
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.arrays import Matrix
from alignstream.models.errors import (
    AlignstreamError,
    EvaluationError,
    PictureError,
    SearchError,
    StatisticsError,
    TextError,
    WordsError,
    WrongUsage,
)
from alignstream.ops.cli import compare
from alignstream.ops.cli import evaluate as command

ENCODER = "e" * 64
DIM = 32
LANGUAGES = ("en", "de", "sw", "ta")


def direction(name: str) -> Matrix:
    """A direction that follows from a name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    x: Matrix = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return x / np.float32(np.linalg.norm(x))


def encode(texts: Sequence[str]) -> Matrix:
    """Texts are ``language:meaning``; the vector is the sum of both, as in an encoder with language bias."""
    rows = []
    for text in texts:
        language, _, meaning = text.partition(":")
        x = direction(f"language {language}") * np.float32(1.5) + direction(meaning)
        rows.append(x + direction(text) * np.float32(0.6))
    return unit(np.stack(rows))


def unit(X: NDArray[Any]) -> Matrix:
    result: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return result


def toy_texts(n: int = 30, languages: Sequence[str] = LANGUAGES) -> dict[str, list[str]]:
    return {language: [f"{language}:{i}" for i in range(n)] for language in languages}


def toy_vectors(n: int = 30) -> dict[str, Matrix]:
    return {language: encode(texts) for language, texts in toy_texts(n).items()}


def toy_adapter() -> Adapter:
    """Remove what the toy encoder adds for a language, where the tag says which."""
    means = np.stack([X.mean(axis=0) for X in toy_vectors(60).values()])
    keys = ("en-Latn", "de-Latn", "sw-Latn", "ta-Taml")
    return Adapter(encoder=ENCODER, dim=DIM, steps=(LanguageCentre(means, keys, (60,) * 4),))


@pytest.fixture
def session(tmp_path: Path) -> Session:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    return Session(cache=cache, adapter=toy_adapter(), adapter_name="toy")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_parallel(path: Path, n: int = 30) -> Path:
    columns = toy_texts(n)
    rows = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    return write(path, "\n".join(rows) + "\n")


# --- search ------------------------------------------------------------------------------------------------


def quarters(rng: np.random.Generator, n: int) -> Matrix:
    """Unit vectors whose products are exact in float32, in any order of sums; many of them are equal."""
    signs = rng.integers(0, 2, size=(n, 16)) * 2 - 1
    signs[:, 3:] = 1
    X: Matrix = (signs * 0.25).astype(np.float32)
    return X


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_search_in_blocks_is_the_search_by_brute_force_with_ties_to_the_lowest_index(
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n_queries, n_candidates = data.draw(st.integers(1, 40)), data.draw(st.integers(2, 60))
    Q, C = quarters(rng, n_queries), quarters(rng, n_candidates)
    penalty = data.draw(st.sampled_from([None, (rng.integers(0, 3, n_candidates) / 16).astype(np.float32)]))
    exclude = data.draw(st.sampled_from([None, rng.integers(0, n_candidates, n_queries)]))
    k = data.draw(st.integers(1, n_candidates - (exclude is not None)))
    block_bytes = data.draw(st.integers(1, 40_000))

    expected = Q @ C.T
    if penalty is not None:
        expected -= penalty
    if exclude is not None:
        expected[np.arange(n_queries), exclude] = -np.inf
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    found, scores = search.search(Q, C, k, block_bytes=block_bytes, penalty=penalty, exclude=exclude)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, order, axis=1))


def test_a_search_needs_little_more_than_its_block() -> None:
    rng = np.random.default_rng(0)
    Q, C = unit(rng.standard_normal((600, 24))), unit(rng.standard_normal((40_000, 24)))
    block_bytes = 2 * 1024 * 1024
    tracemalloc.start()
    found, _ = search.search(Q, C, 10, block_bytes=block_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All similarities at once would take 96 MB.
    assert peak < 2 * block_bytes + 3 * found.nbytes
    np.testing.assert_array_equal(found[:5, 0], (Q[:5] @ C.T).argmax(axis=1))


def test_what_cannot_be_searched_is_refused() -> None:
    X = quarters(np.random.default_rng(0), 5)
    with pytest.raises(SearchError, match="6 nearest are asked for, but there are 5"):
        search.search(X, X, 6)
    with pytest.raises(SearchError, match="but there are 4"):
        search.search(X, X, 5, exclude=np.arange(5))
    with pytest.raises(SearchError, match="do not go together"):
        search.search(X, X[:, :3], 1)
    with pytest.raises(SearchError, match="penalty of shape"):
        search.search(X, X, 1, penalty=np.zeros(4, dtype=np.float32))
    broken = X.copy()
    broken[3, 0] = np.nan
    with pytest.raises(SearchError, match="not finite"):
        search.search(X, broken, 1)


def test_rows_that_are_made_where_they_are_read_are_found_as_arrays_are() -> None:
    rng = np.random.default_rng(4)
    parts = [quarters(rng, n) for n in (7, 1, 0, 30)]
    whole = np.concatenate(parts)
    stacked = Stacked(parts)
    assert (stacked.shape, len(stacked), stacked.starts) == ((38, 16), 38, [0, 7, 8, 8])
    for start in range(39):
        for stop in range(start, 39):
            np.testing.assert_array_equal(stacked[start:stop], whole[start:stop])
    for block_bytes in (100, 3000, 1 << 20):
        for expected, found in zip(
            search.search(whole, whole, 3),
            search.search(whole, stacked, 3, block_bytes=block_bytes),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)
    X = unit(rng.standard_normal((50, 8)) + 2.0)
    np.testing.assert_array_equal(Centred(X)[10:30], centred(X)[10:30])
    np.testing.assert_array_equal(
        search.search(Centred(X), Centred(X), 4, block_bytes=2000)[0],
        search.search(centred(X), centred(X), 4)[0],
    )


def test_centred_rows_need_no_copy_of_their_list() -> None:
    X = unit(np.random.default_rng(5).standard_normal((40_000, 64)) + 1.0)
    block_bytes = 1024 * 1024
    tracemalloc.start()
    search.search(X[:2], Centred(X), 1, block_bytes=block_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside X: blocks of rows, and their norms. A copy would take 10 MB, however few the queries are.
    assert peak < 0.8 * X.nbytes


def test_csls_orders_candidates_as_its_definition_does() -> None:
    rng = np.random.default_rng(1)
    Q, C = unit(rng.standard_normal((40, 8))), unit(rng.standard_normal((50, 8)))
    cosines = Q.astype(np.float64) @ C.T
    r_query = np.sort(cosines, axis=1)[:, -10:].mean(axis=1, keepdims=True)
    r_candidate = np.sort(cosines, axis=0)[-10:].mean(axis=0)
    expected = (2 * cosines - r_query - r_candidate).argmax(axis=1)
    found, _ = search.search(Q, C, 1, penalty=csls_penalty(C, Q))
    np.testing.assert_array_equal(found[:, 0], expected)
    np.testing.assert_allclose(hubness(C, Q), r_candidate, atol=1e-6)
    assert hubness(C, Q[:3]).shape == (50,)


def test_centring_a_list_removes_its_mean_and_changes_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    X = unit(np.random.default_rng(2).standard_normal((50, 8)) + 2.0)
    before = X.copy()
    whole = centred(X)
    np.testing.assert_allclose(whole, unit(X - X.mean(axis=0)), atol=1e-6)
    np.testing.assert_array_equal(X, before)
    monkeypatch.setattr(search, "_ROWS", 7)
    np.testing.assert_array_equal(centred(X), whole)
    same = np.tile(X[:1], (3, 1))
    np.testing.assert_array_equal(centred(same), same)


def test_a_query_of_a_stream_sees_earlier_queries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_ROWS", 7)
    rng = np.random.default_rng(3)
    Q, index = unit(rng.standard_normal((40, 8)) + 1.0), unit(rng.standard_normal((30, 8)))
    found = stream_queries(Q, index)
    goal = index.mean(axis=0, dtype=np.float64)
    for t in (0, 1, 6, 7, 8, 39):
        mean = Q[:t].mean(axis=0, dtype=np.float64) if t else goal
        expected = Q[t] - t / (t + 20.0) * (mean - goal)
        np.testing.assert_allclose(found[t], expected / np.linalg.norm(expected), atol=1e-6)
    changed = Q.copy()
    changed[20:] = changed[20:][::-1]
    np.testing.assert_array_equal(stream_queries(changed, index)[:20], found[:20])


# --- statistics --------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_resampled_languages_and_follows_from_the_seed() -> None:
    gains = np.random.default_rng(0).normal(1.0, 2.0, size=40)
    found = bootstrap_interval(gains, seed=5)
    assert found == bootstrap_interval(gains, seed=5)
    assert found != bootstrap_interval(gains, seed=6)
    draws = np.random.default_rng(9).choice(gains, size=(20_000, 40)).mean(axis=1)
    assert found.mean == pytest.approx(gains.mean())
    assert found.low == pytest.approx(np.quantile(draws, 0.025), abs=0.08)
    assert found.high == pytest.approx(np.quantile(draws, 0.975), abs=0.08)
    alike = bootstrap_interval(np.full(7, 1.5))
    assert (alike.mean, alike.low, alike.high) == pytest.approx((1.5, 1.5, 1.5))
    with pytest.raises(StatisticsError):
        bootstrap_interval(np.empty(0))


def test_a_single_language_has_no_interval() -> None:
    assert bootstrap_interval(np.array([1.5])) == Interval(mean=1.5, low=None, high=None)


def test_chance_is_what_random_candidates_give() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(200, 0.02, size=2000)
    # One-sided at 1 %: what chance gives is seldom called more.
    assert np.mean([not is_chance(int(n), 200, 0.02) for n in draws]) < 0.015
    assert is_chance(0, 200, 0.02)
    assert is_chance(4, 200, 0.02)
    assert not is_chance(20, 200, 0.02)
    assert not is_chance(1_000_000, 1_000_000, 1e-6)
    # Too few texts, or candidates that are nearly all right, say nothing.
    assert not is_chance(0, 9, 0.1)
    assert not is_chance(100, 100, 1.0)


def test_only_what_falls_beyond_chance_is_significantly_worse() -> None:
    rng = np.random.default_rng(0)
    raw = {f"l{i}": rng.random(300) < 0.8 for i in range(127)}
    adapter = {language: hits.copy() for language, hits in raw.items()}
    adapter["l3"][np.flatnonzero(raw["l3"])[:30]] = False  # ten points worse
    adapter["l5"][:] = True
    adapter["l9"][np.flatnonzero(raw["l9"])[:2]] = False  # two of 300 texts
    # With 127 languages Holm's first step is 0.0004, below what 2,000 draws could ever show.
    assert significantly_worse(raw, adapter) == ["l3"]
    assert significantly_worse(raw, raw) == []
    assert significantly_worse({}, {}) == []
    assert significantly_worse(raw, adapter, seed=3) == ["l3"]


def test_chance_alone_is_seldom_called_worse() -> None:
    rng = np.random.default_rng(4)
    n_wrong = 0
    for trial in range(40):
        raw = {str(i): rng.random(100) < 0.7 for i in range(10)}
        adapter = {str(i): rng.random(100) < 0.7 for i in range(10)}
        n_wrong += bool(significantly_worse(raw, adapter, seed=trial))
    assert n_wrong <= 8


def test_a_paired_test_wants_the_same_texts() -> None:
    with pytest.raises(StatisticsError, match="3 texts were judged raw, but 2"):
        worse_p_value(np.zeros(3), np.zeros(2))
    with pytest.raises(StatisticsError, match="different languages"):
        significantly_worse({"a": np.zeros(2)}, {"b": np.zeros(2)})


def test_rank_correlation_counts_ties_at_their_mean_rank() -> None:
    a = np.array([1.0, 2.0, 2.0, 4.0])
    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: by hand 4.5 / sqrt(4.5 * 5).
    assert spearman(a, np.array([0.0, 9.0, 5.0, 10.0])) == pytest.approx(4.5 / np.sqrt(22.5))
    assert spearman(a, np.ones(4)) == 0.0
    with pytest.raises(StatisticsError):
        spearman(a, np.ones(3))


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=30))
def test_rank_correlation_is_that_of_order_alone(values: list[int]) -> None:
    a = np.array(values, dtype=np.float64)
    distinct = len(set(values)) > 1
    assert spearman(a, np.exp(a / 10)) == pytest.approx(1.0 if distinct else 0.0)
    assert spearman(a, -a) == pytest.approx(-1.0 if distinct else 0.0)


# --- tasks -------------------------------------------------------------------------------------------------


def moved(raw: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {language: centred(X) for language, X in raw.items()}


def test_tasks_agree_with_the_measures_that_adapters_are_fitted_by() -> None:
    raw = toy_vectors()
    aligned = moved(raw)
    found = tasks.retrieval(raw, aligned, "en", block_bytes=3000)
    for column, vectors in ((RAW, raw), (ADAPTER, aligned)):
        expected = small.retrieval(vectors, "en")
        assert found[tasks.TO_PIVOT][column].figures == pytest.approx(expected[small.TO_PIVOT])
        assert found[tasks.FROM_PIVOT][column].figures == pytest.approx(expected[small.FROM_PIVOT])
        pool = tasks.mixed_pool(raw, aligned, block_bytes=3000)[tasks.MIXED_POOL][column]
        assert pool.figures == pytest.approx(small.mixed_pool(vectors))
        gold = {language: np.arange(30) % 4 for language in raw}
        labels = labelling.labels(raw, aligned, (raw["de"][:4], aligned["de"][:4]), gold)[tasks.LABELS][
            column
        ]
        assert labels.figures == pytest.approx(small.label_accuracy(vectors, vectors["de"][:4], gold["en"]))
    kept = within.neighbours(raw, aligned)[tasks.NEIGHBOURS]
    assert list(kept) == [RAW, ADAPTER]
    assert kept[RAW].figures == dict.fromkeys(raw, 100.0)
    assert kept[ADAPTER].figures == pytest.approx(
        {language: small.neighbours_kept(X, aligned[language]) for language, X in raw.items()}
    )


def test_every_column_says_which_texts_it_saw_and_figures_are_means_of_texts() -> None:
    raw = toy_vectors()
    found = tasks.retrieval(raw, moved(raw), "en")
    kinds = {column.name: column.kind for column in found[tasks.TO_PIVOT]}
    assert kinds["raw"] == kinds["adapter"] == "inductive"
    assert {name for name, kind in kinds.items() if kind == "causal"} == {STREAM.name}
    assert all(("CSLS" in name or "list" in name) == (kind == "transductive") for name, kind in kinds.items())
    for columns in found.values():
        for scores in columns.values():
            assert set(scores.figures) == set(LANGUAGES) - {"en"}
            for language, values in scores.per_text.items():
                assert scores.figures[language] == pytest.approx(100 * values.mean())


def test_a_column_without_an_adapter_is_the_raw_column() -> None:
    raw = toy_vectors()
    found = tasks.retrieval(raw, raw, "en")[tasks.TO_PIVOT]
    assert found[ADAPTER].figures == found[RAW].figures
    assert found[tasks.ADAPTER_CSLS].figures == found[tasks.RAW_CSLS].figures
    assert within.neighbours(raw, raw)[tasks.NEIGHBOURS][ADAPTER].figures == dict.fromkeys(raw, 100.0)


@pytest.mark.parametrize("rows", [5, 1024])
def test_measures_in_blocks_are_those_of_all_similarities_ties_included(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "_BLOCK_ROWS", rows)
    rng = np.random.default_rng(6)
    for n in (2, 12, 60):
        # Few distinct vectors, so that nearly every text has equals.
        X, Y = quarters(rng, n), quarters(rng, n)
        similarities = X @ Y.T
        forward, backward = small._nearest_both_ways(X, Y)
        np.testing.assert_array_equal(forward, similarities.argmax(axis=1))
        np.testing.assert_array_equal(backward, similarities.argmax(axis=0))
        found = small.retrieval({"a": X, "b": Y}, "b")
        assert found[small.TO_PIVOT]["a"] == 100.0 * (similarities.argmax(axis=1) == np.arange(n)).mean()
        assert found[small.FROM_PIVOT]["a"] == 100.0 * (similarities.argmax(axis=0) == np.arange(n)).mean()
        k = min(10, n - 1)
        nearest = []
        for Z in (X, Y):
            cosines = Z @ Z.T
            np.fill_diagonal(cosines, -np.inf)
            nearest.append(np.argsort(-cosines, axis=1, kind="stable")[:, :k])
        shares = [np.isin(a, b).mean() for a, b in zip(*nearest, strict=True)]
        assert small.neighbours_kept(X, Y) == 100.0 * np.mean(shares)
    assert small.neighbours_kept(X[:1], Y[:1]) == 100.0


def test_measures_need_no_matrix_of_all_texts_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_BYTES", 1024 * 1024)
    X = unit(np.random.default_rng(7).standard_normal((6000, 8)))
    for measure in (lambda: small.neighbours_kept(X, X), lambda: small.retrieval({"a": X, "b": X}, "b")):
        tracemalloc.start()
        measure()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # All similarities take 144 MB, a block of either 64 MB at most.
        assert peak < 70 * 1024 * 1024


def test_texts_that_stand_twice_cost_nothing_in_either_column() -> None:
    raw = toy_vectors(20)
    aligned = moved(raw)
    doubled = {name: {key: np.concatenate([X, X[:5]]) for key, X in side.items()}
               for name, side in (("raw", raw), ("aligned", aligned))}  # fmt: skip
    same = dict.fromkeys(raw, np.array([*range(20), *range(5)]))
    found = tasks.retrieval(doubled["raw"], doubled["aligned"], "en", same=same)
    plain = tasks.retrieval(doubled["raw"], doubled["aligned"], "en")
    expected = tasks.retrieval(raw, aligned, "en")
    for measure in (tasks.TO_PIVOT, tasks.FROM_PIVOT):
        for column in (RAW, ADAPTER):
            for language, hits in found[measure][column].per_text.items():
                once = expected[measure][column].per_text[language]
                np.testing.assert_array_equal(hits, np.concatenate([once, once[:5]]))
        assert plain[measure][ADAPTER].figures["de"] < found[measure][ADAPTER].figures["de"]
    pool = tasks.mixed_pool(raw, aligned, rows=same)[tasks.MIXED_POOL]
    once_each = tasks.mixed_pool(raw, aligned)[tasks.MIXED_POOL]
    for column in (RAW, ADAPTER):
        for language, shares in pool[column].per_text.items():
            once = once_each[column].per_text[language]
            np.testing.assert_array_equal(shares, np.concatenate([once, once[:5]]))


def test_a_translation_of_the_same_text_is_right_whichever_line_it_stands_in() -> None:
    X = np.eye(3, dtype=np.float32)
    # The text of lines 0 and 1 is the same; their translations differ, and the second one is found.
    raw = {"de": X[[0, 0, 2]], "en": X[[1, 0, 2]]}
    same = {"de": tasks.first_lines(["ja", "ja", "so"]), "en": tasks.first_lines(["yes", "yeah", "so"])}
    found = tasks.retrieve(raw, "en", is_aligned=False, same=same, with_corrections=False)
    assert list(found[tasks.TO_PIVOT]) == [RAW]
    assert found[tasks.TO_PIVOT][RAW].per_text["de"].tolist() == [1.0, 1.0, 1.0]
    # Of nine pairs of lines de[0], de[1] with en[0], en[1], and the last with itself.
    assert tasks.right_shares(same, "en") == {"de": pytest.approx(5 / 9)}


def test_texts_that_are_no_translations_of_each_other_are_refused() -> None:
    raw = toy_vectors()
    with pytest.raises(tasks.TaskError, match="same number of lines"):
        tasks.retrieval(raw | {"de": raw["de"][:-1]}, raw, "en")
    with pytest.raises(tasks.TaskError, match="pivot 'fr'"):
        tasks.retrieval(raw, raw, "fr")


def test_a_term_is_right_where_any_of_its_translations_comes_first() -> None:
    X = np.eye(4, dtype=np.float32)
    # The nearest of source 1 is target 0; of target 1 it is source 2.
    source, target = X[[0, 0, 1]], X[[0, 1]]
    pairs = {"sw": np.array([[0, 1], [1, 0], [2, 1], [0, 0]])}
    lists = {"sw": (source, target)}
    found = tasks.terms(lists, lists, pairs)
    assert found[tasks.TO_TARGET][RAW].per_text["sw"].tolist() == [1.0, 1.0, 1.0]
    assert found[tasks.TO_SOURCE][RAW].per_text["sw"].tolist() == [1.0, 1.0]
    pairs = {"sw": np.array([[0, 1], [1, 0], [2, 1]])}
    found = tasks.terms(lists, lists, pairs)
    assert found[tasks.TO_TARGET][RAW].per_text["sw"].tolist() == [0.0, 1.0, 1.0]
    assert found[tasks.TO_SOURCE][RAW].per_text["sw"].tolist() == [0.0, 1.0]


def test_a_head_learns_classes_of_the_pivot_and_carries_them_to_other_languages() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 12))
    gold = np.arange(90) % 3
    X = unit(centres[gold] + 0.5 * rng.standard_normal((90, 12)))
    other = unit(centres[gold] + 0.5 * rng.standard_normal((90, 12)))
    found = labelling.head({"de": other}, {"de": other}, (X, X), gold, {"de": gold})[tasks.HEAD]
    assert found[RAW].figures["de"] > 90.0
    assert found[RAW].figures == found[ADAPTER].figures
    shuffled = labelling.head({"de": other}, {"de": X}, (X, X), rng.permutation(gold), {"de": gold})[
        tasks.HEAD
    ]
    assert shuffled[RAW].figures["de"] < 70.0
    with pytest.raises(tasks.TaskError, match="two labels"):
        labelling.fit_head(X, np.zeros(90, dtype=np.int64))


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_leaving_a_text_out_of_the_head_is_fitting_without_it(strength: float) -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((20, 30)), np.eye(3)[np.arange(20) % 3]
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    found = labelling._left_out(U, s, Y, strength)
    for row in (0, 7, 19):
        rest, gold = np.delete(X, row, axis=0), np.delete(Y, row, axis=0)
        Z = rest - rest.mean(axis=0)
        weights = np.linalg.solve(Z.T @ Z + strength * np.eye(30), Z.T @ (gold - gold.mean(axis=0)))
        expected = (X[row] - rest.mean(axis=0)) @ weights + gold.mean(axis=0)
        np.testing.assert_allclose(found[row], expected, atol=1e-8)


def test_similarity_is_rank_correlation_within_each_language() -> None:
    texts = encode([f"en:{i}" for i in range(12)])
    cosines = (texts[:6] * texts[6:]).sum(axis=1)
    gold = {"en": np.argsort(np.argsort(cosines)).astype(np.float64)}
    pairs = {"en": (texts[:6], texts[6:])}
    flipped = {"en": (texts[:6], -texts[6:])}
    found = within.similarity(pairs, flipped, gold)[tasks.SIMILARITY]
    assert found[RAW].figures == pytest.approx({"en": 100.0})
    assert found[ADAPTER].figures == pytest.approx({"en": -100.0})
    assert found[RAW].per_text == {}


# --- words -------------------------------------------------------------------------------------------------


class Tokens(NamedTuple):
    """What an encoder says of a text's tokens."""

    spans: tuple[tuple[int, int], ...]
    vectors: Matrix


def word_encoder(texts: Sequence[str]) -> list[Tokens]:
    """Two tokens a word, spaces with the token behind them; one language's tokens share a wide direction.

    Words are a language's first letter and a meaning, such as ``d7``.
    """
    found = []
    for text in texts:
        spans, rows, start = [], [], 0
        for word in text.split(" "):
            end = start + len(word)
            for part, span in enumerate(((max(0, start - 1), start + 1), (start + 1, end))):
                spans.append(span)
                rows.append(
                    direction(f"{word[1:]} {part}")
                    + np.float32(2.0) * direction(f"language {word[0]}")
                    + np.float32(0.5) * direction(f"{word} {part}")
                )
            start = end + 1
        found.append(Tokens(tuple(spans), np.stack(rows)))
    return found


def test_tokens_belong_to_the_word_that_they_share_most_characters_with() -> None:
    spans = ((0, 2), (2, 3), (3, 5), (4, 6), (9, 9), (20, 30))
    vectors = np.eye(6, dtype=np.float32) * np.float32(3)
    found = word_tokens(["abc", "de"], Tokens(spans, vectors))
    assert found.words.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.vectors, np.eye(6)[:4])
    with pytest.raises(WordsError, match="1 spans do not fit 6"):
        word_tokens(["abc"], Tokens(spans[:1], vectors))
    empty = word_tokens(["abc"], Tokens((), np.empty((0, 6), dtype=np.float32)))
    assert align_words(empty, found) == frozenset()


def test_f1_counts_links_of_all_pairs_together() -> None:
    gold = [frozenset({(0, 0), (1, 1)}), frozenset({(0, 0)})]
    assert f1(gold, gold) == 100.0
    assert f1([frozenset({(0, 0)}), frozenset({(0, 1)})], gold) == pytest.approx(100 * 2 * 1 / 5)
    assert f1([frozenset()], [frozenset()]) == 0.0


def word_pairs(n: int = 12, *, seed: int = 0) -> tuple[list[tuple[WordTokens, WordTokens]], list[Any]]:
    rng = np.random.default_rng(seed)
    pairs, gold = [], []
    for _ in range(n):
        order = rng.permutation(6)
        meanings = rng.choice(40, size=6, replace=False)
        source = [f"e{meaning}" for meaning in meanings]
        target = [f"d{meanings[position]}" for position in order]
        one, other = word_encoder([" ".join(source), " ".join(target)])
        pairs.append((word_tokens(source, one), word_tokens(target, other)))
        gold.append(frozenset((int(position), row) for row, position in enumerate(order)))
    return pairs, gold


def test_removing_the_means_of_the_other_half_helps() -> None:
    pairs, gold = word_pairs()
    found = judge_words({"en-de": pairs}, {"en-de": gold})[WORDS]
    raw, removed = found[RAW].figures["en-de"], found[tasks.TOKEN_MEANS].figures["en-de"]
    assert raw + 5.0 < removed
    assert removed > 80.0
    with pytest.raises(WordsError, match="at least two sentence pairs"):
        judge_words({"x": pairs[:1]}, {"x": gold[:1]})


def test_an_adapter_centres_tokens_by_the_means_that_it_knows() -> None:
    pairs, gold = word_pairs()
    both = [np.concatenate([pair[side].vectors for pair in pairs]).mean(axis=0) for side in (0, 1)]
    found = judge_words({"en-de": pairs}, {"en-de": gold}, {"en-de": (both[0], both[1])})[WORDS]
    assert list(found) == [RAW, ADAPTER, tasks.TOKEN_MEANS]
    assert found[ADAPTER].figures["en-de"] > found[RAW].figures["en-de"] + 5.0
    nothing = np.zeros(DIM)
    same = judge_words({"en-de": pairs}, {"en-de": gold}, {"en-de": (nothing, nothing)})[WORDS]
    assert same[ADAPTER].figures == same[RAW].figures


def test_means_of_a_pair_come_from_the_other_half_alone() -> None:
    pairs, _ = word_pairs(4)
    expected = []
    for position, pair in enumerate(pairs):
        others = pairs[1 - position % 2 :: 2]
        means = [np.concatenate([other[side].vectors for other in others]).mean(axis=0) for side in (0, 1)]
        expected.append(align_words(*pair, means=(means[0], means[1])))
    # Where the links that are found are the gold ones, F1 is 100: so these are the links that were found.
    found = judge_words({"x": pairs}, {"x": expected})[WORDS]
    assert found[tasks.TOKEN_MEANS].figures["x"] == 100.0
    assert found[RAW].figures["x"] < 100.0


# --- formats -----------------------------------------------------------------------------------------------


def test_parallel_text_is_read_whole_and_its_pivot_may_be_any_code_of_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "\ufeffde\teng\n" + "eins\tone\r\n\n" * 7000)
    found = formats.read_parallel(path)
    assert (found.pivot, found.n_lines) == ("de", 7000)
    assert formats.read_parallel(path, pivot="en").pivot == "eng"
    assert formats.limited(found, 3).by_language == {"de": ["eins"] * 3, "eng": ["one"] * 3}
    assert formats.limited(found, 3).where(2) == f"{path}, line {2 + 2 * 4666}"
    with pytest.raises(TextError, match=r"p\.tsv has no language 'fr'; it has de, eng"):
        formats.read_parallel(path, pivot="fr")
    with pytest.raises(TextError, match="'en' and 'eng' are one language"):
        formats.read_parallel(write(tmp_path / "p.tsv", "en\teng\na\tb\na\tb\n"))


def test_a_message_names_twenty_languages_at_most() -> None:
    names = [f"a{i}" for i in range(500)]
    with pytest.raises(TextError, match="and 480 more") as caught:
        formats.find_language("y" * 5000, names, "a set")
    assert len(str(caught.value)) < 400
    assert formats.few(["a", "b"]) == "a, b"


def labelled_lines(*rows: tuple[str, str, str]) -> str:
    return "".join(
        json.dumps({"text": text, "language": language, "label": label}) + "\n"
        for text, language, label in rows
    )


def test_texts_that_a_head_is_trained_on_are_not_judged_on(tmp_path: Path) -> None:
    test = write(
        tmp_path / "test.jsonl",
        labelled_lines(
            ("Eins", "deu", "x"), ("Good  Morning", "eng", "x"), ("two", "en", "y"), ("two", "eng", "y")
        ),
    )
    train = write(
        tmp_path / "train.jsonl",
        labelled_lines(
            ("eins", "en", "x"), ("good morning", "en", "x"), ("three", "en", "y"), ("two", "de", "y")
        ),
    )
    with pytest.raises(TextError, match=r"test\.jsonl, line 2: .* at .*train\.jsonl, line 2; .* take it out"):
        formats.read_labelled(test, train=train)
    with pytest.raises(TextError, match=r"line 1: .* \(3 more texts are in both\)"):
        formats.read_labelled(
            write(tmp_path / "t.jsonl", labelled_lines(*[(f"{i}", "en", f"{i}") for i in range(4)])),
            train=tmp_path / "t.jsonl",
        )
    # The same word in another language is another text.
    apart = write(tmp_path / "apart.jsonl", labelled_lines(("three", "de", "x"), ("two", "en", "y")))
    assert formats.read_labelled(apart, train=train).train_language == "en"


LABELLED = '{"text": "a", "language": "en", "label": "x"}\n'


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (formats.read_parallel, "de\ten\neins\n", r"f, line 2: 2 texts .* there are 1 in 1 cells"),
        (formats.read_parallel, "de\tde\na\tb\n", r"f, line 1: .* each once"),
        (formats.read_parallel, "de\ten\neins\tone\n", "at least two rows"),
        (formats.read_parallel, "", "line 1: '' is not a language tag"),
        (formats.read_labelled, LABELLED + "{\n", r"f, line 2: not JSON"),
        (
            formats.read_labelled,
            LABELLED + '{"text": "a", "language": "en"}\n',
            r"f, line 2: an object with strings",
        ),
        (formats.read_labelled, LABELLED.replace('"a"', '" "'), r"f, line 1: .* none blank"),
        (
            formats.read_labelled,
            LABELLED.replace('"a"', '"\\ud800"'),
            "line 1: the text holds a lone surrogate",
        ),
        (formats.read_labelled, LABELLED.replace('"en"', '"e n"'), "line 1: 'e n' is not a language tag"),
        (formats.read_labelled, LABELLED, "at least two labels"),
        (formats.read_scored, "en\t1\ta\n", r"f, line 1: language, score and two texts .* 3 in 3 cells"),
        (formats.read_scored, "en\t1\ta\tb\nen\tnan\ta\tb\n", r"f, line 2: 'nan' is not a score"),
        (formats.read_scored, "en\t1\ta\tb\nen\t1\ta\tb\n", "all scores of en are the same"),
        (formats.read_scored, "\n", "holds no pair"),
        (
            formats.read_words,
            "en\tde\tlinks\na b\tc\t0-0 2-0\n",
            r"f, line 2: link 2-0 points beyond .* 2 and 1 words",
        ),
        (formats.read_words, "en\tde\tlinks\na b\tc\t0:0\n", r"f, line 2: '0:0' is not a link"),
        (formats.read_words, "en\tde\na b\tc\n", r"f, line 1: a header of two language tags"),
        (formats.read_words, "en\tde\tlinks\na\tb\t0-0\n", "at least two sentence pairs"),
        (formats.read_words, "en\tde\tlinks\n\tb\t0-0\n", "line 2: 3 cells"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    tmp_path: Path, read: Callable[[Path], object], content: str, message: str
) -> None:
    with pytest.raises(TextError, match=message):
        read(write(tmp_path / "f", content))


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"cannot read .*nowhere: No such file"):
        formats.read_scored(tmp_path / "nowhere")
    path = tmp_path / "f"
    path.write_bytes(b"en\t1\ta\tb\nen\t2\ta\t\xff\n")
    with pytest.raises(TextError, match="line 2: not UTF-8 at byte 8"):
        formats.read_scored(path)


def test_links_stand_beside_their_sentences_or_in_a_file_of_their_own(tmp_path: Path) -> None:
    beside = write(tmp_path / "a.tsv", "en\tde\tlinks\na b\tc\t0-0 1-0\nd\te f\t\n")
    apart = write(tmp_path / "b.tsv", "en\tde\na b\tc\nd\te f\n")
    links = write(tmp_path / "links", "0-0 1-0\n\n")
    first, second = formats.read_words(beside), formats.read_words(apart, alignments=links)
    assert first.pairs == second.pairs
    (pair, other) = first.pairs["en", "de"]
    assert (pair.source, pair.target, pair.links) == (("a", "b"), ("c",), {(0, 0), (1, 0)})
    assert other.links == frozenset()
    with pytest.raises(TextError, match=r"links, line 1: link 0-3 points beyond"):
        formats.read_words(apart, alignments=write(tmp_path / "links", "0-3\n0-0\n"))
    with pytest.raises(TextError, match=r"line 3: .*links has no line for this pair"):
        formats.read_words(apart, alignments=write(tmp_path / "links", "0-0\n"))
    with pytest.raises(TextError, match="has 3 lines, but"):
        formats.read_words(apart, alignments=write(tmp_path / "links", "0-0\n0-0\n\n"))


def test_terms_that_are_the_same_in_both_languages_say_nothing_and_repeats_are_kept_once() -> None:
    found = formats.term_list(
        "de", "en", [("Bank", "bank"), ("Ufer", "shore"), ("Ufer", "bank"), ("Ufer", "shore")]
    )
    assert (found.source, found.target, found.pairs) == (["Ufer"], ["shore", "bank"], [(0, 0), (0, 1)])


# --- reports -----------------------------------------------------------------------------------------------


def evaluation(seed: int = 0) -> Evaluation:
    return Evaluation("e" * 64, "toy", "v", True, seed, None, 1.0, [])


def test_wins_losses_and_the_interval_are_against_raw_on_the_same_texts() -> None:
    raw = {f"l{i}": np.arange(200) < 100 for i in range(6)}
    after = raw | {"l1": np.arange(200) < 140, "l2": np.arange(200) < 101, "l3": np.arange(200) < 60}
    (found,) = measures(
        {"m": {Column("z", "causal"): tasks.mean_scores(raw), ADAPTER: tasks.mean_scores(after),
               RAW: tasks.mean_scores(raw)}}, seed=0,
    )  # fmt: skip
    assert [column.kind for column in found.columns] == ["inductive", "inductive", "causal"]
    adapter = next(column for column in found.columns if column.name == "adapter")
    assert (adapter.wins, adapter.losses, adapter.significantly_worse) == (["l1"], ["l3"], ["l3"])
    assert adapter.change is not None
    assert adapter.change.low is not None
    assert adapter.change.high is not None
    assert adapter.change.low < adapter.change.mean < adapter.change.high
    assert adapter.change.mean == pytest.approx((20 + 0.5 - 20) / 6)
    baseline = next(column for column in found.columns if column.name == "raw")
    assert (baseline.change, baseline.wins, baseline.losses) == (None, [], [])
    (without,) = measures({"m": {RAW: Scores({"a": 1.0}), ADAPTER: Scores({"a": 2.0})}}, seed=0)
    assert without.columns[1].significantly_worse is None


def test_without_languages_to_resample_there_is_no_interval_and_the_reason_is_said(
    session: Session, tmp_path: Path
) -> None:
    data = Data(path=write_parallel(tmp_path / "p.tsv"), choice=Choice(languages=["de"]))
    found = evaluate(session, "retrieval", data)
    (task,) = found.tasks
    (adapter,) = [row for row in summary_rows(task.measures[0]) if row[1] == "adapter"]
    assert adapter[4] == "none"
    assert notes(task) == [
        "There is no 95 % interval: it is drawn over languages, and there is one language."
    ]
    assert notes(task)[0] in found.to_markdown()
    value = found.to_json()["tasks"][0]["measures"][0]["columns"][1]["change"]
    assert (value["low"], value["high"]) == (None, None)
    pytest.importorskip("matplotlib")
    write_png(found, tmp_path / "found.png")


def test_every_output_names_the_kind_of_every_column(session: Session, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = evaluate(session, "retrieval", Data(path=write_parallel(tmp_path / "p|q.tsv")))
    value = found.to_json()
    assert json.loads(json.dumps(value)) == value
    (measure, _) = value["tasks"][0]["measures"]
    assert {(column["name"], column["kind"]) for column in measure["columns"]} >= {
        ("raw", "inductive"), ("adapter", "inductive"), ("adapter + stream mean", "causal"),
        ("raw + CSLS", "transductive"),
    }  # fmt: skip
    assert (value["seed"], value["n_draws"], value["uses_tags"], value["adapter"]) == (0, 2000, True, "toy")
    assert value["seconds"] > 0.0
    page = found.to_markdown()
    for kind in KINDS:
        assert f"**{kind}**" in page
        assert f"| {kind} |" in page
    assert "| language | raw [inductive] | adapter [inductive] | adapter + stream mean [causal] |" in page
    assert "## retrieval: p|q.tsv" in page
    picture = tmp_path / "found.png"
    write_png(found, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert evaluation().headline().startswith("Encoder eeeeeeeeeeee, adapter toy (version v)")


# --- running -----------------------------------------------------------------------------------------------


def test_every_task_runs_on_files_that_anyone_can_make(session: Session, tmp_path: Path) -> None:
    parallel = write_parallel(tmp_path / "p.tsv")
    labelled = write(
        tmp_path / "l.jsonl",
        "".join(
            json.dumps({"text": f"{language}:{i % 3}", "language": language, "label": str(i % 3)}) + "\n"
            for language in LANGUAGES
            for i in range(9)
        ),
    )
    scored = write(
        tmp_path / "s.tsv",
        "".join(
            f"{language}\t{i % 5}\t{language}:{i}\t{language}:{i % 5}\n"
            for language in LANGUAGES
            for i in range(9)
        ),
    )
    words = write(tmp_path / "w.tsv", "en\tde\tlinks\n" + "e1 e2\td2 d1\t0-1 1-0\ne3\td3\t0-0\n" * 3)
    train = write(
        tmp_path / "t.jsonl",
        labelled_lines(*[(f"en:training {i % 3} {i}", "en", str(i % 3)) for i in range(9)]),
    )
    files = {"labels": labelled, "head": labelled, "similarity": scored, "words": words}
    with_tokens = Session(**(vars_of(session) | {"encode_tokens": word_encoder, "template": "en:{label}"}))
    for task in TASKS:
        data = Data(path=files.get(task, parallel), train=train if task == "head" else None)
        found = evaluate(with_tokens, task, data)
        (result,) = found.tasks
        assert result.task == task
        assert result.use == formats.OWN_FILE
        for measure in result.measures:
            for column in measure.columns:
                assert set(column.by_language) <= set(result.n_texts)
                assert all(-100.0 <= figure <= 100.0 for figure in column.by_language.values())


def test_neighbours_have_a_raw_column_that_is_100_by_definition(session: Session, tmp_path: Path) -> None:
    found = evaluate(session, "neighbours", Data(path=write_parallel(tmp_path / "p.tsv")))
    (task,) = found.tasks
    raw, adapter = summary_rows(task.measures[0])
    assert raw[1:3] == ["raw", "100.0"]
    assert adapter[3].startswith("-")
    assert adapter[7] == "not tested"
    assert "by definition" in notes(task)[0]


def test_repeated_lines_cost_no_points_and_are_counted(session: Session, tmp_path: Path) -> None:
    lines = write_parallel(tmp_path / "p.tsv").read_text(encoding="utf-8").splitlines()
    again = write(tmp_path / "again.tsv", "\n".join([*lines, *lines[1:11], lines[1]]) + "\n")
    for task in ("retrieval", "pool", "terms", "neighbours"):
        once, twice = (
            evaluate(session, task, Data(path=path)).tasks[0] for path in (tmp_path / "p.tsv", again)
        )
        for measure, repeated in zip(once.measures, twice.measures, strict=True):
            for column, other in zip(measure.columns, repeated.columns, strict=True):
                if all(figure == 100.0 for figure in column.by_language.values()):
                    assert other.by_language == column.by_language
        count = [
            note for note in notes(twice) if note.startswith("44 lines repeat the text of an earlier one")
        ]
        assert len(count) == (task != "terms")
        if count:
            assert "(en 11, de 11, sw 11, ta 11)" in count[0]
    before, after = (
        figures(evaluate(session, "retrieval", Data(path=path)), "adapter")
        for path in (tmp_path / "p.tsv", again)
    )
    assert min(before.values()) == min(after.values()) == 100.0
    with pytest.raises(TextError, match="two texts that differ are needed in en, de"):
        evaluate(session, "neighbours", Data(path=write(tmp_path / "p.tsv", "en\tde\n" + "en:1\tde:1\n" * 3)))


def test_lines_that_slipped_are_warned_of_with_language_and_file(session: Session, tmp_path: Path) -> None:
    columns = toy_texts(40)
    columns["sw"] = [*columns["sw"][1:], columns["sw"][0]]
    rows = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    slipped = write(tmp_path / "slipped.tsv", "\n".join(rows) + "\n")
    right = write_parallel(tmp_path / "p.tsv")
    for task in ("retrieval", "pool", "terms"):
        (found,) = evaluate(session, task, Data(path=slipped)).tasks
        (warning,) = found.warnings
        assert warning.startswith(
            f"{slipped}: translations of sw find each other no more often than by chance"
        )
        assert evaluate(session, task, Data(path=right)).tasks[0].warnings == []
    page = evaluate(session, "retrieval", Data(path=slipped)).to_markdown()
    assert f"Warning: {slipped}: translations of sw" in page


def test_words_use_the_means_of_an_adapter_that_has_some_and_say_so(session: Session, tmp_path: Path) -> None:
    path = write(tmp_path / "w.tsv", "en\tde\tlinks\n" + "e1 e2\td2 d1\t0-1 1-0\ne3\td3\t0-0\n" * 3)
    with_tokens = vars_of(session) | {"encode_tokens": word_encoder}
    found = evaluate(Session(**(with_tokens | {"is_mean": True})), "words", Data(path=path))
    (task,) = found.tasks
    assert [column.name for column in task.measures[0].columns] == ["raw", "adapter", "token means removed"]
    assert notes(task)[0].startswith("Adapter: tokens less the means of both languages")
    assert "adapter toy (version" in found.headline()
    for changed in ({}, {"is_mean": True, "adapter": identity(ENCODER, DIM)}):
        found = evaluate(Session(**(with_tokens | changed)), "words", Data(path=path))
        (task,) = found.tasks
        assert [column.name for column in task.measures[0].columns] == ["raw", "token means removed"]
        assert notes(task)[0].startswith("The adapter plays no part")
        assert (found.adapter, found.adapter_version) == (None, None)
        assert ", no adapter;" in found.headline()
        assert "version" not in found.headline()


def test_means_of_tokens_are_those_of_the_languages_where_tags_are_used(session: Session) -> None:
    one = Session(**(vars_of(session) | {"is_mean": True})).token_means("en", "deu")
    untagged = Session(**(vars_of(session) | {"is_mean": True, "uses_tags": False})).token_means("en", "de")
    (centre,) = session.adapter.steps
    assert isinstance(centre, LanguageCentre)
    assert one is not None
    assert untagged is not None
    np.testing.assert_allclose(one[1], centre.means[1], atol=1e-6)
    np.testing.assert_array_equal(untagged[0], untagged[1])
    np.testing.assert_allclose(untagged[0], centre.means.mean(axis=0), atol=1e-6)


def test_aligning_in_place_is_aligning(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignstream.export.evaluate.session._ROWS", 7)
    X = toy_vectors()["de"]
    expected = session.align(X, "de")
    session.align_in_place(X, "de")
    np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize("task", ["retrieval", "pool", "terms", "neighbours"])
def test_memory_grows_as_one_copy_of_the_vectors(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignstream.export.evaluate.session._ROWS", 64)
    monkeypatch.setattr("alignstream.export.data.embedding_cache._BLOCK_ROWS", 64)
    monkeypatch.setattr(search, "_ROWS", 64)
    monkeypatch.setattr(search, "_BLOCK_QUERIES", 64)
    dim, sizes = 512, (400, 800)
    means = unit(np.random.default_rng(0).standard_normal((2, dim))) * np.float32(0.3)
    adapter = Adapter(ENCODER, dim, (LanguageCentre(means, ("en-Latn", "de-Latn"), (60, 60)),))
    rng = np.random.default_rng(1)
    cache = EmbeddingCache(
        tmp_path,
        fingerprint=ENCODER,
        dim=dim,
        encode=lambda texts: unit(rng.standard_normal((len(texts), dim))),
    )
    session = Session(cache=cache, adapter=adapter, block_bytes=256 * 1024)
    peaks = []
    for n in sizes:
        # A text that stands twice, so that vectors cannot be taken from the cache as they are.
        rows = "".join(f"line {i % (n - 1)}\tZeile {i % (n - 1)}\n" for i in range(n))
        path = write(tmp_path / f"{n}.tsv", "en\tde\n" + rows)
        evaluate(session, task, Data(path=path))
        tracemalloc.start()
        evaluate(session, task, Data(path=path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    by_line = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    # Two sides once; texts, positions and hits take half a kilobyte. One more side would take a factor of 1.5.
    assert by_line < 1.25 * (2 * dim * 4)


def vars_of(session: Session) -> dict[str, Any]:
    return {name: getattr(session, name) for name in Session.__dataclass_fields__}


def figures(found: Evaluation, column: str) -> dict[str, float]:
    (result,) = found.tasks
    return next(item for item in result.measures[0].columns if item.name == column).by_language


def test_tags_are_used_unless_they_are_not_wanted(session: Session, tmp_path: Path) -> None:
    data = Data(path=write_parallel(tmp_path / "p.tsv"))
    tagged = evaluate(session, "pool", data)
    untagged = evaluate(Session(**(vars_of(session) | {"uses_tags": False})), "pool", data)
    assert figures(tagged, "raw") == figures(untagged, "raw")
    for language in LANGUAGES:
        assert figures(tagged, "adapter")[language] > figures(tagged, "raw")[language] + 20.0
        assert figures(tagged, "adapter")[language] > figures(untagged, "adapter")[language]
    assert "without language tags" in untagged.headline()


def test_label_texts_are_aligned_without_a_language(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    original = Adapter.transform_many

    def record(self: Adapter, X: Matrix, context: Context = Context()) -> Matrix:  # noqa: B008
        seen.append(context.language)
        return original(self, X, context)

    monkeypatch.setattr(Adapter, "transform_many", record)
    rows = "".join(
        json.dumps({"text": f"de:{i}", "language": "de", "label": str(i)}) + "\n" for i in range(3)
    )
    evaluate(session, "labels", Data(path=write(tmp_path / "l.jsonl", rows)))
    assert sorted(seen, key=str) == [None, "de"]


def test_languages_limit_and_pivot_choose_what_is_read(session: Session, tmp_path: Path) -> None:
    path = write_parallel(tmp_path / "p.tsv")
    choice = Choice(languages=["deu", "sw"], pivot="sw", limit=10)
    (result,) = evaluate(session, "retrieval", Data(path=path, choice=choice)).tasks
    assert (result.pivot, result.n_texts) == ("sw", {"de": 10, "sw": 10})
    with pytest.raises(TextError, match="has no language 'fr'"):
        evaluate(session, "pool", Data(path=path, choice=Choice(languages=["fr"])))
    with pytest.raises(TextError, match="at least two languages"):
        evaluate(session, "pool", Data(path=path, choice=Choice(languages=["en"])))


def test_the_same_seed_gives_the_same_report(session: Session, tmp_path: Path) -> None:
    data = Data(path=write_parallel(tmp_path / "p.tsv"))

    def run(seed: int) -> list[Any]:
        value = evaluate(Session(**(vars_of(session) | {"seed": seed})), "retrieval", data).to_json()
        found: list[Any] = value["tasks"][0]["measures"]
        return found

    assert run(1) == run(1)


def test_what_cannot_be_run_is_refused(session: Session, tmp_path: Path) -> None:
    path = write_parallel(tmp_path / "p.tsv")
    for task, data, message in (
        ("dance", Data(path=path), "there is no task 'dance'"),
        ("all", Data(path=path), "no one file serves every task"),
        ("pool", Data(), "name a file, or set ALIGNSTREAM_DATA"),
        ("pool", Data(path=path, names=("ntrex-dev",)), "a file or --set, not both"),
        ("pool", Data(root=tmp_path, names=("panlex",)), "'pool' has no set 'panlex'"),
        ("all", Data(root=tmp_path, names=("nonsense",)), "there is no set 'nonsense'"),
        ("pool", Data(path=path, choice=Choice(languages=[])), "--languages names no language"),
        ("pool", Data(path=path, train=path), "--train is for 'head' with a file"),
        ("head", Data(root=tmp_path, train=path), "--train is for 'head' with a file"),
        ("head", Data(path=path, train=path, alignments=path), "--alignments is for 'words' with a file"),
        ("words", Data(path=path, choice=Choice(languages=["de"])), "leave --languages out"),
        ("similarity", Data(path=path, choice=Choice(pivot="de")), "leave --pivot out"),
        ("labels", Data(path=path, choice=Choice(pivot="de")), "leave --pivot out"),
    ):
        kind = EvaluationError if data == Data() else WrongUsage
        with pytest.raises(kind, match=message):
            check(task, data)
        with pytest.raises(EvaluationError, match=message):
            evaluate(session, task, data)
    with pytest.raises(EvaluationError, match="token vectors"):
        evaluate(session, "words", Data(path=path))
    rows = LABELLED + LABELLED.replace('"x"', '"y"')
    with pytest.raises(EvaluationError, match="--train FILE"):
        evaluate(session, "head", Data(path=write(tmp_path / "l.jsonl", rows)))
    with pytest.raises(TextError, match=r"nowhere is no folder; set ALIGNSTREAM_DATA"):
        evaluate(session, "pool", Data(root=tmp_path / "nowhere"))


# --- the command -------------------------------------------------------------------------------------------


def invoke(*arguments: str | Path) -> Any:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], terminal_width=200)


@pytest.fixture
def loaded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_session(_: str, __: Path | None, *, uses_tags: bool, seed: int, template: str | None) -> Session:
        return Session(
            **(vars_of(session) | {"uses_tags": uses_tags, "seed": seed, "template": template or "{label}"})
        )

    monkeypatch.setattr(command, "open_session", open_session)
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)


@pytest.mark.usefixtures("loaded")
def test_the_command_prints_a_table_or_json_and_writes_a_page_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = write_parallel(tmp_path / "p.tsv")
    page, picture = tmp_path / "found.md", tmp_path / "found.png"
    shown = invoke("retrieval", path, "--by-language", "--markdown", page, "--png", picture, "--seed", "7")
    assert shown.exit_code == 0, shown.output
    for word in ("retrieval: p.tsv", "inductive", "causal", "transductive", "seed 7"):
        assert word in shown.output
    assert page.read_text(encoding="utf-8").startswith("# Evaluation\n")
    assert picture.stat().st_size > 1000
    done = invoke("pool", path, "--json", "--no-tags", "--limit", "5", "--languages", "de,sw")
    value = json.loads(done.stdout)
    assert (value["uses_tags"], value["limit"]) == (False, 5)
    assert value["tasks"][0]["n_texts"] == {"en": 5, "de": 5, "sw": 5}


@pytest.mark.usefixtures("loaded")
def test_figures_are_printed_before_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(command, "write", full)
    path = write_parallel(tmp_path / "p.tsv")
    failed = invoke("pool", path, "--markdown", tmp_path / "found.md")
    assert isinstance(failed.exception, OSError)
    assert "mixed pool R-precision" in failed.output


@pytest.mark.usefixtures("loaded")
def test_the_command_warns_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "en\tde\n" + "".join(f"en:{i}\tde:{(i + 3) % 40}\n" for i in range(40)))
    done = invoke("retrieval", path, "--json")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"warning: {path}: translations of de find each other no more often than by chance"
    )
    assert json.loads(done.stdout)["tasks"][0]["warnings"]


@pytest.mark.parametrize("task", ["pool", "layers"])
def test_files_that_cannot_be_written_are_refused_before_any_work(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parallel(tmp_path / "p.tsv")
    start: list[str | Path] = ["pool", path]
    if task == "layers":
        start = ["layers", "--model", "m", "--data", path]

    def refuse(*_: object, **__: object) -> Session:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr(command, "open_session", refuse)
    for option in ("--markdown", "--png"):
        for place, message in (
            (tmp_path, "it is a folder"),
            (tmp_path / "nowhere" / "x", "there is no folder"),
            (path / "x", "there is no folder"),
        ):
            failed = invoke(*start, option, place)
            assert isinstance(failed.exception, AlignstreamError)
            assert str(failed.exception).startswith(f"cannot write {place}: ")
            assert message in str(failed.exception)
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)
    assert "no permission" in str(invoke(*start, "--png", tmp_path / "x.png").exception)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    failed = invoke(*start, "--png", tmp_path / "x.png")
    assert isinstance(failed.exception, PictureError)
    assert "pip install 'alignstream[embedded]'" in str(failed.exception)


def test_the_command_refuses_before_it_loads_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)
    for arguments, kind in (
        (("all",), EvaluationError),
        (("pool",), EvaluationError),
        (("layers", "--model", "m", "--data", tmp_path / "nowhere"), TextError),
    ):
        assert isinstance(invoke(*arguments).exception, kind)
    path = write_parallel(tmp_path / "p.tsv")
    for wrong in (
        ("pool", "--set", "nonsense"),
        ("pool", path, "--set", "ntrex-dev"),
        ("all", path),
        ("retrieval", path, "--languages", ","),
        ("words", path, "--languages", "de"),
        ("pool", path, "--train", path),
        ("pool", path, "--alignments", path),
        ("retrieval", path, "--template", "{label}"),
        ("similarity", path, "--pivot", "de"),
        ("head", path),
        ("layers", "--model", "m", "--data", path, "--poolings", "max"),
        ("layers", "--model", "m", "--data", path, "--poolings", ","),
    ):
        refused = invoke(*wrong)
        assert refused.exit_code == 2, wrong
        assert "Invalid value" in refused.output
    assert invoke("dance").exit_code == 2
    assert invoke("pool", "--limit", "1").exit_code == 2
    assert "Zero-shot labels" in invoke("--help").output
    assert "its other steps play no part" in " ".join(invoke("words", "--help").output.split())


def test_texts_that_are_not_utf_8_are_refused_in_one_line() -> None:
    app = typer.Typer()
    compare.register(app)
    app.command("other")(lambda: None)
    for texts in (("\udcff\udcfe", "b"), ("a", "b\ud800")):
        refused = CliRunner().invoke(app, ["compare", *texts], terminal_width=200)
        assert refused.exit_code == 2
        assert "the text is not UTF-8" in refused.output


# --- the public sets ---------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not os.environ.get(sets.VARIABLE), reason="needs ALIGNSTREAM_DATA")


@needs_data
def test_the_named_sets_are_development_parts_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Path.open

    def record(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", record)
    named = sets.NamedSets(Path(os.environ[sets.VARIABLE]))
    few = Choice(languages=["de"], limit=20)
    for name in ("ntrex-dev", "sib-dev", "xsid-valid"):
        found = named.parallel(name, few)
        assert (len(found.by_language), found.n_lines) == (2, 20)
    assert named.parallel("ntrex-dev", Choice()).n_lines == 300
    assert named.parallel("tico-19", Choice(languages=["sw"], pivot="fr")).pivot == "fr"
    nusax = named.parallel("nusax-valid", Choice(languages=["jv"], limit=9))
    assert (list(nusax.by_language), nusax.n_lines) == (["en", "jv"], 9)
    for name in ("sib-dev", "xsid-valid", "nusax-valid"):
        labelled = named.labelled(name, Choice(limit=30))
        assert all(set(gold) <= set(labelled.words) for gold in labelled.gold.values())
        assert all(len(labelled.texts[key]) == len(gold) == 30 for key, gold in labelled.gold.items())
    assert named.labelled("sib-dev", few).train_language == "eng_Latn"
    assert len(named.scored(Choice()).scores["de"]) == 1500
    words = named.words(Choice(limit=15)).pairs
    assert {target for _, target in words} == {"cs", "sv", "es", "pt", "hi"}
    for pairs in words.values():
        for pair in pairs:
            assert all(a < len(pair.source) and b < len(pair.target) for a, b in pair.links)
    territories = named.terms("cldr-territories", Choice(languages=["de", "sw"], limit=50)).lists
    assert {item.target_language for item in territories.values()} == {"en"}
    lexicons = named.terms("panlex", Choice(languages=["ko"])).lists
    assert set(lexicons) == {"fi-ko", "tr-ko"}
    # TICO-19 was only ever published as a test set; nothing was held out from it for this project.
    assert [name for name in opened if "test" in name and not name.startswith(("tico19", "newstest"))] == []


@needs_data
def test_every_set_has_a_note_and_every_task_a_set() -> None:
    assert {name for names in sets.SETS.values() for name in names} == set(sets.USE)
    assert set(sets.SETS) == set(TASKS)


def test_the_identity_changes_nothing(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    session = Session(cache=cache, adapter=identity(ENCODER, DIM), adapter_name="identity")
    found = evaluate(session, "retrieval", Data(path=write_parallel(tmp_path / "p.tsv")))
    for measure in found.tasks[0].measures:
        (adapter,) = [column for column in measure.columns if column.name == "adapter"]
        assert adapter.change is not None
        assert (adapter.change.low, adapter.change.high) == (0.0, 0.0)
        assert adapter.wins == adapter.losses == adapter.significantly_worse == []
