"""The learner's agent: takes observations, writes the resulting decisions, and only then acknowledges.

It has two states. It is **waiting** while another learner has the partition of the observations, or until it has read
the epoch log under the current assignment. It is **active** once it has claimed the epoch log and read it to its end.
A new assignment ends the previous state: work begun in it is dropped.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Final, cast

from alignstream.models.errors import Fenced
from alignstream.streams.kafka.events import Event, Stream
from alignstream.streams.kafka.transport import App, Consumer
from alignstream.streams.learner.adapter_source import AdapterSource
from alignstream.streams.learner.epoch_topic import EpochTopic
from alignstream.streams.learner.epoch_writer import EpochWriter
from alignstream.streams.learner.learning import Decision, Learning, Opened, Withheld
from alignstream.streams.learner.metrics import LearnerMetrics
from alignstream.streams.observe.health import Health
from alignstream.streams.observe.sensors import Metrics
from alignstream.streams.settings import Settings
from alignstream.streams.wire import observations
from alignstream.streams.wire.observations import Control, ObservationsV1
from alignstream.streams.wire.outcome import Send
from alignstream.streams.wire.topics import OBSERVATIONS

logger = logging.getLogger(__name__)

#: Observation records taken at once.
TAKE_RECORDS: Final = 16
#: Seconds between the turns of the learner's clock, which renew the claim, write checkpoints and send ticks.
TURN_SECONDS: Final = 0.5
#: Seconds between comparisons of Redis with the epoch log.
LOOK_SECONDS: Final = 2.0
#: Seconds that feedback without an epoch waits for more feedback.
FEEDBACK_SECONDS: Final = 1.0
#: Texts after which a checkpoint is written, whatever the clock says.
CHECKPOINT_TEXTS: Final = 20_000
#: Seconds allowed for the last checkpoint at shutdown.
LEAVE_SECONDS: Final = 20.0


@dataclasses.dataclass(eq=False)
class Waiting:
    """Another learner has the partition, or this one has not read the epoch log yet."""

    is_ours: bool


@dataclasses.dataclass(eq=False)
class Active:
    """The partition is ours, and the epoch log is claimed and in memory."""

    learning: Learning
    checkpointed_at: float
    #: Events taken since the last checkpoint, not yet acknowledged.
    pending: list[tuple[Stream, Event]] = dataclasses.field(default_factory=list)
    #: Texts learned, and operators' requests carried out, at the last checkpoint.
    n_at_checkpoint: int = 0
    n_requests: int = 0


class LearnerAgent:
    """The agent from observations to epochs. It does one thing at a time: a batch, a clock turn or the shutdown.

    Parameters
    ----------
    settings : Settings
    app : App
        Its consumer reads the observations.
    adapters : AdapterSource
        The adapters that epochs are judged with.
    topic : EpochTopic
    writer : EpochWriter
    send : Send
        Starts a delivery.
    executor : Executor
        Runs what computes or blocks.
    health : Health
    metrics : Metrics
    learner_metrics : LearnerMetrics
    """

    def __init__(
        self,
        settings: Settings,
        app: App,
        *,
        adapters: AdapterSource,
        topic: EpochTopic,
        writer: EpochWriter,
        send: Send,
        executor: concurrent.futures.Executor,
        health: Health,
        metrics: Metrics,
        learner_metrics: LearnerMetrics,
    ) -> None:
        self._settings = settings
        self._app = app
        self._adapters = adapters
        self._topic = topic
        self._writer = writer
        self._send = send
        self._executor = executor
        self._health = health
        self._metrics = metrics
        self._learner_metrics = learner_metrics
        self._state: Waiting | Active = Waiting(is_ours=False)
        self._turn = asyncio.Lock()
        self._looked_at = 0.0
        self._ticked_at = 0.0
        #: Counts records taken, and checks while waiting for the claim: a sign of life.
        self.n_progress = 0

    # -- what Faust calls ----------------------------------------------------------------------------

    async def run(self, stream: Stream) -> None:
        """Process the observations until they end. Any exception ends the process."""
        async for events in stream.noack_take(TAKE_RECORDS, within=self._settings.batch_linger_seconds):
            async with self._one_turn():
                await self._take(stream, events)

    async def run_clock(self) -> None:
        """Take a turn of the clock every ``TURN_SECONDS``, forever."""
        while True:
            await asyncio.sleep(TURN_SECONDS)
            async with self._one_turn():
                await self._run_due()

    async def assigned(self, *, is_ours: bool) -> None:
        """Start over from the epoch log: another learner may have written since the partition was last ours."""
        was_active = isinstance(self._state, Active)
        self._wait(is_ours=is_ours)
        self._health.set("learner", None)
        if not is_ours:
            logger.info("another learner of the group has the partition; this one waits")
            if was_active:
                with contextlib.suppress(Fenced):  # the other one has the log already
                    await self._topic.release()

    async def shut_down(self) -> None:
        """Write a last checkpoint, release the claim for the next learner, and stop reading."""
        async with asyncio.timeout(LEAVE_SECONDS), self._one_turn():
            await self._let_go()
        await self._topic.close()

    # -- states --------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _one_turn(self) -> AsyncIterator[None]:
        """Run one turn alone. If it fails half-way, drop the state: the next turn starts from the epoch log."""
        async with self._turn:
            try:
                yield
            except BaseException as error:
                self._wait(is_ours=isinstance(self._state, Active) or self._state.is_ours)
                if isinstance(error, Fenced):
                    logger.critical("%s; ending the process", error)
                raise

    def _wait(self, *, is_ours: bool) -> None:
        self._state = Waiting(is_ours=is_ours)
        self._learner_metrics.active.set(0)

    async def _activate(self) -> Active | None:
        """Return the active state, claiming and reading the epoch log if needed; None if the log is not ours."""
        if isinstance(self._state, Active):
            return self._state
        waiting = self._state

        def still_wanted() -> bool:
            self.n_progress += 1  # called repeatedly, even while another learner is active for days
            return self._state is waiting and self._app.flow_control.is_active()

        await self._topic.open()
        if not await self._topic.claim(lambda problem: self._health.set("learner", problem), still_wanted):
            return None
        log = self._topic.log
        learning = await asyncio.get_running_loop().run_in_executor(
            self._executor,
            lambda: Learning.restored(log, self._adapters.find, max_tenants=self._settings.max_tenants),
        )
        logger.info(
            "read the epoch log: %d tenants, %d epochs, observations up to %d (%d records could not be read, "
            "%d were fenced)",
            len(learning.tenancies), len(log.epochs), learning.position, log.n_unreadable, log.n_fenced,
        )  # fmt: skip
        await self._writer.reconcile_registry()
        if self._state is not waiting:
            await self._topic.release()
            return None
        active = Active(learning, checkpointed_at=time.monotonic())
        self._state = active
        self._learner_metrics.active.set(1)
        return active

    async def _let_go(self) -> None:
        active = self._state
        if not isinstance(active, Active):
            return
        if active.pending:
            await self._checkpoint(active)
        await self._topic.release()
        if self._state is active:
            self._wait(is_ours=True)

    # -- a batch -------------------------------------------------------------------------------------

    async def _take(self, stream: Stream, events: Sequence[Event]) -> None:
        active = await self._activate()
        if active is None:
            self._abandon(events)
            return
        records = [(event.message.offset, event.message.timestamp, event.message.value) for event in events]
        decisions = await asyncio.get_running_loop().run_in_executor(
            self._executor, _take_all, active.learning, records
        )
        self.n_progress += len(events)
        for decision in decisions:
            await self._carry_out(decision)
        if self._state is not active:
            self._abandon(events)
            return
        active.pending += [(stream, event) for event in events]
        self._metrics.progress.set(time.time())
        learning = active.learning
        if (
            learning.n_learned - active.n_at_checkpoint >= CHECKPOINT_TEXTS
            or learning.n_requests > active.n_requests
        ):
            active.n_requests = learning.n_requests
            await self._checkpoint(active)

    def _abandon(self, events: Sequence[Event]) -> None:
        """Leave records to the partition's next owner."""
        for event in events:
            cast(Consumer, self._app.consumer).abandon(event.message)

    async def _carry_out(self, decision: Decision) -> None:
        if isinstance(decision, Opened):
            await self._writer.open(decision)
            self._learner_metrics.opened(decision.epoch.reason)
        elif isinstance(decision, Withheld):
            logger.error(
                "epoch %d of a tenant was refused; the last one stays live: %s",
                decision.number,
                decision.reason,
            )
            self._learner_metrics.refused()
        else:
            await self._writer.freeze(decision)

    async def _checkpoint(self, active: Active) -> None:
        """Write what was learned, then acknowledge the records that it was learned from."""
        pending, active.pending = active.pending, []
        await self._writer.checkpoint(active.learning)
        if self._state is not active:
            return  # the same records are delivered again, as new events
        for stream, event in pending:
            await stream.ack(event)
        active.checkpointed_at = time.monotonic()
        active.n_at_checkpoint = active.learning.n_learned

    # -- the clock -----------------------------------------------------------------------------------

    async def _run_due(self) -> None:
        """Renew the claim, write a checkpoint, tick, and compare Redis with the log, where each is due."""
        if not self._app.flow_control.is_active():
            await self._let_go()
            return
        active = self._state
        if isinstance(active, Waiting):
            # Without waiting for a record: Redis may lack epochs from long ago.
            if active.is_ours:
                await self._activate()
            return
        now = time.monotonic()
        await self._topic.renew()
        if active.pending and now - active.checkpointed_at >= self._settings.checkpoint_seconds:
            await self._checkpoint(active)
        if self._state is active:
            await self._tick(active.learning, now)
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            await self._writer.reconcile_registry()
            if self._state is active:
                self._learner_metrics.show(active.learning)

    async def _tick(self, learning: Learning, now: float) -> None:
        """Write a tick to the log if a tenant waits for one. In the log, so that a replay opens the same epochs."""
        is_live = self._settings.follow == "live"
        wait_seconds = self._settings.epoch_interval_seconds if is_live else FEEDBACK_SECONDS
        if now - self._ticked_at < wait_seconds or not learning.is_waiting(is_live=is_live):
            return
        self._ticked_at = now
        control = Control(id=f"tick-{uuid.uuid4().hex}", action="tick", is_live=is_live)
        confirmed = await self._send(
            OBSERVATIONS, None, observations.encode(ObservationsV1(control=control)), observations.HEADERS
        )
        await confirmed


def _take_all(
    learning: Learning, records: Sequence[tuple[int, float | None, bytes | None]]
) -> list[Decision]:
    return [
        decision
        for offset, timestamp, value in records
        for decision in learning.take(offset, int(1000 * (timestamp or 0.0)), value)
    ]
