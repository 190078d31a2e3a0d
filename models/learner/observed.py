"""What workers observed, one value per message: all that the learner gets. It never encodes."""

import dataclasses

from alignstream.models.arrays import Vector32


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """One text of a tenant's stream.

    Parameters
    ----------
    vector : ndarray of shape (dim,), float32
        Unit vector as encoded, before any adapter.
    language : str, optional
        Key of the language that the message is tagged with (``languages.language_key``).
    nearest_language : str, optional
        Key of the language with the nearest prototype, by the worker's adapter.
    contradicts_tag : bool
        The text lies so much nearer to another language's prototype that its tag is not believed.
    key : int, optional
        64-bit hash of the message's key; None if it had none.
    """

    vector: Vector32
    language: str | None = None
    nearest_language: str | None = None
    contradicts_tag: bool = False
    key: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: the unit vector as encoded, the key of its language, and the start of its text."""

    vector: Vector32
    language: str | None = None
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A pair of translations that someone vouches for; a later one with the same id replaces it."""

    id: str
    source: Side
    target: Side


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A text and the label that someone gave it; a later one with the same id replaces it."""

    id: str
    label_set: str
    label: str
    vector: Vector32
    language: str | None = None
