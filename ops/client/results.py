"""What the service makes of a document, decoded: an aligned vector, and labels."""

import dataclasses
from typing import Any, TypeVar

import msgspec

from alignstream.models.arrays import Vector32
from alignstream.models.errors import RecordError
from alignstream.ops.client.record import Record
from alignstream.ops.client.vector_fields import raw_vector_array, vector_array
from alignstream.streams.wire.codec import read_float16
from alignstream.streams.wire.records import LabelsZeroShotV1, VectorAlignedV1
from alignstream.streams.wire.topics import (
    HEADER_SOURCE_OFFSET,
    HEADER_SOURCE_PARTITION,
    HEADER_SOURCE_TOPIC,
    RecordId,
)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AlignedVector:
    """A record of ``vectors.aligned.v1`` with its vector as an array of shape (dim,), float32.

    ``fields`` is the record as it was sent.
    """

    array: Vector32
    fields: VectorAlignedV1
    record: Record

    @property
    def id(self) -> str:
        """The document's id."""
        return self.fields.id

    @property
    def tenant(self) -> str:
        """The document's tenant."""
        return self.fields.tenant

    @property
    def language(self) -> str | None:
        """The document's language tag, or None."""
        language = self.fields.language
        return language if isinstance(language, str) else None

    @property
    def query(self) -> Vector32:
        """The vector to search stored vectors with, shape (dim,), float32.

        It adapts to the tenant's recent texts; the stored vector itself where nothing has been learned.
        """
        field = self.fields.query_vector
        return read_float16(field, self.fields.dim) if isinstance(field, str) else self.array

    @property
    def hubness(self) -> float | None:
        """Hubness of the stored vector: rank hits by cosine minus half of it; None if it is not known."""
        return self.fields.hubness if isinstance(self.fields.hubness, float) else None

    @property
    def space(self) -> str:
        """The vector's space: vectors of equal space are exactly comparable."""
        return self.fields.space

    @property
    def raw_array(self) -> Vector32 | None:
        """The vector before any adapter, shape (dim,), float32; None unless ``ALIGNSTREAM_RAW_VECTOR`` was on.

        Raises
        ------
        RecordError
            It is damaged.
        """
        return raw_vector_array(self.fields.raw_vector, self.fields.dim)

    @property
    def metadata(self) -> Any:  # noqa: ANN401 (any JSON value)
        """The document's metadata, decoded; None if it has none."""
        raw = self.fields.metadata
        return None if raw is msgspec.UNSET else msgspec.json.decode(raw)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What the service made of one document; ``labels`` is None if none were asked for."""

    id: str
    vector: AlignedVector
    labels: LabelsZeroShotV1 | None


def aligned_vector(record: Record) -> AlignedVector:
    """Decode a record of ``vectors.aligned.v1``.

    Raises
    ------
    RecordError
        It is not one.
    """
    fields = _decode(record, VectorAlignedV1)
    return AlignedVector(vector_array(fields.vector, fields.encoding, fields.dim), fields, record)


def zero_shot_labels(record: Record) -> LabelsZeroShotV1:
    """Decode a record of ``labels.zero-shot.v1``.

    Raises
    ------
    RecordError
        It is not one.
    """
    return _decode(record, LabelsZeroShotV1)


def _decode(record: Record, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{record.topic} {record.partition} {record.offset} is not a {kind.__name__}: {error}"
        ) from error


def source_of(record: Record) -> RecordId | None:
    """Return the place of the document that an output was made of, from its headers; None if they do not say."""
    topic = record.header(HEADER_SOURCE_TOPIC)
    partition = record.header(HEADER_SOURCE_PARTITION)
    offset = record.header(HEADER_SOURCE_OFFSET)
    if topic is None or partition is None or offset is None:
        return None
    if not (partition.isdecimal() and offset.isdecimal()):
        return None
    return RecordId(topic, int(partition), int(offset))
