"""The linear member: a matrix that was fitted to translations, or to anything else."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from alignstream.models.alignment.members import UNTUNED, Matrix, Tuning, Vector64, check_tensor
from alignstream.models.errors import AdapterCorrupt


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap:
    """Multiply by a matrix: ``x W``.

    Parameters
    ----------
    matrix : ndarray of shape (dim, dim), float32
        W; how it was fitted is in the adapter's report.

    Notes
    -----
    O(dim²) a vector.
    """

    matrix: Matrix
    kind: ClassVar[str] = "linear-map"

    def __post_init__(self) -> None:
        check_tensor("linear-map matrix", self.matrix, 2)
        if self.matrix.shape[0] != self.matrix.shape[1]:
            raise AdapterCorrupt(f"linear-map matrix must be square, but has shape {self.matrix.shape}")
        # Rows of the transpose in order of memory: the product with one vector reads it once.
        object.__setattr__(self, "_transposed", np.ascontiguousarray(self.matrix.T, dtype=np.float64))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.matrix.shape[0])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002
        """Return ``x W``, shape (dim,)."""
        transposed: Vector64 = self.__dict__["_transposed"]
        return transposed @ x

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``matrix``."""
        return {"matrix": self.matrix}

    def parameters(self) -> Mapping[str, Any]:
        """Return nothing: the matrix is all."""
        return {}

    def describe(self) -> str:
        """Say in a few words what it does."""
        return "linear-map: multiply by a matrix fitted to translations"
