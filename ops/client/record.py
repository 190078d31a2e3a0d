"""One record as the broker holds it, and how tools show and name it."""

import base64
import dataclasses
import datetime as dt
from typing import Any

import msgspec

from alignstream.ops.client.vector_fields import decode_vector
from alignstream.streams.wire.topics import HEADER_ERROR_PREFIX, Headers, header


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A record with its place; ``timestamp_ms`` is milliseconds since 1970, UTC."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def timestamp(self) -> dt.datetime:
        """The time of the record, in UTC."""
        return dt.datetime.fromtimestamp(self.timestamp_ms / 1000, tz=dt.UTC)

    def header(self, name: str) -> str | None:
        """Return the last value of a header as text, or None."""
        return _text(header(self.headers, name))


def json_value(value: bytes | None) -> Any:  # noqa: ANN401 (any JSON value)
    """Return a record's value decoded, or None if it is not JSON."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def record_ids(record: Record) -> set[str]:
    """Return the ids by which a person may ask for a record: its ``id``, its place, its key.

    A document without an id goes by its place, ``topic-partition-offset``. A dead letter goes by the place of the
    record that was refused, a tombstone also by its key.
    """
    ids = set()
    decoded = json_value(record.value)
    if isinstance(decoded, dict) and isinstance(decoded.get("id"), str):
        ids.add(decoded["id"])
    source = [record.header(HEADER_ERROR_PREFIX + name) for name in ("topic", "partition", "offset")]
    if all(part is not None for part in source):
        ids.add("-".join(str(part) for part in source))
    else:
        ids.add(f"{record.topic}-{record.partition}-{record.offset}")
    if record.value is None and record.key is not None:
        ids.add(record.key.decode("utf-8", errors="replace"))
    return ids


def without_value(record: Record) -> dict[str, Any]:
    """Return everything but the value as one JSON object; bytes that are not UTF-8 are replaced."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "key": _text(record.key),
        "headers": {name: _text(value) for name, value in record.headers},
    }


def as_json(record: Record) -> dict[str, Any]:
    """Return a record as one JSON object: decoded value, vectors as lists, bytes as text or base64."""
    result = without_value(record)
    if record.value is None:
        return result | {"tombstone": True, "value": None}
    value = record.value
    decoded = json_value(value)
    if decoded is None and value.strip() != b"null":
        try:
            return result | {"value_text": value.decode("utf-8")}
        except UnicodeDecodeError:
            return result | {"value_base64": base64.b64encode(value).decode()}
    if isinstance(decoded, dict) and {"vector", "encoding", "dim"} <= decoded.keys():
        # The shortest digits that name the same float32.
        numbers = [float(str(number)) for number in decode_vector(decoded)]
        decoded = decoded | {"vector": numbers, "encoding": "json"}
    return result | {"value": decoded}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")
