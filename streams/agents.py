"""The agent: takes records, has them processed off the event loop, publishes, and only then acknowledges.

It alone decides what a failure means: publish, dead-letter, or let the process end and be started again. It
does no arithmetic; the pipeline does no I/O.
"""

import asyncio
import concurrent.futures
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from aiokafka.errors import MessageSizeTooLargeError

from alignstream.models.registry.follower import Catalogue
from alignstream.streams.codec import Rejected, SourceRecord
from alignstream.streams.crash_journal import CrashJournal
from alignstream.streams.deadletter import replacement
from alignstream.streams.pipeline import Outcome, Output, Pipeline, record_bytes
from alignstream.streams.sensors import Metrics
from alignstream.streams.topics import DEAD_LETTERS, Headers

#: Starts one delivery and returns a future of its confirmation: (topic, key, value, headers).
Send = Callable[[str, bytes | None, bytes | None, Headers], Awaitable[Awaitable[Any]]]


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
        timestamp=message.timestamp,
        key=message.key,
        value=message.value,
        headers=tuple((name, value) for name, value in message.headers or ()),
    )


class DocumentsAgent:
    """From ``documents.v1`` to vectors, labels and dead letters.

    Parameters
    ----------
    pipeline : Pipeline
        Run in ``executor``, one batch at a time.
    executor : Executor
        One thread: the encoder's.
    catalogue : callable
        Returns what serves at this moment; asked once per batch.
    send : callable
        Starts a delivery.
    journal : CrashJournal
        Where records in hand are noted.
    metrics : Metrics
        Told what happens.
    batch_records, linger_seconds
        How much to take at once, and how long to wait for it.
    crash_attempts : int
        Times that a record may kill the worker while alone.
    dead_letter_bytes : int
        Largest record that the dead-letter topic accepts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        executor: concurrent.futures.Executor,
        catalogue: Callable[[], Catalogue],
        send: Send,
        journal: CrashJournal,
        metrics: Metrics,
        batch_records: int,
        linger_seconds: float,
        crash_attempts: int,
        dead_letter_bytes: int,
    ) -> None:
        self._pipeline = pipeline
        self._executor = executor
        self._catalogue = catalogue
        self._send = send
        self._journal = journal
        self._metrics = metrics
        self._batch_records = batch_records
        self._linger_seconds = linger_seconds
        self._crash_attempts = crash_attempts
        self._dead_letter_bytes = dead_letter_bytes

    async def run(self, stream: Stream) -> None:
        """Work through a stream until it ends. Any exception ends the process: see ``app``."""
        async for events in stream.noack_take(self._batch_records, within=self._linger_seconds):
            with self._metrics.batch(len(events)):
                await self._take(stream, events)

    async def _take(self, stream: Stream, events: Sequence[Event]) -> None:
        started = time.monotonic()
        handed_out = [event.message.time_in for event in events if event.message.time_in is not None]
        if handed_out:
            self._metrics.stages.labels(stage="queue").observe(max(started - min(handed_out), 0.0))
        # Records that were in hand when a worker died go alone; their neighbours stay together, in order.
        for is_suspect, group in itertools.groupby(events, key=self._is_suspect):
            if is_suspect:
                for event in group:
                    await self._finish(stream, [event], alone=True)
            else:
                await self._finish(stream, list(group), alone=False)

    def _is_suspect(self, event: Event) -> bool:
        message = event.message
        return self._journal.is_suspect(message.topic, message.partition, message.offset)

    async def _finish(self, stream: Stream, events: Sequence[Event], *, alone: bool) -> None:
        """Process, publish, acknowledge: in this order, each step complete before the next."""
        records = [source_record(event) for event in events]
        offsets = [(record.topic, record.partition, record.offset) for record in records]
        attempts = self._journal.attempts(*offsets[0]) if alone else 0
        if attempts >= self._crash_attempts:
            message = f"the worker died {attempts} times with this record alone"
            rejected = Rejected("inference-failed", "encode", message, attempts=attempts)
            outcomes = [self._pipeline.reject(records[0], rejected)]
        else:
            self._journal.start(offsets, alone=alone)
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._pipeline.run, records, self._catalogue()
            )
        started = time.monotonic()
        await self._publish(outcomes, alone=alone)
        self._metrics.stages.labels(stage="publish").observe(time.monotonic() - started)
        for event in events:
            await stream.ack(event)
        self._journal.finish(offsets)
        self._metrics.finished(outcomes, now=time.time())

    async def _publish(self, outcomes: Sequence[Outcome], *, alone: bool) -> None:
        """Send in order, then wait for every confirmation; the first failure is raised."""
        outputs = [output for outcome in outcomes for output in outcome.outputs]
        try:
            await self._deliver([output for output in outputs if output.topic != DEAD_LETTERS])
        except MessageSizeTooLargeError as error:
            if not alone:
                # Others of the same request failed with it. Sending them again one by one here would
                # overtake what was accepted since; the next start takes these records alone, in order.
                raise
            message = f"the broker refuses the output: {error}"
            rejected = Rejected("output-too-large", "publish", message)
            outputs = list(self._pipeline.reject(outcomes[0].source, rejected).outputs)
        for output, record in self._dead_letters(outcomes, outputs):
            await self._deliver_dead_letter(output, record)

    @staticmethod
    def _dead_letters(
        outcomes: Sequence[Outcome], outputs: Sequence[Output]
    ) -> list[tuple[Output, SourceRecord]]:
        letters = iter(output for output in outputs if output.topic == DEAD_LETTERS)
        sources = (
            outcome.source for outcome in outcomes if outcome.rejected is not None or len(outcomes) == 1
        )
        return list(zip(letters, sources, strict=False))

    async def _deliver(self, outputs: Sequence[Output]) -> None:
        futures = [
            await self._send(output.topic, output.key, output.value, output.headers) for output in outputs
        ]
        try:
            await asyncio.gather(*futures)
        except Exception as error:
            self._metrics.produce_errors.labels(error=type(error).__name__).inc()
            raise

    async def _deliver_dead_letter(self, output: Output, record: SourceRecord) -> None:
        """Deliver the original bytes, or, where even this topic refuses them, their sha256 and place."""
        if record_bytes(output.key, output.value or b"", output.headers) <= self._dead_letter_bytes:
            try:
                await self._deliver([output])
            except MessageSizeTooLargeError:
                pass
            else:
                return
        value, extra = replacement(record)
        own = tuple(item for item in output.headers if item not in record.headers)
        key = output.key if len(output.key or b"") < self._dead_letter_bytes // 2 else None
        await self._deliver([Output(output.topic, key, value, (*own, extra))])
