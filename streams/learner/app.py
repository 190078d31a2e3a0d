"""The learner's composition root: observations in, epochs out. One works at a time; others wait.

Start: probes answer → broker asked → the partition of the observations assigned → the log of epochs claimed and read →
observations from where it stops. Nothing is acknowledged before it is in the log of epochs.
"""

import asyncio
import concurrent.futures
import contextlib
import fcntl
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, cast

from faust.types import TP

from alignstream.models.errors import AlignstreamError, Fenced
from alignstream.models.files import replace_file
from alignstream.models.registry.store import Store
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.kafka.events import Event, Stream
from alignstream.streams.kafka.service import (
    FaustService,
    make_app,
    raw_topic,
    require_compiled_faust,
    sender,
)
from alignstream.streams.kafka.transport import App, Consumer
from alignstream.streams.learner.adapter_source import AdapterSource
from alignstream.streams.learner.epoch_topic import EpochTopic
from alignstream.streams.learner.epoch_writer import EpochWriter
from alignstream.streams.learner.learning import Decision, Learning, Opened, Withheld
from alignstream.streams.learner.metrics import LearnerMetrics
from alignstream.streams.observe import logs
from alignstream.streams.observe.health import Health
from alignstream.streams.settings import Settings
from alignstream.streams.wire import observations
from alignstream.streams.wire.observations import Control, ObservationsV1
from alignstream.streams.wire.outcome import Send
from alignstream.streams.wire.topics import OBSERVATIONS

logger = logging.getLogger(__name__)

#: Records of observations taken at once.
TAKE_RECORDS: Final = 16
#: Seconds between the learner's own looks: at its claim, at what waits, and at Redis.
TURN_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 2.0
#: Feedback that no epoch has yet waits so long for more of it.
FEEDBACK_SECONDS: Final = 1.0
#: Texts after which the state is written, whatever the clock says.
CHECKPOINT_TEXTS: Final = 20_000
#: What is in hand is written down at the end, unless that takes longer, seconds.
LEAVE_SECONDS: Final = 20.0


class LearnerService(FaustService):
    """One learner: its parts, and the order in which they live.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Health({"broker": "not connected"}))
        self._learner_metrics = LearnerMetrics(self.metrics.registry)
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="learning")
        self._locks = contextlib.ExitStack()
        self._owner: str
        self._store: Store
        self._adapters: AdapterSource
        self._send: Send
        self._topic: EpochTopic
        self._writer: EpochWriter
        self._learning: Learning | None = None
        #: Taken, and not yet in the log of epochs.
        self._pending: list[tuple[Stream, Event]] = []
        self._turn = asyncio.Lock()
        self._checkpointed_at = 0.0
        self._n_at_checkpoint = 0
        self._n_asked = 0
        self._looked_at = 0.0
        self._ticked_at = 0.0
        self._is_ours = False
        #: Rises with every assignment: what was begun under another one is not finished.
        self._n_assignments = 0
        #: Records taken, and looks at a claim that is waited for.
        self._n_alive = 0

    def _prepare(self) -> None:
        self._owner = self._claim_folder()
        self._store = open_store(self._settings)
        self._adapters = AdapterSource(self._store, self._settings.adapter)

    def _claim_folder(self) -> str:
        """Return this learner's name, kept in the state folder, which no other learner may use at the same time."""
        folder = self._settings.state_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = self._locks.enter_context((folder / "learner.lock").open("a", encoding="ascii"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path = folder / "learner-name"
            if path.is_file() and (name := path.read_text(encoding="utf-8").strip()):
                return name
            name = uuid.uuid4().hex
            replace_file(path, name.encode())
        except BlockingIOError:
            raise AlignstreamError(
                f"another learner runs on {folder}; end it, or set ALIGNSTREAM_STATE_DIR for this one"
            ) from None
        except OSError as error:
            raise AlignstreamError(
                f"cannot use {folder}: {error.strerror}; set ALIGNSTREAM_STATE_DIR"
            ) from error
        return name

    # -- Faust ---------------------------------------------------------------------------------------

    def _app(self, limits: dict[str, int]) -> App:
        settings = self._settings
        largest = max(limits.values())
        app = make_app(
            settings,
            group=settings.learner_group,
            max_fetch_bytes=limits[OBSERVATIONS],
            max_record_bytes=largest,
            sensor=self._sensor,
        )
        self._send = sender(app, settings.topic_prefix, timeout_seconds=settings.produce_timeout_seconds)
        self._topic = EpochTopic(settings, self._send, owner=self._owner)
        self._writer = EpochWriter(self._topic, self._store, self._executor)
        name = settings.topic_prefix + OBSERVATIONS

        async def work(stream: Any) -> None:  # noqa: ANN401 (Faust's stream, checked as our protocol)
            async for events in stream.noack_take(TAKE_RECORDS, within=settings.linger_seconds):
                async with self._turn, self._sound():
                    await self._take(app, cast(Stream, stream), events)

        app.agent(raw_topic(app, name), name="observations", concurrency=1)(work)

        async def assigned(_: Any, /, *arguments: Any, **__: Any) -> None:  # noqa: ANN401 (Faust's signal)
            await self._is_assigned(any(tp.topic == name for tp in cast(set[TP], arguments[0])))

        app.on_partitions_assigned.connect(assigned)

        async def turn() -> None:
            while True:
                await asyncio.sleep(TURN_SECONDS)
                async with self._turn, self._sound():
                    await self._look_around(app)

        app.task(turn)

        async def leaving(*_: object, **__: object) -> None:
            # Faust cancels tasks after this, and commits after it what was acknowledged.
            async with asyncio.timeout(LEAVE_SECONDS), self._turn, self._sound():
                await self._leave()
            await self._topic.close()

        app.on_before_shutdown.connect(leaving)
        self._watch(app)
        return app

    @contextlib.asynccontextmanager
    async def _sound(self) -> AsyncIterator[None]:
        """Let nothing be written down of what was broken off half-way: the next start begins from the log."""
        try:
            yield
        except BaseException as error:
            self._forget()
            if isinstance(error, Fenced):
                logger.critical("%s; ending the process", error)
            raise

    def _forget(self) -> None:
        self._learning = None
        self._n_at_checkpoint, self._n_asked = 0, 0
        self._pending.clear()
        self._learner_metrics.active.set(0)

    def _n_progress(self) -> int:
        return self._n_alive

    async def _is_assigned(self, is_ours: bool) -> None:
        """Begin anew from the log of epochs: another learner may have written since the partition was ours."""
        was_at_work = self._learning is not None
        self._n_assignments += 1
        self._is_ours = is_ours
        self._forget()
        self.health.set("learner", None)
        if not is_ours:
            logger.info("another learner of the group works; this one waits")
            if was_at_work:
                with contextlib.suppress(Fenced):  # it has the log already
                    await self._topic.release()

    async def _load(self, app: App) -> Learning | None:
        """Claim the log of epochs and read it; None where the partition is ours no more."""
        assignment = self._n_assignments

        def still_wanted() -> bool:
            self._n_alive += 1  # asked all the time, also while another learner is at work for days
            return assignment == self._n_assignments and app.flow_control.is_active()

        await self._topic.open()
        if not await self._topic.claim(lambda problem: self.health.set("learner", problem), still_wanted):
            return None
        learning = await asyncio.get_running_loop().run_in_executor(
            self._executor,
            lambda: Learning.restored(
                self._topic.log, self._adapters.find, max_tenants=self._settings.max_tenants
            ),
        )
        log = self._topic.log
        logger.info(
            "the log of epochs was read: %d tenants, %d epochs, observations up to %d (%d records could not be read, "
            "%d of former learners do not count)",
            len(learning.tenancies), len(log.epochs), learning.position, log.n_unreadable, log.n_fenced,
        )  # fmt: skip
        await self._writer.look()
        if assignment != self._n_assignments:
            await self._topic.release()
            return None
        self._learner_metrics.active.set(1)
        self._checkpointed_at = time.monotonic()
        return learning

    async def _take(self, app: App, stream: Stream, events: Sequence[Event]) -> None:
        assignment = self._n_assignments
        if self._learning is None:
            self._learning = await self._load(app)
        learning = self._learning
        if learning is None or assignment != self._n_assignments:
            _abandon(app, events)
            return
        records = [(event.message.offset, event.message.timestamp, event.message.value) for event in events]
        decisions = await asyncio.get_running_loop().run_in_executor(
            self._executor, _take_all, learning, records
        )
        self._n_alive += len(events)
        for decision in decisions:
            await self._carry_out(decision)
        if assignment != self._n_assignments:
            _abandon(app, events)
            return
        self._pending += [(stream, event) for event in events]
        self.metrics.progress.set(time.time())
        if learning.n_learned - self._n_at_checkpoint >= CHECKPOINT_TEXTS or learning.n_asked > self._n_asked:
            self._n_asked = learning.n_asked
            await self._checkpoint()

    async def _carry_out(self, decision: Decision) -> None:
        if isinstance(decision, Opened):
            await self._writer.open(decision)
            self._learner_metrics.opened(decision.epoch.reason)
        elif isinstance(decision, Withheld):
            logger.error(
                "epoch %d of a tenant was refused, the last one serves: %s", decision.number, decision.reason
            )
            self._learner_metrics.refused()
        else:
            await self._writer.freeze(decision)

    async def _checkpoint(self) -> None:
        """Write what was learned, then acknowledge what it was learned from."""
        learning, assignment = self._learning, self._n_assignments
        if learning is None:
            return
        pending, self._pending = self._pending, []
        await self._writer.checkpoint(learning)
        if assignment != self._n_assignments:
            return  # the same records come again, and are others in the eyes of Faust
        for stream, event in pending:
            await stream.ack(event)
        self._checkpointed_at = time.monotonic()
        self._n_at_checkpoint = learning.n_learned

    async def _look_around(self, app: App) -> None:
        """Do what the clock asks for: keep the claim, write, tick, and compare Redis with the log."""
        if not app.flow_control.is_active():
            await self._leave()
            return
        if self._learning is None:
            # Not only with the first record: Redis may lack what was learned long ago.
            self._learning = await self._load(app) if self._is_ours else None
            return
        now = time.monotonic()
        await self._topic.renew()
        if self._pending and now - self._checkpointed_at >= self._settings.checkpoint_seconds:
            await self._checkpoint()
        await self._tick(now)
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            await self._writer.look()
            if self._learning is not None:
                self._learner_metrics.show(self._learning)

    async def _leave(self) -> None:
        """Write down what is in hand, and let the next learner begin at once."""
        if self._learning is None:
            return
        if self._pending:
            await self._checkpoint()
        await self._topic.release()
        self._forget()

    async def _tick(self, now: float) -> None:
        """Put the time into the log where something waits for it: a replay then opens the same epochs."""
        learning = self._learning
        is_live = self._settings.follow == "live"
        wait_seconds = self._settings.epoch_interval_seconds if is_live else FEEDBACK_SECONDS
        if (
            learning is None
            or now - self._ticked_at < wait_seconds
            or not learning.is_waiting(is_live=is_live)
        ):
            return
        self._ticked_at = now
        control = Control(id=f"tick-{uuid.uuid4().hex}", action="tick", is_live=is_live)
        confirmed = await self._send(
            OBSERVATIONS, None, observations.encode(ObservationsV1(control=control)), observations.HEADERS
        )
        await confirmed

    def _before_scrape(self, now: float) -> None:
        """Do nothing: what the learner shows it shows as it goes."""


def _abandon(app: App, events: Sequence[Event]) -> None:
    """Leave records to whoever has the partition next."""
    for event in events:
        cast(Consumer, app.consumer).abandon(event.message)


def _take_all(
    learning: Learning, records: Sequence[tuple[int, float | None, bytes | None]]
) -> list[Decision]:
    return [
        decision
        for offset, timestamp, value in records
        for decision in learning.take(offset, int(1000 * (timestamp or 0.0)), value)
    ]


def run(settings: Settings) -> int:
    """Run a learner until it is told to stop; return the exit code.

    Raises
    ------
    AlignstreamError
        A setting cannot be used, or another learner runs on the same state folder.
    """
    logs.configure(settings.log_level, settings.log_format)
    require_compiled_faust()
    return LearnerService(settings).run()
