"""Rows of length 1, with or without a direction that all of them share. Pure: numpy alone, float64."""

from typing import Final

import numpy as np

from alignstream.models.arrays import AnyMatrix, Matrix64, Vector64

#: Shorter than this, a vector has no direction left to speak of.
MIN_NORM: Final = 1e-9


def unit_rows(X: AnyMatrix) -> Matrix64:
    """Divide rows by their lengths.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        Not changed.

    Returns
    -------
    ndarray of shape (n, dim), float64
        A row of which nothing is there stays near zero.

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
    """Leave a direction out of rows, and divide them by their lengths.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        Not changed.
    common : ndarray of shape (dim,), float64, optional
        Of length 1, such as ``Adapter.common_direction`` gives; None leaves nothing out.

    Returns
    -------
    ndarray of shape (n, dim), float64
    """
    if common is None:
        return unit_rows(X)
    X64 = X.astype(np.float64)
    return unit_rows(X64 - np.outer(X64 @ common, common))
