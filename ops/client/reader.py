"""Read records from topics without a consumer group, and decode what the service wrote.

Reading assigns partitions and commits nothing, so it disturbs no worker and needs no right on a group.

Two measures of a topic's end are used: the broker's end offset, and the high watermark that came with the
last fetch. Brokers exist (the embedded one) whose end offsets are short by the last batch.
"""

import base64
import binascii
import collections
import contextlib
import dataclasses
import datetime as dt
import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import kafka
import kafka.errors as kafka_errors
import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.models.errors import BrokerError, RecordError
from alignstream.ops.client.connection import broker_errors, open_consumer, resolve_topic
from alignstream.ops.client.topics import require_topics
from alignstream.streams.settings import Settings
from alignstream.streams.wire.codec import read_half_vector
from alignstream.streams.wire.topics import HEADER_ERROR_PREFIX, Headers, header

#: Seconds without a record after which a topic that has been read to its end counts as read.
IDLE_SECONDS: Final = 0.25
#: Seconds without a record, short of the end, after which something is wrong with the topic.
STALLED_SECONDS: Final = 30.0

Vector = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One record as the broker holds it; ``timestamp_ms`` is milliseconds since 1970, UTC."""

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


class Reader:
    """Reads topics from where they stood when it was made; a context manager.

    Parameters
    ----------
    settings
        Where the broker is.
    topics
        Names, with or without the configured prefix.
    from_beginning
        Start at the oldest record, instead of after the newest one. A broker with short end offsets
        may give the last records again.
    last
        Start at most so many records before the end of each partition instead.
    starts
        Start each partition, by (topic on the broker, partition), at this offset instead; only these
        partitions are read.

    Raises
    ------
    TopicMissing
        A topic does not exist.
    BrokerError
        The broker is away or refused.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        *,
        from_beginning: bool = False,
        last: int | None = None,
        starts: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self._settings = settings
        if starts is None:
            names = [resolve_topic(settings, topic) for topic in topics]
            found = require_topics(settings, names)
            self._partitions = [
                kafka.TopicPartition(name, partition) for name, ids in found.items() for partition in ids
            ]
        else:
            self._partitions = [kafka.TopicPartition(*place) for place in starts]
        self._consumer = open_consumer(settings)
        try:
            with broker_errors(settings):
                self._consumer.assign(self._partitions)
                begins = self._consumer.beginning_offsets(self._partitions)
                ends = self._consumer.end_offsets(self._partitions)
                for place in self._partitions:
                    if starts is not None:
                        start = max(begins[place], starts[place.topic, place.partition])
                    elif last is not None:
                        start = max(begins[place], ends[place] - last)
                    else:
                        start = begins[place] if from_beginning else ends[place]
                    self._consumer.seek(place, start)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing twice is allowed."""
        self._consumer.close(autocommit=False)

    def poll(self, timeout_seconds: float) -> list[Record]:
        """Return records that arrive within a time, oldest first; their order within a partition is kept.

        Raises
        ------
        RecordError
            A record cannot be unpacked; the reader is of no use after this.
        BrokerError
            The broker refused, or a codec is not installed.
        """
        try:
            with broker_errors(self._settings):
                batches = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000))
        except BrokerError as error:
            if isinstance(error.__cause__, kafka_errors.CorruptRecordError):
                raise RecordError(self._unreadable(error.__cause__)) from error
            raise
        runs = [[_record(raw) for raw in batch] for batch in batches.values()]
        return list(heapq.merge(*runs, key=lambda record: record.timestamp_ms))

    def _unreadable(self, error: Exception) -> str:
        places = ", ".join(
            f"{topic} {partition} {offset}" for (topic, partition), offset in self.positions().items()
        )
        return (
            f"a record cannot be unpacked, at or after one of these places: {places} ({error.args[0]}); "
            "if workers stop there too, pass over it with 'alignstream skip TOPIC PARTITION OFFSET'"
        )

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the offset that is read next, by (topic, partition)."""
        return {
            (place.topic, place.partition): self._consumer.position(place, timeout_ms=1000) or 0
            for place in self._partitions
        }

    def at_end(self) -> bool:
        """Say whether everything that the broker holds at this moment has been read."""
        with broker_errors(self._settings):
            ends = self._consumer.end_offsets(self._partitions)
            for place in self._partitions:
                position = self._consumer.position(place, timeout_ms=1000)
                if position is None or position < ends[place]:
                    return False
                if not self._settings.read_committed:  # an open transaction holds the watermark higher
                    watermark = self._consumer.highwater(place)
                    if watermark is None or position < watermark:
                        return False
        return True

    def records(self, *, follow: bool = False, idle_seconds: float = IDLE_SECONDS) -> Iterator[Record]:
        """Yield records; unless following, until the end is reached and nothing came for a while.

        Raises
        ------
        RecordError
            A record cannot be unpacked, or a topic stops giving records before its end.
        BrokerError
            The broker refused or went away.
        """
        moved = time.monotonic()
        while True:
            batch = self.poll(idle_seconds)
            if batch:
                yield from batch
                moved = time.monotonic()
            elif not follow:
                if self.at_end():
                    return
                self._check_stalled(moved)

    def records_so_far(self) -> Iterator[Record]:
        """Yield records up to where the topics end at this moment, or a little further, and stop there.

        Unlike :meth:`records` this ends on a topic that is written to without a pause.

        Raises
        ------
        RecordError
            A record cannot be unpacked, or a topic stops giving records before its end.
        BrokerError
            The broker refused or went away.
        """
        ends: dict[Any, int] | None = None
        moved = time.monotonic()
        while ends is None or not self._is_past(ends):
            batch = self.poll(IDLE_SECONDS)
            if batch:
                yield from batch
                moved = time.monotonic()
            elif self.at_end():
                return
            else:
                self._check_stalled(moved)
            ends = self._ends() if ends is None else ends

    def _ends(self) -> dict[Any, int] | None:
        """Return where each partition ends now; None until something was fetched from each of them."""
        with broker_errors(self._settings):
            ends: dict[Any, int] = self._consumer.end_offsets(self._partitions)
        watermarks = {place: self._consumer.highwater(place) for place in self._partitions}
        if any(watermark is None for watermark in watermarks.values()):
            return None
        if self._settings.read_committed:  # an open transaction holds the watermark higher
            return ends
        return {place: max(end, watermarks[place]) for place, end in ends.items()}

    def _is_past(self, ends: Mapping[Any, int]) -> bool:
        positions = {place: self._consumer.position(place, timeout_ms=1000) for place in ends}
        return all(position is not None and position >= ends[place] for place, position in positions.items())

    def _check_stalled(self, moved: float) -> None:
        """Raise if nothing came since ``moved`` for so long that something is wrong with the topic."""
        if time.monotonic() - moved > STALLED_SECONDS:
            raise RecordError(
                f"{self._settings.broker} gives no more records, short of the end, after "
                f"{self.positions()}; is the broker well?"
            )


def _record(raw: Any) -> Record:  # noqa: ANN401 (kafka-python has no types)
    headers = tuple((name, value) for name, value in raw.headers)
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, headers)


def read(
    settings: Settings,
    topics: Sequence[str],
    *,
    from_beginning: bool = False,
    follow: bool = False,
    idle_seconds: float = IDLE_SECONDS,
) -> Iterator[Record]:
    """Yield the records of topics; see :class:`Reader` and :meth:`Reader.records`.

    The start is fixed by this call, not by the first record taken from it.

    Raises
    ------
    TopicMissing
        A topic does not exist.
    BrokerError
        The broker is away or refused.
    """
    reader = Reader(settings, topics, from_beginning=from_beginning)

    def run() -> Iterator[Record]:
        with contextlib.closing(reader):
            yield from reader.records(follow=follow, idle_seconds=idle_seconds)

    return run()


def read_last(settings: Settings, topics: Sequence[str], count: int) -> list[Record]:
    """Return the newest records of topics together, at most ``count``, oldest first."""
    newest: collections.deque[Record] = collections.deque(maxlen=count)
    with Reader(settings, topics, last=count) as reader:
        # Batches come partition by partition, so only the whole can be put in order.
        gathered = sorted(reader.records(), key=lambda record: (record.timestamp_ms, record.offset))
        newest.extend(gathered)
    return list(newest)


def decode_vector(record_json: Mapping[str, Any]) -> Vector:
    """Return the vector of a decoded ``vectors.aligned.v1`` record.

    Returns
    -------
    ndarray of shape (dim,), float32

    Raises
    ------
    RecordError
        The encoding is unknown, or the number of values is not ``dim``.
    """
    return vector_array(record_json.get("vector"), str(record_json.get("encoding")), record_json.get("dim"))


def vector_array(vector: object, encoding: str, dim: object) -> Vector:
    """Return a vector as it stands in a record as an array; see :func:`decode_vector`."""
    try:
        if encoding == "base64-f32le" and isinstance(vector, str):
            array = np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4").astype(np.float32)
        elif encoding == "json" and isinstance(vector, list):
            array = np.asarray(vector, dtype=np.float32)
        else:
            raise RecordError(f"a vector in encoding {encoding!r} cannot be decoded")
    except (binascii.Error, ValueError, TypeError) as error:
        raise RecordError(f"a vector does not hold what its encoding {encoding!r} says: {error}") from error
    if array.shape != (dim,):
        raise RecordError(f"a vector holds {array.size} values, but says dim={dim}")
    return array


def raw_vector_array(raw_vector: object, dim: object) -> Vector | None:
    """Return the vector as encoded, before any adapter, from a record's ``raw_vector`` and ``dim``.

    Returns
    -------
    ndarray of shape (dim,), float32, or None
        A unit vector, exact to float16; None where the record brings none (``ALIGNSTREAM_RAW_VECTOR`` was off).

    Raises
    ------
    RecordError
        It is damaged.
    """
    if raw_vector is None or raw_vector is msgspec.UNSET:
        return None
    if not isinstance(raw_vector, str) or not isinstance(dim, int):
        raise RecordError("a raw vector is base64 text, and dim a number")
    try:
        return read_half_vector(raw_vector, dim)
    except ValueError as error:
        raise RecordError(f"a raw vector cannot be used: {error}") from error


def json_value(value: bytes | None) -> Any:  # noqa: ANN401 (any JSON value)
    """Return the value as JSON, or None where it is none."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def record_ids(record: Record) -> set[str]:
    """Return the ids by which a person may ask for a record: its ``id``, its place, its key.

    A document without an id is known by its place, ``topic-partition-offset``; a dead letter by the place
    of the record that it was.
    """
    ids = set()
    decoded = json_value(record.value)
    if isinstance(decoded, dict) and isinstance(decoded.get("id"), str):
        ids.add(decoded["id"])
    place = [record.header(HEADER_ERROR_PREFIX + name) for name in ("topic", "partition", "offset")]
    if all(part is not None for part in place):
        ids.add("-".join(str(part) for part in place))
    else:
        ids.add(f"{record.topic}-{record.partition}-{record.offset}")
    if record.value is None and record.key is not None:
        ids.add(record.key.decode("utf-8", errors="replace"))
    return ids


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")


def without_value(record: Record) -> dict[str, Any]:
    """Return all of a record but its value as one JSON object; bytes that are not UTF-8 are replaced."""
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
