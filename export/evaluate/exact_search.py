"""Find nearest vectors exactly in bounded memory, and the corrections of scores that go with it.

Queries and candidates are taken in blocks, so that one million candidates cost their own vectors and little more,
centred ones too. Pure: numpy alone.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Indices, Matrix, Vector32
from alignstream.models.errors import SearchError
from alignstream.models.unit_vectors import MIN_NORM

#: Memory of one block of similarities with all that selecting from it takes.
BLOCK_BYTES: Final = 64 * 1024 * 1024
#: Neighbours whose mean similarity is the hubness of a vector: as in CSLS.
N_HUB_NEIGHBOURS: Final = 10
#: Texts that the prior of a stream's mean is worth.
STREAM_PRIOR_TEXTS: Final = 20.0
#: Bytes a similarity takes while the nearest are chosen: itself, a copy, two masks and a running count.
_BYTES_PER_CELL: Final = 16
#: Queries of one block where memory allows: enough for fast products, few enough for wide blocks of candidates.
_BLOCK_QUERIES: Final = 512
#: Rows that are centred or summed at once.
_ROWS: Final = 4096
#: A direction shorter than this says nothing.


class VectorRows(Protocol):
    """Vectors that are read a block at a time: an array, or what makes its rows where they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and embedding dimension."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, part: slice, /) -> Matrix:
        """Return some rows; not to be changed."""


class Stacked:
    """Several arrays one below the other, without a copy of the whole.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n, dim), float32
        At least one.
    """

    def __init__(self, parts: Sequence[Matrix]) -> None:
        self._parts = list(parts)
        #: The first row of each part.
        self.starts: list[int] = [0, *np.cumsum([len(X) for X in self._parts]).tolist()][:-1]
        self.shape: tuple[int, ...] = (sum(map(len, self._parts)), self._parts[0].shape[1])

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, part: slice, /) -> Matrix:
        """Return some rows: a view where they lie in one part, else a copy."""
        start, stop, _ = part.indices(len(self))
        pieces = [
            X[max(0, start - first) : stop - first]
            for first, X in zip(self.starts, self._parts, strict=True)
            if first < stop and start < first + len(X)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate([self._parts[0][:0], *pieces])


class Centred:
    """A list's unit vectors less the list's own mean, at unit length, made where they are read: transductive.

    A vector that equals the mean stays as it is.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        Unit vectors; not changed.

    Notes
    -----
    Holds X, a mean, and a number a row. Each read costs two passes over its rows.
    """

    def __init__(self, X: Matrix) -> None:
        self._X = X
        mean = _mean(X)
        norms = np.empty(len(X))
        for start in range(0, len(X), _ROWS):
            norms[start : start + _ROWS] = np.linalg.norm(X[start : start + _ROWS] - mean, axis=1)
        self._mean = mean.astype(np.float32)
        self._scale: Vector32 = np.where(norms < MIN_NORM, 0.0, 1.0 / np.maximum(norms, MIN_NORM)).astype(
            np.float32
        )
        self.shape: tuple[int, ...] = X.shape

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._X)

    def __getitem__(self, part: slice, /) -> Matrix:
        """Return some rows, new."""
        rows, scale = self._X[part], self._scale[part]
        centred: Matrix = rows - self._mean
        centred *= scale[:, None]
        is_gone = scale == 0.0
        centred[is_gone] = rows[is_gone]
        return centred


def search(
    Q: VectorRows,
    C: VectorRows,
    k: int,
    *,
    block_bytes: int = BLOCK_BYTES,
    penalty: Vector32 | None = None,
    exclude: Indices | None = None,
) -> tuple[Indices, Matrix]:
    """Find the k nearest candidates of every query by cosine, exactly.

    Parameters
    ----------
    Q : VectorRows of shape (n_queries, dim), float32
        Unit vectors: an array, or rows that are made where they are read, each once.
    C : VectorRows of shape (n_candidates, dim), float32
        Unit vectors; may be mapped from a file. Read once a block of queries.
    k : int
        At least 1, at most the candidates that a query may find.
    block_bytes : int
        Memory in addition to the vectors and the result, within a factor of two.
    penalty : ndarray of shape (n_candidates,), float32, optional
        Subtracted from the cosines with each candidate (``hubness`` / 2 gives CSLS).
    exclude : ndarray of shape (n_queries,), int64, optional
        A candidate that each query must not find, such as itself.

    Returns
    -------
    positions : ndarray of shape (n_queries, k), int64
        Nearest first; equal scores in the order of the candidates.
    scores : ndarray of shape (n_queries, k), float32

    Raises
    ------
    SearchError
        Shapes differ, a number is not finite, or k is out of range.

    Notes
    -----
    O(n_queries · n_candidates · dim) time, O(n_queries · k + block_bytes) memory.

    Examples
    --------
    >>> C = np.eye(3, dtype=np.float32)
    >>> positions, scores = search(C[:1], C, 2)
    >>> positions.tolist(), scores.tolist()
    ([[0, 1]], [[1.0, 0.0]])
    """
    _check(Q, C, k, penalty, exclude)
    n_queries, n_candidates = len(Q), len(C)
    rows, columns = _block_shape(n_queries, n_candidates, Q.shape[1], block_bytes)
    positions = np.empty((n_queries, k), dtype=np.int64)
    scores = np.empty((n_queries, k), dtype=np.float32)
    for start in range(0, n_queries, rows):
        part = slice(start, min(start + rows, n_queries))
        queries = Q[part]
        best = np.empty((len(queries), 0), dtype=np.int64)
        best_scores = np.empty((len(queries), 0), dtype=np.float32)
        for low in range(0, n_candidates, columns):
            high = min(low + columns, n_candidates)
            block = _similarities(queries, C[low:high])
            if penalty is not None:
                block -= penalty[low:high]
            if exclude is not None:
                own = exclude[part]
                inside = np.flatnonzero((own >= low) & (own < high))
                block[inside, own[inside] - low] = -np.inf
            chosen = _top(block, k)
            # What earlier blocks gave lies at lower positions, so a stable order keeps ties as they should be.
            best = np.concatenate([best, chosen + low], axis=1)
            best_scores = np.concatenate([best_scores, np.take_along_axis(block, chosen, axis=1)], axis=1)
            order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
            best = np.take_along_axis(best, order, axis=1)
            best_scores = np.take_along_axis(best_scores, order, axis=1)
        positions[part], scores[part] = best, best_scores
    return positions, scores


def nearest(
    Q: VectorRows, C: VectorRows, *, block_bytes: int = BLOCK_BYTES, penalty: Vector32 | None = None
) -> Indices:
    """Return the position of the nearest candidate of every query, shape (n_queries,); as ``search`` otherwise."""
    return search(Q, C, 1, block_bytes=block_bytes, penalty=penalty)[0][:, 0]


def hubness(X: VectorRows, bank: VectorRows, *, block_bytes: int = BLOCK_BYTES) -> Vector32:
    """Measure how near each vector is to a bank of vectors of the other side.

    Parameters
    ----------
    X : VectorRows of shape (n, dim), float32
        Unit vectors.
    bank : VectorRows of shape (n_bank, dim), float32
        Unit vectors, at least one.

    Returns
    -------
    ndarray of shape (n,), float32
        The mean cosine with the ``N_HUB_NEIGHBOURS`` nearest of the bank: r of CSLS (Conneau et al. 2018).
    """
    _, scores = search(X, bank, min(N_HUB_NEIGHBOURS, len(bank)), block_bytes=block_bytes)
    mean: Vector32 = scores.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean


def csls_penalty(C: VectorRows, queries: VectorRows, *, block_bytes: int = BLOCK_BYTES) -> Vector32:
    """Return what CSLS takes from the cosines with each candidate, given all queries: transductive.

    ``2 cos(q, c) - r(q) - r(c)`` orders the candidates of one query as ``cos(q, c) - r(c) / 2`` does.
    """
    half: Vector32 = hubness(C, queries, block_bytes=block_bytes) * np.float32(0.5)
    return half


def stream_blocks(Q: Matrix, index: Matrix) -> Iterator[Matrix]:
    """Yield queries less what their stream's mean differs from the index, each seeing earlier queries alone.

    ``q_t - n / (n + κ) (m_n - g)`` with n the queries before t, m_n their mean, g the mean of the index, which is
    known beforehand, and κ ``STREAM_PRIOR_TEXTS``: causal. The index stays as it is.

    Parameters
    ----------
    Q : ndarray of shape (n_queries, dim), float32
        Unit vectors in the order of the stream.
    index : ndarray of shape (n_candidates, dim), float32
        Unit vectors.

    Yields
    ------
    ndarray of shape (n, dim), float32
        Unit vectors in blocks, in order, so that no copy of all queries is needed.
    """
    goal = _mean(index)
    total = np.zeros(Q.shape[1])
    for start in range(0, len(Q), _ROWS):
        rows = Q[start : start + _ROWS].astype(np.float64)
        before = total + np.cumsum(rows, axis=0) - rows
        counts = np.arange(start, start + len(rows), dtype=np.float64)[:, None]
        shift = (before - counts * goal) / (counts + STREAM_PRIOR_TEXTS)
        total += rows.sum(axis=0)
        yield _unit(rows - shift, rows)


def _check(Q: VectorRows, C: VectorRows, k: int, penalty: Vector32 | None, exclude: Indices | None) -> None:
    if len(Q.shape) != 2 or len(C.shape) != 2 or Q.shape[1] != C.shape[1]:
        raise SearchError(f"queries of shape {Q.shape} and candidates of shape {C.shape} do not go together")
    n_allowed = len(C) - (exclude is not None)
    if not 1 <= k <= n_allowed:
        raise SearchError(f"the {k} nearest of only {n_allowed} candidates cannot be found")
    if penalty is not None and penalty.shape != (len(C),):
        raise SearchError(f"a penalty of shape {penalty.shape} does not fit {len(C)} candidates")
    if exclude is not None and exclude.shape != (len(Q),):
        raise SearchError(f"exclusions have shape {exclude.shape}, but there are {len(Q)} queries")


def _block_shape(n_queries: int, n_candidates: int, dim: int, block_bytes: int) -> tuple[int, int]:
    cells = max(1, block_bytes // _BYTES_PER_CELL)
    rows = max(1, min(n_queries, _BLOCK_QUERIES, cells))
    # Candidates may be made where they are read, so a block of them counts too, however few the queries are.
    widest = max(1, block_bytes // (4 * dim))
    return rows, max(1, min(n_candidates, cells // rows, widest))


def _similarities(queries: Matrix, candidates: Matrix) -> Matrix:
    block: Matrix = queries @ candidates.T
    if not np.isfinite(block).all():
        raise SearchError("a vector holds numbers that are not finite")
    return block


def _top(block: Matrix, k: int) -> Indices:
    """Return the columns of the k largest of each row, the first of equals, in the order of columns."""
    n_rows, n_columns = block.shape
    if k >= n_columns:
        return np.tile(np.arange(n_columns, dtype=np.int64), (n_rows, 1))
    if k == 1:
        nearest: Indices = block.argmax(axis=1).astype(np.int64)[:, None]
        return nearest
    least = np.partition(block, n_columns - k, axis=1)[:, n_columns - k, None]
    taken = block > least
    n_wanted = k - taken.sum(axis=1, dtype=np.int32, keepdims=True)
    equal = block == least
    taken |= equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= n_wanted)
    columns: Indices = np.nonzero(taken)[1].reshape(n_rows, k)
    return columns


def _mean(X: Matrix) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = X.mean(axis=0, dtype=np.float64)
    return mean


def _unit(Y: NDArray[np.float64], fallback: NDArray[np.float64]) -> Matrix:
    """Return rows at unit length; a row with nothing left is taken from the fallback."""
    norms = np.linalg.norm(Y, axis=1, keepdims=True)
    unit: Matrix = np.where(norms < MIN_NORM, fallback, Y / np.maximum(norms, MIN_NORM)).astype(np.float32)
    return unit
