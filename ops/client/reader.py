"""Read records from topics without a consumer group.

A reader assigns partitions to itself and commits nothing, so it disturbs no worker and needs no rights on a group.

The end of a topic is measured twice: by the broker's end offset, and by the high watermark of the last fetch. Some
brokers (Tansu is one) report end offsets that miss the last batch.
"""

import contextlib
import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import kafka
import kafka.errors as kafka_errors

from alignstream.models.errors import BrokerError, RecordError
from alignstream.ops.client.broker_topics import require_topics
from alignstream.ops.client.connection import broker_errors, open_consumer, resolve_topic
from alignstream.ops.client.record import Record
from alignstream.streams.settings import Settings

#: Seconds without a record after which a topic counts as read, once its end was reached.
IDLE_SECONDS: Final = 0.25
#: Seconds without a record before the end was reached, after which something is wrong with the topic.
STALLED_SECONDS: Final = 30.0


class Reader:
    """Reads topics, from their end at the time it is made unless told otherwise; a context manager.

    Parameters
    ----------
    settings
        Where the broker is.
    topics
        Names, with or without the configured prefix.
    from_beginning
        Start at the oldest record instead of after the newest. A broker with short end offsets may give the last
        records again.
    last
        Start this many records before the end of each partition, or at its beginning.
    starts
        Read only these partitions, each from an offset; the keys are (topic on the broker, partition).

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
            self._partitions = [
                kafka.TopicPartition(name, partition)
                for name, partitions in require_topics(settings, names).items()
                for partition in partitions
            ]
        else:
            self._partitions = [kafka.TopicPartition(*partition) for partition in starts]
        self._consumer = open_consumer(settings)
        try:
            with broker_errors(settings):
                self._consumer.assign(self._partitions)
                begins = self._consumer.beginning_offsets(self._partitions)
                ends = self._consumer.end_offsets(self._partitions)
                for partition in self._partitions:
                    if starts is not None:
                        start = max(begins[partition], starts[partition.topic, partition.partition])
                    elif last is not None:
                        start = max(begins[partition], ends[partition] - last)
                    else:
                        start = begins[partition] if from_beginning else ends[partition]
                    self._consumer.seek(partition, start)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing it twice is allowed."""
        self._consumer.close(autocommit=False)

    def poll(self, timeout_seconds: float) -> list[Record]:
        """Return the records that arrive within a time, oldest first; each partition keeps its order.

        Raises
        ------
        RecordError
            A record cannot be unpacked; the reader cannot be used after this.
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
        positions = ", ".join(
            f"{topic} {partition} {offset}" for (topic, partition), offset in self.positions().items()
        )
        return (
            f"a record cannot be unpacked; it is at one of these offsets or after it: {positions} ({error.args[0]}); "
            "if workers stop there too, skip it with 'alignstream skip TOPIC PARTITION OFFSET'"
        )

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the offset to be read next, by (topic, partition)."""
        return {
            (partition.topic, partition.partition): self._consumer.position(partition, timeout_ms=1000) or 0
            for partition in self._partitions
        }

    def at_end(self) -> bool:
        """Say whether everything that the broker holds now has been read."""
        with broker_errors(self._settings):
            ends = self._consumer.end_offsets(self._partitions)
            for partition in self._partitions:
                position = self._consumer.position(partition, timeout_ms=1000)
                if position is None or position < ends[partition]:
                    return False
                if not self._settings.read_committed:  # an open transaction holds the watermark higher
                    watermark = self._consumer.highwater(partition)
                    if watermark is None or position < watermark:
                        return False
        return True

    def records(self, *, follow: bool = False, idle_seconds: float = IDLE_SECONDS) -> Iterator[Record]:
        """Yield records; without ``follow``, stop when the end is reached and nothing more arrives for a while.

        Raises
        ------
        RecordError
            A record cannot be unpacked, or a topic stops giving records before its end.
        BrokerError
            The broker refused or went away.
        """
        arrived_at = time.monotonic()
        while True:
            batch = self.poll(idle_seconds)
            if batch:
                yield from batch
                arrived_at = time.monotonic()
            elif not follow:
                if self.at_end():
                    return
                self._check_stalled(arrived_at)

    def records_so_far(self) -> Iterator[Record]:
        """Yield records up to the topics' present end, or a little further, and stop there.

        Unlike ``records`` this also ends on a topic that never stops growing.

        Raises
        ------
        RecordError
            A record cannot be unpacked, or a topic stops giving records before its end.
        BrokerError
            The broker refused or went away.
        """
        ends: dict[Any, int] | None = None
        arrived_at = time.monotonic()
        while ends is None or not self._is_past(ends):
            batch = self.poll(IDLE_SECONDS)
            if batch:
                yield from batch
                arrived_at = time.monotonic()
            elif self.at_end():
                return
            else:
                self._check_stalled(arrived_at)
            ends = self._ends() if ends is None else ends

    def _ends(self) -> dict[Any, int] | None:
        """Return where each partition ends now; None until something was fetched from every one of them."""
        with broker_errors(self._settings):
            ends: dict[Any, int] = self._consumer.end_offsets(self._partitions)
        watermarks = {partition: self._consumer.highwater(partition) for partition in self._partitions}
        if any(watermark is None for watermark in watermarks.values()):
            return None
        if self._settings.read_committed:  # an open transaction holds the watermark higher
            return ends
        return {partition: max(end, watermarks[partition]) for partition, end in ends.items()}

    def _is_past(self, ends: Mapping[Any, int]) -> bool:
        positions = {partition: self._consumer.position(partition, timeout_ms=1000) for partition in ends}
        return all(
            position is not None and position >= ends[partition] for partition, position in positions.items()
        )

    def _check_stalled(self, arrived_at: float) -> None:
        """Raise if the last record arrived so long ago that something is wrong with the topic."""
        if time.monotonic() - arrived_at > STALLED_SECONDS:
            raise RecordError(
                f"{self._settings.broker} gives no more records after {self.positions()}, although the topic goes on; "
                "look at the broker's log"
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
    """Yield the records of topics; see ``Reader`` and ``Reader.records``.

    This call fixes the start, not the moment when the first record is taken.

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
    """Return the newest records of all the topics together, at most ``count`` (1 or more), oldest first."""
    with Reader(settings, topics, last=count) as reader:
        # Batches arrive partition by partition, so only the whole can be put in order.
        records = sorted(reader.records(), key=lambda record: (record.timestamp_ms, record.offset))
    return records[-count:]
