"""Correct texts of single languages by low-rank maps of their own."""

import dataclasses
import functools
from collections.abc import Collection
from typing import ClassVar, Self

import numpy as np

from alignstream.models.adapter.languages import LanguageTable
from alignstream.models.adapter.steps.language_means import check_languages
from alignstream.models.adapter.steps.step import UNTUNED, Step, Tuning, check_tensor, example_rows
from alignstream.models.arrays import Array64, Matrix, Vector64
from alignstream.models.errors import AdapterCorrupt


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageMaps(Step):
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
    O(rank · dim) a vector. The target space is the one that the steps before it lead to, so that texts with
    and without a correction stay comparable.
    """

    left: Matrix
    right: Matrix
    languages: tuple[str, ...]
    kind: ClassVar[str] = "language-maps"
    tensor_names: ClassVar[tuple[str, ...]] = ("left", "right")

    def __post_init__(self) -> None:
        check_tensor("language-maps left", self.left, 3)
        check_tensor("language-maps right", self.right, 3)
        n, dim, rank = self.left.shape
        if self.right.shape != (n, rank, dim):
            raise AdapterCorrupt(f"language-maps has shapes {self.left.shape} and {self.right.shape}")
        check_languages(self.kind, self.languages, n)

    @functools.cached_property
    def _table(self) -> LanguageTable:
        return LanguageTable(self.languages)

    @functools.cached_property
    def _left64(self) -> Array64:
        return self.left.astype(np.float64)

    @functools.cached_property
    def _right64(self) -> Array64:
        return self.right.astype(np.float64)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.left.shape[1])

    @property
    def own_languages(self) -> tuple[str, ...]:
        """The languages that have a map."""
        return self.languages

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x, corrected if its tag names one of the languages, shape (dim,)."""
        position = self._table.find(tuning.language)
        if position is None:
            return x
        corrected: Vector64 = x + (x @ self._left64[position]) @ self._right64[position]
        return corrected

    def without_languages(self, keys: Collection[str]) -> "LanguageMaps | None":
        """Return the maps of all other languages; None where none is left."""
        kept = [index for index, name in enumerate(self.languages) if name not in keys]
        if not kept:
            return None
        return LanguageMaps(
            left=self.left[kept],
            right=self.right[kept],
            languages=tuple(self.languages[index] for index in kept),
        )

    def describe(self) -> str:
        """Say in a few words what it does."""
        return f"language-maps: correct texts tagged as one of {len(self.languages)} languages by maps of their own"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return random maps of rank 3 for two languages."""
        left, right = example_rows(3, 2 * dim, seed), example_rows(dim, 2 * 3, seed)
        return cls(left.reshape(2, dim, 3), right.reshape(2, 3, dim), ("pt-Latn", "zh-Hant"))
