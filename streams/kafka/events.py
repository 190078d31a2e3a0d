"""What Faust hands to an agent, as far as it is used here."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from alignstream.streams.wire.codec import SourceRecord


class Event(Protocol):
    """What Faust hands to an agent; ``message`` holds topic, partition, offset, key, value and headers."""

    message: Any


class Stream(Protocol):
    """The two methods of a Faust stream that are used here."""

    def noack_take(self, max_: int, within: float) -> AsyncIterator[Sequence[Event]]:
        """Yield batches that are not acknowledged."""

    async def ack(self, event: Event) -> bool:
        """Acknowledge one event: its offset may be committed."""


def source_record(event: Event) -> SourceRecord:
    """Take from an event what the pipeline needs, headers with repeated names included."""
    message = event.message
    return SourceRecord(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        # Kafka writes -1 where there is none.
        timestamp=None if message.timestamp is None or message.timestamp < 0 else message.timestamp,
        key=message.key,
        value=message.value,
        headers=tuple((name, value) for name, value in message.headers or ()),
    )
