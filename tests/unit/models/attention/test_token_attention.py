"""Attention between the tokens of two texts: its score, its links, and words and phrases made of them."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.export.evaluate.heat_map import parts, to_text, write_png
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Matrix64
from alignstream.models.attention.token_attention import (
    Link,
    TokenAttention,
    attend,
    f_score,
    language_centres,
    own_centre,
    owners,
    word_links,
)
from alignstream.models.attention.words import word_spans
from alignstream.models.errors import PictureError

DIM = 16
#: What float64 products of another order may differ by.
ROUNDING = 1e-12

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)
untimed = settings(deadline=None, max_examples=60)


def tokens(seed: int, n: int, dim: int = DIM) -> Matrix64:
    return np.random.default_rng([seed, n]).standard_normal((n, dim)) * 5.0


# -- the score --------------------------------------------------------------------------------------


@given(seed=seeds, n=sizes)
@untimed
def test_equal_texts_score_one_and_each_token_is_its_own(seed: int, n: int) -> None:
    X = tokens(seed, n)
    for centre in (None, X.mean(axis=0), X[0]):
        found = attend(X, X.copy(), centre_a=centre, centre_b=centre, min_confidence=0.0)
        assert found.score == pytest.approx(1.0, abs=ROUNDING)
        assert {(link.a, link.b) for link in found.links} == {(a, a) for a in range(n)}
        assert found.unaligned_a == found.unaligned_b == ()


@given(seed=seeds, n=sizes, m=sizes, least=st.floats(0.0, 0.5))
@untimed
def test_exchanging_the_texts_transposes_everything(seed: int, n: int, m: int, least: float) -> None:
    X, Y = tokens(seed, n), tokens(seed + 1, m)
    one, other = attend(X, Y, min_confidence=least), attend(Y, X, min_confidence=least)
    assert one.score == pytest.approx(other.score, abs=ROUNDING)
    assert (one.precision, one.recall) == pytest.approx((other.recall, other.precision), abs=ROUNDING)
    np.testing.assert_allclose(one.weights, other.weights.T, atol=ROUNDING)
    assert {(link.a, link.b) for link in one.links} == {(link.b, link.a) for link in other.links}
    assert (one.unaligned_a, one.unaligned_b) == (other.unaligned_b, other.unaligned_a)


@given(seed=seeds, n=sizes)
@untimed
def test_the_links_of_a_permuted_copy_are_the_permutation(seed: int, n: int) -> None:
    X, order = tokens(seed, n), np.random.default_rng(seed).permutation(n)
    found = attend(X, X[order], min_confidence=0.0)
    assert [link.b for link in found.links] == list(np.argsort(order))
    assert found.score == pytest.approx(1.0, abs=ROUNDING)


@given(seed=seeds, n=sizes, m=sizes, temperature=st.floats(0.01, 10.0))
@untimed
def test_weights_and_scores_stay_in_their_bounds(seed: int, n: int, m: int, temperature: float) -> None:
    X, Y = tokens(seed, n), tokens(seed + 1, m)
    before = X.tobytes(), Y.tobytes()
    found = attend(X, Y, temperature=temperature)
    assert (X.tobytes(), Y.tobytes()) == before
    assert found.weights.tobytes() == attend(X, Y, temperature=temperature).weights.tobytes()
    assert found.similarities.dtype == found.weights.dtype == np.float64
    assert 0.0 <= found.weights.min() <= found.weights.max() <= 1.0
    assert max(found.weights.sum(axis=0).max(), found.weights.sum(axis=1).max()) <= 1.0 + ROUNDING
    least, most = sorted((found.precision, found.recall))
    assert -1.0 <= least <= most <= 1.0
    assert least - ROUNDING <= found.score <= most + ROUNDING


@given(seed=seeds, n=sizes, m=sizes, least=st.floats(0.0, 1.0))
@untimed
def test_below_the_threshold_tokens_have_no_link_and_are_listed(
    seed: int, n: int, m: int, least: float
) -> None:
    X, Y = tokens(seed, n), tokens(seed + 1, m)
    every, found = attend(X, Y, min_confidence=0.0), attend(X, Y, min_confidence=least)
    assert found.links == tuple(link for link in every.links if link.confidence >= least)
    assert sorted({link.a for link in found.links} | set(found.unaligned_a)) == list(range(n))
    assert sorted({link.b for link in found.links} | set(found.unaligned_b)) == list(range(m))
    assert len(found.links) == n - len(found.unaligned_a) == m - len(found.unaligned_b)
    assert found.score == every.score


def test_texts_of_nothing_in_common_have_no_link() -> None:
    X = np.eye(4)
    found = attend(X[:2], X[2:], centre_a=np.zeros(4), centre_b=np.zeros(4), min_confidence=0.3)
    assert (found.links, found.unaligned_a, found.unaligned_b) == ((), (0, 1), (0, 1))
    assert found.score == 0.0


def test_a_lower_temperature_makes_links_more_certain() -> None:
    X = tokens(1, 6)
    noisy = X + tokens(2, 6)
    sums = [
        sum(link.confidence for link in attend(X, noisy, temperature=t, min_confidence=0.0).links)
        for t in (1.0, 0.2, 0.05)
    ]
    assert sums == sorted(sums)


@pytest.mark.parametrize(
    ("precision", "recall", "score"),
    [(1.0, 1.0, 1.0), (0.5, 1.0, 2 / 3), (0.0, 1.0, 0.0), (-0.2, 0.9, -0.2), (0.9, -0.2, -0.2), (-1.0, -0.5, -1.0),
     (0.5, -0.5, -0.5), (0.0, 0.0, 0.0)],
)  # fmt: skip
def test_the_f_score_goes_below_zero_without_a_jump(precision: float, recall: float, score: float) -> None:
    assert f_score(precision, recall) == pytest.approx(score)
    assert f_score(precision + 1e-9, recall) == pytest.approx(score, abs=1e-8)


# -- centres ----------------------------------------------------------------------------------------


def test_two_single_tokens_are_not_opposite_for_being_alone() -> None:
    X, Y = np.array([[5.0, 1.0]]), np.array([[5.0, -1.0]])
    assert attend(X, Y).score > 0.8
    np.testing.assert_allclose(own_centre(X, Y), np.array([5.0, 0.0]) * 2 / 12)
    many = np.concatenate([X] * 5000), np.concatenate([Y] * 5000)
    np.testing.assert_allclose(own_centre(*many), [5.0, 0.0], rtol=2e-3)


def test_centres_are_subtracted_from_their_own_side() -> None:
    X, shift = tokens(3, 5), np.full(DIM, 7.0)
    found = attend(X, X + shift, centre_a=np.zeros(DIM), centre_b=shift)
    assert found.score == pytest.approx(1.0, abs=1e-9)


def test_a_token_of_which_nothing_is_left_keeps_its_direction() -> None:
    X = tokens(4, 1)
    assert attend(X, X, centre_a=X[0], centre_b=X[0]).score == pytest.approx(1.0)
    zero = np.zeros(3)
    assert attend(zero[None], np.ones((1, 3)), centre_a=zero, centre_b=zero).score == 0.0


def prototypes() -> PrototypeAttention:
    means = np.random.default_rng(0).standard_normal((2, DIM)).astype(np.float32)
    return PrototypeAttention(means, ("de-Latn", "en-Latn"), (5, 5), np.ones(2, dtype=np.float32), 0.1, 1.0)


def test_an_adapter_gives_the_means_of_known_languages_else_the_mean_of_all() -> None:
    member = prototypes()
    adapter, wide = Adapter("e" * 64, DIM, (member,)), member.means.astype(np.float64)
    X, Y = np.eye(DIM)[:2] * 2.0, np.eye(DIM)[:3] * 4.0

    def centres(*tags: str | None) -> tuple[Matrix64, Matrix64]:
        found = language_centres(adapter, X, Y, *tags)
        assert found is not None
        return found

    for ours, theirs in zip(centres("en-GB", "deu_Latn"), (2.0 * wide[1], 4.0 * wide[0]), strict=True):
        np.testing.assert_allclose(ours, theirs)
    for tags in ((None, None), ("en", None), ("en", "ja"), ("!", "de")):
        for ours, scale in zip(centres(*tags), (2.0, 4.0), strict=True):
            np.testing.assert_allclose(ours, scale * wide.mean(axis=0))


def test_an_adapter_that_starts_with_a_mean_gives_that_and_one_without_none() -> None:
    X = np.eye(DIM)[:2]
    mean = np.ones(DIM, dtype=np.float32)
    found = language_centres(Adapter("e" * 64, DIM, (Centre(mean), prototypes())), X, X, "de", "en")
    assert found is not None
    np.testing.assert_allclose(found, [mean, mean])
    assert language_centres(identity("e" * 64, DIM), X, X) is None
    first = LinearMap(np.eye(DIM, dtype=np.float32))
    assert language_centres(Adapter("e" * 64, DIM, (first, prototypes())), X, X) is None


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("wrong", [np.zeros((0, 3)), np.zeros(3), np.full((2, 3), np.nan)])
def test_texts_that_cannot_be_compared_are_refused(which: str, wrong: Matrix64) -> None:
    right = np.ones((2, 3))
    with pytest.raises(ValueError, match=which):
        attend(*((wrong, right) if which == "first" else (right, wrong)))


def test_parameters_out_of_range_are_refused() -> None:
    X = np.ones((2, 3))
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature"):
            attend(X, X, temperature=temperature)
    for least in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="confidence"):
            attend(X, X, min_confidence=least)
    for centre in (np.zeros(2), np.full(3, np.inf)):
        with pytest.raises(ValueError, match="centre"):
            attend(X, X, centre_a=centre)


# -- words and phrases ------------------------------------------------------------------------------


def spans_of(text: str, pieces: str) -> tuple[tuple[int, int], ...]:
    """Return where pieces (with a bar between them) stand in a text, in order."""
    found, place = [], 0
    for piece in pieces.split("|"):
        place = text.index(piece, place)
        found.append((place, place + len(piece)))
        place += len(piece)
    return tuple(found)


@pytest.mark.parametrize(
    ("text", "pieces", "words"),
    [
        ("unbelievable cats.", "un|believ|able|cat|s|.", "unbelievable|cats|."),
        ("taux d'intérêt", "ta|ux|d|'|inté|rêt", "taux|d|'|intérêt"),
        ("猫坐在abc上", "猫|坐在|ab|c|上", "猫|坐在|abc|上"),
        ("नमस्ते", "नम|स्|ते", "नमस्ते"),
        ("می\u200cخواهم", "می|\u200c|خو|اهم", "می\u200cخواهم"),  # noqa: RUF001 (Persian)
        ("Ελλάδα 2024", "Ελλ|άδα|20|24", "Ελλάδα|2024"),
        ("e\u0301a", "e|\u0301|a", "e\u0301a"),
        ("!?", "!|?", "!|?"),
    ],
)  # fmt: skip
def test_subwords_are_merged_into_words(text: str, pieces: str, words: str) -> None:
    assert word_spans(text, spans_of(text, pieces)) == spans_of(text, words)


def test_tokens_of_one_character_are_one_word() -> None:
    assert word_spans("🦄x", ((0, 1), (0, 1), (0, 1), (1, 2))) == ((0, 1), (1, 2))
    assert word_spans("", ()) == ()


def test_a_token_belongs_to_the_word_it_shares_most_with() -> None:
    assert owners([(0, 2), (2, 3), (3, 8), (1, 7)], [(0, 2), (4, 8)]) == [0, None, 1, 1]
    assert owners([(0, 2)], []) == [None]


def test_words_are_linked_where_any_of_their_tokens_are_by_the_most_certain() -> None:
    links = [Link(0, 0, 0.4, 0.5), Link(1, 1, 0.9, 0.8), Link(2, 2, 0.3, 0.4)]
    spans_a, spans_b = [(0, 3), (3, 6), (7, 9)], [(0, 2), (2, 4), (4, 5)]
    found = word_links(links, spans_a, spans_b, [(0, 6), (7, 9)], [(0, 4)])
    assert found == (Link(0, 0, 0.9, 0.8),)
    both = word_links(links, spans_a, spans_b, [(0, 6), (7, 9)], [(0, 5)])
    assert both == (Link(0, 0, 0.9, 0.8), Link(1, 0, 0.3, 0.4))


# -- as text and as a picture -----------------------------------------------------------------------


def test_links_and_what_has_none_are_written_as_lines() -> None:
    links = [Link(1, 0, 0.5, 0.6), Link(0, 2, 1.0, 0.9)]
    assert to_text(links, ["cat", "s", "x"], ["a", "b", "c"]) == [
        "1.00  cat - c",
        "0.50  s   - a",
        "unaligned tokens of A: x",
        "unaligned tokens of B: b",
    ]
    assert to_text([], ["a"], ["b"], unit="words") == [
        "no links", "unaligned words of A: a", "unaligned words of B: b"
    ]  # fmt: skip
    assert to_text([Link(0, 0, 1.0, 1.0)], ["a"], ["b"])[1:] == [
        "unaligned tokens of A: none", "unaligned tokens of B: none"
    ]  # fmt: skip


def test_what_a_terminal_would_act_on_is_replaced() -> None:
    assert parts("a\x1b[2Jb\n", ((0, 2), (2, 7))) == ("a�", "[2Jb�")


def attention(n: int, m: int) -> TokenAttention:
    return attend(tokens(1, n), tokens(2, m), min_confidence=0.0)


def test_a_picture_of_any_script_is_written_without_a_warning(tmp_path: Path) -> None:
    left = ["$5", "$x_1^", "cat", "\\frac", "%", "🦄", "\U0010fffd"]
    right = ["猫", "नमस्ते", "قطة", "นอน", "ምንጭ", "ខ្មែរ", "한국어", "தமிழ்", "ᚠ"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_png(attention(7, 9), left, right, tmp_path / "map.png")
        # The same bytes again; the file is replaced.
        first = (tmp_path / "map.png").read_bytes()
        write_png(attention(7, 9), left, right, tmp_path / "map.png")
    assert first.startswith(b"\x89PNG")
    assert (tmp_path / "map.png").read_bytes() == first


def test_a_picture_of_many_tokens_stays_of_bounded_size(tmp_path: Path) -> None:
    write_png(attention(1, 300), ["a"], ["b"] * 300, tmp_path / "wide.png")
    width, height = (
        int.from_bytes((tmp_path / "wide.png").read_bytes()[start : start + 4], "big") for start in (16, 20)
    )
    assert width <= 40 * 120
    assert height < 1000


def test_a_picture_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="No such file"):
        write_png(attention(1, 1), ["a"], ["b"], tmp_path / "nowhere" / "map.png")
    with pytest.raises(ValueError, match="do not fit"):
        write_png(attention(1, 1), ["a", "b"], ["b"], tmp_path / "map.png")


def test_without_matplotlib_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PictureError, match=r"pip install 'alignstream\[embedded\]'"):
        write_png(attention(1, 1), ["a"], ["b"], tmp_path / "map.png")
