"""Subtract one mean from texts of all languages."""

import dataclasses
import functools
from typing import ClassVar, Self

import numpy as np

from alignstream.models.adapter.steps.language_means import LanguageMeans
from alignstream.models.adapter.steps.step import UNTUNED, Step, Tuning, check_tensor, example_rows
from alignstream.models.arrays import Vector32, Vector64


@dataclasses.dataclass(frozen=True, eq=False)
class Centre(Step):
    """Subtract one mean from texts of all languages: ``x - mean``.

    Parameters
    ----------
    mean : ndarray of shape (dim,), float32
        The mean of the language means, so that every language counts the same.

    Examples
    --------
    >>> Centre(np.array([0.5, 0.0], dtype=np.float32)).transform_one(np.array([1.0, 2.0]))
    array([0.5, 2. ])
    """

    mean: Vector32
    kind: ClassVar[str] = "centre"
    tensor_names: ClassVar[tuple[str, ...]] = ("mean",)

    def __post_init__(self) -> None:
        check_tensor("centre mean", self.mean, 1)

    @functools.cached_property
    def _mean64(self) -> Vector64:
        return self.mean.astype(np.float64)

    @functools.cached_property
    def language_means(self) -> LanguageMeans:
        """One mean for all texts, whatever their language."""
        return LanguageMeans(self.mean[None])

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.mean.shape[0])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002 (one signature)
        """Return ``x - mean``, shape (dim,)."""
        return x - self._mean64

    def describe(self) -> str:
        """Describe the step in a few words."""
        return "centre: subtract the mean of the language means"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a centre with a random mean."""
        return cls(mean=example_rows(dim, 1, seed)[0])
