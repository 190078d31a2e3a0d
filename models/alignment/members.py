"""The steps an adapter is made of: small pure maps on vectors, each with its parameters and its laws.

A member maps one float64 vector to another; the adapter chains members and normalises once at the end.
Rows are transformed one by one: a matrix product over a batch takes another path through BLAS than over a
single row and differs in the last bits, and the same text must give the same bytes in any batch.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from alignstream.models.errors import AdapterCorrupt

Vector32 = NDArray[np.float32]
Vector64 = NDArray[np.float64]
Matrix = NDArray[np.float32]
#: As vectors are stored and sent where a rounding of 0.03 % does no harm.
Matrix16 = NDArray[np.float16]

#: Rows of a basis may differ from orthonormal by what float32 storage costs.
MAX_BASIS_ERROR: Final = 1e-4


@dataclasses.dataclass(frozen=True, slots=True)
class Tuning:
    """What steers the members for one text: numbers that ``context.choose`` gave.

    Parameters
    ----------
    language : str, optional
        Tag of the text's language.
    shrinkage : float
        From 0 (the tag counts for nothing) to 1 (its whole evidence).
    temperature : float, optional
        In place of the temperature that a prototype attention was fitted with.
    """

    language: str | None = None
    shrinkage: float = 0.0
    temperature: float | None = None


#: Nothing is known about the text.
UNTUNED: Final = Tuning()


class Member(Protocol):
    """One step of an adapter. Immutable and pure: safe to share between threads."""

    kind: ClassVar[str]

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Map one vector of shape (dim,); the input is not changed."""

    def tensors(self) -> Mapping[str, Matrix]:
        """Return the tensors by name, float32, as they are stored."""

    def parameters(self) -> Mapping[str, Any]:
        """Return what is stored beside the tensors: JSON values by name."""

    def describe(self) -> str:
        """Say in a few words what it does, for people."""


def check_tensor(name: str, tensor: NDArray[np.float32], ndim: int) -> Matrix:
    """Return a stored tensor that is finite, float32 and of the right number of dimensions.

    Raises
    ------
    AdapterCorrupt
        It is not.
    """
    if tensor.ndim != ndim or tensor.shape[-1] == 0:
        raise AdapterCorrupt(f"{name} must have {ndim} dimensions, but has shape {tensor.shape}")
    if tensor.dtype != np.float32:
        raise AdapterCorrupt(f"{name} must be float32, but is {tensor.dtype}")
    if not np.all(np.isfinite(tensor)):
        raise AdapterCorrupt(f"{name} holds numbers that are not finite")
    return tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Centre:
    """Subtract a mean that all languages share: ``x - mean``.

    Parameters
    ----------
    mean : ndarray of shape (dim,), float32
        The mean of the language means, so that no language counts more than another.
    """

    mean: Vector32
    kind: ClassVar[str] = "centre"

    def __post_init__(self) -> None:
        check_tensor("centre mean", self.mean, 1)
        object.__setattr__(self, "_mean64", self.mean.astype(np.float64))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.mean.shape[0])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002
        """Return ``x - mean``, shape (dim,)."""
        mean: Vector64 = self.__dict__["_mean64"]
        return x - mean

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``mean``."""
        return {"mean": self.mean}

    def parameters(self) -> Mapping[str, Any]:
        """Return nothing: the mean is all."""
        return {}

    def describe(self) -> str:
        """Say in a few words what it does."""
        return "centre: subtract the mean of the language means"


@dataclasses.dataclass(frozen=True, eq=False)
class RemoveSubspace:
    """Project out the directions in which languages differ: ``x - (x Pᵀ) P``.

    Parameters
    ----------
    basis : ndarray of shape (rank, dim), float32
        P: orthonormal rows.

    Notes
    -----
    O(rank · dim) a vector. Xie et al. 2022, "Discovering Low-rank Subspaces for Language-agnostic
    Multilingual Representations"; here with the mean of means as the centre.
    """

    basis: Matrix
    kind: ClassVar[str] = "remove-subspace"

    def __post_init__(self) -> None:
        check_tensor("remove-subspace basis", self.basis, 2)
        wide = self.basis.astype(np.float64)
        error = float(np.abs(wide @ wide.T - np.eye(len(wide))).max(initial=0.0))
        if error > MAX_BASIS_ERROR:
            raise AdapterCorrupt(f"remove-subspace basis is not orthonormal (off by {error:.2g})")
        object.__setattr__(self, "_basis64", wide)

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.basis.shape[1])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002
        """Return x without its part in the subspace, shape (dim,)."""
        basis: Vector64 = self.__dict__["_basis64"]
        return x - (basis @ x) @ basis

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``basis``."""
        return {"basis": self.basis}

    def parameters(self) -> Mapping[str, Any]:
        """Return nothing: the basis is all."""
        return {}

    def describe(self) -> str:
        """Say in a few words what it does."""
        return f"remove-subspace: project out {len(self.basis)} directions in which languages differ"
