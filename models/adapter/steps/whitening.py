"""Shrink the directions in which translations of one text differ."""

import dataclasses
import functools
from typing import ClassVar, Self

import numpy as np

from alignstream.models.adapter.steps.step import (
    UNTUNED,
    Step,
    Tuning,
    check_number,
    check_tensor,
    example_rows,
)
from alignstream.models.adapter.steps.subspace import check_orthonormal
from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.models.errors import AdapterCorrupt


@dataclasses.dataclass(frozen=True, eq=False)
class Whitening(Step):
    """Shrink each direction by how far translations of one text differ along it: ``((x Vᵀ) ∘ s) V``.

    ``s = (λ + λ̄) ^ -p``, divided by its mean. Adding the mean variance λ̄ keeps directions with hardly any difference
    from being blown up.

    Parameters
    ----------
    basis : ndarray of shape (dim, dim), float32
        V: orthonormal rows, the principal directions of the differences.
    variances : ndarray of shape (dim,), float32
        λ >= 0: variance of translations along each direction; at least one is positive.
    power : float
        p, from 0 (no change) to 1; 0.5 whitens.

    Notes
    -----
    O(dim²) per vector. Within-class covariance normalisation (Hatch and Stolcke 2006), with texts as classes and their
    translations as members. ``docs/pages/measurements/alignment.md`` measures its gains and costs.

    Examples
    --------
    >>> whitening = Whitening(np.eye(2, dtype=np.float32), np.array([8, 0], dtype=np.float32), power=0.5)
    >>> whitening.transform_one(np.array([1.0, 1.0])).round(2)
    array([0.73, 1.27])
    """

    basis: Matrix
    variances: Matrix
    power: float = 0.5
    kind: ClassVar[str] = "whitening"
    tensor_names: ClassVar[tuple[str, ...]] = ("basis", "variances")

    def __post_init__(self) -> None:
        check_tensor("whitening basis", self.basis, 2)
        check_tensor("whitening variances", self.variances, 1)
        dim = len(self.variances)
        if self.basis.shape != (dim, dim):
            raise AdapterCorrupt(f"whitening has a basis of shape {self.basis.shape} for {dim} variances")
        check_orthonormal("whitening basis", self.basis)
        if self.variances.min() < 0.0 or self.variances.max() == 0.0:
            raise AdapterCorrupt("whitening variances must not be negative, nor all 0")
        check_number("whitening power", self.power, 0.0, 1.0)

    @functools.cached_property
    def _basis64(self) -> Matrix64:
        return self.basis.astype(np.float64)

    @functools.cached_property
    def _scales(self) -> Vector64:
        variances = self.variances.astype(np.float64)
        scales: Vector64 = (variances + variances.mean()) ** -self.power
        scales /= scales.mean()
        return scales

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return len(self.variances)

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002 (one signature)
        """Return x with each direction scaled, shape (dim,)."""
        scaled: Vector64 = ((self._basis64 @ x) * self._scales) @ self._basis64
        return scaled

    def describe(self) -> str:
        """Describe the step in a few words."""
        return "whitening: shrink the directions in which translations differ"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a step with random directions."""
        basis, _ = np.linalg.qr(example_rows(dim, dim, seed).astype(np.float64))
        variances = np.abs(example_rows(dim, 1, seed + 1)[0]) + np.float32(0.1)
        return cls(np.ascontiguousarray(basis, dtype=np.float32), variances, power=0.25 + seed % 3 / 4)
