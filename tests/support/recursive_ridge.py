"""Recursive least squares: what the closed forms must agree with, pair by pair. An oracle of the tests."""

import numpy as np

from alignstream.models.arrays import Array64
from alignstream.models.errors import AdapterError


class RecursiveRidge:
    """The ridge of ``closed_form.ridge`` kept up to date pair by pair: O(dim²) each.

    Parameters
    ----------
    prior : ndarray of shape (dim, dim)
        The map without a pair.
    weight : float
        λ s of the ridge, absolute: what the prior is worth.
    forgetting : float
        In (0, 1]: what an older pair counts less with each newer one; 1 forgets nothing.

    Notes
    -----
    Recursive least squares: the inverse of ``XᵀX + λ s I`` follows each pair by a rank-one update (Sherman &
    Morrison 1950). Without forgetting the result is that of the batch, in any order.
    """

    def __init__(self, prior: Array64, *, weight: float, forgetting: float = 1.0) -> None:
        if not (weight > 0 and 0 < forgetting <= 1):
            raise AdapterError(f"recursive ridge with weight {weight} and forgetting {forgetting}")
        self._inverse: Array64 = np.eye(len(prior)) / weight
        self._matrix: Array64 = prior.astype(np.float64).copy()
        self._forgetting = forgetting
        self.n_pairs = 0

    @property
    def matrix(self) -> Array64:
        """The map after the pairs so far, shape (dim, dim)."""
        return self._matrix.copy()

    def update(self, x: Array64, y: Array64) -> None:
        """Take in one pair of vectors of shape (dim,)."""
        if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
            raise AdapterError("a pair whose vectors are not finite")
        gain = self._inverse @ x
        gain = gain / (self._forgetting + float(x @ gain))
        self._matrix += np.outer(gain, y - x @ self._matrix)
        self._inverse = (self._inverse - np.outer(gain, x @ self._inverse)) / self._forgetting
        self._inverse = (self._inverse + self._inverse.T) / 2.0
        self.n_pairs += 1
