"""Attention over a translation memory: pairs that a person adds change vectors at once, with nothing refitted."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np

from alignstream.models.alignment.members import UNTUNED, Matrix, Tuning, Vector64, check_tensor
from alignstream.models.errors import AdapterCorrupt

_MIN_NORM: Final = 1e-9
_FIRST_CAPACITY: Final = 16


@dataclasses.dataclass(frozen=True, eq=False)
class TranslationMemory:
    """Move a vector as its most similar known sources move: ``z + β Σ_j a_j (v_j - k_j)``.

    ``z = n(x)``, ``a = softmax(z kᵀ / τ)``: keys are source texts, values their translations, both unit vectors of
    the space that the members before it lead to.

    Parameters
    ----------
    keys, values : ndarray of shape (n_pairs, dim), float32
        k and v. No pair at all leaves every vector as it is.
    temperature : float
        τ > 0.
    weight : float
        β, from 0 to 1.

    Notes
    -----
    O(n_pairs · dim) a vector; a pair more costs O(dim), amortised.
    """

    keys: Matrix
    values: Matrix
    temperature: float = 0.1
    weight: float = 1.0
    kind: ClassVar[str] = "translation-memory"

    def __post_init__(self) -> None:
        check_tensor("translation-memory keys", self.keys, 2)
        check_tensor("translation-memory values", self.values, 2)
        if self.keys.shape != self.values.shape:
            raise AdapterCorrupt(
                f"translation-memory has {self.keys.shape} keys and {self.values.shape} values; it needs as many"
            )
        if not (isinstance(self.temperature, float) and 1e-6 <= self.temperature < 1e6):
            raise AdapterCorrupt(f"translation-memory has a temperature of {self.temperature!r}")
        if not (isinstance(self.weight, float) and 0.0 <= self.weight <= 1.0):
            raise AdapterCorrupt(f"translation-memory has a weight of {self.weight!r}")
        self.__dict__.setdefault("_room", _Room.of(self.keys, self.values))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.keys.shape[1])

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.keys)

    def append(self, key: Matrix, value: Matrix) -> "TranslationMemory":
        """Return a memory of one pair more; this one stays as it is.

        Parameters
        ----------
        key, value : ndarray of shape (dim,), float32
            Unit vectors of a source text and its translation.

        Raises
        ------
        AdapterCorrupt
            One of them has another shape or type, or a number that is not finite.
        """
        for name, vector in (("key", key), ("value", value)):
            if len(check_tensor(f"translation-memory {name}", vector, 1)) != self.dim:
                raise AdapterCorrupt(f"translation-memory {name} has {len(vector)} numbers, not {self.dim}")
        room: _Room = self.__dict__["_room"]
        grown = room.append(len(self), key, value)
        added = TranslationMemory.__new__(TranslationMemory)
        keys, values = grown.upto(len(self) + 1)
        added.__dict__.update(
            keys=keys, values=values, temperature=self.temperature, weight=self.weight, _room=grown
        )
        return added

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:  # noqa: ARG002
        """Return the moved unit vector, shape (dim,)."""
        norm = float(np.sqrt(x @ x))
        if len(self) == 0 or norm < _MIN_NORM:
            return x
        z = x / norm
        room: _Room = self.__dict__["_room"]
        keys, moves = room.keys64[: len(self)], room.moves64[: len(self)]
        logits = (keys @ z) / self.temperature
        weights = np.exp(logits - logits.max())
        moved: Vector64 = z + self.weight * ((weights / weights.sum()) @ moves)
        return moved

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``keys`` and ``values``."""
        return {"keys": self.keys, "values": self.values}

    def parameters(self) -> Mapping[str, Any]:
        """Return temperature and weight."""
        return {"temperature": self.temperature, "weight": self.weight}

    def describe(self) -> str:
        """Say in a few words what it does."""
        return f"translation-memory: move as the most similar of {len(self)} known translations move"


class _Room:
    """Rows with room to grow, shared by memories that grew from each other; rows are written once."""

    def __init__(self, keys: Matrix, values: Matrix, used: int) -> None:
        self._keys, self._values = keys, values
        self.keys64 = keys.astype(np.float64)
        self.moves64 = values.astype(np.float64) - self.keys64
        self._used = used

    @classmethod
    def of(cls, keys: Matrix, values: Matrix) -> "_Room":
        return cls(keys, values, len(keys))

    def upto(self, n: int) -> tuple[Matrix, Matrix]:
        return self._keys[:n], self._values[:n]

    def append(self, n: int, key: Matrix, value: Matrix) -> "_Room":
        """Return where row n stands: here if it is free, else in a copy with twice the room."""
        room = self
        if n != self._used or n == len(self._keys):
            capacity = max(_FIRST_CAPACITY, 2 * n)
            keys = np.zeros((capacity, self._keys.shape[1]), dtype=np.float32)
            values = np.zeros_like(keys)
            keys[:n], values[:n] = self._keys[:n], self._values[:n]
            room = _Room(keys, values, n)
        room._keys[n], room._values[n] = key, value
        room.keys64[n] = room._keys[n]
        room.moves64[n] = room._values[n].astype(np.float64) - room.keys64[n]
        room._used = n + 1
        return room
