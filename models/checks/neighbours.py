"""Do texts find the neighbours that they had? What canaries and the guard of meaning have in common."""

from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix

#: Neighbours of a text.
N_NEIGHBOURS: Final = 10
#: Cosines that differ by less are alike: which of a hundred copies of one text come first says nothing.
SAME_COSINE: Final = 1e-3


def neighbours_kept(before: Matrix, after: Matrix, *, queries: Matrix | None = None) -> float:
    """Return the share of the nearest neighbours among the rows themselves that are as near as the nearest were.

    Parameters
    ----------
    before, after : ndarray of shape (n, dim), float32
        Unit vectors of the same texts, at least 2; neighbours are looked for among ``after``.
    queries : ndarray of shape (n, dim), float32, optional
        What looks for them, row by row; default ``after`` itself.

    Returns
    -------
    float
        From 0 to 1. Without near copies it is the share of the ten nearest that stay the same.

    Notes
    -----
    O(n² · dim).
    """
    k = min(N_NEIGHBOURS, len(before) - 1)
    known = before @ before.T
    cosines = (after if queries is None else queries) @ after.T
    np.fill_diagonal(known, -np.inf)
    np.fill_diagonal(cosines, -np.inf)
    needed = np.partition(known, -k, axis=1)[:, -k] - SAME_COSINE
    nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
    return float(np.mean(np.take_along_axis(known, nearest, axis=1) >= needed[:, None]))
