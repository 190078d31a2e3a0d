"""The agent: takes records, runs the pipeline off the event loop, publishes, and only then acknowledges.

It alone decides what a failure means: publish, dead-letter, or end the process and be restarted. The agent
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
from alignstream.streams.wire.observations import Observed
from alignstream.streams.wire.outcome import Outcome, Output, Send, record_bytes
from alignstream.streams.wire.topics import DEAD_LETTERS, HEADER_ERROR_PREFIX, OBSERVATIONS
from alignstream.streams.worker.crash_journal import CrashJournal

logger = logging.getLogger(__name__)


class Pipeline(Protocol):
    """A pipeline for one kind of message, which the agent runs in its executor."""

    def run(self, records: Sequence[SourceRecord], catalogue: Catalogue) -> Sequence[Outcome]:
        """Process one batch: one outcome per record, in order."""

    def reject(self, record: SourceRecord, rejected: Rejected) -> Outcome:
        """Return the outcome of a rejected record."""


class Observations(Protocol):
    """Takes to the learner what was observed."""

    def offer(self, observed: Sequence[Observed]) -> None:
        """Hand on what may be lost; never wait."""

    async def deliver(self, observed: Sequence[Observed]) -> bool:
        """Hand on what may not be lost; say whether the broker has confirmed all of it."""


class BatchAgent:
    """The agent of one input topic: records in; outputs, observations and dead letters out.

    What was observed of documents is offered to the learner and may be lost: no document waits for it. What people
    teach (``is_taught``) reaches the learner before its outputs are published, or becomes a dead letter.

    Parameters
    ----------
    pipeline : Pipeline
        Run in ``executor``, one batch at a time.
    observations : Observations
        Takes what was observed.
    is_taught : bool
        Whether the topic is there for the learner: pairs and label feedback.
    executor : Executor
        One thread: the encoder's.
    catalogue : callable
        Returns the current catalogue; called once per batch.
    send : callable
        Starts a delivery.
    journal : CrashJournal
        Notes the records in flight.
    metrics : Metrics
        Updated for every batch.
    batch_records, batch_linger_seconds
        Largest batch, and how long to wait for it to fill.
    max_crashes_alone : int
        Times a record may kill the worker when processed alone.
    dead_letter_bytes : int
        Largest record that the dead-letter topic accepts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        observations: Observations,
        is_taught: bool,
        executor: concurrent.futures.Executor,
        catalogue: Callable[[], Catalogue],
        send: Send,
        journal: CrashJournal,
        metrics: Metrics,
        batch_records: int,
        batch_linger_seconds: float,
        max_crashes_alone: int,
        dead_letter_bytes: int,
    ) -> None:
        self._pipeline = pipeline
        self._observations = observations
        self._is_taught = is_taught
        self._executor = executor
        self._catalogue = catalogue
        self._send = send
        self._journal = journal
        self._metrics = metrics
        self._batch_records = batch_records
        self._batch_linger_seconds = batch_linger_seconds
        self._max_crashes_alone = max_crashes_alone
        self._dead_letter_bytes = dead_letter_bytes

    async def run(self, stream: Stream) -> None:
        """Process a stream until it ends. Any exception ends the process: see ``app``."""
        async for events in stream.noack_take(self._batch_records, within=self._batch_linger_seconds):
            with self._metrics.batch(len(events)):
                await self._take(stream, events)

    async def _take(self, stream: Stream, events: Sequence[Event]) -> None:
        started = time.monotonic()
        handed_out_at = [event.message.time_in for event in events if event.message.time_in is not None]
        if handed_out_at:
            self._metrics.stages.labels(stage="queue").observe(max(started - min(handed_out_at), 0.0))
        # Records in flight when a worker died are processed alone, the others in groups; the order is kept.
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
        """Process, publish, acknowledge: in this order, each step completed before the next."""
        records = [source_record(event) for event in events]
        offsets = [(record.topic, record.partition, record.offset) for record in records]
        attempts = self._journal.attempts(*offsets[0]) if alone else 0
        if attempts >= self._max_crashes_alone:
            message = f"the worker died {attempts} times while processing this record alone"
            rejected = Rejected("inference-failed", "encode", message, attempts=attempts)
            outcomes: Sequence[Outcome] = [self._pipeline.reject(records[0], rejected)]
        else:
            self._journal.start(offsets, alone=alone)
            outcomes = await self._process(records, offsets)
        started = time.monotonic()
        if self._is_taught:
            outcomes = await self._teach(outcomes)
        outcomes = await self._publish(outcomes, alone=alone)
        if not self._is_taught:
            # After the outputs: the learner sees only what was published.
            self._observations.offer(
                [outcome.observed for outcome in outcomes if outcome.observed is not None]
            )
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
            # The records are not to blame: a broken encoder must not dead-letter good records one by one.
            self._journal.absolve(offsets)
            raise
        # The records were processed: if publishing fails or the process is killed now, they are not to blame.
        self._journal.absolve(offsets)
        return outcomes

    async def _teach(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Hand on what people teach; what the learner's topic does not take becomes a dead letter, to be replayed."""
        observed = [outcome.observed for outcome in outcomes if outcome.observed is not None]
        if not observed or await self._observations.deliver(observed):
            return outcomes
        rejected = Rejected(
            "learner-unreachable",
            "publish",
            f"the broker takes no record for {OBSERVATIONS}; replay this later",
        )
        return [
            outcome if outcome.observed is None else self._pipeline.reject(outcome.source, rejected)
            for outcome in outcomes
        ]

    async def _publish(self, outcomes: Sequence[Outcome], *, alone: bool) -> Sequence[Outcome]:
        """Publish in order; return the final outcomes of the records."""
        accepted = [outcome for outcome in outcomes if outcome.rejected is None]
        outputs = [output for outcome in accepted for output in outcome.outputs]
        if any(await self._deliver(outputs)):
            if not alone:
                # Other records of the same request failed with it. Sending them again here would put them behind
                # records accepted since. After the restart these records are processed alone, in order.
                raise OutputRefused(
                    "the broker refuses an output as too large; after a restart these records are processed alone"
                )
            rejected = Rejected("output-too-large", "publish", "the broker refuses the output as too large")
            outcomes = [self._pipeline.reject(outcomes[0].source, rejected)]
        await self._deliver_dead_letters([outcome for outcome in outcomes if outcome.rejected is not None])
        return outcomes

    async def _deliver(self, outputs: Sequence[Output]) -> list[bool]:
        """Send in order and wait for all confirmations; return for each output whether it was refused as too large.

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
        """Deliver the original bytes, or their sha256 and position if the dead-letter topic refuses them."""
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
        error_headers = tuple(
            (name, content) for name, content in letter.headers if name.startswith(HEADER_ERROR_PREFIX)
        )
        key = letter.key if len(letter.key or b"") < self._dead_letter_bytes // 2 else None
        return Output(letter.topic, key, value, (*error_headers, extra))
