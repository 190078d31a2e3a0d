"""Stored vectors as files and topics hold them: read from either, and put into the form of either.

Two kinds of lines are read: the bare values that ``alignstream encode`` writes, and the lines of ``alignstream tail
--json``, which also hold key and headers. Records of a topic are written to a file in the second form.
"""

import codecs
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from alignstream.models.errors import AlignstreamError
from alignstream.ops.client.producer import Outgoing
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record, without_value
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import HEADER_CONTENT_TYPE, HEADER_SCHEMA, VECTORS, Headers, header
from alignstream.streams.worker.pipeline import OUTPUT_SCHEMAS

#: A record is at most about 1 MiB on its topic; its line also holds the vector as decimal numbers.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
#: The schema header of a vector record.
SCHEMA: Final = dict(OUTPUT_SCHEMAS)[VECTORS]
#: What tells a line of ``tail --json`` from a bare value.
_TAIL_FIELDS: Final = frozenset({"topic", "partition", "offset", "headers"})
#: How bytes of a key that are not UTF-8 appear in a file.
_REPLACED: Final = "\ufffd"

#: A file, the name of a topic, or None for standard input.
VectorSource = Path | str | None


@dataclasses.dataclass(frozen=True, slots=True)
class StoredVector:
    """A record with its place.

    Parameters
    ----------
    place : str
        Its line, or topic, partition and offset.
    value : bytes or None
        None: a tombstone.
    key : bytes, optional
    headers : tuple of tuple
    line_fields : mapping, optional
        The other fields of its line; None for a bare value.
    is_key_whole : bool
        Whether the key is the one that its topic holds.
    """

    place: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    line_fields: Mapping[str, Any] | None = None
    is_key_whole: bool = True

    def to_line(self, value: bytes | None) -> bytes:
        """Return the record with another value as a line, in the form in which it was read."""
        if value is not None:
            # JSON has line breaks only outside of strings: in metadata that was sent on several lines.
            value = value.replace(b"\r", b" ").replace(b"\n", b" ")
        if self.line_fields is None:
            return value or b""
        if value is None:
            return msgspec.json.encode({**self.line_fields, "tombstone": True, "value": None})
        return msgspec.json.encode({**self.line_fields, "value": msgspec.Raw(value)})

    def to_topic(self, topic: str, value: bytes | None) -> Outgoing:
        """Return the record with another value, to be produced; a bare value gets its ``id`` as key."""
        if value is None:
            return Outgoing(topic, self.key, None, self.headers)
        key, headers = self.key, self.headers
        if self.line_fields is None:
            key = msgspec.json.decode(value, type=_Identified).id.encode()
        if header(headers, HEADER_SCHEMA) is None:
            headers = (*headers, (HEADER_SCHEMA, SCHEMA))
        if header(headers, HEADER_CONTENT_TYPE) is None:
            headers = (*headers, (HEADER_CONTENT_TYPE, b"application/json"))
        return Outgoing(topic, key, value, headers)


@dataclasses.dataclass(frozen=True, slots=True)
class RealignRefusal:
    """A record that stays behind: its place and the reason; no payload."""

    place: str
    reason: str
    message: str


class _TailLine(msgspec.Struct):
    key: str | None
    headers: dict[str, str | None]
    value: msgspec.Raw
    tombstone: bool = False


class _Identified(msgspec.Struct):
    id: str


def read_stored(settings: Settings, source: VectorSource) -> Iterator[StoredVector | RealignRefusal]:
    """Yield the records of a file, of standard input, or of a topic up to its present end.

    Raises
    ------
    TopicMissing
        There is no such topic.
    AlignstreamError
        The file cannot be read, or the broker fails.
    """
    if isinstance(source, str):
        with Reader(settings, [source], from_beginning=True) as reader:
            for record in reader.records_so_far():
                yield _from_topic(record)
    elif source is None:
        yield from _from_lines(sys.stdin.buffer)
    else:
        try:
            with source.open("rb") as file:
                yield from _from_lines(file)
        except OSError as error:
            raise AlignstreamError(f"cannot read {source}: {error.strerror or error}") from error


def _from_topic(record: Record) -> StoredVector:
    return StoredVector(
        f"{record.topic} {record.partition}@{record.offset}",
        record.value,
        record.key,
        record.headers,
        without_value(record),
    )


def _from_lines(file: BinaryIO) -> Iterator[StoredVector | RealignRefusal]:
    for number, line in enumerate(_lines(file), 1):
        place = f"line {number}"
        if line is None:
            yield RealignRefusal(place, "too-long", f"the line is longer than {MAX_LINE_BYTES} bytes")
            continue
        content = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip(b" \t\r\n")
        if content:
            yield _from_line(place, content)


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines; None stands for one that is too long, which is skipped without being held."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield None


def _from_line(place: str, line: bytes) -> StoredVector:
    """Take a line of ``tail --json`` apart; every other line is a value, whatever it holds."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        if not fields.keys() >= _TAIL_FIELDS or "vector" in fields:
            return StoredVector(place, line)
        tail = msgspec.json.decode(line, type=_TailLine)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return StoredVector(place, line)
    return StoredVector(
        place,
        None if tail.tombstone else bytes(tail.value),
        None if tail.key is None else tail.key.encode(),
        tuple((name, None if text is None else text.encode()) for name, text in tail.headers.items()),
        {name: raw for name, raw in fields.items() if name not in {"value", "tombstone"}},
        is_key_whole=_REPLACED not in (tail.key or ""),
    )
