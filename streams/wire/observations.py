"""``observations.v1``: what workers saw of each message, for the learner, and what people ask of it.

One record a batch. Every item names the source record that it comes from, so that a replay counts once, however the
batches fall. Vectors are as encoded, float16: the learner encodes nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from alignstream.models.adapter.languages import language_key
from alignstream.models.learner.observed import Example, Pair, Side, Text
from alignstream.streams.wire.codec import read_half_vector
from alignstream.streams.wire.records import Identifier, Label, LanguageTag, Name
from alignstream.streams.wire.topics import HEADER_CONTENT_TYPE, HEADER_SCHEMA, Headers

SCHEMA: Final = b"observations/1"
HEADERS: Final[Headers] = ((HEADER_SCHEMA, SCHEMA), (HEADER_CONTENT_TYPE, b"application/json"))
#: A record is filled up to this: far below what a broker refuses, and enough for a batch of 64 texts.
MAX_RECORD_BYTES: Final = 256 * 1024
#: Characters of a text that a memory keeps for people to recognise it.
EXCERPT_CHARACTERS: Final = 120

#: Names and brackets of the three lists of a record.
_LISTS_BYTES: Final = 64

Vector = Annotated[str, Meta(description="As encoded: base64 of little-endian 16-bit floats.")]
Action = Literal["tick", "publish", "freeze", "thaw", "reset", "rollback", "forget-pair"]


class Source(msgspec.Struct, frozen=True):
    """The source record that an item comes from."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]


class ObservedText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document's text."""

    source: Source
    tenant: Name
    vector: Vector
    language: LanguageTag | None = None
    seen: Annotated[str, Meta(description="Language whose prototype lies nearest.")] | None = None
    is_doubtful: Annotated[bool, Meta(description="The vector contradicts the tag.")] = False
    key: (
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9a-f]{16}$(?!\n)",
                description="Hash of the record's key, 16 hexadecimal digits.",
            ),
        ]
        | None
    ) = None


class ObservedSide(msgspec.Struct, frozen=True, omit_defaults=True):
    """One side of a pair, with the start of its text for people who list the memory."""

    vector: Vector
    language: LanguageTag | None = None
    text: str = ""


class ObservedPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pair that somebody vouches for."""

    source: Source
    tenant: Name
    id: Identifier
    one: ObservedSide
    other: ObservedSide


class ObservedExample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text with the label that it has."""

    source: Source
    tenant: Name
    id: Identifier
    label_set: Name
    label: Label
    vector: Vector
    language: LanguageTag | None = None


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person, or the learner's own clock, asks for: part of the log, so that a replay does it again.

    Without ``encoder`` or ``tenant`` it holds for all.
    """

    id: Identifier
    action: Action
    encoder: str | None = None
    tenant: Name | None = None
    language: LanguageTag | None = None
    #: Epoch to go back to (``rollback``), or the pair to forget (``forget-pair``).
    epoch: int | None = None
    pair: Identifier | None = None
    is_live: bool = False


Observed = ObservedText | ObservedPair | ObservedExample


class ObservationsV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one worker saw in one batch, or one control (topic ``observations.v1``)."""

    encoder: str = ""
    dim: Annotated[int, Meta(ge=0)] = 0
    texts: tuple[ObservedText, ...] = ()
    pairs: tuple[ObservedPair, ...] = ()
    examples: tuple[ObservedExample, ...] = ()
    control: Control | None = None


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(ObservationsV1, strict=True)


def encode(record: ObservationsV1) -> bytes:
    """Write a record as JSON, UTF-8."""
    return _ENCODER.encode(record)


def decode(value: bytes | None) -> ObservationsV1 | str:
    """Read a record strictly; return what is wrong with one that is none."""
    if value is None:
        return "a null value"
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)


def key_hash(key: bytes | None) -> str | None:
    """Return a short name of a message key: equal keys, equal names. An empty key is none."""
    return hashlib.blake2b(key, digest_size=8).hexdigest() if key else None


def packed(items: Sequence[Observed], *, encoder: str, dim: int) -> list[bytes]:
    """Pack what a batch showed into as few records as fit, in order.

    Parameters
    ----------
    items : sequence of Observed
    encoder, dim
        Fingerprint and size of the encoder.

    Returns
    -------
    list of bytes
        Values of records of at most ``MAX_RECORD_BYTES``, but for one item that is larger by itself.
    """
    envelope_bytes = len(encode(ObservationsV1(encoder=encoder, dim=dim))) + _LISTS_BYTES
    groups: list[list[Observed]] = []
    filled = MAX_RECORD_BYTES
    for item in items:
        # As written, not as estimated: an id of 512 characters may take six bytes each.
        item_bytes = len(_ENCODER.encode(item)) + 1
        if filled + item_bytes > MAX_RECORD_BYTES:
            groups.append([])
            filled = envelope_bytes
        groups[-1].append(item)
        filled += item_bytes
    return [
        encode(
            ObservationsV1(
                encoder=encoder,
                dim=dim,
                texts=_only(ObservedText, group),
                pairs=_only(ObservedPair, group),
                examples=_only(ObservedExample, group),
            )
        )
        for group in groups
    ]


def _only(kind: type, items: Iterable[Observed]) -> tuple:  # type: ignore[type-arg]
    return tuple(item for item in items if isinstance(item, kind))


# -- from the wire to what the learner's state takes ---------------------------------------------------


def text_of(item: ObservedText, dim: int) -> Text:
    """Return a text as the learner's state takes it.

    Raises
    ------
    ValueError
        Its vector is none of this encoder.
    """
    return Text(
        vector=read_half_vector(item.vector, dim),
        language=key_of(item.language),
        seen=item.seen,
        is_doubtful=item.is_doubtful,
        key=None if item.key is None else int(item.key, 16),
    )


def pair_of(item: ObservedPair, dim: int) -> Pair:
    """Return a pair as the learner's state takes it.

    Raises
    ------
    ValueError
        A vector is none of this encoder.
    """
    return Pair(item.id, _side(item.one, dim), _side(item.other, dim))


def _side(side: ObservedSide, dim: int) -> Side:
    return Side(read_half_vector(side.vector, dim), key_of(side.language), side.text[:EXCERPT_CHARACTERS])


def example_of(item: ObservedExample, dim: int) -> Example:
    """Return a labelled text as the learner's state takes it.

    Raises
    ------
    ValueError
        Its vector is none of this encoder.
    """
    return Example(
        item.id, item.label_set, item.label, read_half_vector(item.vector, dim), key_of(item.language)
    )


def key_of(tag: str | None) -> str | None:
    """Return the language's key; a tag that names no language counts as none."""
    return language_key(tag) if tag else None
