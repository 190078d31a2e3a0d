"""Decode the input records of workers and encode their output records.

What cannot be decoded becomes a value (``Rejected``), never an exception: one bad record must not affect its
neighbours.
"""

import base64
import dataclasses
import re
from typing import Final, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.models.encoder.artifact import encode_vector
from alignstream.models.labels.label_set import MAX_LABELS
from alignstream.streams.wire.records import (
    DocumentV1,
    LabelFeedbackV1,
    LabelsZeroShotV1,
    PairScoredV1,
    PairV1,
    VectorAlignedV1,
)
from alignstream.streams.wire.topics import HEADER_SCHEMA, Headers, Reason, header

#: Rounding a unit vector to float16 changes its length by at most 2⁻¹¹; a vector further off is damaged.
MAX_LENGTH_ERROR: Final = 1e-3

T = TypeVar("T")
Stage = Literal["decode", "admit", "encode", "publish"]

SCHEMA_MAJOR: Final = 1
_SCHEMA = re.compile(rb"([a-z][a-z.-]*)/([0-9]{1,6})(\.[0-9]+)*")
#: A whole string with its escapes, closed or not; or a bracket. Possessive, with an optional closing quote, so
#: that no byte is scanned twice: otherwise 40 kB of escaped quotes took ten seconds.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class SourceRecord:
    """One record as read from the broker; ``timestamp`` in seconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: float | None
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def default_id(self) -> str:
        """The id of a message that has none."""
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record is dead-lettered: a reason from the closed list, the stage, and a message without payload."""

    reason: Reason
    stage: Stage
    message: str
    attempts: int = 1


class _LabelCount(msgspec.Struct):
    labels: list[msgspec.Raw] | None = None


_DOCUMENT = msgspec.json.Decoder(DocumentV1, strict=True)
_PAIR = msgspec.json.Decoder(PairV1, strict=True)
_FEEDBACK = msgspec.json.Decoder(LabelFeedbackV1, strict=True)
_LABEL_COUNT = msgspec.json.Decoder(_LabelCount, strict=True)
_ENCODER = msgspec.json.Encoder()


def decode_document(record: SourceRecord, *, max_bytes: int, max_nesting_depth: int) -> DocumentV1 | Rejected:
    """Decode one value of ``documents.v1``, strictly; see ``decode``."""
    document = decode(
        record, _DOCUMENT, "documents", max_bytes=max_bytes, max_nesting_depth=max_nesting_depth
    )
    if isinstance(document, Rejected) and document.reason == "bad-schema" and record.value is not None:
        return _too_many_labels(record.value) or document
    return document


def decode_pair(record: SourceRecord, *, max_bytes: int, max_nesting_depth: int) -> PairV1 | Rejected:
    """Decode one value of ``pairs.v1``, strictly; see ``decode``."""
    return decode(record, _PAIR, "pairs", max_bytes=max_bytes, max_nesting_depth=max_nesting_depth)


def decode_feedback(
    record: SourceRecord, *, max_bytes: int, max_nesting_depth: int
) -> LabelFeedbackV1 | Rejected:
    """Decode one value of ``label-feedback.v1``, strictly; see ``decode``."""
    return decode(
        record, _FEEDBACK, "label-feedback", max_bytes=max_bytes, max_nesting_depth=max_nesting_depth
    )


def decode(
    record: SourceRecord,
    decoder: msgspec.json.Decoder[T],
    schema: str,
    *,
    max_bytes: int,
    max_nesting_depth: int,
) -> T | Rejected:
    """Decode one input value, strictly.

    Parameters
    ----------
    record : SourceRecord
        Not a tombstone: a null value is rejected.
    decoder : Decoder
        Decodes the topic's record type.
    schema : str
        Expected name in the schema header.
    max_bytes : int
        Largest value accepted.
    max_nesting_depth : int
        Deepest nesting of arrays and objects accepted.

    Notes
    -----
    Checks run from the cheapest to the most expensive: size, header, UTF-8, depth, then JSON and types.
    """
    value = record.value
    if value is None:
        return Rejected("bad-json", "decode", "a null value is a tombstone, not a message")
    if len(value) > max_bytes:
        return Rejected("too-large", "decode", f"the value has {len(value)} bytes; the limit is {max_bytes}")
    unknown = _unknown_schema(header(record.headers, HEADER_SCHEMA), schema)
    if unknown is not None:
        return Rejected("unknown-schema", "decode", unknown)
    try:
        value.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        return Rejected("bad-utf8", "decode", f"byte {error.start} is not UTF-8: {error.reason}")
    if is_deeper(value, max_nesting_depth):
        return Rejected("too-deep", "decode", f"nested deeper than {max_nesting_depth} levels")
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        return Rejected("bad-schema", "decode", str(error))
    except RecursionError:
        return Rejected("too-deep", "decode", f"nested deeper than {max_nesting_depth} levels")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Rejected("bad-json", "decode", str(error))


def _unknown_schema(value: bytes | None, schema: str) -> str | None:
    if value is None:
        return None
    match = _SCHEMA.fullmatch(value)
    if match and match[1].decode() == schema and int(match[2]) == SCHEMA_MAJOR:
        return None
    shown = value[:40].decode("ascii", errors="replace")
    return f"header {HEADER_SCHEMA} is {shown!r}; this topic carries {schema}/{SCHEMA_MAJOR}"


def _too_many_labels(value: bytes) -> Rejected | None:
    """Return a rejection if there are too many labels, whatever else is wrong with them."""
    try:
        labels = _LABEL_COUNT.decode(value).labels
    except (msgspec.DecodeError, RecursionError):
        return None
    if labels is not None and len(labels) > MAX_LABELS:
        return Rejected("too-many-labels", "decode", f"{len(labels)} labels; the limit is {MAX_LABELS}")
    return None


def is_deeper(value: bytes, max_nesting_depth: int) -> bool:
    """Return whether JSON nests deeper than allowed, without parsing it.

    Brackets inside strings do not count. Values with few brackets are not scanned. O(bytes) for any input.
    """
    if value.count(b"[") + value.count(b"{") <= max_nesting_depth:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(value):
        first = token[0][0]
        if first in b"[{":
            depth += 1
            if depth > max_nesting_depth:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def vector_field(y: NDArray[np.float32], encoding: Literal["base64-f32le", "json"]) -> str | list[float]:
    """Encode a vector of shape (dim,) for the wire."""
    if encoding == "json":
        return [float(number) for number in y]
    return encode_vector(y)


def float16_field(x: NDArray[np.float32]) -> str:
    """Encode a unit vector of shape (dim,) as base64 of little-endian float16."""
    return base64.b64encode(np.ascontiguousarray(x, dtype="<f2").tobytes()).decode("ascii")


def read_float16(text: str, dim: int) -> NDArray[np.float32]:
    """Decode a vector that ``float16_field`` encoded.

    Parameters
    ----------
    text : str
        Base64 of little-endian float16.
    dim : int
        Expected embedding dimension.

    Returns
    -------
    ndarray of shape (dim,), float32
        Scaled back to length 1, which rounding changed slightly.

    Raises
    ------
    ValueError
        The text is not base64, does not hold ``dim`` numbers, or they are not a unit vector.
    """
    numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f2").astype(np.float64)
    if numbers.shape != (dim,):
        raise ValueError(f"it holds {numbers.size} numbers instead of {dim}")
    norm = float(np.sqrt(numbers @ numbers))
    if not abs(norm - 1.0) <= MAX_LENGTH_ERROR:
        raise ValueError(f"its length is {norm:.4g} instead of 1")
    x: NDArray[np.float32] = (numbers / norm).astype(np.float32)
    return x


def encode_record(record: VectorAlignedV1 | LabelsZeroShotV1 | PairScoredV1) -> bytes:
    """Encode an output record as JSON in UTF-8."""
    return _ENCODER.encode(record)
