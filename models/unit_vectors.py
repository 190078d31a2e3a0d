"""Normalise rows to length 1, with or without the direction that they share. Pure numpy, in float64."""

from typing import Final

import numpy as np

from alignstream.models.arrays import AnyMatrix, Matrix64, Vector64

#: A shorter vector has no meaningful direction.
MIN_NORM: Final = 1e-9


def unit_rows(X: AnyMatrix) -> Matrix64:
    """Normalise rows to length 1.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        Not changed.

    Returns
    -------
    ndarray of shape (n, dim), float64
        Unit rows; a row of zeros stays zero.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    X64 = X.astype(np.float64)
    unit: Matrix64 = X64 / np.maximum(np.linalg.norm(X64, axis=1, keepdims=True), MIN_NORM)
    return unit


def unit_rows_without(X: AnyMatrix, common: Vector64 | None) -> Matrix64:
    """Project a direction out of rows, then normalise them to length 1.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        Not changed.
    common : ndarray of shape (dim,), float64, optional
        A unit vector, such as ``Adapter.common_direction``; None removes nothing.

    Returns
    -------
    ndarray of shape (n, dim), float64

    Examples
    --------
    >>> unit_rows_without(np.array([[3.0, 4.0]]), common=np.array([1.0, 0.0]))
    array([[0., 1.]])
    """
    if common is None:
        return unit_rows(X)
    X64 = X.astype(np.float64)
    return unit_rows(X64 - np.outer(X64 @ common, common))
