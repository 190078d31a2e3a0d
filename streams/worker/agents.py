"""The agent: takes records, has them processed off the event loop, publishes, and only then acknowledges.

It alone decides what a failure means: publish, dead-letter, or let the process end and be started again. It
does no arithmetic; the pipeline does no I/O.
"""

import asyncio
import concurrent.futures
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from aiokafka.errors import MessageSizeTooLargeError

from alignstream.models.errors import EncoderFailed, OutputRefused
from alignstream.models.registry.follower import Catalogue
from alignstream.streams.kafka.events import Event, Stream, source_record
from alignstream.streams.observe.sensors import Metrics
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.dead_letter import replacement
from alignstream.streams.wire.observations import HEADERS as OBSERVATION_HEADERS
from alignstream.streams.wire.observations import Observed
from alignstream.streams.wire.outcome import Outcome, Output, Send, record_bytes
from alignstream.streams.wire.topics import DEAD_LETTERS, HEADER_ERROR_PREFIX, OBSERVATIONS
from alignstream.streams.worker.crash_journal import CrashJournal

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """What an agent runs in its executor: a pipeline of one kind of message."""

    def run(self, records: Sequence[SourceRecord], catalogue: Catalogue) -> Sequence[Outcome]:
        """Process one batch: one outcome a record, in order."""

    def reject(self, record: SourceRecord, rejected: Rejected) -> Outcome:
        """Return the outcome of a record that is refused."""


class BatchAgent:
    """From one input topic to outputs, observations and dead letters.

    Parameters
    ----------
    pipeline : Batches
        Run in ``executor``, one batch at a time.
    pack : callable
        What was observed of a batch to values of ``observations.v1``.
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
        pipeline: Batches,
        *,
        pack: Callable[[Sequence[Observed]], Sequence[bytes]],
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
        self._pack = pack
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
            outcomes: Sequence[Outcome] = [self._pipeline.reject(records[0], rejected)]
        else:
            self._journal.start(offsets, alone=alone)
            outcomes = await self._process(records, offsets)
        started = time.monotonic()
        outcomes = await self._publish(outcomes, alone=alone)
        self._metrics.stages.labels(stage="publish").observe(time.monotonic() - started)
        for event in events:
            await stream.ack(event)
        self._journal.finish(offsets)
        self._metrics.finished(outcomes, now=time.time())

    async def _process(
        self, records: Sequence[SourceRecord], offsets: Sequence[tuple[str, int, int]]
    ) -> Sequence[Outcome]:
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._pipeline.run, records, self._catalogue()
            )
        except (EncoderFailed, asyncio.CancelledError):
            # Not their doing: else a broken encoder would send good records to the dead letters, one by one.
            self._journal.absolve(offsets)
            raise
        # They lived through it: if the broker refuses now, or somebody kills us, it is not their doing either.
        self._journal.absolve(offsets)
        return outcomes

    async def _publish(self, outcomes: Sequence[Outcome], *, alone: bool) -> Sequence[Outcome]:
        """Publish in order; return what became of the records in the end."""
        good = [outcome for outcome in outcomes if outcome.rejected is None]
        outputs = [output for outcome in good for output in outcome.outputs]
        # Behind the outputs: what was learned from was published.
        observed = [outcome.observed for outcome in good if outcome.observed is not None]
        observations = [
            Output(OBSERVATIONS, None, value, OBSERVATION_HEADERS)
            for value in (self._pack(observed) if observed else ())
        ]
        refused = await self._deliver([*outputs, *observations])
        if any(refused[len(outputs) :]):
            # It costs what would have been learned; a document is not given up for that, nor read again for ever.
            logger.error(
                "the broker refuses what was observed as too large: nothing is learned from this batch; raise "
                "max.message.bytes of %s", OBSERVATIONS,
            )  # fmt: skip
        if any(refused[: len(outputs)]):
            if not alone:
                # Others of the same request failed with it. Sending them again one by one here would
                # overtake what was accepted since; the next start takes these records alone, in order.
                raise OutputRefused("the broker refuses an output as too large; starting over, one by one")
            rejected = Rejected("output-too-large", "publish", "the broker refuses the output as too large")
            outcomes = [self._pipeline.reject(outcomes[0].source, rejected)]
        await self._deliver_dead_letters([outcome for outcome in outcomes if outcome.rejected is not None])
        return outcomes

    async def _deliver(self, outputs: Sequence[Output]) -> list[bool]:
        """Send in order, wait for every confirmation; say of each output whether it is too large for its topic.

        Any other failure is raised.
        """
        futures = [
            await self._send(output.topic, output.key, output.value, output.headers) for output in outputs
        ]
        results = await asyncio.gather(*futures, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            self._metrics.produce_errors.labels(error=type(failure).__name__).inc()
        for failure in failures:
            if not isinstance(failure, MessageSizeTooLargeError):
                raise failure
        return [isinstance(result, MessageSizeTooLargeError) for result in results]

    async def _deliver_dead_letters(self, outcomes: Sequence[Outcome]) -> None:
        """Deliver the original bytes, or, where even this topic refuses them, their sha256 and place."""
        letters = [(outcome.source, output) for outcome in outcomes for output in outcome.outputs]
        refused = await self._deliver(
            [output if self._fits(output) else self._replaced(record, output) for record, output in letters]
        )
        smaller = [
            self._replaced(*letter) for letter, is_refused in zip(letters, refused, strict=True) if is_refused
        ]
        if any(await self._deliver(smaller)):
            raise OutputRefused(
                f"topic {DEAD_LETTERS} refuses even the sha256 of a record as too large; raise its max.message.bytes"
            )

    def _fits(self, letter: Output) -> bool:
        return record_bytes(letter.key, letter.value or b"", letter.headers) <= self._dead_letter_bytes

    def _replaced(self, record: SourceRecord, letter: Output) -> Output:
        value, extra = replacement(record)
        own = tuple(item for item in letter.headers if item[0].startswith(HEADER_ERROR_PREFIX))
        key = letter.key if len(letter.key or b"") < self._dead_letter_bytes // 2 else None
        return Output(letter.topic, key, value, (*own, extra))
