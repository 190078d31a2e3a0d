"""Subtract the mean of the tagged language: hard centring, which trusts the tag."""

import dataclasses
import functools
from typing import ClassVar, Self

from alignstream.models.adapter.steps.language_means import LanguageMeans, check_languages
from alignstream.models.adapter.steps.step import (
    EXAMPLE_LANGUAGES,
    UNTUNED,
    Step,
    Tuning,
    check_tensor,
    example_counts,
    example_rows,
)
from alignstream.models.arrays import Matrix, Vector64


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageCentre(Step):
    """Subtract the mean of the tagged language: ``x - μ_l``; without a known tag, the mean of the means.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        The mean vector of each language.
    languages : tuple of str
        Their keys (``languages.language_key``).
    counts : tuple of int
        Number of texts behind each mean.

    Notes
    -----
    O(dim). It trusts the tag, whatever the vector says; ``PrototypeAttention`` does not.

    Examples
    --------
    >>> import numpy as np
    >>> step = LanguageCentre(np.eye(2, dtype=np.float32), ("de-Latn", "fr-Latn"), (9, 9))
    >>> step.transform_one(np.array([1.0, 1.0]), Tuning(language="de-AT"))
    array([0., 1.])
    >>> step.transform_one(np.array([1.0, 1.0]))
    array([0.5, 0.5])
    """

    means: Matrix
    languages: tuple[str, ...]
    counts: tuple[int, ...]
    kind: ClassVar[str] = "language-centre"
    tensor_names: ClassVar[tuple[str, ...]] = ("means",)

    def __post_init__(self) -> None:
        check_tensor(f"{self.kind} means", self.means, 2)
        check_languages(self.kind, self.languages, len(self.means), self.counts)

    @functools.cached_property
    def language_means(self) -> LanguageMeans:
        """The means to subtract."""
        return LanguageMeans(self.means, self.languages, self.counts)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.means.shape[1])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x minus its language's mean, shape (dim,)."""
        own = self.language_means.mean_of(tuning.language)
        return x - (self.language_means.mean if own is None else own)

    def describe(self) -> str:
        """Describe the step in a few words."""
        return f"language-centre: subtract the mean of the tagged language, one of {len(self.languages)}"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a step with random means."""
        return cls(example_rows(dim, len(EXAMPLE_LANGUAGES), seed), EXAMPLE_LANGUAGES, example_counts(seed))
