"""``observations.v1``: what workers observed in each message, for the learner, and control requests to it.

Workers write one record per batch, more if it is large. Every item names its source record, so that a replay counts
once, whatever the batches. Vectors are as encoded, in float16: the learner runs no encoder.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from alignstream.models.adapter.languages import language_key
from alignstream.models.learner.observed import Example, Pair, Side, Text
from alignstream.streams.wire.codec import read_float16
from alignstream.streams.wire.records import Identifier, Label, LanguageTag, Name
from alignstream.streams.wire.topics import HEADER_CONTENT_TYPE, HEADER_SCHEMA, Headers

SCHEMA: Final = b"observations/1"
HEADERS: Final[Headers] = ((HEADER_SCHEMA, SCHEMA), (HEADER_CONTENT_TYPE, b"application/json"))
#: Largest record: far below what a broker refuses, and enough for a batch of 64 texts.
MAX_RECORD_BYTES: Final = 256 * 1024
#: Characters of a text kept in the memory, so that people can recognise it.
EXCERPT_CHARACTERS: Final = 120

#: Bytes for the names and brackets of a record's three lists.
_LISTS_BYTES: Final = 64

Vector = Annotated[
    str, Meta(description="The vector before alignment: base64 of little-endian 16-bit floats.")
]
Action = Literal["tick", "publish", "freeze", "thaw", "reset", "rollback", "forget-pair"]


class Origin(msgspec.Struct, frozen=True):
    """The position of the source record of an item."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]


class ObservedText(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text of a document, as a vector."""

    origin: Origin
    tenant: Name
    vector: Vector
    language: LanguageTag | None = None
    nearest_language: Annotated[str, Meta(description="Language of the nearest prototype.")] | None = None
    contradicts_tag: Annotated[bool, Meta(description="Whether the vector contradicts the language tag.")] = (
        False
    )
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
    """One side of a pair, with the start of its text for listings of the memory."""

    vector: Vector
    language: LanguageTag | None = None
    text: str = ""


class ObservedPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pair that its producer vouches for."""

    origin: Origin
    tenant: Name
    id: Identifier
    source: ObservedSide
    target: ObservedSide


class ObservedExample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text with its correct label."""

    origin: Origin
    tenant: Name
    id: Identifier
    label_set: Name
    label: Label
    vector: Vector
    language: LanguageTag | None = None


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request by an operator or by the learner's clock. It is in the log, so that a replay repeats it.

    Without ``encoder`` or ``tenant``, it applies to all of them.
    """

    id: Identifier
    action: Action
    encoder: str | None = None
    tenant: Name | None = None
    language: LanguageTag | None = None
    #: Epoch to go back to (``rollback``), or the pair to forget (``forget-pair``).
    epoch: int | None = None
    pair_id: Identifier | None = None
    is_live: bool = False


Observed = ObservedText | ObservedPair | ObservedExample


class ObservationsV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one worker observed in one batch, or one control request (topic ``observations.v1``)."""

    encoder: str = ""
    dim: Annotated[int, Meta(ge=0)] = 0
    texts: tuple[ObservedText, ...] = ()
    pairs: tuple[ObservedPair, ...] = ()
    examples: tuple[ObservedExample, ...] = ()
    control: Control | None = None


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(ObservationsV1, strict=True)


def encode(record: ObservationsV1) -> bytes:
    """Encode a record as JSON in UTF-8."""
    return _ENCODER.encode(record)


def decode(value: bytes | None) -> ObservationsV1 | str:
    """Decode a record strictly; return a message if it cannot be decoded."""
    if value is None:
        return "its value is null"
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)


def key_hash(key: bytes | None) -> str | None:
    """Return a short hash of a message key, or None if the key is null or empty."""
    return hashlib.blake2b(key, digest_size=8).hexdigest() if key else None


def packed(items: Sequence[Observed], *, encoder: str, dim: int) -> list[bytes]:
    """Pack the observations of a batch into as few records as possible, in order.

    Parameters
    ----------
    items : sequence of Observed
    encoder, dim
        Fingerprint and embedding dimension of the encoder.

    Returns
    -------
    list of bytes
        Values of at most ``MAX_RECORD_BYTES``, unless a single item is larger.
    """
    envelope_bytes = len(encode(ObservationsV1(encoder=encoder, dim=dim))) + _LISTS_BYTES
    groups: list[list[Observed]] = []
    filled = MAX_RECORD_BYTES
    for observed in items:
        # The encoded size, not an estimate: each of the 512 characters of an id may take six bytes.
        item_bytes = len(_ENCODER.encode(observed)) + 1
        if filled + item_bytes > MAX_RECORD_BYTES:
            groups.append([])
            filled = envelope_bytes
        groups[-1].append(observed)
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
    return tuple(observed for observed in items if isinstance(observed, kind))


# -- from the wire to the learner's state --------------------------------------------------------------


def text_of(observed: ObservedText, dim: int) -> Text:
    """Convert an observed text for the learner's state.

    Raises
    ------
    ValueError
        Its vector is damaged, or does not have ``dim`` numbers.
    """
    return Text(
        vector=read_float16(observed.vector, dim),
        language=key_of(observed.language),
        nearest_language=observed.nearest_language,
        contradicts_tag=observed.contradicts_tag,
        key=None if observed.key is None else int(observed.key, 16),
    )


def pair_of(observed: ObservedPair, dim: int) -> Pair:
    """Convert an observed pair for the learner's state.

    Raises
    ------
    ValueError
        A vector is damaged, or does not have ``dim`` numbers.
    """
    return Pair(observed.id, _side(observed.source, dim), _side(observed.target, dim))


def _side(side: ObservedSide, dim: int) -> Side:
    return Side(read_float16(side.vector, dim), key_of(side.language), side.text[:EXCERPT_CHARACTERS])


def example_of(observed: ObservedExample, dim: int) -> Example:
    """Convert an observed example for the learner's state.

    Raises
    ------
    ValueError
        Its vector is damaged, or does not have ``dim`` numbers.
    """
    return Example(
        observed.id,
        observed.label_set,
        observed.label,
        read_float16(observed.vector, dim),
        key_of(observed.language),
    )


def key_of(tag: str | None) -> str | None:
    """Return the key of a tag's language, or None if there is no tag or it names no language."""
    return language_key(tag) if tag else None
