"""Do texts keep their nearest neighbours? The measure that regression checks and the gate share."""

from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix

#: Neighbours compared per text.
N_NEIGHBOURS: Final = 10
#: Cosines that differ by less are ties: the order of a hundred copies of one text means nothing.
SAME_COSINE: Final = 1e-3


def neighbours_kept(before: Matrix, after: Matrix, *, queries: Matrix | None = None) -> float:
    """Return the share of nearest neighbours that were among the nearest before, or as near as those.

    Parameters
    ----------
    before, after : ndarray of shape (n, dim), float32
        Unit vectors of the same texts, at least 2; neighbours are searched among ``after``.
    queries : ndarray of shape (n, dim), float32, optional
        Vectors to search with, row by row; default ``after`` itself.

    Returns
    -------
    float
        From 0 to 1. Without near copies, the share of the ten nearest that stay the same.

    Notes
    -----
    O(n² · dim).

    Examples
    --------
    >>> angles = np.linspace(0.0, 3.0, 100)
    >>> X = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    >>> neighbours_kept(X, -X), neighbours_kept(X, np.roll(X, 50, axis=0)) < 1.0
    (1.0, True)
    """
    k = min(N_NEIGHBOURS, len(before) - 1)
    known = before @ before.T
    cosines = (after if queries is None else queries) @ after.T
    np.fill_diagonal(known, -np.inf)
    np.fill_diagonal(cosines, -np.inf)
    needed = np.partition(known, -k, axis=1)[:, -k] - SAME_COSINE
    nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
    return float(np.mean(np.take_along_axis(known, nearest, axis=1) >= needed[:, None]))
