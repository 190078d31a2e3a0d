"""The base class of adapter steps: small pure maps on vectors that also say what they store and know.

A step maps one float64 vector to another; the adapter chains steps and normalises once, at the end. Rows are
transformed one by one, because the same text must give the same bytes in any batch: a matrix product over a batch takes
another path through BLAS than over a single row, and differs in the last bits.
"""

import abc
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.steps.language_means import LanguageMeans
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import AdapterCorrupt

#: Languages of the example steps, some with regions and scripts that tags get wrong.
EXAMPLE_LANGUAGES: Final = (
    "de-Latn", "en-Latn", "fa-Arab", "nb-Latn", "pt-Latn", "sr-Cyrl", "zh-Hant",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Tuning:
    """The settings of the steps for one text, chosen by ``context.choose``.

    Parameters
    ----------
    language : str, optional
        Tag of the text's language.
    shrinkage : float
        From 0 (the tag is ignored) to 1 (its evidence counts in full).
    temperature : float, optional
        Replaces the temperature that a prototype attention was fitted with.
    """

    language: str | None = None
    shrinkage: float = 0.0
    temperature: float | None = None


#: Nothing is known about the text.
UNTUNED: Final = Tuning()


class CommonPart(NamedTuple):
    """The part that all texts share, as encoded and after a step; each of shape (dim,)."""

    encoded: Vector64
    kept: Vector64


class Step(abc.ABC):
    """One step of an adapter: a frozen dataclass of tensors and parameters. Pure: safe to share between threads.

    A new kind is a subclass in a file of its own and a line in ``kinds``. Storage, laws, gate, query adaptation,
    explanations and reference all follow from what the subclass declares.
    """

    #: Name in adapter files.
    kind: ClassVar[str]
    #: Fields stored as float32 tensors; the other fields are parameters, stored as JSON.
    tensor_names: ClassVar[tuple[str, ...]]

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Embedding dimension."""

    @abc.abstractmethod
    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Map one vector of shape (dim,) without changing it."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe the step in a few words, for people to read."""

    @classmethod
    @abc.abstractmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a small step of this kind from a seed, for laws and documentation."""

    @property
    def language_means(self) -> LanguageMeans | None:
        """Expected means of texts, by language where known; None if the step expects nothing."""
        return None

    @property
    def common_part(self) -> CommonPart | None:
        """The part that all texts share, before and after the step; None if the step keeps none of it."""
        return None

    @property
    def own_languages(self) -> tuple[str, ...]:
        """Keys of the languages that have a map of their own in this step."""
        return ()

    def without_languages(self, keys: Collection[str]) -> "Step | None":
        """Return the step without the maps of some languages; None if nothing is left."""
        del keys
        return self

    def tensors(self) -> Mapping[str, Matrix]:
        """Return the stored tensors by name, float32."""
        return {name: getattr(self, name) for name in self.tensor_names}

    def parameters(self) -> Mapping[str, Any]:
        """Return the stored parameters by name, as JSON values."""
        values = {name: getattr(self, name) for name in parameter_names(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def parameter_names(kind: type[Step]) -> tuple[str, ...]:
    """Return the fields of a step kind that are stored as JSON, in order."""
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass
    return tuple(name for name in fields if name not in kind.tensor_names)


def check_tensor(name: str, tensor: NDArray[np.float32], ndim: int) -> Matrix:
    """Check that a stored tensor is finite, float32 and has ``ndim`` dimensions; return it.

    Raises
    ------
    AdapterCorrupt
        The tensor fails a check.
    """
    if tensor.ndim != ndim or tensor.shape[-1] == 0:
        raise AdapterCorrupt(f"{name} must have {ndim} dimensions, but has shape {tensor.shape}")
    if tensor.dtype != np.float32:
        raise AdapterCorrupt(f"{name} must be float32, but is {tensor.dtype}")
    if not np.all(np.isfinite(tensor)):
        raise AdapterCorrupt(f"{name} holds numbers that are not finite")
    return tensor


def check_number(name: str, value: float, least: float, most: float) -> None:
    """Check a parameter read from a file.

    Raises
    ------
    AdapterCorrupt
        The value is not a float, or is out of range.
    """
    if not (isinstance(value, float) and least <= value <= most):
        raise AdapterCorrupt(f"{name} must be a number from {least:g} to {most:g}, but is {value!r}")


def example_rows(dim: int, n: int, seed: int) -> Matrix:
    """Return n rows of normally distributed numbers, shape (n, dim), float32."""
    generator = np.random.Generator(np.random.PCG64([seed, n, dim]))
    rows: Matrix = generator.standard_normal((n, dim)).astype(np.float32)
    return rows


def example_counts(seed: int) -> tuple[int, ...]:
    """Return a random number of texts for each of the ``EXAMPLE_LANGUAGES``."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return tuple(int(n) for n in generator.integers(0, 500, len(EXAMPLE_LANGUAGES)))
