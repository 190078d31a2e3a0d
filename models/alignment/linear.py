"""Linear members: one matrix for all texts, and corrections of it for single languages."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from alignstream.models.alignment.closed_form import Array64
from alignstream.models.alignment.languages import LanguageTable
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


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageMaps:
    """Correct texts of single languages: ``z + z U_l V_l``; other texts, and those without a tag, stay.

    Parameters
    ----------
    left : ndarray of shape (n_languages, dim, rank), float32
        U.
    right : ndarray of shape (n_languages, rank, dim), float32
        V.
    languages : tuple of str
        Their keys (``languages.language_key``).

    Notes
    -----
    O(rank · dim) a vector. The target space is the one that the members before it lead to, so that texts with
    and without a correction stay comparable.
    """

    left: Matrix
    right: Matrix
    languages: tuple[str, ...]
    kind: ClassVar[str] = "language-maps"

    def __post_init__(self) -> None:
        check_tensor("language-maps left", self.left, 3)
        check_tensor("language-maps right", self.right, 3)
        if any(not isinstance(name, str) for name in self.languages):
            raise AdapterCorrupt("language-maps needs names of languages")
        n, dim, rank = self.left.shape
        if self.right.shape != (n, rank, dim) or len(self.languages) != n or len(set(self.languages)) != n:
            raise AdapterCorrupt(
                f"language-maps has shapes {self.left.shape} and {self.right.shape} for {len(self.languages)} languages"
            )
        object.__setattr__(self, "_left64", self.left.astype(np.float64))
        object.__setattr__(self, "_right64", self.right.astype(np.float64))
        object.__setattr__(self, "table", LanguageTable(self.languages))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.left.shape[1])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x, corrected if its tag names one of the languages, shape (dim,)."""
        position = self.__dict__["table"].find(tuning.language)
        if position is None:
            return x
        left: Vector64 = self.__dict__["_left64"][position]
        right: Vector64 = self.__dict__["_right64"][position]
        return x + (x @ left) @ right

    def without(self, keys: Collection[str]) -> "LanguageMaps | None":
        """Return the maps of all other languages; None where none is left."""
        kept = [index for index, name in enumerate(self.languages) if name not in keys]
        if not kept:
            return None
        return LanguageMaps(
            left=self.left[kept],
            right=self.right[kept],
            languages=tuple(self.languages[index] for index in kept),
        )

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``left`` and ``right``."""
        return {"left": self.left, "right": self.right}

    def parameters(self) -> Mapping[str, Any]:
        """Return ``languages``."""
        return {"languages": list(self.languages)}

    def describe(self) -> str:
        """Say in a few words what it does."""
        return f"language-maps: correct texts tagged as one of {len(self.languages)} languages by maps of their own"


def low_rank(correction: Array64, rank: int) -> tuple[Matrix, Matrix]:
    """Return the factors of shape (dim, rank) and (rank, dim) that are nearest to a matrix in least squares."""
    left, values, right = np.linalg.svd(correction)
    return (left[:, :rank] * values[:rank]).astype(np.float32), right[:rank].astype(np.float32)
