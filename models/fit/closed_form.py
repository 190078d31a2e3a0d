"""Linear maps in closed form from vectors of translations: ridge with a prior, Procrustes, low-rank factors.

Row vectors throughout: ``y ≈ x W``. Everything is a function of the sums ``XᵀX`` and ``XᵀY``, which add up
over batches, languages and time. Pure numpy, in float64.
"""

import dataclasses
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Array64, Matrix, Matrix64
from alignstream.models.errors import AdapterError

#: With fewer pairs per dimension, an orthogonal map does more harm than good.
PROCRUSTES_PAIRS_PER_DIM: Final = 5
#: The largest share of an orthogonal map that is blended with the identity.
MAX_BLEND: Final = 0.5


@dataclasses.dataclass(frozen=True)
class PairSums:
    """The sums over pairs that the closed forms need.

    Parameters
    ----------
    xx, xy : ndarray of shape (dim, dim), float64
        ``XᵀX`` and ``XᵀY``.
    yy : float
        The trace of ``YᵀY``: for unit vectors, the number of pairs.
    n : float
        Number of pairs, or their weight.
    """

    xx: Array64
    xy: Array64
    yy: float
    n: float

    @classmethod
    def of(cls, X: NDArray[np.floating[Any]], Y: NDArray[np.floating[Any]]) -> "PairSums":
        """Sum over translations: X and Y of shape (n, dim), paired row by row.

        Raises
        ------
        AdapterError
            The shapes differ, or a number is not finite.
        """
        if X.shape != Y.shape or X.ndim != 2:
            raise AdapterError(
                f"pairs need vectors of the same shape on both sides, not {X.shape} and {Y.shape}"
            )
        if not (np.all(np.isfinite(X)) and np.all(np.isfinite(Y))):
            raise AdapterError("a vector of a pair is not finite")
        X64, Y64 = X.astype(np.float64), Y.astype(np.float64)
        return cls(X64.T @ X64, X64.T @ Y64, float(np.einsum("ij,ij->", Y64, Y64)), float(len(X)))

    @classmethod
    def zero(cls, dim: int) -> "PairSums":
        """Return the sums of no pairs."""
        return cls(np.zeros((dim, dim)), np.zeros((dim, dim)), 0.0, 0.0)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.xx.shape[0])

    def __add__(self, other: "PairSums") -> "PairSums":
        """Add the sums of more pairs."""
        return PairSums(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy, self.n + other.n)

    def scaled(self, weight: float) -> "PairSums":
        """Count every pair ``weight`` times."""
        return PairSums(self.xx * weight, self.xy * weight, self.yy * weight, self.n * weight)


def ridge(sums: PairSums, *, strength: float, prior: Array64 | None = None) -> Array64:
    """Fit ``W = (XᵀX + λ s I)⁻¹ (XᵀY + λ s W₀)``.

    Parameters
    ----------
    sums : PairSums
        Sums of centred vectors.
    strength : float
        λ > 0, in units of s = ``tr(YᵀY) / dim``, the variance per dimension summed over all pairs.
    prior : ndarray of shape (dim, dim), optional
        W₀; default the identity. With few pairs the map stays near it.

    Returns
    -------
    ndarray of shape (dim, dim), float64

    Raises
    ------
    AdapterError
        λ is not positive.

    Notes
    -----
    O(dim³). Ridge regression (Hoerl & Kennard 1970), shrunk toward a prior instead of zero. Without pairs, the map is
    the prior.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> ridge(PairSums.of(X, X[::-1]), strength=1.0)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    if not strength > 0:
        raise AdapterError(f"the strength of a ridge must be positive, not {strength}")
    start = np.eye(sums.dim) if prior is None else prior
    if sums.n == 0:
        return start.copy()
    weight = strength * sums.yy / sums.dim
    solved = np.linalg.solve(sums.xx + weight * np.eye(sums.dim), sums.xy + weight * start)
    return np.asarray(solved, dtype=np.float64)


def shrunk_by_pairs(sums: PairSums, *, strength: float, pairs: float, prior: Array64) -> Array64:
    """Fit a ridge whose prior is worth a fixed number of pairs, however many there are.

    Parameters
    ----------
    sums : PairSums
        Sums of one language's pairs.
    strength : float
        λ with ``pairs`` pairs; with n pairs the prior counts ``λ · pairs / n``.
    pairs : float
        Number of pairs that the prior is worth.
    prior : ndarray of shape (dim, dim)
        The map without pairs.

    Notes
    -----
    ``ridge`` measures λ in units of the variance of all pairs, so that a thousand pairs are shrunk as much as ten.
    Here, trust in the pairs grows with their number.

    Examples
    --------
    >>> X = np.ones((3, 1))
    >>> shrunk_by_pairs(PairSums.of(X, 2.0 * X), strength=0.25, pairs=1.0, prior=np.zeros((1, 1)))
    array([[1.5]])
    """
    if sums.n == 0:
        return prior.copy()
    return ridge(sums, strength=strength * pairs / sums.n, prior=prior)


def procrustes(sums: PairSums, *, blend: float = MAX_BLEND) -> Array64:
    """Fit the orthogonal map with the least squared error, blended with the identity.

    Parameters
    ----------
    sums : PairSums
        Sums of centred vectors.
    blend : float
        a of ``(1 - a) I + a W``, from 0 to 1.

    Notes
    -----
    One singular value decomposition (Schönemann 1966). Below 5 pairs per dimension it fits noise: with 10 pairs it
    destroys retrieval (``is_too_few``).

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> procrustes(PairSums.of(X, X @ np.array([[0.0, 1.0], [-1.0, 0.0]])), blend=1.0).round(3) + 0.0
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    if not 0.0 <= blend <= 1.0:
        raise AdapterError(f"the share of an orthogonal map must be between 0 and 1, not {blend}")
    left, _, right = np.linalg.svd(sums.xy)
    mixed: Array64 = (1.0 - blend) * np.eye(sums.dim) + blend * (left @ right)
    return mixed


def is_too_few(n_pairs: int, dim: int) -> bool:
    """Tell whether there are too few pairs to fit an orthogonal map."""
    return n_pairs < PROCRUSTES_PAIRS_PER_DIM * dim


def low_rank_factors(correction: Matrix64, rank: int) -> tuple[Matrix, Matrix]:
    """Return factors whose product approximates a matrix with the least squared error.

    Parameters
    ----------
    correction : ndarray of shape (dim, dim), float64
    rank : int
        At most dim.

    Returns
    -------
    left : ndarray of shape (dim, rank), float32
    right : ndarray of shape (rank, dim), float32

    Notes
    -----
    Uses the eigenvectors of ``CᵀC``, because the singular value decomposition of a matrix fitted to a few pairs may not
    converge. O(dim³).

    Examples
    --------
    >>> left, right = low_rank_factors(np.diag([3.0, 0.0]), 1)
    >>> abs(left @ right).round(3).tolist()
    [[3.0, 0.0], [0.0, 0.0]]
    """
    _, vectors = np.linalg.eigh(correction.T @ correction)
    right = vectors[:, ::-1][:, :rank].T
    return (correction @ right.T).astype(np.float32), np.ascontiguousarray(right, dtype=np.float32)
