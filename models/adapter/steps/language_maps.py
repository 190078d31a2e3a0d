"""Correct texts of some languages, each by a low-rank map of its own."""

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
    """Correct texts of some languages: ``z + z U_l V_l``; other and untagged texts stay unchanged.

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
    O(rank · dim) per vector. The preceding steps define the target space, so that texts with and without a correction
    stay comparable.

    Examples
    --------
    >>> left, right = np.array([[[1], [0]]], dtype=np.float32), np.array([[[0, 1]]], dtype=np.float32)
    >>> maps = LanguageMaps(left, right, languages=("de-Latn",))
    >>> maps.transform_one(np.array([1.0, 0.0]), Tuning(language="de"))
    array([1., 1.])
    >>> maps.transform_one(np.array([1.0, 0.0]), Tuning(language="fr"))
    array([1., 0.])
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
            raise AdapterCorrupt(
                f"language-maps has factors of shapes {self.left.shape} and {self.right.shape}, which do not match"
            )
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
        """The languages that have a map of their own."""
        return self.languages

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x, shape (dim,), corrected if its tag names one of the languages."""
        position = self._table.find(tuning.language)
        if position is None:
            return x
        corrected: Vector64 = x + (x @ self._left64[position]) @ self._right64[position]
        return corrected

    def without_languages(self, keys: Collection[str]) -> "LanguageMaps | None":
        """Return the maps of the other languages; None if there are none."""
        kept = [index for index, name in enumerate(self.languages) if name not in keys]
        if not kept:
            return None
        return LanguageMaps(
            left=self.left[kept],
            right=self.right[kept],
            languages=tuple(self.languages[index] for index in kept),
        )

    def describe(self) -> str:
        """Describe the step in a few words."""
        return f"language-maps: correct texts of {len(self.languages)} tagged languages, each by its own map"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return random maps of rank 3 for two languages."""
        left, right = example_rows(3, 2 * dim, seed), example_rows(dim, 2 * 3, seed)
        return cls(left.reshape(2, dim, 3), right.reshape(2, 3, dim), ("pt-Latn", "zh-Hant"))
