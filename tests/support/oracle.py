"""The judge: what went in and what came out, reread from the raw topics with kafka-python, a second client.

The worker speaks through aiokafka; nothing of it, and none of the service's own readers, is used here.
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

import kafka
from bounded import wait_until
from kafka.admin import ConfigResource, ConfigResourceType
from tiny_encoder import text_of

from alignstream.ops.client.connection import kafka_options
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DEAD_LETTERS, DOCUMENTS, LABELS, VECTORS

#: Partition and offset in the topic of documents: what every output names as its source.
Place = tuple[int, int]
Header = tuple[str, bytes | None]

#: A worker that has to be restarted, and a group that waits for a dead member, included.
DRAIN_SECONDS = 90.0
#: The key of every numbered document ends in its number's text: ``key-7``.
N_KEYS = 7


# -- what is in the topics -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One record as the second client reads it; ``topic`` without prefix, ``timestamp`` in seconds."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]

    def header(self, name: str) -> str | None:
        """Return the only value of a header, or None."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"{name} stands {len(found)} times on {self}"
        return None if not found or found[0] is None else found[0].decode()

    @property
    def json(self) -> Any:
        """The value, decoded."""
        assert self.value is not None
        return json.loads(self.value)

    @property
    def source(self) -> Place:
        """The place of the document that this was made of."""
        prefix = "alignstream.error." if self.topic == DEAD_LETTERS else "alignstream.source."
        partition, offset = self.header(f"{prefix}partition"), self.header(f"{prefix}offset")
        assert partition is not None, self
        assert offset is not None, self
        return int(partition), int(offset)


class Topics:
    """Reads some topics of the service from their beginning, again and again."""

    def __init__(self, settings: Settings, *names: str) -> None:
        self._prefix = settings.topic_prefix
        self._consumer = kafka.KafkaConsumer(
            **kafka_options(settings), group_id=None, enable_auto_commit=False, fetch_max_wait_ms=50
        )
        places = []
        for name in names:
            partitions = self._consumer.partitions_for_topic(settings.topic_prefix + name)
            assert partitions, f"there is no topic {name}"
            places += [kafka.TopicPartition(settings.topic_prefix + name, number) for number in partitions]
        self._consumer.assign(places)
        self._consumer.seek_to_beginning(*places)

    def poll(self, seconds: float = 0.1) -> list[Seen]:
        """Return what has come; the order within a partition is kept."""
        batches = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=5000)
        return [
            Seen(
                topic=raw.topic.removeprefix(self._prefix),
                partition=raw.partition,
                offset=raw.offset,
                timestamp=raw.timestamp / 1000,
                key=raw.key,
                value=raw.value,
                headers=tuple((name, value) for name, value in raw.headers),
            )
            for batch in batches.values()
            for raw in batch
        ]

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False)


class Outputs:
    """Everything that the service has published, by the document that it was made of."""

    def __init__(self, settings: Settings) -> None:
        self._topics = Topics(settings, VECTORS, LABELS, DEAD_LETTERS)
        self.records: list[Seen] = []
        self._by_source: dict[str, dict[Place, list[Seen]]] = {
            name: collections.defaultdict(list) for name in (VECTORS, LABELS, DEAD_LETTERS)
        }

    def look(self, seconds: float = 0.1) -> list[Seen]:
        """Take in what has come since the last look, and return it."""
        found = self._topics.poll(seconds)
        for record in found:
            self.records.append(record)
            self._by_source[record.topic][record.source].append(record)
        return found

    def of(self, topic: str, place: Place) -> list[Seen]:
        """Return the records of a topic that were made of one document."""
        return self._by_source[topic].get(place, [])

    def is_done(self, place: Place) -> bool:
        """Say whether a document has a vector or lies in the dead letters."""
        return place in self._by_source[VECTORS] or place in self._by_source[DEAD_LETTERS]

    def wait_for(self, places: Iterable[Place], seconds: float = DRAIN_SECONDS) -> None:
        """Look until every document has an outcome, and then once more; fail with those that have none."""
        deadline = time.monotonic() + seconds
        left = set(places)
        while left := {place for place in left if not self.is_done(place)}:
            assert time.monotonic() < deadline, f"{len(left)} without outcome: {sorted(left)[:10]}"
            self.look()
        while self.look(0.3):
            assert time.monotonic() < deadline + DRAIN_SECONDS, (
                "records go on coming: nobody stopped the load"
            )

    def vector(self, place: Place) -> Seen:
        """Return the one vector record of a document."""
        return self._only(VECTORS, place)

    def labels(self, place: Place) -> Seen:
        """Return the one label record of a document."""
        return self._only(LABELS, place)

    def dead(self, place: Place) -> Seen:
        """Return the one dead letter of a document."""
        return self._only(DEAD_LETTERS, place)

    def _only(self, topic: str, place: Place) -> Seen:
        found = self.of(topic, place)
        others = {name: len(of.get(place, [])) for name, of in self._by_source.items()}
        assert len(found) == 1, f"{place} has {others}"
        return found[0]

    def close(self) -> None:
        """Close the connection."""
        self._topics.close()


def committed(settings: Settings) -> dict[int, int]:
    """Return the group's offset by partition, where it has one."""
    with contextlib.closing(kafka.KafkaAdminClient(**kafka_options(settings))) as admin:
        topic = settings.topic_prefix + DOCUMENTS
        (described,) = admin.describe_topics([topic])
        places = [kafka.TopicPartition(topic, item["partition_index"]) for item in described["partitions"]]
        found = admin.list_group_offsets({settings.group: places})[settings.group]
        return {place.partition: item.offset for place, item in found.items() if item.offset >= 0}


def set_max_message_bytes(settings: Settings, name: str, max_message_bytes: int) -> None:
    """Change what a topic accepts (Apache Kafka alone)."""
    with contextlib.closing(kafka.KafkaAdminClient(**kafka_options(settings))) as admin:
        config = {"max.message.bytes": str(max_message_bytes)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topic_prefix + name, config)])


# -- what goes in ----------------------------------------------------------------------------------


def open_producer(settings: Settings) -> Any:
    """Return a producer that keeps the order, and outlives a broker that is away for a while."""
    return kafka.KafkaProducer(
        **kafka_options(settings),
        acks="all",
        enable_idempotence=settings.idempotence,
        max_in_flight_requests_per_connection=5 if settings.idempotence else 1,
        max_request_size=2 * 1024 * 1024,
        linger_ms=2,
        delivery_timeout_ms=120_000,
    )


def numbered(key: str, number: int) -> dict[str, Any]:
    """Return a document that says which it is; every third asks for labels."""
    document: dict[str, Any] = {"id": f"{key}-{number}", "text": text_of(number)}
    if number % 3 == 0:
        document["labels"] = ["w1", "w2", "w3"]
    return document


class Load:
    """Produces numbered documents at an even rate until stopped; a context manager.

    ``confirmed`` holds, once it is stopped, the place of every document that the broker acknowledged.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        per_second: float,
        document: Callable[[str, int], dict[str, Any]] = numbered,
    ) -> None:
        self._settings = settings
        self._pause_seconds = 1 / per_second
        self._document = document
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._futures: list[Any] = []
        self.confirmed: set[Place] = set()
        self._thread = threading.Thread(target=self._run, name="load")

    @property
    def n_sent(self) -> int:
        """How many documents were sent so far."""
        return len(self._futures)

    def _run(self) -> None:
        try:
            with contextlib.closing(open_producer(self._settings)) as producer:
                topic = self._settings.topic_prefix + DOCUMENTS
                due = time.monotonic()
                for number in itertools.count():
                    if self._stop.is_set():
                        break
                    for key in (f"key{index}" for index in range(N_KEYS)):
                        value = json.dumps(self._document(key, number)).encode()
                        self._futures.append(producer.send(topic, value, key=key.encode()))
                        due += self._pause_seconds
                        self._stop.wait(max(0.0, due - time.monotonic()))
                    due = max(due, time.monotonic() - 1.0)  # after a standstill: no burst to catch up
                producer.flush()
        except BaseException as error:  # noqa: BLE001 (raised by stop, in the test's thread)
            self._failure = error

    def stop(self) -> None:
        """Stop, and wait for every confirmation."""
        self._stop.set()
        self._thread.join(150)
        assert not self._thread.is_alive(), "the load was not confirmed within 150 s"
        if self._failure is not None:
            raise self._failure
        results = [future.get(timeout=30) for future in self._futures]
        self.confirmed = {(result.partition, result.offset) for result in results}
        assert len(self.confirmed) == len(results)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.stop()
        else:
            self._stop.set()
            self._thread.join(150)


# -- the verdict -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the documents. ``n_dead`` is no fault in itself; neither are duplicates after a crash.

    ``lost`` were confirmed and have no outcome, or lack their labels. ``phantoms`` are outputs of nothing.
    ``differing`` are copies that are not the same bytes. ``inversions`` are documents whose first vector
    comes after that of a later document of the same key. ``strayed`` lost their key or partition.
    """

    n_in: int
    n_vectors: int
    n_dead: int
    n_duplicates: int
    lost: list[Place]
    phantoms: list[Place]
    differing: list[Place]
    inversions: list[Place]
    strayed: list[Place]

    @property
    def faults(self) -> dict[str, list[Place]]:
        """What no fault in the surroundings excuses, by kind; empty where all is well."""
        kinds = ("lost", "phantoms", "differing", "inversions", "strayed")
        return {kind: getattr(self, kind)[:10] for kind in kinds if getattr(self, kind)}

    def __str__(self) -> str:
        return (
            f"in {self.n_in}, vectors {self.n_vectors}, dead {self.n_dead}, lost {len(self.lost)}, "
            f"duplicates {self.n_duplicates}, inversions {len(self.inversions)}"
        )


def judge(settings: Settings, confirmed: Iterable[Place], outputs: Outputs) -> Verdict:
    """Wait until every confirmed document has an outcome and its offset is committed; then compare all."""
    confirmed = set(confirmed)
    assert confirmed
    with contextlib.suppress(AssertionError):  # what is missing is said below, with the rest
        outputs.wait_for(confirmed)
    inputs = _inputs(settings, confirmed)
    ends = {partition: max(offset for p, offset in inputs if p == partition) + 1 for partition, _ in inputs}
    if all(outputs.is_done(place) for place in confirmed):
        wait_until(lambda: committed(settings) == ends, f"the group commits {ends}")
    vectors = [record for record in outputs.records if record.topic == VECTORS]
    lost, differing, strayed = [], [], []
    n_duplicates = 0
    for place, document in inputs.items():
        made = {name: outputs.of(name, place) for name in (VECTORS, LABELS, DEAD_LETTERS)}
        wants_labels = b'"labels"' in (document.value or b"") and not made[DEAD_LETTERS]
        if place in confirmed and (not outputs.is_done(place) or (wants_labels and not made[LABELS])):
            lost.append(place)
        n_duplicates += sum(max(0, len(copies) - 1) for copies in made.values())
        if any(len({copy.value for copy in copies}) > 1 for copies in made.values()):
            differing.append(place)
        if any(copy.key != document.key for copies in made.values() for copy in copies):
            strayed.append(place)
    return Verdict(
        n_in=len(inputs),
        n_vectors=len({record.source for record in vectors}),
        n_dead=len({record.source for record in outputs.records if record.topic == DEAD_LETTERS}),
        n_duplicates=n_duplicates,
        lost=lost,
        phantoms=[record.source for record in outputs.records if record.source not in inputs],
        differing=differing,
        inversions=_inversions(vectors),
        strayed=strayed,
    )


def _inputs(settings: Settings, confirmed: set[Place]) -> dict[Place, Seen]:
    """Return all documents: those that were confirmed, and those whose confirmation was lost on its way."""
    found: dict[Place, Seen] = {}
    with contextlib.closing(Topics(settings, DOCUMENTS)) as topics:
        deadline = time.monotonic() + DRAIN_SECONDS
        while True:
            batch = topics.poll(0.3)
            found |= {(record.partition, record.offset): record for record in batch}
            if not batch and confirmed <= found.keys():
                return found
            assert time.monotonic() < deadline, f"unreadable: {sorted(confirmed - found.keys())[:10]}"


def _inversions(vectors: Iterable[Seen]) -> list[Place]:
    """Return the documents whose first vector stands behind a later document's of the same key.

    A key's records share a partition, in the input and in the output, so that offsets say the order.
    """
    firsts: dict[Place, Seen] = {}
    for record in sorted(vectors, key=lambda record: (record.partition, record.offset)):
        firsts.setdefault(record.source, record)
    newest: dict[tuple[bytes | None, int], int] = {}
    found = []
    for (partition, offset), record in firsts.items():
        key = (record.key, record.partition)
        if newest.get(key, -1) > offset:
            found.append((partition, offset))
        newest[key] = max(offset, newest.get(key, -1))
    homes = collections.defaultdict(set)
    for record in firsts.values():
        homes[record.key].add(record.partition)
    found += [record.source for record in firsts.values() if len(homes[record.key]) > 1]
    return found
