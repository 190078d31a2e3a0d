"""Fit a map without pairs: mutual nearest neighbours stand in for translations, in several rounds.

This works on comparable text, where many texts of one side have a translation on the other, and does no good
elsewhere. It therefore estimates first whether the two sides are comparable, and refuses if they are not. It learns
what margins unrelated texts reach from each side alone, where no text translates another.
"""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Array64
from alignstream.models.errors import AdapterError, NotComparable
from alignstream.models.fit.closed_form import PairSums, ridge
from alignstream.models.unit_vectors import unit_rows_without

#: Neighbours by which a text's scores are corrected for hubness.
N_NEIGHBOURS: Final = 10
#: Rounds; the pairs hardly change after the third.
ROUNDS: Final = 5
#: Least margin of a translation. The margin of a mutual pair is its cosine over the mean cosine with its neighbours.
MIN_MARGIN: Final = 1.5
#: The margin above which a mutual pair counts as a translation is this quantile of the margins of mutual neighbours
#: within one language, which cannot be translations.
NULL_QUANTILE: Final = 0.95
#: If a smaller share of texts seems to have a translation on the other side, the two are not comparable. Disjoint texts
#: reach 0.08, sides with a tenth in common 0.06 to 0.14, with two thirds 0.45 and more; full translations reach 0.35
#: (600 texts, many of them alike) to 0.91 (100 texts). NTREX-128 in 33 languages, after the shipped adapter.
MIN_COMPARABLE: Final = 0.1
MIN_TEXTS: Final = 50
_BLOCK_ROWS: Final = 1024


@dataclasses.dataclass(frozen=True)
class MutualPairs:
    """Texts that are each other's nearest neighbour.

    Parameters
    ----------
    source, target : ndarray of shape (n_pairs,), int64
        Positions on each side.
    margins : ndarray of shape (n_pairs,), float64
        Cosine of the pair over the mean cosine with the neighbours of both texts (Artetxe & Schwenk 2019).
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    margins: Array64


@dataclasses.dataclass(frozen=True)
class SelfLearned:
    """A map and the pairs behind it.

    Parameters
    ----------
    matrix : ndarray of shape (dim, dim), float64
        Maps source to target.
    comparable : float
        Share of the shorter side's texts that found a translation, from 0 to 1.
    margin : float
        Margin above which a mutual pair counted as a translation.
    n_pairs : tuple of int
        Number of pairs in each round.
    """

    matrix: Array64
    comparable: float
    margin: float
    n_pairs: tuple[int, ...]


def mutual_neighbours(X: Array64, Y: Array64, *, k: int = N_NEIGHBOURS) -> MutualPairs:
    """Find texts that are each other's nearest neighbour by CSLS.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim) and (m, dim), float64
        Unit vectors of one space.
    k : int
        Number of neighbours for the hubness correction.

    Notes
    -----
    ``2 cos(x, y) - r(x) - r(y)``, where r is the mean cosine with the k nearest on the other side (Conneau et al.
    2018). O(n · m · dim), in blocks: memory grows with n + m.

    Examples
    --------
    >>> X = np.eye(4)
    >>> mutual_neighbours(X, X[[1, 0, 2]], k=1).target
    array([1, 0, 2])
    """
    k = min(k, len(X), len(Y))
    near_x, near_y = _mean_nearest(X, Y, k), _mean_nearest(Y, X, k)
    to_y, _ = _best(X, Y, near_x, near_y)
    to_x, _ = _best(Y, X, near_y, near_x)
    source = np.flatnonzero(to_x[to_y] == np.arange(len(X)))
    target = to_y[source]
    cosines = np.einsum("ij,ij->i", X[source], Y[target])
    around = (near_x[source] + near_y[target]) / 2.0
    return MutualPairs(source, target, cosines / np.maximum(around, 1e-9))


def null_margin(*sides: Array64) -> float:
    """Return the margin that hardly any two unrelated texts reach.

    Parameters
    ----------
    sides : ndarray of shape (n, dim), float64
        Unit vectors of different texts, each array in one language; n >= 2.

    Returns
    -------
    float
        The 95 % quantile of the margins of mutual nearest neighbours within one language, at least ``MIN_MARGIN``.
        Unrelated texts of two languages are no nearer than those of one.

    Notes
    -----
    O(n² · dim), in blocks.
    """
    margins = np.concatenate([_margins_within(X) for X in sides])
    return max(MIN_MARGIN, float(np.quantile(margins, NULL_QUANTILE)))


def _margins_within(X: Array64) -> Array64:
    k = min(N_NEIGHBOURS, len(X) - 1)
    near = _mean_nearest(X, X, k, is_same=True)
    nearest, cosines = np.empty(len(X), dtype=np.int64), np.empty(len(X))
    for start in range(0, len(X), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(X)))
        block = X[rows] @ X.T
        block[rows - start, rows] = -np.inf
        nearest[rows], cosines[rows] = block.argmax(axis=1), block.max(axis=1)
    mutual = nearest[nearest] == np.arange(len(X))
    around = (near[mutual] + near[nearest[mutual]]) / 2.0
    margins: Array64 = cosines[mutual] / np.maximum(around, 1e-9)
    return margins


def self_learn(
    X: Array64, Y: Array64, *, strength: float = 1.0, common: Array64 | None = None, rounds: int = ROUNDS
) -> SelfLearned:
    """Fit a ridge to mutual neighbours, apply it, and repeat.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim) and (m, dim), float64
        Aligned unit vectors of texts in two languages; which of them are translations is unknown.
    strength : float
        λ of the ridge toward the identity.
    common : ndarray of shape (dim,), optional
        The direction that all texts share (``Adapter.common_direction``), left out of the neighbour search: it makes
        any two texts look alike.

    Raises
    ------
    NotComparable
        Too few texts have a translation on the other side.
    AdapterError
        There are too few texts.
    """
    if min(len(X), len(Y)) < MIN_TEXTS:
        raise AdapterError(
            f"self-learning needs at least {MIN_TEXTS} texts on each side, but there are {len(X)} and {len(Y)}"
        )
    matrix: Array64 = np.eye(X.shape[1])
    counts, comparable = [], 0.0
    goal = unit_rows_without(Y, common)
    margin = null_margin(unit_rows_without(X, common), goal)
    for turn in range(rounds):
        pairs = mutual_neighbours(unit_rows_without(X @ matrix, common), goal)
        good = pairs.margins > margin
        if turn == 0:
            n = min(len(X), len(Y))
            comparable = float(good.sum()) / n
            # With few texts, more may pass by chance: allow three standard errors of the share that the null passes.
            needed = MIN_COMPARABLE + 3.0 * float(np.sqrt((1.0 - NULL_QUANTILE) / n))
            if comparable < needed:
                raise NotComparable(
                    f"only {comparable:.0%} of {n} texts seem to have a translation on the other side; "
                    f"at least {needed:.0%} are needed: use comparable texts, or pairs"
                )
        counts.append(int(good.sum()))
        sums = PairSums.of(X[pairs.source[good]], Y[pairs.target[good]])
        matrix = ridge(sums, strength=strength)
    return SelfLearned(matrix, comparable, margin, tuple(counts))


def _mean_nearest(X: Array64, Y: Array64, k: int, *, is_same: bool = False) -> Array64:
    """Return the mean cosine with the k nearest; if both sides are the same, a text is not its own neighbour."""
    means = np.empty(len(X))
    for start in range(0, len(X), _BLOCK_ROWS):
        cosines = X[start : start + _BLOCK_ROWS] @ Y.T
        if is_same:
            rows = np.arange(len(cosines))
            cosines[rows, start + rows] = -np.inf
        means[start : start + _BLOCK_ROWS] = np.partition(cosines, -k, axis=1)[:, -k:].mean(axis=1)
    return means


def _best(X: Array64, Y: Array64, near_x: Array64, near_y: Array64) -> tuple[NDArray[np.int64], Array64]:
    best, scores = np.empty(len(X), dtype=np.int64), np.empty(len(X))
    for start in range(0, len(X), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        csls = 2.0 * (X[rows] @ Y.T) - near_x[rows, None] - near_y[None]
        best[rows] = csls.argmax(axis=1)
        scores[rows] = csls.max(axis=1)
    return best, scores
