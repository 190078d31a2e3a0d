"""The gate: what must hold before an adapter, or one of its languages, is published.

It judges on data that was not used for fitting. With many held-out pairs, the lower confidence bound of accuracy
counts. Few pairs could never pass such a bound: they are judged by margins, each with a map fitted without that pair,
and only a significantly worse candidate is refused. Meaning within a language is always guarded.
"""

import dataclasses
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks.significance import DRAWS, LEVEL
from alignstream.models.errors import AdapterError

#: With at least this many held-out pairs, accuracy is judged instead of margins.
MANY_PAIRS: Final = 200
#: Points of accuracy by which the 95 % lower bound may fall.
MAX_LOSS_POINTS: Final = 0.5
#: Points by which Spearman's correlation with human judgements may fall within a language.
MAX_SIMILARITY_LOSS: Final = 0.5
#: Share of the ten nearest neighbours within a language that must stay. What keeps less loses search or similarity, and
#: what keeps more has hardly lost any (docs/pages/measurements/neighbours.md).
MIN_NEIGHBOURS_KEPT: Final = 0.6
#: Nearest distractors that a margin is measured against.
N_DISTRACTORS: Final = 10
#: Standard errors from which pairs count as translations, and how many pairs it takes to tell.
MIN_TRANSLATION_SCORE: Final = 3.0
MIN_TRANSLATION_PAIRS: Final = 8


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a check says about one candidate.

    Parameters
    ----------
    is_accepted : bool
    reason : str
        One sentence with the figures.
    change : float
        The mean change, in points of accuracy or in margin times 100; for ``judge_meaning``, the share kept.
    low, high : float
        Its 95 % bootstrap interval; for ``judge_meaning``, the share kept.
    """

    is_accepted: bool
    reason: str
    change: float
    low: float
    high: float


def judge_many(before: NDArray[np.bool_], after: NDArray[np.bool_], *, seed: int = 0) -> Verdict:
    """Judge accuracy on at least ``MANY_PAIRS`` held-out pairs.

    Parameters
    ----------
    before, after : ndarray of shape (n,), bool
        Whether each held-out text finds its translation, without and with the candidate.

    Returns
    -------
    Verdict
        Accepted if the 95 % lower bound of the change is at least -0.5 points.
    """
    if before.shape != after.shape or len(before) < MANY_PAIRS:
        raise AdapterError(
            f"judging accuracy needs at least {MANY_PAIRS} pairs, the same before and after, "
            f"not {len(before)} and {len(after)}"
        )
    change, low, high = _interval(100.0 * (after.astype(np.float64) - before.astype(np.float64)), seed)
    is_accepted = low >= -MAX_LOSS_POINTS
    return Verdict(
        is_accepted,
        f"accuracy on {len(before)} held-out pairs changes by {change:+.1f} points (95 %: {low:+.1f} to {high:+.1f}); "
        f"the lower bound must be at least {-MAX_LOSS_POINTS:+.1f}",
        change, low, high,
    )  # fmt: skip


def judge_few(before: Array64, after: Array64, *, seed: int = 0) -> Verdict:
    """Judge the margins of a few pairs, each mapped by a matrix fitted without it.

    Parameters
    ----------
    before, after : ndarray of shape (n,), float64
        Margins (``margins``) without and with the candidate.

    Returns
    -------
    Verdict
        Refused only if the 95 % upper bound of the change is negative.

    Examples
    --------
    >>> judge_few(np.array([0.2, 0.3, 0.4]), np.array([0.1, 0.2, 0.3])).is_accepted
    False
    """
    if before.shape != after.shape or len(before) == 0:
        raise AdapterError("judging margins needs at least one pair, the same before and after")
    change, low, high = _interval(100.0 * (after - before), seed)
    return Verdict(
        high >= 0.0,
        f"margins of {len(before)} pairs change by {change:+.2f} (95 %: {low:+.2f} to {high:+.2f}); refused "
        "only if significantly worse",
        change, low, high,
    )  # fmt: skip


def judge_found(before: Array64, after: Array64, *, seed: int = 0) -> Verdict:
    """Judge how well pairs find each other, however few they are, each mapped by a matrix fitted without it.

    A map that draws one language toward another raises all cosines and lowers all margins, most of all those of pairs
    that are found anyway. Margins would therefore refuse maps that find more.

    Parameters
    ----------
    before, after : ndarray of shape (n,), float64
        Share of each pair's look-ups that succeed, without and with the candidate, from 0 to 1.

    Returns
    -------
    Verdict
        Refused if the mean falls by more than ``MAX_LOSS_POINTS``, which for a few pairs means any loss, or if the
        95 % upper bound of the change is negative.
    """
    if before.shape != after.shape or len(before) == 0:
        raise AdapterError("judging retrieval needs at least one pair, the same before and after")
    change, low, high = _interval(100.0 * (after - before), seed)
    return Verdict(
        high >= 0.0 and change >= -MAX_LOSS_POINTS,
        f"retrieval of {len(before)} held-out pairs changes by {change:+.1f} points (95 %: {low:+.1f} to {high:+.1f}); "
        f"refused below {-MAX_LOSS_POINTS:+.1f}, or if significantly worse",
        change, low, high,
    )  # fmt: skip


def margins(X: Matrix, Y: Matrix, distractors: Matrix) -> Array64:
    """Measure how much nearer translations are than unrelated texts.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Aligned unit vectors of translations, row by row.
    distractors : ndarray of shape (m, dim), float32
        Aligned unit vectors of other texts in the language of Y, the same for every candidate.

    Returns
    -------
    ndarray of shape (n,), float64
        The cosine with the translation minus the mean cosine with the ten nearest distractors.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0]], dtype=np.float32)
    >>> margins(X, Y=X, distractors=np.array([[0.0, 1.0], [0.6, 0.8]], dtype=np.float32)).round(2)
    array([0.7])
    """
    if len(distractors) == 0:
        raise AdapterError("margins need distractors: other texts in the target language")
    X64, others = X.astype(np.float64), distractors.astype(np.float64)
    k = min(N_DISTRACTORS, len(others))
    nearest = np.partition(X64 @ others.T, -k, axis=1)[:, -k:].mean(axis=1)
    own: Array64 = np.einsum("ij,ij->i", X64, Y.astype(np.float64)) - nearest
    return own


def translation_score(X: Matrix, Y: Matrix) -> float:
    """Measure whether pairs are translations at all.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Aligned unit vectors of pairs, row by row; at least 3.

    Returns
    -------
    float
        By how many standard errors the cosine of a pair exceeds the cosine with the target of the row before it.
        Translations score far above 3 even in a language that the encoder hardly knows; unrelated texts stay within 3
        of zero.
    """
    X64, Y64 = X.astype(np.float64), Y.astype(np.float64)
    differences = np.einsum("ij,ij->i", X64, Y64 - np.roll(Y64, 1, axis=0))
    error = float(differences.std(ddof=1)) / np.sqrt(len(differences))
    return float(differences.mean() / max(error, 1e-9))


def leave_one_out(n: int, fit_without: Callable[[int], Array64], X: Array64) -> Array64:
    """Map every row by a matrix fitted without it.

    Parameters
    ----------
    n : int
        Number of rows.
    fit_without : callable
        Maps a position to the matrix of shape (dim, dim) fitted to all other pairs.
    X : ndarray of shape (n, dim)

    Returns
    -------
    ndarray of shape (n, dim), float64
        Unit rows.
    """
    mapped = np.stack([X[position] @ fit_without(position) for position in range(n)])
    unit: Array64 = mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-9)
    return unit


def judge_meaning(kept: float, similarity_change: float | None = None) -> Verdict:
    """Judge whether meaning within a language is preserved.

    Parameters
    ----------
    kept : float
        Share of the ten nearest neighbours within the language that stay, from 0 to 1.
    similarity_change : float, optional
        Points by which Spearman's correlation with human judgements changes, if there are any.
    """
    is_kept = kept >= MIN_NEIGHBOURS_KEPT
    is_similar = similarity_change is None or similarity_change >= -MAX_SIMILARITY_LOSS
    similarity_note = (
        "" if similarity_change is None else f"; similarity changes by {similarity_change:+.2f} points"
    )
    return Verdict(
        is_kept and is_similar,
        f"{kept:.0%} of neighbours within the language stay; {MIN_NEIGHBOURS_KEPT:.0%} are needed{similarity_note}",
        kept, kept, kept,
    )  # fmt: skip


def _interval(differences: Array64, seed: int) -> tuple[float, float, float]:
    # Margins are all distinct: drawing rows is ten times as fast as drawing how often each value occurs.
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(DRAWS)
    for start in range(0, DRAWS, 100):
        positions = generator.integers(0, len(differences), size=(100, len(differences)))
        means[start : start + 100] = differences[positions].mean(axis=1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(differences.mean()), float(low), float(high)
