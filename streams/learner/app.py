"""The learner's composition root: observations in, epochs out. One learner is active at a time; others wait.

Start-up: probes answer → broker checked → partition of the observations assigned → epoch log claimed and read →
observations read from where the log stops. Nothing is acknowledged before it is in the epoch log.
"""

import concurrent.futures
import dataclasses
import fcntl
import uuid
from pathlib import Path
from typing import IO, Any, cast

from faust.types import TP

from alignstream.models.errors import AlignstreamError
from alignstream.models.files import replace_file
from alignstream.models.registry.store import Store
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.kafka.events import Stream
from alignstream.streams.kafka.service import (
    FaustService,
    make_app,
    raw_topic,
    require_compiled_faust,
    sender,
)
from alignstream.streams.kafka.transport import App
from alignstream.streams.learner.adapter_source import AdapterSource
from alignstream.streams.learner.agent import LearnerAgent
from alignstream.streams.learner.epoch_topic import EpochTopic
from alignstream.streams.learner.epoch_writer import EpochWriter
from alignstream.streams.learner.metrics import LearnerMetrics
from alignstream.streams.observe import logs
from alignstream.streams.observe.health import Health
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import OBSERVATIONS


@dataclasses.dataclass(frozen=True)
class PreparedLearner:
    """What a learner loads before it contacts the broker."""

    owner: str
    #: Held for the lifetime of the process.
    lock: IO[str]
    store: Store


class LearnerService(FaustService[PreparedLearner]):
    """One learner: its parts, and the order in which they start.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Health({"broker": "not connected"}))
        self._learner_metrics = LearnerMetrics(self.metrics.registry)
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="learning")

    def _prepare(self) -> PreparedLearner:
        owner, lock = claim_folder(self._settings.state_dir)
        return PreparedLearner(owner, lock, open_store(self._settings))

    def _app(self, prepared: PreparedLearner, limits: dict[str, int]) -> App:
        settings = self._settings
        app = make_app(
            settings,
            group=settings.learner_group,
            max_fetch_bytes=limits[OBSERVATIONS],
            max_record_bytes=max(limits.values()),
            sensor=self._sensor,
        )
        send = sender(app, settings.topic_prefix, timeout_seconds=settings.produce_timeout_seconds)
        topic = EpochTopic(settings, send, owner=prepared.owner)
        agent = LearnerAgent(
            settings,
            app,
            adapters=AdapterSource(prepared.store, settings.adapter),
            topic=topic,
            writer=EpochWriter(topic, prepared.store, self._executor),
            send=send,
            executor=self._executor,
            health=self.health,
            metrics=self.metrics,
            learner_metrics=self._learner_metrics,
        )
        self._register(app, agent)
        self._watch(app, n_progress=lambda: agent.n_progress)
        return app

    def _register(self, app: App, agent: LearnerAgent) -> None:
        name = self._settings.topic_prefix + OBSERVATIONS

        async def work(stream: Any) -> None:  # noqa: ANN401 (Faust's stream, checked as our protocol)
            await agent.run(cast(Stream, stream))

        app.agent(raw_topic(app, name), name="observations", concurrency=1)(work)

        async def assigned(_: Any, /, *arguments: Any, **__: Any) -> None:  # noqa: ANN401 (Faust's signal)
            await agent.assigned(is_ours=any(tp.topic == name for tp in cast(set[TP], arguments[0])))

        app.on_partitions_assigned.connect(assigned)

        async def run_clock() -> None:
            await agent.run_clock()

        app.task(run_clock)

        async def leaving(*_: object, **__: object) -> None:
            # After this, Faust cancels tasks and commits what was acknowledged.
            await agent.shut_down()

        app.on_before_shutdown.connect(leaving)


def claim_folder(folder: Path) -> tuple[str, IO[str]]:
    """Return a learner's name, kept in its state folder, and the lock that it holds on the folder.

    Raises
    ------
    AlignstreamError
        Another learner uses the folder, or the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "learner.lock").open("a", encoding="ascii")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = folder / "learner-name"
        if path.is_file() and (name := path.read_text(encoding="utf-8").strip()):
            return name, lock
        name = uuid.uuid4().hex
        replace_file(path, name.encode())
    except BlockingIOError:
        raise AlignstreamError(
            f"another learner uses {folder}; stop it, or set ALIGNSTREAM_STATE_DIR to another folder for this one"
        ) from None
    except OSError as error:
        raise AlignstreamError(
            f"cannot use {folder}: {error.strerror}; set ALIGNSTREAM_STATE_DIR to a writable folder"
        ) from error
    return name, lock


def run(settings: Settings) -> int:
    """Run a learner until it is told to stop; return the exit code.

    Raises
    ------
    AlignstreamError
        A setting cannot be used, or another learner uses the same state folder.
    """
    logs.configure(settings.log_level, settings.log_format)
    require_compiled_faust()
    return LearnerService(settings).run()
