"""A running learner as the tests see it: what it is told, what it has written, and what it should have."""

import contextlib
import dataclasses
import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import kafka
import numpy as np
import redis
from bounded import wait_until
from oracle import DRAIN_SECONDS, Header, Seen, Topics, open_producer
from started_servers import environment_of
from tiny_encoder import DIM

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.ops.client.connection import kafka_options
from alignstream.ops.local.supervised import LEARNER_COMMAND, Worker
from alignstream.ops.local.supervised import worker as prepare_process
from alignstream.streams.learner.learning import Decision, Learning, Opened
from alignstream.streams.learner.tenancy import sections_of
from alignstream.streams.settings import Settings
from alignstream.streams.wire import observations
from alignstream.streams.wire.codec import float16_field
from alignstream.streams.wire.epoch_log import Claim, EpochLog, EpochV1, TenantKey
from alignstream.streams.wire.observations import (
    Control,
    ObservationsV1,
    Observed,
    ObservedExample,
    ObservedPair,
    ObservedSide,
    ObservedText,
    Origin,
)
from alignstream.streams.wire.topics import DOCUMENTS, EPOCHS, FEEDBACK, OBSERVATIONS, PAIRS

#: A group that notices a dead member, and a claim that runs out, included.
SETTLE_SECONDS = 90.0
TENANT = "default"
#: Fingerprint of no encoder: for observations that no worker wrote.
ENCODER = "e" * 64
PLACE: TenantKey = (ENCODER, TENANT)


class StartLearner(Protocol):
    """Starts a learner process that the test's end stops; ``name`` is its state folder."""

    def __call__(self, settings: Settings, name: str = "one", *, is_awaited: bool = True) -> Worker: ...


@contextlib.contextmanager
def learners(folder: Path) -> Iterator[StartLearner]:
    """Give what starts learners; all end with the block."""
    with contextlib.ExitStack() as stack:
        numbers = itertools.count(1)

        def start(settings: Settings, name: str = "one", *, is_awaited: bool = True) -> Worker:
            own = settings.model_copy(update={"state_dir": folder / f"learner-state-{name}"})
            process = prepare_process(
                environment_of(own),
                folder / "learners",
                name=f"learner-{name}-{next(numbers)}",
                command=LEARNER_COMMAND,
            ).spawn()
            stack.callback(process.kill)  # how it stops is tested where it matters
            return process.wait_ready() if is_awaited else process

        yield start


def adapter_of(encoder: str) -> Adapter:
    """Return an adapter that does something, the same for every call."""
    return Adapter(encoder, DIM, (Centre(np.full(DIM, 0.02, dtype=np.float32)),))


# -- what the learner is told --------------------------------------------------------------------------


def vector_of(number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return a unit vector, another one for every number."""
    x = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    return np.asarray(x / np.linalg.norm(x), dtype=np.float32)


def text(offset: int, *, tenant: str = TENANT, partition: int = 0) -> ObservedText:
    """Return an observed text of a source record; the same for the same tenant_key."""
    number = 1_000_000 * partition + offset
    language = ("de", "en", None)[number % 3]
    vector = float16_field(vector_of(number))
    key = hashlib.blake2b(str(number % 50).encode(), digest_size=8).hexdigest()
    return ObservedText(Origin(DOCUMENTS, partition, offset), tenant, vector, language=language, key=key)


def pair(offset: int, name: str, *, tenant: str = TENANT, partition: int = 0) -> ObservedPair:
    """Return an observed pair."""
    sides = [
        ObservedSide(float16_field(vector_of(5_000_000 + 2 * offset + side)), language, f"text {side}")
        for side, language in enumerate(("de", "en"))
    ]
    return ObservedPair(Origin(PAIRS, partition, offset), tenant, name, *sides)


def example(offset: int, name: str, *, tenant: str = TENANT, partition: int = 0) -> ObservedExample:
    """Return an observed example."""
    vector = float16_field(vector_of(7_000_000 + offset))
    origin = Origin(FEEDBACK, partition, offset)
    return ObservedExample(origin, tenant, name, "tags", "w8", vector)


class Observer:
    """Writes to ``observations.v1`` as workers do."""

    def __init__(self, settings: Settings, encoder: str) -> None:
        self._settings = settings
        self._topic = settings.topic_prefix + OBSERVATIONS
        self._encoder = encoder
        self._producer = open_producer(settings)

    def observe(self, items: Sequence[Observed], *, timestamp_ms: int | None = None) -> int:
        """Write one record; return its offset once it is confirmed."""
        (value,) = observations.packed(items, encoder=self._encoder, dim=DIM)
        return self.write(value, timestamp_ms=timestamp_ms)

    def texts(self, start: int, stop: int, *, tenant: str = TENANT, size: int = 16, **options: Any) -> int:
        """Write the texts of a range of source offsets, some to a record; return the last record's offset."""
        offset = -1
        for first in range(start, stop, size):
            numbers = range(first, min(first + size, stop))
            offset = self.observe([text(number, tenant=tenant, **options) for number in numbers])
        return offset

    def control(self, action: observations.Action, **fields: Any) -> int:
        """Write what a person asks for; return the record's offset."""
        control = Control(id=f"{action}-{time.monotonic_ns()}", action=action, **fields)
        return self.write(observations.encode(ObservationsV1(control=control)))

    def write(self, value: bytes | None, *, timestamp_ms: int | None = None) -> int:
        """Write one record; return its offset once it is confirmed."""
        return int(self._producer.send(self._topic, value, timestamp_ms=timestamp_ms).get(timeout=60).offset)

    def write_to(self, topic: str, key: bytes, value: bytes | None, headers: Iterable[Header]) -> None:
        """Write one record to another topic of the service."""
        self._producer.send(self._settings.topic_prefix + topic, value, key=key, headers=list(headers)).get(
            60
        )

    def empty_redis(self) -> None:
        """Remove everything, as somebody's FLUSHALL does."""
        with contextlib.closing(redis.Redis.from_url(self._settings.redis_url, socket_timeout=5)) as client:
            client.flushall()

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()


class Stream:
    """Observations at an even rate until the block is left: texts of two tenants, feedback, and some of it twice.

    Workers that were killed observe again what they had not committed, in other batches: every third record is
    followed by a copy of the texts before it, together with the next.
    """

    def __init__(self, settings: Settings, encoder: str, *, per_second: float) -> None:
        self._settings = settings
        self._encoder = encoder
        self._pause_seconds = 1 / per_second
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="observations")
        self.last = -1
        self.n_texts = 0

    def _run(self) -> None:
        try:
            with contextlib.closing(Observer(self._settings, self._encoder)) as observer:
                for number in itertools.count():
                    if self._stop.wait(self._pause_seconds):
                        break
                    first = 12 * number
                    repeated = range(first - 8, first) if number % 3 == 2 else range(0)
                    texts = [*repeated, *range(first, first + 12)]
                    items: list[Observed] = [
                        text(item, tenant="other" if item % 4 == 0 else TENANT) for item in texts
                    ]
                    if number % 10 == 9:
                        items += [pair(number, f"pair-{number}"), example(number, f"example-{number}")]
                    self.last = observer.observe(items)
                    self.n_texts = first + 12
        except BaseException as error:  # noqa: BLE001 (raised in the test's thread)
            self._failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "the observations did not end within 90 s"
        if self._failure is not None:
            raise self._failure


# -- what it has written -------------------------------------------------------------------------------


class Topic:
    """All records of a topic, read with a second client, more of them with every look."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._topics = Topics(settings, name)
        self.records: list[Seen] = []

    def look(self) -> list[Seen]:
        """Take in what has come, and return all."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while found := self._topics.poll(0.2):
            self.records += found
            assert time.monotonic() < deadline, "records go on coming: nobody stopped what makes them"
        return self.records

    def close(self) -> None:
        """Close the connection."""
        self._topics.close()


class Ledger:
    """``epochs.v1`` from its first record, and what is asked of it."""

    def __init__(self, settings: Settings) -> None:
        self._topic = Topic(settings, EPOCHS)
        self.log = EpochLog()
        #: Every manifest that counted when it was written, in order; of epochs and parts, all that ever were.
        self.announced: list[EpochV1] = []
        self.claims: list[Claim] = []
        self.n_seen = 0

    @property
    def records(self) -> list[Seen]:
        """All records."""
        return self._topic.records

    def look(self) -> EpochLog:
        """Read on, and return the log."""
        for record in self._topic.look()[self.n_seen :]:
            manifest = self.log.apply(record.key, record.value, record.headers)
            if isinstance(manifest, EpochV1):
                self.announced.append(manifest)
            elif isinstance(manifest, Claim):
                self.claims.append(manifest)
            self.n_seen += 1
        return self.log

    def wait_for(self, condition: Callable[[EpochLog], object], what: str) -> EpochLog:
        """Read on until something holds."""
        wait_until(lambda: condition(self.look()), what, SETTLE_SECONDS)
        return self.log

    def wait_until_read(self, offset: int) -> EpochLog:
        """Wait until the observations up to an offset, it included, are in the log."""
        return self.wait_for(
            lambda log: log.progress is not None and log.progress.position > offset,
            f"observation {offset} is in the epoch log",
        )

    def numbers(self, tenant_key: TenantKey) -> list[int]:
        """Return the numbers of a tenant's epochs, in the order in which they came to serve."""
        return [item.current.number for item in self.announced if (item.encoder, item.tenant) == tenant_key]

    def versions(self, tenant_key: TenantKey) -> dict[int, set[str]]:
        """Return every number of a tenant's epochs with the sha256 of all that were published under it."""
        found: dict[int, set[str]] = {}
        for item in self.announced:
            if (item.encoder, item.tenant) == tenant_key:
                found.setdefault(item.current.number, set()).add(item.current.sha256)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._topic.close()


def compacted(records: Iterable[Seen]) -> EpochLog:
    """Return the log as it reads once the broker has kept only the last record of each key."""
    log = EpochLog()
    for record in sorted({record.key: record for record in records}.values(), key=lambda item: item.offset):
        log.apply(record.key, record.value, record.headers)
    return log


def committed_observations(settings: Settings) -> int | None:
    """Return the next observation that the learner's group would read."""
    partition = kafka.TopicPartition(settings.topic_prefix + OBSERVATIONS, 0)
    with contextlib.closing(kafka.KafkaAdminClient(**kafka_options(settings))) as admin:
        found = admin.list_group_offsets({settings.learner_group: [partition]})[settings.learner_group]
    return int(found[partition].offset) if found[partition].offset >= 0 else None


# -- what it should have written -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a learner that nobody disturbed makes of the same observations."""

    learning: Learning
    decisions: list[Decision]

    def versions(self, tenant_key: TenantKey) -> dict[int, set[str]]:
        """Return every number of a tenant's epochs with the sha256 of what is published under it."""
        return {
            decision.epoch.number: {decision.epoch.sha256}
            for decision in self.decisions
            if isinstance(decision, Opened) and (decision.epoch.encoder, decision.epoch.tenant) == tenant_key
        }


def undisturbed(settings: Settings) -> Expected:
    """Compute what the observations that are in the topic make, without a learner process."""
    learning = Learning(lambda encoder, _: adapter_of(encoder), max_tenants=settings.max_tenants)
    with contextlib.closing(Topic(settings, OBSERVATIONS)) as topic:
        decisions = [
            decision
            for record in topic.look()
            for decision in learning.take(record.offset, round(record.timestamp * 1000), record.value)
        ]
    return Expected(learning, decisions)


def assert_equal_to_undisturbed(settings: Settings, ledger: Ledger) -> Expected:
    """Compare the epoch log with what its observations make: states byte by byte, every epoch, the marks."""
    ledger.look()
    expected = undisturbed(settings)
    log = ledger.wait_until_read(expected.learning.position - 1)
    restored = Learning.restored(log, lambda *_: None, max_tenants=settings.max_tenants)
    assert restored.marks == expected.learning.marks
    assert restored.tenancies.keys() == expected.learning.tenancies.keys()
    for tenant_key, tenancy in expected.learning.tenancies.items():
        stored = log.states[tenant_key]
        found = {name: log.reassembled(parts) for name, parts in stored.sections.items()}
        assert found == sections_of(tenancy), f"the state of {tenant_key} differs"
        assert ledger.versions(tenant_key) == expected.versions(tenant_key), (
            f"the epochs of {tenant_key} differ"
        )
    return expected


def assert_whole(log: EpochLog) -> None:
    """Every part that a manifest names is there, and none that nobody names."""
    assert log.referenced == log.parts.keys()
    for tenant_key, state in log.states.items():
        for name, parts in state.sections.items():
            assert log.reassembled(parts) is not None, (tenant_key, name)
    for tenant_key, epoch in log.epochs.items():
        for version in epoch.versions:
            blob = log.reassembled(version.parts)
            assert blob is not None, (tenant_key, version.number)
            assert hashlib.sha256(blob).hexdigest() == version.sha256
