"""Word alignment: tokens belong to words, links are counted together, means come from the other half."""

from typing import Any

import numpy as np
import pytest
from toy_languages import DIM, Tokens, encode_words

from alignstream.export.evaluate.columns import ADAPTER, RAW, TOKEN_MEANS
from alignstream.export.evaluate.word_alignment import (
    WORDS,
    WordTokens,
    align_words,
    f1,
    judge_words,
    word_tokens,
)
from alignstream.models.errors import WordsError


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
        one, other = encode_words([" ".join(source), " ".join(target)])
        pairs.append((word_tokens(source, one), word_tokens(target, other)))
        gold.append(frozenset((int(position), row) for row, position in enumerate(order)))
    return pairs, gold


def test_removing_the_means_of_the_other_half_helps() -> None:
    pairs, gold = word_pairs()
    found = judge_words({"en-de": pairs}, {"en-de": gold})[WORDS]
    raw, removed = found[RAW].figures["en-de"], found[TOKEN_MEANS].figures["en-de"]
    assert raw + 5.0 < removed
    assert removed > 80.0
    with pytest.raises(WordsError, match="at least two sentence pairs"):
        judge_words({"x": pairs[:1]}, {"x": gold[:1]})


def test_an_adapter_centres_tokens_by_the_means_that_it_knows() -> None:
    pairs, gold = word_pairs()
    both = [np.concatenate([pair[side].vectors for pair in pairs]).mean(axis=0) for side in (0, 1)]
    found = judge_words({"en-de": pairs}, {"en-de": gold}, {"en-de": (both[0], both[1])})[WORDS]
    assert list(found) == [RAW, ADAPTER, TOKEN_MEANS]
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
    assert found[TOKEN_MEANS].figures["x"] == 100.0
    assert found[RAW].figures["x"] < 100.0
