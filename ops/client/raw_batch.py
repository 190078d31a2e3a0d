"""Fetch one record batch as bytes, and unpack it more leniently than Kafka clients do.

A client unpacks a batch from its first record and stops at the first one that it cannot read, so a single header name
that is not UTF-8 hides the rest of the batch. Layout: Kafka protocol guide, "Record Batch" (magic 2).
"""

import dataclasses
import struct
from typing import Any, Final

import kafka.codec
import kafka.errors as kafka_errors
from kafka.protocol.consumer import FetchRequest

from alignstream.models.errors import RecordError
from alignstream.streams.wire.topics import Headers

#: base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and last timestamp,
#: producer id and epoch, base sequence, number of records.
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH: Final = 12
_CODEC, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
#: A broker returns a whole batch even if it is larger than what was asked for.
_FETCH_BYTES: Final = 1024 * 1024
_OFFSET_OUT_OF_RANGE: Final = 1


@dataclasses.dataclass(frozen=True, slots=True)
class RawRecord:
    """A record of a batch; if a header name is not UTF-8 it is mended here, and the record counts as unreadable."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    is_readable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class RawBatch:
    """A batch; ``records`` is None if it cannot be unpacked at all, and ``reason`` says why."""

    base_offset: int
    last_offset: int
    records: tuple[RawRecord, ...] | None
    reason: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether clients can unpack every record."""
        return self.records is not None and all(record.is_readable for record in self.records)


def fetch_batch(admin: Any, topic: str, partition: int, offset: int) -> tuple[int, RawBatch | None]:  # noqa: ANN401 (kafka-python has no types)
    """Return the end offset of a partition, and the batch that holds an offset or None.

    Raises
    ------
    KafkaError
        The broker refused.
    RecordError
        What it returned is not a record batch of this format.
    """
    described = admin.describe_topics([topic])[0]
    leader = next(
        entry["leader_id"] for entry in described["partitions"] if entry["partition_index"] == partition
    )
    topic_class = FetchRequest.FetchTopic
    requested = topic_class.FetchPartition(
        partition=partition, fetch_offset=offset, partition_max_bytes=_FETCH_BYTES
    )
    request = FetchRequest(
        max_wait_ms=1000,
        min_bytes=1,
        max_bytes=_FETCH_BYTES,
        topics=[topic_class(topic=topic, partitions=[requested])],
        min_version=4,
        max_version=12,  # the last that names topics
    )
    manager = admin._manager  # noqa: SLF001 (kafka-python has no public way to fetch bytes)
    response = manager.run(manager.send, request, leader)
    fetched = response.responses[0].partitions[0]
    if fetched.error_code == _OFFSET_OUT_OF_RANGE:
        return fetched.high_watermark, None
    if fetched.error_code:
        raise kafka_errors.for_code(fetched.error_code)(f"{topic} {partition}")
    return fetched.high_watermark, _batch_with(bytes(fetched.records or b""), offset)


def _batch_with(data: bytes, offset: int) -> RawBatch | None:
    position = 0
    while position + _HEADER.size <= len(data):
        batch, length = unpack_batch(data[position:])
        if batch.last_offset >= offset:
            return batch
        position += length
    return None


def unpack_batch(data: bytes) -> tuple[RawBatch, int]:
    """Unpack the batch at the start of some bytes; return it and its length in bytes.

    Raises
    ------
    RecordError
        It is not a whole batch of magic 2.
    """
    head = _HEADER.unpack_from(data)
    base, length, magic, attributes, last_delta, count = (head[index] for index in (0, 1, 3, 5, 6, 12))
    end = _BEFORE_LENGTH + length
    if magic != 2 or end > len(data):
        raise RecordError(f"the broker returned no whole record batch of format 2 at offset {base}")
    records: tuple[RawRecord, ...] | None = None
    reason = ""
    try:
        if attributes & _CONTROL:
            records = ()
        elif attributes & _TRANSACTIONAL:
            reason = "it belongs to a transaction"
        else:
            body = _decompress(data[_HEADER.size : end], attributes & _CODEC)
            records = _records(body, base, count)
    except Exception as error:  # noqa: BLE001 (whatever a decompressor raises, it means the same)
        reason = f"{type(error).__name__}: {error}"
    return RawBatch(base, base + last_delta, records, reason), end


def _decompress(body: bytes, codec: int) -> bytes:
    if codec == 0:
        return body
    names = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
    if codec not in names:
        raise ValueError(f"unknown codec {codec}")
    decode = getattr(kafka.codec, f"{names[codec]}_decode")
    if not getattr(kafka.codec, f"has_{names[codec]}")():
        raise ValueError(f"install kafka-python with its extra {names[codec]}")
    return bytes(decode(body))


def _records(body: bytes, base: int, count: int) -> tuple[RawRecord, ...]:
    unpacker = _Unpacker(body)
    return tuple(unpacker.record(base) for _ in range(count))


class _Unpacker:
    """Walks over the records of a batch."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def record(self, base: int) -> RawRecord:
        self._varint()  # its length
        self._position += 1  # attributes: none are defined
        self._varint()  # milliseconds since the first record
        offset = base + self._varint()
        key, value = self._bytes(), self._bytes()
        headers: list[tuple[str, bytes | None]] = []
        is_readable = True
        for _ in range(self._varint()):
            name = self._bytes() or b""
            try:
                text = name.decode("utf-8")
            except UnicodeDecodeError:
                text, is_readable = name.decode("utf-8", errors="replace"), False
            headers.append((text, self._bytes()))
        return RawRecord(offset, key, value, tuple(headers), is_readable)

    def _bytes(self) -> bytes | None:
        length = self._varint()
        if length < 0:
            return None
        start, self._position = self._position, self._position + length
        if self._position > len(self._body):
            raise ValueError("a record is cut short")
        return self._body[start : self._position]

    def _varint(self) -> int:
        """Read a zigzag-encoded number of variable length."""
        raw = shift = 0
        while True:
            byte = self._body[self._position]
            self._position += 1
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (raw >> 1) ^ -(raw & 1)
            shift += 7
