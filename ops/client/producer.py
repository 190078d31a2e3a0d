"""Produce records with confirmed delivery, in order, and read documents from lines of a file."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, Literal

import kafka.errors as kafka_errors
import msgspec

from alignstream.models.errors import DeliveryFailed
from alignstream.ops.client.connection import (
    MAX_REQUEST_BYTES,
    close_producer,
    explain,
    open_producer,
    resolve_topic,
)
from alignstream.ops.client.topics import require_topics
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DOCUMENTS, HEADER_CONTENT_TYPE, HEADER_SCHEMA, Headers

#: Records under way at once: bounds memory, and what is unknown when the broker goes away.
WINDOW_RECORDS: Final = 2000

#: Headers of a document that these tools wrote themselves.
DOCUMENT_HEADERS: Final[Headers] = (
    (HEADER_SCHEMA, b"documents/1"),
    (HEADER_CONTENT_TYPE, b"application/json"),
)

#: Errors that say something about one record; every other one is about the connection or the topic.
_REFUSED: Final = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
)
_TOO_LARGE: Final = "larger than its topic accepts (max.message.bytes), or refused by the broker as invalid"


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; ``topic`` is its name on the broker."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def size_bytes(self) -> int:
        """How large it is before compression, without what the format adds."""
        parts = [self.key, self.value]
        for name, value in self.headers:
            parts += [name.encode(), value]
        return sum(len(part) for part in parts if part is not None)


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A record that the broker refuses for what it is; ``index`` counts the records given, from 0."""

    index: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ProduceReport:
    """What became of the records given: ``confirmed`` are in the topic on every in-sync replica."""

    confirmed: int
    failed: tuple[Failure, ...]
    seconds: float


def produce_documents(
    settings: Settings,
    records: Iterable[tuple[bytes | None, bytes | None, Headers]],
    progress: Callable[[int], None] | None = None,
    *,
    topic: str = DOCUMENTS,
) -> ProduceReport:
    """Produce (key, value, headers) to one topic, in order; see :func:`produce`."""
    name = resolve_topic(settings, topic)
    return produce(settings, (Outgoing(name, *record) for record in records), progress)


def produce(
    settings: Settings, records: Iterable[Outgoing], progress: Callable[[int], None] | None = None
) -> ProduceReport:
    """Produce records and wait until the broker has confirmed each of them.

    1. Each topic is looked up when it is first named: nothing is created by accident.
    2. Records are sent in the order given; a retry keeps the order within a partition.
    3. At most ``WINDOW_RECORDS`` are under way; the oldest is waited for.
    4. A record that is refused for what it is (too large) is reported, and the rest goes on.
    5. Any other failure stops everything at once.

    Parameters
    ----------
    progress
        Called with the number of records confirmed so far, from this thread.

    Raises
    ------
    TopicMissing
        A topic does not exist.
    DeliveryFailed
        The broker went away or refuses; some records may have been written without confirmation.
    BrokerError
        The broker is away, or refuses this client.
    """
    started = time.monotonic()
    delivery = _Delivery(settings, progress)
    try:
        for index, record in enumerate(records):
            delivery.send(index, record)
        delivery.settle(down_to=0)
    except kafka_errors.KafkaError as error:
        cause = str(explain(error, settings))
        if settings.idempotence and isinstance(error, _NOT_IDEMPOTENT):
            cause += "; a broker without idempotent producing needs ALIGNSTREAM_IDEMPOTENCE=false"
        raise DeliveryFailed(
            f"{delivery.confirmed} records confirmed, then delivery stopped: {cause}"
        ) from error
    finally:
        delivery.close()
    return ProduceReport(delivery.confirmed, tuple(delivery.failed), time.monotonic() - started)


class _Delivery:
    """A producer and the records that it has under way.

    An idempotent producer is of no use after the broker refused one record for its size: it fails
    everything it has under way with that same error. What failed so is sent again, one by one, by a fresh
    producer, which tells the one that is too large from those beside it. Some of them may then be there
    twice.
    """

    def __init__(self, settings: Settings, progress: Callable[[int], None] | None) -> None:
        self._settings = settings
        self._progress = progress
        self._producer = open_producer(settings)
        self._known_topics: set[str] = set()
        self._under_way: collections.deque[tuple[int, Outgoing, Any]] = collections.deque()
        self.confirmed = 0
        self.failed: list[Failure] = []

    def send(self, index: int, record: Outgoing) -> None:
        """Hand one record to the client, and settle those that are done."""
        if record.topic not in self._known_topics:
            require_topics(self._settings, [record.topic])
            self._known_topics.add(record.topic)
        if record.size_bytes > MAX_REQUEST_BYTES:
            self.failed.append(Failure(index, _TOO_LARGE))
            return
        try:
            future = self._hand_over(record)
        except (ValueError, TypeError) as error:
            self.failed.append(Failure(index, " ".join(str(error).split())))
            return
        except _REFUSED:
            future = None  # the producer has failed meanwhile, through an earlier record
        self._under_way.append((index, record, future))
        self.settle(down_to=WINDOW_RECORDS)

    def settle(self, down_to: int) -> None:
        """Wait until no more than so many records are under way; take note of every one that is done."""
        while self._under_way:
            index, record, future = self._under_way[0]
            if len(self._under_way) <= down_to and not (future is None or future.is_done):
                return
            self._under_way.popleft()
            if self._is_confirmed(future):
                self._confirm()
            elif self._settings.idempotence:
                self._send_again([(index, record), *self._drain()])
            else:
                self.failed.append(Failure(index, _TOO_LARGE))

    def close(self) -> None:
        """Close the client; what is still under way after a second is given up."""
        close_producer(self._producer)

    def _hand_over(self, record: Outgoing) -> Any:  # noqa: ANN401 (kafka-python has no types)
        # kafka-python cannot send a null header: it goes out empty.
        headers = [(name, value or b"") for name, value in record.headers]
        return self._producer.send(record.topic, key=record.key, value=record.value, headers=headers)

    def _is_confirmed(self, future: Any) -> bool:  # noqa: ANN401 (likewise)
        """Wait for a delivery; return whether it was made, or refused for the record's sake."""
        if future is None:
            return False
        try:
            # Longer than the client's own limit, so that its reason is what is reported.
            future.get(timeout=self._settings.produce_timeout_seconds + 5)
        except _REFUSED:
            return False
        return True

    def _confirm(self) -> None:
        self.confirmed += 1
        if self._progress is not None:
            self._progress(self.confirmed)

    def _drain(self) -> list[tuple[int, Outgoing]]:
        """Settle everything under way, and return what failed."""
        failed = []
        while self._under_way:
            index, record, future = self._under_way.popleft()
            if self._is_confirmed(future):
                self._confirm()
            else:
                failed.append((index, record))
        return failed

    def _send_again(self, suspects: list[tuple[int, Outgoing]]) -> None:
        self._reopen()
        for index, record in suspects:
            try:
                is_confirmed = self._is_confirmed(self._hand_over(record))
            except _REFUSED:
                is_confirmed = False
            if is_confirmed:
                self._confirm()
            else:
                self.failed.append(Failure(index, _TOO_LARGE))
                self._reopen()

    def _reopen(self) -> None:
        self.close()
        self._producer = open_producer(self._settings)


#: How brokers answer a request for a producer id that they do not serve.
_NOT_IDEMPOTENT = (
    kafka_errors.UnknownError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.ClusterAuthorizationFailedError,
)


# -- documents from lines ------------------------------------------------------------------------

Format = Literal["auto", "jsonl", "text"]


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is not sent; ``line`` counts from 1."""

    line: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class LineReader:
    """Makes documents of lines.

    Parameters
    ----------
    format
        ``jsonl``: each line is a record, passed on byte for byte where nothing is filled in. ``text``:
        each line is the text of a document.
    fill
        Fields for lines that lack them. ``labels`` and ``label_set`` count as one: a line that has either
        keeps its own.
    key, key_field
        Key of every record, or the field of a JSON line whose value is the key.
    is_raw
        Pass every JSON line on unseen: nothing is filled in and what is not JSON is sent too.
    """

    format: Literal["jsonl", "text"]
    fill: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    key: bytes | None = None
    key_field: str | None = None
    is_raw: bool = False

    def read(
        self, lines: Iterable[bytes], reject: Callable[[Rejected], None]
    ) -> Iterator[tuple[bytes | None, bytes, Headers]]:
        """Yield (key, value, headers) of each line that is not blank; give the others to ``reject``.

        JSON lines are checked to be JSON, and nothing more: the service itself says what is wrong with a
        document, in its dead letters.
        """
        for number, line in enumerate(lines, 1):
            content = line.rstrip(b"\r\n")
            if number == 1:
                content = content.removeprefix(b"\xef\xbb\xbf")
            if not content.strip():
                continue
            try:
                if self.format == "text":
                    document = {"text": content.decode("utf-8"), **self.fill}
                    yield self.key, msgspec.json.encode(document), DOCUMENT_HEADERS
                else:
                    yield self._record(content)
            except UnicodeDecodeError:
                reject(Rejected(number, "not UTF-8"))
            except RecursionError:
                reject(Rejected(number, "nested too deep; --raw sends it unseen"))
            except msgspec.DecodeError as error:
                reject(Rejected(number, f"not JSON: {error}; --raw sends it unseen"))
            except LookupError as error:
                reject(Rejected(number, str(error.args[0])))

    def _record(self, line: bytes) -> tuple[bytes | None, bytes, Headers]:
        if self.is_raw:
            return self.key, line, ()
        decoded = msgspec.json.decode(line)
        if not isinstance(decoded, dict):
            return self.key, line, ()
        key = self.key
        if self.key_field is not None:
            if self.key_field not in decoded:
                raise LookupError(f"no field {self.key_field!r} to take the key from")
            value = decoded[self.key_field]
            key = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        missing = dict(self.fill)
        if {"labels", "label_set"} & decoded.keys():
            missing.pop("labels", None)
            missing.pop("label_set", None)
        missing = {name: value for name, value in missing.items() if name not in decoded}
        if missing:
            # Values that were given stay the bytes that they were.
            fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            line = msgspec.json.encode({**fields, **missing})
        return key, line, ()


def detect_format(name: str, first_line: bytes) -> Literal["jsonl", "text"]:
    """Tell JSON lines from plain text: by the file's ending, else by its first line that is not blank."""
    suffix = PurePath(name).suffix.lower()
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return "jsonl"
    if suffix in {".txt", ".text"}:
        return "text"
    try:
        return "jsonl" if isinstance(msgspec.json.decode(first_line), dict) else "text"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "text"
