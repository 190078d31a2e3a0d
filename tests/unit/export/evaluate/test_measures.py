"""The measures: what their definitions say, ties and repeated texts included, without a matrix of all with all."""

import functools
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from toy_languages import LANGUAGES, encode, quarters, toy_vectors, unit

from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.export.evaluate import exact_search
from alignstream.export.evaluate.chance import first_lines, right_shares
from alignstream.export.evaluate.exact_search import nearest
from alignstream.export.evaluate.measures import (
    FROM_PIVOT,
    TO_PIVOT,
    TO_SOURCE,
    TO_TARGET,
    label_accuracy,
    mixed_pool,
    neighbours_kept,
    retrieval,
    similarity,
    term_retrieval,
)
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TaskError


def nearest_by_hand(x: Matrix, candidates: Sequence[Matrix], n: int = 1) -> list[int]:
    cosines = [float(x @ candidate) for candidate in candidates]
    return sorted(range(len(candidates)), key=lambda i: -cosines[i])[:n]


@pytest.mark.parametrize("block_bytes", [3000, exact_search.BLOCK_BYTES])
def test_measures_agree_with_their_definitions_written_out(block_bytes: int) -> None:
    raw = toy_vectors(8)
    found = retrieval(raw, "en", find=functools.partial(nearest, block_bytes=block_bytes))
    assert set(found[TO_PIVOT].figures) == set(LANGUAGES) - {"en"}
    expected = [line for line, x in enumerate(raw["de"]) if nearest_by_hand(x, list(raw["en"])) == [line]]
    assert found[TO_PIVOT].figures["de"] == pytest.approx(100 * len(expected) / 8)
    expected = [line for line, x in enumerate(raw["en"]) if nearest_by_hand(x, list(raw["de"])) == [line]]
    assert found[FROM_PIVOT].figures["de"] == pytest.approx(100 * len(expected) / 8)

    pool = [(language, line) for language in LANGUAGES for line in range(8)]
    hits = 0
    for line, x in enumerate(raw["de"]):
        others = [place for place in pool if place != ("de", line)]
        vectors = [raw[language][other] for language, other in others]
        hits += sum(others[i][1] == line for i in nearest_by_hand(x, vectors, len(LANGUAGES) - 1))
    assert mixed_pool(raw, block_bytes=block_bytes).figures["de"] == pytest.approx(
        100 * hits / (8 * (len(LANGUAGES) - 1))
    )

    gold = {language: np.arange(8) % 4 for language in raw}
    labels = label_accuracy(raw, raw["sw"][:4], gold)
    expected = [
        row for row, x in enumerate(raw["de"]) if nearest_by_hand(x, list(raw["sw"][:4])) == [row % 4]
    ]
    assert labels.figures["de"] == pytest.approx(100 * len(expected) / 8)


def test_figures_are_means_of_texts() -> None:
    raw = toy_vectors()
    gold = {language: np.arange(30) % 4 for language in raw}
    for scores in (*retrieval(raw, "en").values(), mixed_pool(raw), label_accuracy(raw, raw["de"][:4], gold)):
        for language, values in scores.per_text.items():
            assert scores.figures[language] == pytest.approx(100 * values.mean())


@pytest.mark.parametrize("block_bytes", [500, exact_search.BLOCK_BYTES])
def test_retrieval_in_blocks_is_that_of_all_similarities_ties_included(block_bytes: int) -> None:
    rng = np.random.default_rng(6)
    for n in (2, 12, 60):
        # Few distinct vectors, so that nearly every text has equals: of equals the first counts.
        X, Y = quarters(rng, n), quarters(rng, n)
        similarities = X @ Y.T
        found = retrieval({"a": X, "b": Y}, "b", find=functools.partial(nearest, block_bytes=block_bytes))
        there, back = similarities.argmax(axis=1), similarities.argmax(axis=0)
        assert found[TO_PIVOT].figures["a"] == pytest.approx(100.0 * (there == np.arange(n)).mean())
        assert found[FROM_PIVOT].figures["a"] == pytest.approx(100.0 * (back == np.arange(n)).mean())


def test_measures_need_no_matrix_of_all_texts_with_all() -> None:
    X = unit(np.random.default_rng(7).standard_normal((6000, 8)))
    find = functools.partial(nearest, block_bytes=1024 * 1024)
    for measure in (
        lambda: retrieval({"a": X, "b": X}, "b", find=find),
        lambda: mixed_pool({"a": X[:3000], "b": X[3000:]}, block_bytes=1024 * 1024),
    ):
        tracemalloc.start()
        measure()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # All similarities take 144 MB.
        assert peak < 10 * 1024 * 1024


def test_neighbours_are_all_kept_by_the_identity_and_not_by_another_order() -> None:
    X = toy_vectors(40)["de"]
    assert neighbours_kept(X, X) == 100.0
    assert neighbours_kept(X, X[::-1]) < 60.0


def test_texts_that_stand_twice_cost_nothing() -> None:
    raw = toy_vectors(20)
    doubled = {language: np.concatenate([X, X[:5]]) for language, X in raw.items()}
    same = dict.fromkeys(raw, np.array([*range(20), *range(5)]))
    found, plain = retrieval(doubled, "en", same=same), retrieval(doubled, "en")
    expected = retrieval(raw, "en")
    for measure in (TO_PIVOT, FROM_PIVOT):
        for language, hits in found[measure].per_text.items():
            once = expected[measure].per_text[language]
            np.testing.assert_array_equal(hits, np.concatenate([once, once[:5]]))
        assert plain[measure].figures["de"] < found[measure].figures["de"]
    once_each = mixed_pool(raw)
    for language, shares in mixed_pool(raw, rows=same).per_text.items():
        once = once_each.per_text[language]
        np.testing.assert_array_equal(shares, np.concatenate([once, once[:5]]))


def test_a_translation_of_the_same_text_is_right_whichever_line_it_stands_in() -> None:
    X = np.eye(3, dtype=np.float32)
    # The text of lines 0 and 1 is the same; their translations differ, and the second one is found.
    raw = {"de": X[[0, 0, 2]], "en": X[[1, 0, 2]]}
    same = {"de": first_lines(["ja", "ja", "so"]), "en": first_lines(["yes", "yeah", "so"])}
    found = retrieval(raw, "en", same=same)
    assert found[TO_PIVOT].per_text["de"].tolist() == [1.0, 1.0, 1.0]
    # Of nine pairs of lines de[0], de[1] with en[0], en[1], and the last with itself.
    assert right_shares(same, "en") == {"de": pytest.approx(5 / 9)}


def test_texts_that_are_no_translations_of_each_other_are_refused() -> None:
    raw = toy_vectors()
    with pytest.raises(TaskError, match="same number of lines"):
        retrieval(raw | {"de": raw["de"][:-1]}, "en")
    with pytest.raises(TaskError, match="pivot 'fr'"):
        retrieval(raw, "fr")
    with pytest.raises(TaskError, match="at least two languages"):
        mixed_pool({"de": raw["de"]})


def test_a_term_is_right_where_any_of_its_translations_comes_first() -> None:
    X = np.eye(4, dtype=np.float32)
    # The nearest of source 1 is target 0; of target 1 it is source 2.
    lists = {"sw": (X[[0, 0, 1]], X[[0, 1]])}
    found = term_retrieval(lists, {"sw": np.array([[0, 1], [1, 0], [2, 1], [0, 0]])})
    assert found[TO_TARGET].per_text["sw"].tolist() == [1.0, 1.0, 1.0]
    assert found[TO_SOURCE].per_text["sw"].tolist() == [1.0, 1.0]
    found = term_retrieval(lists, {"sw": np.array([[0, 1], [1, 0], [2, 1]])})
    assert found[TO_TARGET].per_text["sw"].tolist() == [0.0, 1.0, 1.0]
    assert found[TO_SOURCE].per_text["sw"].tolist() == [0.0, 1.0]


def test_similarity_is_rank_correlation_within_each_language() -> None:
    texts = encode([f"en:{i}" for i in range(12)])
    cosines = (texts[:6] * texts[6:]).sum(axis=1)
    gold = np.argsort(np.argsort(cosines)).astype(np.float64)
    pairs = {"en": ScoredVectors(texts[:6], texts[6:], gold)}
    flipped = {"en": ScoredVectors(texts[:6], -texts[6:], gold)}
    assert similarity(pairs).figures == pytest.approx({"en": 100.0})
    assert similarity(flipped).figures == pytest.approx({"en": -100.0})
    assert similarity(pairs).per_text == {}

    def reversed_first(X: Matrix, language: str | None) -> Matrix:
        assert language == "en"
        return -X if X is texts[:6] or np.array_equal(X, texts[:6]) else X

    assert similarity(pairs, reversed_first).figures == pytest.approx({"en": -100.0})
