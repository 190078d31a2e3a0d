"""What a step of an adapter is: a small pure map on vectors, with what is stored of it and what it knows.

A step maps one float64 vector to another; the adapter chains steps and normalises once at the end. Rows are transformed
one by one: a matrix product over a batch takes another path through BLAS than over a single row and differs in the last
bits, and the same text must give the same bytes in any batch.
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

#: Languages of the examples: with regions and scripts that tags get wrong.
EXAMPLE_LANGUAGES: Final = (
    "de-Latn", "en-Latn", "fa-Arab", "nb-Latn", "pt-Latn", "sr-Cyrl", "zh-Hant",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Tuning:
    """What steers the steps for one text: numbers that ``context.choose`` gave.

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


class CommonPart(NamedTuple):
    """What all texts share, shape (dim,) each: as encoded, and as a step leaves it."""

    encoded: Vector64
    kept: Vector64


class Step(abc.ABC):
    """One step of an adapter: a frozen dataclass of tensors and parameters. Pure: safe to share between threads.

    A new kind is a subclass in a file of its own and a line in ``kinds``: storing, the laws, the gate, query
    adaptation, explanations and the reference follow from what it says about itself here.
    """

    #: Its name in adapter files.
    kind: ClassVar[str]
    #: Fields that are stored as float32 tensors; the other fields are parameters, stored as JSON.
    tensor_names: ClassVar[tuple[str, ...]]

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Embedding dimension."""

    @abc.abstractmethod
    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Map one vector of shape (dim,); the input is not changed."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Say in a few words what it does, for people."""

    @classmethod
    @abc.abstractmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a small step of this kind, the same for the same seed: what laws and documentation run on."""

    @property
    def language_means(self) -> LanguageMeans | None:
        """Where it expects texts, by language as far as it knows; None where it expects nothing."""
        return None

    @property
    def common_part(self) -> CommonPart | None:
        """What all texts share before and after it; None where it keeps nothing of that."""
        return None

    @property
    def own_languages(self) -> tuple[str, ...]:
        """Keys of languages that it corrects by a map of their own."""
        return ()

    def without_languages(self, keys: Collection[str]) -> "Step | None":
        """Return the step without its own maps of some languages; None where nothing is left of it."""
        del keys
        return self

    def tensors(self) -> Mapping[str, Matrix]:
        """Return the tensors by name, float32, as they are stored."""
        return {name: getattr(self, name) for name in self.tensor_names}

    def parameters(self) -> Mapping[str, Any]:
        """Return what is stored beside the tensors: JSON values by name."""
        values = {name: getattr(self, name) for name in parameter_names(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def parameter_names(kind: type[Step]) -> tuple[str, ...]:
    """Return the fields of a kind of step that are stored as JSON, in order."""
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # each kind is one
    return tuple(name for name in fields if name not in kind.tensor_names)


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


def check_number(name: str, value: float, least: float, most: float) -> None:
    """Check a parameter that was read from a file.

    Raises
    ------
    AdapterCorrupt
        It is no float, or out of range.
    """
    if not (isinstance(value, float) and least <= value <= most):
        raise AdapterCorrupt(f"{name} must be a number from {least:g} to {most:g}, but is {value!r}")


def example_rows(dim: int, n: int, seed: int) -> Matrix:
    """Return n rows of normally distributed numbers: shape (n, dim), float32."""
    generator = np.random.Generator(np.random.PCG64([seed, n, dim]))
    rows: Matrix = generator.standard_normal((n, dim)).astype(np.float32)
    return rows


def example_counts(seed: int) -> tuple[int, ...]:
    """Return how many texts are behind each of the ``EXAMPLE_LANGUAGES``."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return tuple(int(n) for n in generator.integers(0, 500, len(EXAMPLE_LANGUAGES)))
