"""Judge a map on development pairs, and search for near but wrong targets. numpy alone."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Matrix
from alignstream.models.errors import TrainingError
from alignstream.models.unit_vectors import unit_rows

#: Wrong candidates that a margin is taken against.
N_NEIGHBOURS: Final = 10
#: Rows of similarities at a time: memory grows with the candidates, not with their square.
_BLOCK_ROWS: Final = 1024
#: From this cosine on two targets are the same text, and neither is a wrong one for the other.
_SAME: Final = 1.0 - 1e-6

ACCURACY: Final = "accuracy"
MARGIN: Final = "margin"

Figures = Mapping[str, float]


def unit(X: NDArray[np.floating]) -> Matrix:
    """Return rows divided by their lengths, float32, computed in float64."""
    scaled: Matrix = unit_rows(X).astype(np.float32)
    return scaled


def figures(X: Matrix, Y: Matrix) -> dict[str, float]:
    """Measure retrieval between two sides.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Mapped vectors of any length, row by row translations; n >= 2.

    Returns
    -------
    dict of str to float
        ``accuracy``: share of texts whose nearest on the other side is their translation, the mean of both
        ways, in points. ``margin``: cosine with the translation less the mean cosine with the ten nearest
        others, the mean of both ways.
    """
    X, Y = unit(X), unit(Y)
    there, back = _one_way(X, Y), _one_way(Y, X)
    return {ACCURACY: 50.0 * (there[0] + back[0]), MARGIN: (there[1] + back[1]) / 2.0}


def dev_rank(judged: Figures) -> tuple[float, float]:
    """Return the criteria that rank maps on development pairs: accuracy, then margin."""
    return judged[ACCURACY], judged[MARGIN]


def nearest_wrong(X: Matrix, Y: Matrix, k: int) -> NDArray[np.int64]:
    """Find the targets that are nearest to each source and not its translation.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Sources as the closed form maps them, and targets; row by row translations.
    k : int
        Wrong targets of each source; at most n - 1 are there.

    Returns
    -------
    ndarray of shape (n, min(k, n - 1)), int64
        Positions in Y, nearest first. Where a source has fewer targets that differ from its own, its
        last ones repeat the text of its translation.
    """
    X, Y = unit(X), unit(Y)
    k = min(k, len(Y) - 1)
    wrong = np.empty((len(X), k), dtype=np.int64)
    if k == 0:
        return wrong
    for start in range(0, len(X), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(X)))
        cosines = X[rows] @ Y.T
        cosines[Y[rows] @ Y.T >= _SAME] = -2.0
        cosines[np.arange(len(rows)), rows] = -3.0
        some = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosines, some, axis=1), axis=1, kind="stable")
        wrong[rows] = np.take_along_axis(some, order, axis=1)
    return wrong


def check_vectors(name: str, X: NDArray[np.floating], *, dim: int, least: int) -> Matrix:
    """Return vectors as contiguous float32 of shape (n, dim).

    Raises
    ------
    TrainingError
        They have another shape, are fewer than ``least``, or not finite.
    """
    if X.ndim != 2 or X.shape[1] != dim:
        raise TrainingError(f"{name}: vectors of {dim} numbers are needed, but the array has shape {X.shape}")
    if len(X) < least:
        raise TrainingError(f"{name}: at least {least} texts are needed, but there are {len(X)}")
    if not np.all(np.isfinite(X)):
        raise TrainingError(f"{name}: vectors are not finite")
    return np.ascontiguousarray(X, dtype=np.float32)


def check_pairs(name: str, X: Matrix, Y: Matrix, *, dim: int) -> tuple[Matrix, Matrix]:
    """Return both sides of at least 2 pairs, checked as ``check_vectors`` does.

    Raises
    ------
    TrainingError
        As ``check_vectors``, or the sides differ in length.
    """
    if len(X) != len(Y):
        raise TrainingError(f"{name}: {len(X)} sources and {len(Y)} targets are not pairs")
    return (
        check_vectors(f"{name}, source", X, dim=dim, least=2),
        check_vectors(f"{name}, target", Y, dim=dim, least=2),
    )


def _one_way(X: Matrix, Y: Matrix) -> tuple[float, float]:
    hits, margins = 0, 0.0
    k = min(N_NEIGHBOURS, len(Y) - 1)
    for start in range(0, len(X), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(X)))
        cosines = (X[rows] @ Y.T).astype(np.float64)
        hits += int((cosines.argmax(axis=1) == rows).sum())
        own = cosines[np.arange(len(rows)), rows].copy()
        cosines[np.arange(len(rows)), rows] = -np.inf
        nearest = np.partition(cosines, -k, axis=1)[:, -k:].mean(axis=1)
        margins += float((own - nearest).sum())
    return hits / len(X), margins / len(X)
