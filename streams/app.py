"""The composition root: settings in, a running worker out. Everything is made here and nowhere else.

Start: probes answer → encoder verified and loaded → adapter found → broker asked → Faust. A worker that
waits for something says so in ``/readyz`` and in its log. Every exception that nobody decided about ends the
process with a code that is not 0, and whoever supervises it starts it again: nothing was committed that was
not done.
"""

import asyncio
import concurrent.futures
import functools
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import faust
import faust.streams
import mode
from aiokafka.errors import MessageSizeTooLargeError
from faust.exceptions import ProducerSendError
from faust.worker import Worker

from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import AlignstreamError
from alignstream.models.registry.cache import LastGoodCopies
from alignstream.models.registry.follower import Follower
from alignstream.models.registry.store import Store
from alignstream.streams import logs
from alignstream.streams.admission import policy_of
from alignstream.streams.agents import DocumentsAgent, Stream
from alignstream.streams.broker import (
    BrokerNotReady,
    credentials,
    input_limit_exceeds_dead_letters,
    output_limit,
    record_limits,
)
from alignstream.streams.connections import open_store
from alignstream.streams.crash_journal import CrashJournal
from alignstream.streams.health import Health, HealthServer
from alignstream.streams.pipeline import Pipeline
from alignstream.streams.sensors import FaustSensor, Metrics, RegistryMetrics
from alignstream.streams.settings import Settings
from alignstream.streams.topics import DEAD_LETTERS, DOCUMENTS, Headers
from alignstream.streams.transport import SCHEME, App, Consumer, TransportOptions
from alignstream.streams.watchdog import EXIT_STALLED, Position, Watchdog

logger = logging.getLogger(__name__)

#: Seconds between looks while something is missing at the start.
WAIT_SECONDS: Final = 1.0
#: Above any of our batches: Faust's own livelock warnings compare two different clocks.
NEVER_SECONDS: Final = 10 * 365 * 24 * 3600.0
#: A batch of 64 texts at the length limit takes half of it on two slow cores.
REBALANCE_SECONDS: Final = 60.0
#: A request holds one record at least, whatever its topic accepts.
REQUEST_OVERHEAD_BYTES: Final = 64 * 1024


class Stopped(Exception):  # noqa: N818 (no error)
    """The worker was told to stop before it had started."""


class WorkerService:
    """One worker: its parts, and the order in which they live.

    Parameters
    ----------
    settings : Settings
        With ``artifact`` set.
    """

    def __init__(self, settings: Settings, artifact: Path) -> None:
        self._settings = settings
        self._artifact = artifact
        self.metrics = Metrics()
        self.health = Health()
        self._registry_metrics = RegistryMetrics(self.metrics)
        self._sensor = FaustSensor(self.metrics)
        self._stop = threading.Event()
        self._n_encoded = 0
        self._was_assigned = False
        self._is_watched = threading.Event()
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._follower: Follower | None = None

    def run(self) -> int:
        """Run until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        settings = self._settings
        server = HealthServer(
            settings.metrics_host,
            settings.metrics_port,
            health=self.health,
            metrics=self.metrics,
            before_scrape=self._before_scrape,
        )
        logger.info("probes and metrics on http://%s:%d", settings.metrics_host, server.port)
        try:
            encoder = self._load_encoder()
            follower = self._follow(encoder)
            self._await_adapter(follower)
            limits = self._await_broker()
            app = self._app(encoder, follower, limits)
            return self._run_faust(app)
        except Stopped:
            return 0
        finally:
            self._stop.set()
            server.close()

    # -- the start -----------------------------------------------------------------------------------

    def _load_encoder(self) -> OnnxEncoder:
        started = time.monotonic()
        encoder = OnnxEncoder(
            self._artifact,
            threads=self._settings.threads,
            max_batch_tokens=self._settings.max_batch_tokens,
            on_progress=self._progressed,
        )
        self.metrics.encoder_info.labels(encoder.fingerprint, str(encoder.dim)).set(1)
        self.health.set("encoder", None)
        logger.info(
            "encoder %s (%s, dim %d) loaded in %.1f s",
            encoder.fingerprint[:12], encoder.manifest.source, encoder.dim, time.monotonic() - started,
        )  # fmt: skip
        return encoder

    def _progressed(self) -> None:
        self._n_encoded += 1

    def _follow(self, encoder: OnnxEncoder) -> Follower:
        settings = self._settings
        store = open_store(settings)
        follower = Follower(
            store,
            LastGoodCopies(settings.cache_dir / "registry", settings.redis_url),
            encoder=encoder.fingerprint,
            dim=encoder.dim,
            listener=self._registry_metrics,
        )
        # Before the first batch, so that a start does not serve what was replaced long ago.
        follower.refresh()
        self._follower = follower
        threading.Thread(
            target=self._run_follower, args=(follower, store), name="registry", daemon=True
        ).start()
        return follower

    def _run_follower(self, follower: Follower, store: Store) -> None:
        try:
            follower.run(self._stop, poll_seconds=self._settings.redis_poll_seconds)
        except BaseException:
            # A worker that no longer follows would serve yesterday's adapter for ever, and look healthy.
            logger.critical("the registry follower failed; ending the process", exc_info=True)
            logging.shutdown()
            os._exit(1)
        finally:
            store.close()

    def _await_adapter(self, follower: Follower) -> None:
        settings = self._settings
        said: str | None = None
        while True:
            problem = None
            if follower.catalogue.adapter(settings.adapter) is None:
                problem = (
                    f"no adapter {settings.adapter!r} for this encoder in Redis, on disk or in the package; push "
                    "one with 'alignstream adapters push', or set ALIGNSTREAM_ADAPTER=identity"
                )
            elif settings.label_set and follower.catalogue.label_set(settings.label_set) is None:
                problem = f"no label set {settings.label_set!r}; push it with 'alignstream labels push'"
            self.health.set("adapter", problem)
            if problem is None:
                served = follower.catalogue.adapters[settings.adapter]
                for name, item in follower.catalogue.adapters.items():
                    self._registry_metrics.show(name, item)
                logger.info(
                    "adapter %s %s serves (from %s)",
                    settings.adapter, getattr(served.value, "version", "?"), served.source,
                )  # fmt: skip
                return
            if problem != said:
                logger.warning("waiting: %s", problem)
                said = problem
            self._sleep()

    def _await_broker(self) -> dict[str, int]:
        said: str | None = None
        while True:
            try:
                limits = asyncio.run(record_limits(self._settings))
            except BrokerNotReady as error:
                self.health.set("broker", str(error))
                if str(error) != said:
                    logger.warning("waiting: %s", error)
                    said = str(error)
                self._sleep()
            else:
                if input_limit_exceeds_dead_letters(limits):
                    logger.warning(
                        "topic %s accepts less than %s plus 64 KiB: the largest records cannot be kept as dead "
                        "letters, only their sha256", DEAD_LETTERS, DOCUMENTS,
                    )  # fmt: skip
                self.health.set("broker", "joining the group")
                return limits

    def _sleep(self) -> None:
        if self._stop.wait(WAIT_SECONDS):
            raise Stopped

    # -- Faust ---------------------------------------------------------------------------------------

    def _app(self, encoder: OnnxEncoder, follower: Follower, limits: dict[str, int]) -> App:
        settings = self._settings
        app = App(
            id=settings.group,
            broker=";".join(f"{SCHEME}://{server}" for server in settings.broker.split(",")),
            broker_credentials=credentials(settings),
            broker_commit_interval=settings.commit_interval_seconds,
            broker_max_poll_records=settings.buffer_records,
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=min(3.0, settings.session_timeout_seconds / 3),
            # How long the group waits for the batch in hand when a member joins or leaves.
            broker_rebalance_timeout=REBALANCE_SECONDS,
            # aiokafka refuses less than the session timeout.
            broker_request_timeout=max(60.0, settings.session_timeout_seconds),
            # A full buffer stops polling: leave the group only long after the watchdog would have ended it.
            broker_max_poll_interval=max(1000.0, 2 * settings.stall_seconds),
            broker_commit_livelock_soft_timeout=NEVER_SECONDS,
            stream_processing_timeout=NEVER_SECONDS,
            stream_buffer_maxsize=settings.buffer_records,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=max(1024 * 1024, limits[DOCUMENTS]),
            consumer_group_instance_id=settings.static_member,
            producer_request_timeout=settings.produce_timeout_seconds,
            producer_linger=settings.producer_linger_seconds,
            producer_max_request_size=max(limits.values()) + REQUEST_OVERHEAD_BYTES,
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
        app.sensors.add(self._sensor)
        # Offsets mean nothing on another broker.
        broker = hashlib.sha256(settings.broker.encode()).hexdigest()[:12]
        journal = CrashJournal(settings.state_dir / "in-hand" / f"{settings.group}-{broker}")
        agent = DocumentsAgent(
            Pipeline(
                encoder,
                policy_of(settings, max_output_bytes=output_limit(settings, limits)),
                clock=time.monotonic,
                now=time.time,
                observer=self.metrics,
            ),
            executor=self._executor,
            catalogue=lambda: follower.catalogue,
            send=_sender(app, settings.topic_prefix, timeout_seconds=settings.produce_timeout_seconds),
            journal=journal,
            metrics=self.metrics,
            batch_records=settings.batch_records,
            linger_seconds=settings.linger_seconds,
            crash_attempts=settings.crash_attempts,
            dead_letter_bytes=limits[DEAD_LETTERS],
        )
        self._register(app, agent, journal)
        return app

    def _register(self, app: App, agent: DocumentsAgent, journal: CrashJournal) -> None:
        topic = app.topic(
            self._settings.topic_prefix + DOCUMENTS,
            # Faust must not decode: one undecodable record silences the agent and loses its neighbour.
            key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw",
        )  # fmt: skip

        async def documents(stream: Any) -> None:  # noqa: ANN401 (Faust's stream, checked as our protocol)
            await agent.run(cast(Stream, stream))

        app.agent(topic, name="documents", concurrency=1)(documents)

        async def assigned(*_: object, **__: object) -> None:
            journal.assigned()
            self._was_assigned = True
            self.health.set("broker", None)

        app.on_partitions_assigned.connect(assigned)

        async def watch() -> None:
            self._is_watched.set()
            if self._stop.is_set():  # told to stop before the loop had its own signal handlers
                signal.raise_signal(signal.SIGTERM)
            watchdog = Watchdog(
                positions=functools.partial(self._positions, app),
                n_progress=lambda: self._n_encoded,
                metrics=self.metrics,
                health=self.health,
                stall_seconds=self._settings.stall_seconds,
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
        try:
            worker.execute_from_commandline()
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)

    def _watch_the_start(self) -> None:
        """End a worker that the group lets wait for ever: Faust runs our watchdog only after the first join."""
        if self._is_watched.wait(self._settings.stall_seconds) or self._stop.is_set():
            return
        self.health.stalled = f"the group gave no answer for {self._settings.stall_seconds:.0f} s"
        logger.critical("stalled: %s; ending the process", self.health.stalled)
        logging.shutdown()
        os._exit(EXIT_STALLED)

    def _before_scrape(self) -> None:
        now = time.time()
        self.metrics.commit_age.set(time.monotonic() - self._sensor.committed_at)
        self.metrics.ready.set(int(self.health.is_ready))
        if self._follower is not None:
            fresh_at = self._follower.fresh_at
            # Never confirmed: as stale as the worker is old.
            started = self._follower.catalogue.adapters["identity"].since
            self.metrics.adapter_stale.set(now - (started if fresh_at is None else fresh_at))
            for name, served in self._follower.catalogue.adapters.items():
                self.metrics.adapter_age.labels(name).set(now - served.since)


def _sender(
    app: App, prefix: str, *, timeout_seconds: float
) -> Callable[[str, bytes | None, bytes | None, Headers], Awaitable[Awaitable[Any]]]:
    async def send(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Awaitable[Any]:
        # Not Topic.send: a failure there is only logged, with the payload.
        try:
            confirmed = await app.producer.send(
                prefix + topic, key, value, None, None, cast(Any, list(headers))
            )
        except ProducerSendError as error:
            if not isinstance(error.__cause__, MessageSizeTooLargeError):
                raise
            # Refused by the client already: to the agent the same as a refusal of the broker's.
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error.__cause__)
            return refused
        # An idempotent producer would try for ever.
        return asyncio.ensure_future(asyncio.wait_for(confirmed, timeout_seconds))

    return send


def run(settings: Settings, artifact: Path) -> int:
    """Run a worker until it is told to stop; return the exit code.

    Raises
    ------
    AlignstreamError
        A setting or the encoder artifact cannot be used; the message says why.
    """
    logs.configure(settings.log_level, settings.log_format)
    if getattr(faust.streams, "_CStreamIterator", None) is None:
        raise AlignstreamError(
            "Faust runs without its compiled stream iterator, which loses records in a rebalance; install the "
            "faust-streaming wheel for this platform, and do not set NO_CYTHON"
        )
    return WorkerService(settings, artifact).run()
