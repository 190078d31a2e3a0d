"""Produce records in order, and wait until the broker has confirmed each."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import kafka.errors as kafka_errors

from alignstream.models.errors import DeliveryFailed
from alignstream.ops.client.broker_topics import require_topics
from alignstream.ops.client.connection import (
    MAX_REQUEST_BYTES,
    close_producer,
    explain,
    open_producer,
    resolve_topic,
)
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DOCUMENTS, HEADER_CONTENT_TYPE, HEADER_SCHEMA, Headers

#: Records in flight at once: bounds memory, and what is unknown when the broker goes away.
WINDOW_RECORDS: Final = 2000

#: A record without its topic.
KeyValueHeaders = tuple[bytes | None, bytes | None, Headers]

#: Headers of the documents that these tools write themselves.
DOCUMENT_HEADERS: Final[Headers] = (
    (HEADER_SCHEMA, b"documents/1"),
    (HEADER_CONTENT_TYPE, b"application/json"),
)

#: Errors about one record; every other error is about the connection or the topic.
_REFUSED: Final = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
)
_TOO_LARGE: Final = "larger than its topic accepts (max.message.bytes), or refused by the broker as invalid"
#: How brokers that know no idempotent producers answer a request for a producer id.
_NOT_IDEMPOTENT: Final = (
    kafka_errors.UnknownError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.ClusterAuthorizationFailedError,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; ``topic`` is its name on the broker."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers, before compression and without the format's overhead."""
        parts = [self.key, self.value]
        for name, value in self.headers:
            parts += [name.encode(), value]
        return sum(len(part) for part in parts if part is not None)


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that the broker refuses for its content; ``index`` counts the records given, from 0."""

    index: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ProduceReport:
    """How many records are on every in-sync replica, and which ones were refused."""

    confirmed: int
    failed: tuple[RefusedRecord, ...]
    seconds: float


def produce_documents(
    settings: Settings,
    records: Iterable[KeyValueHeaders],
    progress: Callable[[int], None] | None = None,
    *,
    topic: str = DOCUMENTS,
) -> ProduceReport:
    """Produce (key, value, headers) to one topic, in order; see ``produce``."""
    name = resolve_topic(settings, topic)
    return produce(settings, (Outgoing(name, *record) for record in records), progress)


def produce(
    settings: Settings, records: Iterable[Outgoing], progress: Callable[[int], None] | None = None
) -> ProduceReport:
    """Produce records and wait until the broker has confirmed each of them.

    1. Each topic is looked up when it is first named, so that none is created by accident.
    2. Records are sent in the order given; a retry keeps the order within a partition.
    3. At most ``WINDOW_RECORDS`` are in flight; beyond that the oldest is waited for.
    4. A record that is refused for its content (too large) is reported, and the others go on.
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
            cause += "; if the broker knows no idempotent producers, set ALIGNSTREAM_IDEMPOTENCE=false"
        raise DeliveryFailed(
            f"{delivery.confirmed} records confirmed, then delivery stopped: {cause}"
        ) from error
    finally:
        delivery.close()
    return ProduceReport(delivery.confirmed, tuple(delivery.failed), time.monotonic() - started)


class _Delivery:
    """A producer and the records that it has in flight.

    An idempotent producer is unusable after the broker has refused one record for its size: everything in flight fails
    with the same error. A new producer sends those records again, one by one, which tells the record that is too large
    from its neighbours. Some of these may then be in the topic twice.
    """

    def __init__(self, settings: Settings, progress: Callable[[int], None] | None) -> None:
        self._settings = settings
        self._progress = progress
        self._producer = open_producer(settings)
        self._known_topics: set[str] = set()
        self._in_flight: collections.deque[tuple[int, Outgoing, Any]] = collections.deque()
        self.confirmed = 0
        self.failed: list[RefusedRecord] = []

    def send(self, index: int, record: Outgoing) -> None:
        """Hand one record to the client, and settle those that are done."""
        if record.topic not in self._known_topics:
            require_topics(self._settings, [record.topic])
            self._known_topics.add(record.topic)
        if record.size_bytes > MAX_REQUEST_BYTES:
            self.failed.append(RefusedRecord(index, _TOO_LARGE))
            return
        try:
            future = self._hand_over(record)
        except (ValueError, TypeError) as error:
            self.failed.append(RefusedRecord(index, " ".join(str(error).split())))
            return
        except _REFUSED:
            future = None  # an earlier record has made the producer fail
        self._in_flight.append((index, record, future))
        self.settle(down_to=WINDOW_RECORDS)

    def settle(self, down_to: int) -> None:
        """Wait until at most this many records are in flight, and count those that are done."""
        while self._in_flight:
            index, record, future = self._in_flight[0]
            if len(self._in_flight) <= down_to and not (future is None or future.is_done):
                return
            self._in_flight.popleft()
            if self._is_confirmed(future):
                self._confirm()
            elif self._settings.idempotence:
                self._send_again([(index, record), *self._drain()])
            else:
                self.failed.append(RefusedRecord(index, _TOO_LARGE))

    def close(self) -> None:
        """Close the client; what is still in flight after a second is given up."""
        close_producer(self._producer)

    def _hand_over(self, record: Outgoing) -> Any:  # noqa: ANN401 (kafka-python has no types)
        # kafka-python cannot send a null header, so it is sent empty.
        headers = [(name, value or b"") for name, value in record.headers]
        return self._producer.send(record.topic, key=record.key, value=record.value, headers=headers)

    def _is_confirmed(self, future: Any) -> bool:  # noqa: ANN401 (likewise)
        """Wait for a delivery; return False if the broker refused the record for its content."""
        if future is None:
            return False
        try:
            # Longer than the client's own limit, so that its own reason is reported.
            future.get(timeout=self._settings.produce_timeout_seconds + 5)
        except _REFUSED:
            return False
        return True

    def _confirm(self) -> None:
        self.confirmed += 1
        if self._progress is not None:
            self._progress(self.confirmed)

    def _drain(self) -> list[tuple[int, Outgoing]]:
        """Settle everything in flight, and return what failed."""
        failed = []
        while self._in_flight:
            index, record, future = self._in_flight.popleft()
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
                self.failed.append(RefusedRecord(index, _TOO_LARGE))
                self._reopen()

    def _reopen(self) -> None:
        self.close()
        self._producer = open_producer(self._settings)
