"""Search among stored vectors, and its figures."""

import numpy as np
import pytest

from alignstream.ops.demo import measure
from alignstream.ops.demo.translation_search import SearchHits, StoredIndex, StreamQuery, figures

# Three meanings in three languages; German "b" lies on English "c".
MEANING = ("a", "b", "c") * 3
LANGUAGES = ("en",) * 3 + ("de",) * 3 + ("lg",) * 3
PLACES = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 2, 2, 0, 1, 2]]


def judged(
    position: int, language: str, static: float, following: float, domain: str = "clinic"
) -> StreamQuery:
    if language == "en":
        pair = [SearchHits(value, None, {"lg": value, "de": 1.0}) for value in (static, following)]
    else:
        pair = [SearchHits(value, value, {}) for value in (static, following)]
    return StreamQuery(position, domain, language, 1, *pair)


def test_a_text_finds_its_translations_and_not_itself() -> None:
    index = StoredIndex(PLACES, MEANING, LANGUAGES)
    assert index.find(0, PLACES[0]) == SearchHits(1.0, None, {"de": 1.0, "lg": 1.0})
    found = index.find(4, PLACES[4])
    assert found.to_pivot == 0.0
    assert found.share == 0.0
    assert index.find(4, PLACES[1]).to_pivot == 1.0
    assert index.find(1, PLACES[1]).from_pivot == {"de": 0.0, "lg": 1.0}


def test_a_language_without_the_counterpart_says_nothing() -> None:
    index = StoredIndex(PLACES[:-1], MEANING[:-1], LANGUAGES[:-1])
    assert list(index.find(2, PLACES[2]).from_pivot) == ["de"]


def test_shares_are_those_of_the_pool_that_the_first_act_measures() -> None:
    generator = np.random.default_rng(3)
    X = generator.normal(size=(24, 8)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    meaning = np.arange(24) % 6
    index = StoredIndex(X, [str(number) for number in meaning], ["en", "de", "lg", "fr"] * 6)
    shares = [index.find(row, x).share for row, x in enumerate(X)]
    assert np.mean(shares) == pytest.approx(measure.r_precision(X, meaning))


def test_figures_of_one_language_are_of_its_queries_and_of_english_ones_for_it() -> None:
    items = [judged(0, "de", 1.0, 1.0), judged(1, "lg", 0.0, 0.5), judged(2, "en", 0.0, 1.0)]
    own = figures(items, "lg")
    assert own["r_precision"] == {"static": 0.0, "following": 0.5, "n": 1.0}
    assert own["to_english"] == {"static": 0.0, "following": 0.5, "n": 1.0}
    assert own["from_english"] == {"static": 0.0, "following": 1.0, "n": 1.0}
    everyone = figures(items)
    assert everyone["r_precision"]["n"] == 3.0
    assert everyone["from_english"] == {"static": 0.5, "following": 1.0, "n": 2.0}
    assert figures([]) == {}
