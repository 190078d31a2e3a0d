"""The worker's composition root: settings in, a running worker out. All parts are built here and nowhere else.

Start-up: probes answer → encoder verified and loaded → adapter loaded → broker checked → Faust starts. A worker
that is waiting says for what in ``/readyz`` and in its log.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, Final, cast

from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.registry.follower import Follower
from alignstream.models.registry.last_good import LastGoodCopies
from alignstream.models.registry.store import Store
from alignstream.streams.kafka.broker import input_limit_exceeds_dead_letters, output_limit
from alignstream.streams.kafka.connections import open_side_client, open_store
from alignstream.streams.kafka.events import Stream
from alignstream.streams.kafka.service import (
    REQUEST_OVERHEAD_BYTES,
    FaustService,
    make_app,
    raw_topic,
    require_compiled_faust,
    sender,
)
from alignstream.streams.kafka.side_producer import SideProducer
from alignstream.streams.kafka.transport import App
from alignstream.streams.observe import logs
from alignstream.streams.observe.health import Health
from alignstream.streams.observe.sensors import RegistryMetrics
from alignstream.streams.settings import Settings
from alignstream.streams.wire.observations import HEADERS as OBSERVATION_HEADERS
from alignstream.streams.wire.topics import (
    DEAD_LETTERS,
    DOCUMENTS,
    EPOCHS,
    FEEDBACK,
    INPUTS,
    OBSERVATIONS,
    PAIRS,
)
from alignstream.streams.worker.admission import policy_of
from alignstream.streams.worker.agents import BatchAgent, Pipeline
from alignstream.streams.worker.crash_journal import CrashJournal
from alignstream.streams.worker.encoding import Encoding
from alignstream.streams.worker.feedback import FeedbackPipeline, PairsPipeline
from alignstream.streams.worker.observing import Observing
from alignstream.streams.worker.pipeline import DocumentsPipeline

logger = logging.getLogger(__name__)

#: Seconds for the last observations when the worker ends.
CLOSE_SECONDS: Final = 5.0


@dataclasses.dataclass(frozen=True)
class PreparedWorker:
    """What a worker loads before it contacts the broker."""

    encoder: OnnxEncoder
    follower: Follower


class WorkerService(FaustService[PreparedWorker]):
    """One worker: its parts, and the order in which they start.

    Parameters
    ----------
    settings : Settings
    artifact : Path
        Folder of the encoder.
    """

    #: The learner's: no document needs them.
    _optional_topics = (OBSERVATIONS, EPOCHS)

    def __init__(self, settings: Settings, artifact: Path) -> None:
        super().__init__(settings, Health())
        self._artifact = artifact
        self._registry_metrics = RegistryMetrics(self.metrics)
        self._n_encoded = 0
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._side_producer: SideProducer | None = None

    def run(self) -> int:
        """Run until told to stop; return the exit code."""
        try:
            return super().run()
        finally:
            if self._side_producer is not None:
                self._side_producer.close(CLOSE_SECONDS)

    # -- the start -----------------------------------------------------------------------------------

    def _prepare(self) -> PreparedWorker:
        encoder = self._load_encoder()
        follower = self._follow(encoder)
        self._before_scrape.append(functools.partial(self._show_age, follower))
        self._await_adapter(follower)
        return PreparedWorker(encoder, follower)

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
        # Before the first batch, so that a worker does not start with an outdated adapter.
        follower.refresh()
        threading.Thread(
            target=self._run_follower, args=(follower, store), name="registry", daemon=True
        ).start()
        return follower

    def _run_follower(self, follower: Follower, store: Store) -> None:
        try:
            follower.run(self._stop, poll_seconds=self._settings.registry_poll_seconds)
        except BaseException:
            # Without its follower, a worker would look healthy but serve the same adapter forever.
            logger.critical("the registry follower failed; ending the process", exc_info=True)
            logging.shutdown()
            os._exit(1)
        finally:
            store.close()

    def _await_adapter(self, follower: Follower) -> None:
        settings = self._settings
        logged: str | None = None
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
                for name, adapter in follower.catalogue.adapters.items():
                    self._registry_metrics.show(name, adapter)
                logger.info(
                    "adapter %s %s is live (from %s)",
                    settings.adapter, getattr(served.value, "version", "?"), served.source,
                )  # fmt: skip
                return
            if problem != logged:
                logger.warning("waiting: %s", problem)
                logged = problem
            self._sleep()

    # -- Faust ---------------------------------------------------------------------------------------

    def _app(self, prepared: PreparedWorker, limits: dict[str, int]) -> App:
        settings = self._settings
        if input_limit_exceeds_dead_letters(limits):
            logger.warning(
                "topic %s accepts less than the largest input record plus 64 KiB: dead letters of the largest records "
                "will hold only their sha256; raise its max.message.bytes", DEAD_LETTERS,
            )  # fmt: skip
        app = make_app(
            settings,
            group=settings.group,
            max_fetch_bytes=max(limits[topic] for topic in INPUTS),
            max_record_bytes=max(limits.values()),
            sensor=self._sensor,
        )
        policy = policy_of(settings, max_output_bytes=output_limit(settings, limits))
        clocks: dict[str, Any] = {"clock": time.monotonic, "observer": self.metrics}
        encoding = Encoding(prepared.encoder, **clocks)
        # Part of the folder's name: offsets mean nothing on another broker.
        broker = hashlib.sha256(settings.broker.encode()).hexdigest()[:12]
        journal = CrashJournal(settings.state_dir / "in-flight" / f"{settings.group}-{broker}")
        pipelines: dict[str, Pipeline] = {
            DOCUMENTS: DocumentsPipeline(prepared.encoder, policy, now=time.time, **clocks),
            PAIRS: PairsPipeline(encoding, policy, now=time.time),
            FEEDBACK: FeedbackPipeline(encoding, policy, now=time.time),
        }
        observing = self._open_observing(prepared.encoder, limits)
        for topic, pipeline in pipelines.items():
            agent = self._agent(
                app, prepared, pipeline, limits,
                observing=observing, journal=journal, is_taught=topic != DOCUMENTS,
            )  # fmt: skip
            self._register(app, topic, agent)

        async def assigned(*_: object, **__: object) -> None:
            journal.assigned()

        app.on_partitions_assigned.connect(assigned)
        self._watch(app, n_progress=lambda: self._n_encoded)
        return app

    def _open_observing(self, encoder: OnnxEncoder, limits: dict[str, int]) -> Observing:
        settings = self._settings
        self._side_producer = SideProducer(
            functools.partial(
                open_side_client, settings, max_request_bytes=limits[OBSERVATIONS] + REQUEST_OVERHEAD_BYTES
            ),
            settings.topic_prefix + OBSERVATIONS,
            OBSERVATION_HEADERS,
            on_drop=lambda why: self.metrics.observations_dropped.labels(reason=why).inc(),
        )
        self._side_producer.start()
        return Observing(
            self._side_producer,
            encoder=encoder.fingerprint,
            dim=encoder.dim,
            # Opening the client comes on top, and the client ends every delivery by itself.
            timeout_seconds=settings.produce_timeout_seconds + 2 * CLOSE_SECONDS,
        )

    def _agent(
        self,
        app: App,
        prepared: PreparedWorker,
        pipeline: Pipeline,
        limits: dict[str, int],
        *,
        observing: Observing,
        journal: CrashJournal,
        is_taught: bool,
    ) -> BatchAgent:
        settings = self._settings
        return BatchAgent(
            pipeline,
            observations=observing,
            is_taught=is_taught,
            executor=self._executor,
            catalogue=lambda: prepared.follower.catalogue,
            send=sender(app, settings.topic_prefix, timeout_seconds=settings.produce_timeout_seconds),
            journal=journal,
            metrics=self.metrics,
            batch_records=settings.batch_records,
            batch_linger_seconds=settings.batch_linger_seconds,
            max_crashes_alone=settings.max_crashes_alone,
            dead_letter_bytes=limits[DEAD_LETTERS],
        )

    def _register(self, app: App, topic: str, agent: BatchAgent) -> None:
        async def work(stream: Any) -> None:  # noqa: ANN401 (Faust's stream, checked as our protocol)
            await agent.run(cast(Stream, stream))

        name = topic.partition(".")[0]
        app.agent(raw_topic(app, self._settings.topic_prefix + topic), name=name, concurrency=1)(work)

    def _show_age(self, follower: Follower, now: float) -> None:
        self.metrics.ready.set(int(self.health.is_ready))
        adapters = follower.catalogue.adapters
        # Never confirmed: stale since the worker started.
        fresh_at = adapters["identity"].since if follower.fresh_at is None else follower.fresh_at
        self.metrics.adapter_stale.set(now - fresh_at)
        for name, served in adapters.items():
            self.metrics.adapter_age.labels(name).set(now - served.since)


def run(settings: Settings, artifact: Path) -> int:
    """Run a worker until it is told to stop; return the exit code.

    Raises
    ------
    AlignstreamError
        A setting or the encoder artifact cannot be used; the message says why.
    """
    logs.configure(settings.log_level, settings.log_format)
    require_compiled_faust()
    return WorkerService(settings, artifact).run()
