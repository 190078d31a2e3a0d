"""Do texts keep their nearest neighbours? The one measure of gates, regression checks, fits and evaluation."""

from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix

#: Neighbours compared per text.
N_NEIGHBOURS: Final = 10
#: Cosines that differ by less are ties: the order of a hundred copies of one text means nothing.
SAME_COSINE: Final = 1e-3
#: Similarities held at once, before and after: with the selection, about 100 MB.
_BLOCK_CELLS: Final = 4_000_000


def neighbours_kept(before: Matrix, after: Matrix, *, queries: Matrix | None = None) -> float:
    """Return the share of nearest neighbours that were among the nearest before, or as near as those.

    Parameters
    ----------
    before, after : ndarray of shape (n, dim), float32
        Unit vectors of the same texts, all in one language; neighbours are searched among ``after``.
    queries : ndarray of shape (n, dim), float32, optional
        Vectors to search with, row by row; default ``after`` itself.

    Returns
    -------
    float
        From 0 to 1: of the ``N_NEIGHBOURS`` nearest of each text, those whose cosine before was at most
        ``SAME_COSINE`` below that of its tenth nearest. 1 for a single text, which has no neighbour to lose.

    Notes
    -----
    O(n² · dim) time, in blocks of rows: memory grows with n.

    Examples
    --------
    >>> X = np.eye(12, dtype=np.float32)[:, :3] + np.linspace(0, 1, 12, dtype=np.float32)[:, None]
    >>> X /= np.linalg.norm(X, axis=1, keepdims=True)
    >>> neighbours_kept(X, X)
    1.0
    """
    n = len(before)
    k = min(N_NEIGHBOURS, n - 1)
    if k < 1:
        return 1.0
    searching = after if queries is None else queries
    n_rows, n_kept = max(1, _BLOCK_CELLS // n), 0
    for start in range(0, n, n_rows):
        rows = np.arange(start, min(start + n_rows, n))
        own = rows - start, rows
        cosines_before, cosines_after = before[rows] @ before.T, searching[rows] @ after.T
        cosines_before[own] = cosines_after[own] = -np.inf
        least = np.partition(cosines_before, -k, axis=1)[:, -k, None] - SAME_COSINE
        nearest = np.argpartition(cosines_after, -k, axis=1)[:, -k:]
        n_kept += int((np.take_along_axis(cosines_before, nearest, axis=1) >= least).sum())
    return n_kept / (n * k)
