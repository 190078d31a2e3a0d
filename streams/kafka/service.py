"""What a worker and a learner share: probes, waiting for the broker, one Faust app and a watchdog.

An unhandled exception ends the process with a non-zero exit code. Run it under a supervisor that restarts it: only
finished records were committed.
"""

import abc
import asyncio
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Generic, TypeVar, cast

import faust
import faust.streams
import mode
from aiokafka.errors import MessageSizeTooLargeError
from faust.exceptions import ProducerSendError
from faust.worker import Worker

from alignstream.models.errors import AlignstreamError, BrokerNotReady
from alignstream.streams.kafka.broker import credentials, record_limits
from alignstream.streams.kafka.transport import SCHEME, App, Consumer, TransportOptions
from alignstream.streams.kafka.watchdog import EXIT_STALLED, Position, Watchdog
from alignstream.streams.observe.health import Health, HealthServer
from alignstream.streams.observe.sensors import FaustSensor, Metrics
from alignstream.streams.settings import Settings
from alignstream.streams.wire.outcome import Send
from alignstream.streams.wire.topics import Headers

logger = logging.getLogger(__name__)

#: Seconds between attempts while something is missing at start-up.
WAIT_SECONDS: Final = 1.0
#: Longer than any batch, to silence Faust's livelock warnings: they compare two different clocks.
NEVER_SECONDS: Final = 10 * 365 * 24 * 3600.0
#: A batch of 64 texts at the length limit takes half of this on two slow cores.
REBALANCE_SECONDS: Final = 60.0
#: Seconds for leaving: the batch in flight, the last commit, the group. Deployments give a minute.
END_SECONDS: Final = 55.0
#: The same after a crash, which has nothing to finish: the client may wait for its group for a minute.
CRASH_SECONDS: Final = 15.0
#: Added to the largest record of any topic, so that a request always has room for one record.
REQUEST_OVERHEAD_BYTES: Final = 64 * 1024


#: What a service loads before it contacts the broker.
Prepared = TypeVar("Prepared")


class _Stopped(Exception):
    """The process was told to stop before it had started."""


class FaustService(abc.ABC, Generic[Prepared]):
    """A process that runs one Faust app; subclasses define the app.

    Parameters
    ----------
    settings : Settings
    health : Health
    """

    #: Topics without which the service works all the same.
    _optional_topics: Collection[str] = ()

    def __init__(self, settings: Settings, health: Health) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self.health = health
        self._sensor = FaustSensor(self.metrics)
        self._stop = threading.Event()
        self._was_assigned = False
        self._is_watched = threading.Event()
        #: Called before each scrape with the Unix time in seconds, to refresh gauges.
        self._before_scrape: list[Callable[[float], None]] = []

    @abc.abstractmethod
    def _prepare(self) -> Prepared:
        """Load what is needed before the broker is contacted; report in ``health`` what is missing."""

    @abc.abstractmethod
    def _app(self, prepared: Prepared, limits: dict[str, int]) -> App:
        """Build the app with its agents; ``limits`` holds the largest record of each topic, in bytes."""

    def run(self) -> int:
        """Run until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        server = HealthServer(
            self._settings.metrics_host,
            self._settings.metrics_port,
            health=self.health,
            metrics=self.metrics,
            before_scrape=self._scrape,
        )
        logger.info("probes and metrics on http://%s:%d", self._settings.metrics_host, server.port)
        try:
            prepared = self._prepare()
            return self._run_faust(self._app(prepared, self._await_broker()))
        except _Stopped:
            return 0
        finally:
            self._stop.set()
            server.close()

    def _scrape(self) -> None:
        self.metrics.commit_age.set(time.monotonic() - self._sensor.committed_at)
        for bring_up_to_date in self._before_scrape:
            bring_up_to_date(time.time())

    def _await_broker(self) -> dict[str, int]:
        logged: str | None = None
        while True:
            try:
                limits = asyncio.run(record_limits(self._settings, optional=self._optional_topics))
            except BrokerNotReady as error:
                self.health.set("broker", str(error))
                if str(error) != logged:
                    logger.warning("waiting: %s", error)
                    logged = str(error)
                self._sleep()
            else:
                self.health.set("broker", "joining the group")
                return limits

    def _sleep(self) -> None:
        if self._stop.wait(WAIT_SECONDS):
            raise _Stopped

    def _watch(self, app: App, *, n_progress: Callable[[], int]) -> None:
        """Run the watchdog in an app, and note the app's first assignment.

        Parameters
        ----------
        app : App
        n_progress : callable
            Returns a count that rises while work is done, even if no offset moves.
        """

        async def assigned(*_: object, **__: object) -> None:
            self._was_assigned = True
            self.health.set("broker", None)

        app.on_partitions_assigned.connect(assigned)

        async def watch() -> None:
            self._is_watched.set()
            if self._stop.is_set():  # told to stop before the loop had its own signal handlers
                signal.raise_signal(signal.SIGTERM)
            watchdog = Watchdog(
                positions=functools.partial(self._positions, app),
                n_progress=n_progress,
                metrics=self.metrics,
                health=self.health,
                stall_timeout_seconds=self._settings.stall_timeout_seconds,
            )
            await watchdog.run()

        app.task(watch)

    def _positions(self, app: App) -> Mapping[tuple[str, int], Position] | None:
        if not self._was_assigned:
            return None
        consumer = cast(Consumer, app.consumer)
        positions = {}
        n_buffered = 0
        for tp in consumer.assignment():
            n_buffered += consumer.low_water[tp].n_pending
            positions[tp.topic, tp.partition] = Position(done=consumer.done(tp), end=consumer.highwater(tp))
        self.metrics.buffered.set(n_buffered)
        return positions

    def _run_faust(self, app: App) -> int:
        worker = Worker(
            app, loglevel=self._settings.log_level, override_logging=False, redirect_stdouts=False
        )
        if self._stop.is_set():
            return 0
        threading.Thread(target=self._watch_the_start, name="start", daemon=True).start()
        threading.Thread(target=self._watch_the_end, args=(app,), name="end", daemon=True).start()
        try:
            worker.execute_from_commandline()
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)

    def _watch_the_start(self) -> None:
        """End the process if the group never answers: Faust starts the watchdog only after the first join."""
        if self._is_watched.wait(self._settings.stall_timeout_seconds) or self._stop.is_set():
            return
        self.health.stalled = (
            f"the consumer group did not answer for {self._settings.stall_timeout_seconds:.0f} s"
        )
        logger.critical("stalled: %s; ending the process", self.health.stalled)
        logging.shutdown()
        os._exit(EXIT_STALLED)

    def _watch_the_end(self, app: App) -> None:
        """End the process if it cannot leave: Faust may wait for a broker that never answers."""
        while not app.should_stop:
            time.sleep(WAIT_SECONDS)
        seconds = CRASH_SECONDS if app.crashed else END_SECONDS
        time.sleep(seconds)
        logger.critical(
            "still not stopped after %.0f s; ending the process. What was not committed is read again",
            seconds,
        )
        logging.shutdown()
        os._exit(EXIT_STALLED)


def make_app(
    settings: Settings, *, group: str, max_fetch_bytes: int, max_record_bytes: int, sensor: faust.Sensor
) -> App:
    """Return a Faust app that loses no record: it has our transport, and any failure ends the process.

    Parameters
    ----------
    settings : Settings
    group : str
        Consumer group.
    max_fetch_bytes, max_record_bytes : int
        Largest record that may be received, and largest that may be sent.
    sensor : Sensor
    """
    app = App(
        id=group,
        broker=";".join(f"{SCHEME}://{server}" for server in settings.broker.split(",")),
        broker_credentials=credentials(settings),
        broker_commit_interval=settings.commit_interval_seconds,
        broker_max_poll_records=settings.buffer_records,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=min(3.0, settings.session_timeout_seconds / 3),
        # How long the group waits for the current batch when a member joins or leaves.
        broker_rebalance_timeout=REBALANCE_SECONDS,
        # aiokafka refuses less than the session timeout.
        broker_request_timeout=max(60.0, settings.session_timeout_seconds),
        # A full buffer stops polling. The watchdog must act long before the group removes this member.
        broker_max_poll_interval=max(1000.0, 2 * settings.stall_timeout_seconds),
        broker_commit_livelock_soft_timeout=NEVER_SECONDS,
        stream_processing_timeout=NEVER_SECONDS,
        stream_buffer_maxsize=settings.buffer_records,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=max(1024 * 1024, max_fetch_bytes),
        consumer_group_instance_id=settings.group_instance_id,
        producer_request_timeout=settings.produce_timeout_seconds,
        producer_linger=settings.producer_linger_seconds,
        producer_max_request_size=max_record_bytes + REQUEST_OVERHEAD_BYTES,
        producer_compression_type=None if settings.compression == "none" else settings.compression,
        agent_supervisor=mode.CrashingSupervisor,
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        worker_redirect_stdouts=False,
        web_enabled=False,
    )
    app.transport_options = TransportOptions(
        idempotence=settings.idempotence, read_committed=settings.read_committed
    )
    app.sensors.add(sensor)
    return app


def raw_topic(app: App, name: str) -> faust.TopicT:
    """Return a topic whose keys and values stay bytes.

    Faust must not decode: one undecodable record silently stops the agent and loses the record next to it.
    """
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def sender(app: App, prefix: str, *, timeout_seconds: float) -> Send:
    """Return a function that starts a delivery to a topic, named without its prefix."""

    async def send(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Awaitable[Any]:
        # Not Topic.send: it only logs a failure, and logs the payload with it.
        try:
            confirmed = await app.producer.send(
                prefix + topic, key, value, None, None, cast(Any, list(headers))
            )
        except ProducerSendError as error:
            if not isinstance(error.__cause__, MessageSizeTooLargeError):
                raise
            # Already refused by the client: report it as the broker's refusal would be.
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error.__cause__)
            return refused
        # An idempotent producer would retry forever.
        return asyncio.ensure_future(asyncio.wait_for(confirmed, timeout_seconds))

    return send


def require_compiled_faust() -> None:
    """Refuse to run on a build of Faust that loses records.

    Raises
    ------
    AlignstreamError
        The compiled stream iterator is missing.
    """
    if getattr(faust.streams, "_CStreamIterator", None) is None:
        raise AlignstreamError(
            "Faust lacks its compiled stream iterator, and would lose records in a rebalance; install the "
            "faust-streaming wheel for this platform, and unset NO_CYTHON"
        )
