"""Attention over a translation memory: pairs that a person adds take effect at once, without refitting."""

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
from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.models.errors import AdapterCorrupt
from alignstream.models.unit_vectors import MIN_NORM


@dataclasses.dataclass(frozen=True, eq=False)
class TranslationMemory(Step):
    """Move a vector the way its most similar known sources move: ``z + β Σ_j a_j (v_j - k_j)``.

    ``z = n(x)`` and ``a = softmax(z kᵀ / τ)``. Keys are source texts and values their translations, both unit vectors
    in the space of the preceding steps.

    Parameters
    ----------
    keys, values : ndarray of shape (n_pairs, dim), float32
        k and v. Without pairs, vectors stay unchanged.
    temperature : float
        τ > 0.
    weight : float
        β, from 0 to 1.

    Notes
    -----
    O(n_pairs · dim) per vector.

    Examples
    --------
    >>> east, north = np.array([[1, 0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)
    >>> TranslationMemory(keys=east, values=north).transform_one(np.array([2.0, 0.0]))
    array([0., 1.])
    """

    keys: Matrix
    values: Matrix
    temperature: float = 0.1
    weight: float = 1.0
    kind: ClassVar[str] = "translation-memory"
    tensor_names: ClassVar[tuple[str, ...]] = ("keys", "values")

    def __post_init__(self) -> None:
        check_tensor("translation-memory keys", self.keys, 2)
        check_tensor("translation-memory values", self.values, 2)
        if self.keys.shape != self.values.shape:
            raise AdapterCorrupt(
                f"translation-memory has keys of shape {self.keys.shape} and values of shape {self.values.shape}; "
                "the shapes must be equal"
            )
        check_number("translation-memory temperature", self.temperature, 1e-6, 1e6)
        check_number("translation-memory weight", self.weight, 0.0, 1.0)

    @functools.cached_property
    def _keys64(self) -> Matrix64:
        return self.keys.astype(np.float64)

    @functools.cached_property
    def _moves(self) -> Matrix64:
        return self.values.astype(np.float64) - self._keys64

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.keys.shape[1])

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.keys)

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002 (one signature)
        """Return x normalised and moved, shape (dim,); x itself without pairs."""
        norm = float(np.sqrt(x @ x))
        if len(self) == 0 or norm < MIN_NORM:
            return x
        z = x / norm
        logits = (self._keys64 @ z) / self.temperature
        weights = np.exp(logits - logits.max())
        moved: Vector64 = z + self.weight * ((weights / weights.sum()) @ self._moves)
        return moved

    def describe(self) -> str:
        """Describe the step in a few words."""
        return f"translation-memory: move like the most similar of {len(self)} known translations"

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a memory of ``seed % 5`` random pairs."""
        keys, values = (_unit(example_rows(dim, seed % 5, number)) for number in (seed, seed + 1))
        return cls(keys, values, 0.1 + seed % 4 / 10, seed % 3 / 2)


def _unit(X: Matrix) -> Matrix:
    rows: Matrix = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), MIN_NORM)
    return rows
