"""Metrics that follow Prometheus conventions: base units, bounded labels, never a payload."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import faust
from faust.types import AppT
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from alignstream.models.registry.follower import Served
from alignstream.models.registry.layout import Kind
from alignstream.streams.observe.stages import StageName
from alignstream.streams.wire.outcome import Outcome
from alignstream.streams.wire.topics import REASONS

logger = logging.getLogger(__name__)

#: Buckets in seconds, from a registry look-up to a batch of long texts on one core.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
#: Why a record for the learner was dropped: too much waits for the broker, or it was not delivered.
Drop = Literal["full", "failed"]
STAGES: Final = ("queue", "decode", "tokenize", "encode", "align", "classify", "publish")


# Drop the second series of every counter, which holds its creation time.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of one process, in their own registry. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        common: dict[str, Any] = {"registry": self.registry, "namespace": "alignstream"}
        self.consumed = Counter("records_consumed", "Records consumed from the input topics", **common)
        self.published = Counter("records_published", "Records confirmed by the broker", ["topic"], **common)
        self.dead = Counter("records_dead_lettered", "Records sent to the dead letters", ["reason"], **common)
        self.truncated = Counter("records_truncated", "Texts truncated at the encoder's limit", **common)
        self.tombstones = Counter("tombstones", "Tombstones received", **common)
        self.batch_records = Histogram("batch_records", "Records per batch", buckets=_COUNTS, **common)
        self.batch_tokens = Histogram("batch_tokens", "Tokens per batch", buckets=_TOKENS, **common)
        self.stages = Histogram(
            "stage_duration_seconds",
            "Duration of a stage for one batch",
            ["stage"],
            buckets=_SECONDS,
            **common,
        )
        self.latency = Histogram(
            "end_to_end_latency_seconds",
            "Time from a record's timestamp to the confirmation of its outputs",
            buckets=_SECONDS,
            **common,
        )
        self.inflight = Gauge("inflight_records", "Records in the current batch", **common)
        self.buffered = Gauge("buffer_records", "Records fetched and not yet acknowledged", **common)
        self.lag = Gauge(
            "consumer_lag_records", "Records waiting in the partition", ["topic", "partition"], **common
        )
        self.lag_seconds = Gauge(
            "consumer_lag_seconds",
            "Age of the last finished record while others wait",
            ["topic", "partition"],
            **common,
        )
        self._finished_at: dict[tuple[str, int], float] = {}
        self.progress = Gauge("last_progress_timestamp_seconds", "Time of the last progress", **common)
        self.commit_age = Gauge("commit_age_seconds", "Time since the last offset commit", **common)
        self.rebalances = Counter("rebalances", "Rebalances of the consumer group", **common)
        self.produce_errors = Counter("produce_errors", "Failed deliveries", ["error"], **common)
        self.observations_dropped = Counter(
            "observations_dropped", "Records for the learner that were dropped", ["reason"], **common
        )
        self.loop_lag = Gauge("event_loop_lag_seconds", "How late the event loop woke the watchdog", **common)
        self.adapter_info = Gauge("adapter_info", "Adapter in use", ["name", "version", "source"], **common)
        self.adapter_age = Gauge(
            "adapter_age_seconds", "Time since the adapter went live", ["name"], **common
        )
        self.adapter_stale = Gauge(
            "adapter_stale_seconds", "Time since the registry last confirmed the values in use", **common
        )
        self.registry_rejected = Counter(
            "registry_rejected", "Registry values rejected", ["kind", "reason"], **common
        )
        self.registry_up = Gauge("registry_up", "Whether the registry answered the last look-up", **common)
        self.registry_swaps = Counter("registry_swaps", "Registry values that went live", ["kind"], **common)
        self.encoder_info = Gauge("encoder_info", "Encoder in use", ["fingerprint", "dim"], **common)
        self.ready = Gauge("worker_ready", "Whether the worker is ready", **common)
        # A series that exists only after the first failure cannot be alerted on.
        for reason in REASONS:
            self.dead.labels(reason=reason)
        for reason in get_args(Drop):
            self.observations_dropped.labels(reason=reason)
        for stage in STAGES:
            self.stages.labels(stage=stage)

    # -- the pipeline's observer -------------------------------------------------------------------

    def stage(self, name: StageName, seconds: float) -> None:
        """Record how long a stage took for one batch, in seconds."""
        self.stages.labels(stage=name).observe(seconds)

    def tokens(self, count: int) -> None:
        """Record the number of tokens in one batch."""
        self.batch_tokens.observe(count)

    # -- the agent ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def batch(self, n_records: int) -> Iterator[None]:
        """Count the records of a batch as in flight while the block runs."""
        self.consumed.inc(n_records)
        self.batch_records.observe(n_records)
        self.inflight.inc(n_records)
        try:
            yield
        finally:
            self.inflight.dec(n_records)

    def finished(self, outcomes: Sequence[Outcome], *, now: float) -> None:
        """Count the outcomes of a batch, once the broker has confirmed all of it."""
        for outcome in outcomes:
            for output in outcome.outputs:
                self.published.labels(topic=output.topic).inc()
            if outcome.rejected is not None:
                self.dead.labels(reason=outcome.rejected.reason).inc()
            self.truncated.inc(int(outcome.truncated))
            self.tombstones.inc(int(outcome.tombstone))
            if outcome.source.timestamp is not None:
                self.latency.observe(max(now - outcome.source.timestamp, 0.0))
                self._finished_at[outcome.source.topic, outcome.source.partition] = outcome.source.timestamp
        self.progress.set(now)

    def show_lag(self, waiting: Mapping[tuple[str, int], int], *, now: float) -> None:
        """Set the lag of each partition from its number of waiting records (0: none)."""
        for (topic, partition), n_records in waiting.items():
            labels = (topic, str(partition))
            self.lag.labels(*labels).set(n_records)
            behind = now - self._finished_at.get((topic, partition), now) if n_records else 0.0
            self.lag_seconds.labels(*labels).set(max(behind, 0.0))

    def forget_lag(self, tp: tuple[str, int]) -> None:
        """Stop showing a partition that now belongs to another worker."""
        topic, partition = tp
        for gauge in (self.lag, self.lag_seconds):
            gauge.remove(topic, str(partition))


class RegistryMetrics:
    """The registry follower's listener: it updates metrics and logs what an operator should know."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._was_up: bool | None = None
        self._shown: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def looked(self, *, registry_is_up: bool) -> None:
        """Record one look at the registry."""
        if registry_is_up != self._was_up:
            level = logging.INFO if registry_is_up else logging.WARNING
            logger.log(
                level,
                "Redis %s",
                "answers" if registry_is_up else "does not answer; the last good values stay in use",
            )
        self._was_up = registry_is_up
        self._metrics.registry_up.set(int(registry_is_up))

    def swapped(self, kind: Kind, name: str, served: Served) -> None:
        """Record that a value went live."""
        logger.info("%s %s %s is live", kind, name, getattr(served.value, "version", "?"))
        self._metrics.registry_swaps.labels(kind=kind).inc()
        if kind == "adapter":
            self.show(name, served)

    def rejected(self, kind: Kind, name: str, reason: str, message: str) -> None:
        """Record that a value was rejected."""
        logger.error("%s %s rejected (%s): %s", kind, name, reason, message)
        # No label for the name: names are unbounded.
        self._metrics.registry_rejected.labels(kind=kind, reason=reason).inc()

    def show(self, name: str, served: Served) -> None:
        """Show an adapter as the one in use under its name."""
        labels = (str(getattr(served.value, "version", "")), served.source)
        with self._lock:
            before = self._shown.get(name)
            if before == labels:
                return
            if before is not None:
                self._metrics.adapter_info.remove(name, *before)
            self._shown[name] = labels
            self._metrics.adapter_info.labels(name, *labels).set(1)


class FaustSensor(faust.Sensor):
    """A sensor for what only Faust sees: rebalances and commits."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.committed_at = time.monotonic()
        super().__init__()

    def on_rebalance_start(self, app: AppT) -> dict[str, Any]:
        """Count a rebalance."""
        self._metrics.rebalances.inc()
        state: dict[str, Any] = super().on_rebalance_start(app) or {}
        return {**state, "started": time.monotonic()}

    def on_commit_completed(self, consumer: Any, state: Any) -> None:  # noqa: ANN401 (untyped library)
        """Record the time of a commit."""
        super().on_commit_completed(consumer, state)
        self.committed_at = time.monotonic()
