"""Multiply by a matrix that was fitted to translations."""

import dataclasses
import functools
from typing import ClassVar, Self

import numpy as np

from alignstream.models.adapter.steps.step import UNTUNED, Step, Tuning, check_tensor, example_rows
from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.models.errors import AdapterCorrupt


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap(Step):
    """Multiply by a matrix: ``x W``.

    Parameters
    ----------
    matrix : ndarray of shape (dim, dim), float32
        W; the adapter's report says how it was fitted.

    Notes
    -----
    O(dim²) per vector.

    Examples
    --------
    >>> LinearMap(np.array([[0, 1], [1, 0]], dtype=np.float32)).transform_one(np.array([3.0, 4.0]))
    array([4., 3.])
    """

    matrix: Matrix
    kind: ClassVar[str] = "linear-map"
    tensor_names: ClassVar[tuple[str, ...]] = ("matrix",)

    def __post_init__(self) -> None:
        check_tensor("linear-map matrix", self.matrix, 2)
        if self.matrix.shape[0] != self.matrix.shape[1]:
            raise AdapterCorrupt(f"linear-map matrix must be square, but has shape {self.matrix.shape}")

    @functools.cached_property
    def _transposed(self) -> Matrix64:
        # The transpose with contiguous rows: its product with a vector reads memory once, in order.
        return np.ascontiguousarray(self.matrix.T, dtype=np.float64)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.matrix.shape[0])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002 (one signature)
        """Return ``x W``, shape (dim,)."""
        return self._transposed @ x

    def describe(self) -> str:
        """Describe the step in a few words."""
        return "linear-map: multiply by a matrix fitted to translations"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a random map."""
        return cls(matrix=example_rows(dim, dim, seed))
