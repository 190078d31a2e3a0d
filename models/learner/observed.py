"""What workers saw, one value a message: all that learning ever gets. The learner encodes nothing."""

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
        Key of the language that the message names (``languages.language_key``).
    seen : str, optional
        Key of the language whose prototype lies nearest, by the worker's adapter.
    is_doubtful : bool
        The text lies so much nearer to another language's prototype that its tag is not believed.
    key : int, optional
        64-bit hash of the message's key; None where it had none.
    """

    vector: Vector32
    language: str | None = None
    seen: str | None = None
    is_doubtful: bool = False
    key: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: unit vector as encoded, key of its language, and the start of its text for people."""

    vector: Vector32
    language: str | None = None
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A pair of translations that somebody vouches for; a later one of the same id takes its place."""

    id: str
    source: Side
    target: Side


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A text and the label that somebody says it has; a later one of the same id takes its place."""

    id: str
    label_set: str
    label: str
    vector: Vector32
    language: str | None = None
