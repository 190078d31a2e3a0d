"""The parts of Faust's events and streams that agents use."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from alignstream.streams.wire.codec import SourceRecord


class Event(Protocol):
    """One event of a Faust stream; ``message`` holds topic, partition, offset, key, value and headers."""

    message: Any


class Stream(Protocol):
    """The two methods of a Faust stream that agents use."""

    def noack_take(self, max_: int, within: float) -> AsyncIterator[Sequence[Event]]:
        """Yield batches without acknowledging them."""

    async def ack(self, event: Event) -> bool:
        """Acknowledge one event, so that its offset may be committed."""


def source_record(event: Event) -> SourceRecord:
    """Return what the pipeline needs of an event, including headers with repeated names."""
    message = event.message
    return SourceRecord(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        # Kafka writes -1 for a missing timestamp.
        timestamp=None if message.timestamp is None or message.timestamp < 0 else message.timestamp,
        key=message.key,
        value=message.value,
        headers=tuple((name, value) for name, value in message.headers or ()),
    )
