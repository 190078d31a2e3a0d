"""Project out the directions in which languages differ."""

import dataclasses
import functools
from typing import ClassVar, Final, Self

import numpy as np

from alignstream.models.adapter.steps.step import UNTUNED, Step, Tuning, check_tensor, example_rows
from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.models.errors import AdapterCorrupt

#: How far the rows of a basis may be from orthonormal: the rounding of float32 storage.
MAX_BASIS_ERROR: Final = 1e-4


def check_orthonormal(name: str, basis: Matrix) -> None:
    """Check that the rows of a stored basis are orthonormal.

    Raises
    ------
    AdapterCorrupt
        The rows are not orthonormal.
    """
    basis64 = basis.astype(np.float64)
    error = float(np.abs(basis64 @ basis64.T - np.eye(len(basis64))).max(initial=0.0))
    if error > MAX_BASIS_ERROR:
        raise AdapterCorrupt(f"{name} is not orthonormal (off by {error:.2g})")


@dataclasses.dataclass(frozen=True, eq=False)
class RemoveSubspace(Step):
    """Project out the directions in which languages differ: ``x - (x Pᵀ) P``.

    Parameters
    ----------
    basis : ndarray of shape (rank, dim), float32
        P: orthonormal rows.

    Notes
    -----
    O(rank · dim) per vector. Xie et al. 2022, "Discovering Low-rank Subspaces for Language-agnostic
    Multilingual Representations"; here with the mean of means as the centre.

    Examples
    --------
    >>> RemoveSubspace(np.array([[1.0, 0.0]], dtype=np.float32)).transform_one(np.array([3.0, 4.0]))
    array([0., 4.])
    """

    basis: Matrix
    kind: ClassVar[str] = "remove-subspace"
    tensor_names: ClassVar[tuple[str, ...]] = ("basis",)

    def __post_init__(self) -> None:
        check_tensor("remove-subspace basis", self.basis, 2)
        check_orthonormal("remove-subspace basis", self.basis)

    @functools.cached_property
    def _basis64(self) -> Matrix64:
        return self.basis.astype(np.float64)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.basis.shape[1])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002 (one signature)
        """Return x without its part in the subspace, shape (dim,)."""
        basis64 = self._basis64
        return x - (basis64 @ x) @ basis64

    def describe(self) -> str:
        """Describe the step in a few words."""
        return f"remove-subspace: project out {len(self.basis)} directions in which languages differ"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a step that removes ``seed % (dim - 1)`` random directions."""
        full, _ = np.linalg.qr(example_rows(dim, dim, seed).astype(np.float64))
        return cls(basis=np.ascontiguousarray(full[: seed % (dim - 1)], dtype=np.float32))
