"""The learner is killed, held up, replaced and repeated to: nothing counts twice, nothing is lost."""

import contextlib
import dataclasses
import json
import random
import time
from pathlib import Path
from typing import Any

import kafka
import pytest
import redis
from bounded import wait_until
from oracle import DRAIN_SECONDS, Load, Outputs
from running_learner import (
    ENCODER,
    PLACE,
    SETTLE_SECONDS,
    TENANT,
    Ledger,
    Observer,
    StartLearner,
    Stream,
    Topic,
    adapter_of,
    assert_equal_to_undisturbed,
    assert_whole,
    compacted,
)
from running_service import StartWorker, metric, ready, state_dir, wait_for_batch
from tiny_encoder import write_artifact

from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.registry.layout import epoch_name
from alignstream.models.serving import epoch as epochs
from alignstream.ops.admin.registry import push_adapter
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.client.connection import kafka_options
from alignstream.ops.local.redis import RedisServer
from alignstream.ops.local.supervised import Worker
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DOCUMENTS, OBSERVATIONS, VECTORS

#: A group of the local broker takes seconds for every join, and nothing survives a restart of it.
on_kafka = pytest.mark.parametrize(
    "broker", [pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True, scope="session"
)

SEED = 7


@on_kafka
def test_learners_killed_at_random_moments_lose_nothing_and_count_nothing_twice(
    learner_settings: Settings, ledger: Ledger, start_learner: StartLearner
) -> None:
    draw = random.Random(SEED)

    def start(name: str) -> Worker:
        # A static member is back at once; else the group waits for the one that was killed.
        settings = learner_settings.model_copy(update={"group_instance_id": name})
        return start_learner(settings, name, is_awaited=False)

    with Stream(learner_settings, ENCODER, per_second=25) as stream:
        learner = start("one")
        for n_claims in range(3):
            ledger.wait_for(lambda _, n=n_claims: len(terms(ledger)) > n, "it claims the log")
            time.sleep(draw.uniform(0, 2))
            learner.kill()
            learner = start("one")
        learner.wait_ready()
        learners = {"one": learner, "two": start("two").wait_ready()}

        def at_work() -> list[str]:
            return [name for name, learner in learners.items() if is_active(learner)]

        # Of two one works and the other waits, until it is needed.
        wait_until(lambda: len(at_work()) == 1, "one works", SETTLE_SECONDS)
        (first,) = at_work()
        (second,) = learners.keys() - {first}
        assert ready(learners[second])[0] == 200
        time.sleep(draw.uniform(0, 1))
        learners[first].kill()
        wait_until(lambda: at_work() == [second], "the other works", SETTLE_SECONDS)
        n_texts = stream.n_texts
        wait_until(lambda: stream.n_texts > n_texts + 50, "the load goes on")
    ledger.wait_until_read(stream.last)
    assert_equal_to_undisturbed(learner_settings, ledger)
    states = ledger.log.states
    assert sum(states[ENCODER, tenant].summary.n_seen for tenant in (TENANT, "other")) == stream.n_texts
    assert ledger.numbers(PLACE) == sorted(set(ledger.numbers(PLACE)))
    learners[second].stop()
    assert_whole(ledger.look())
    assert_whole(compacted(ledger.records))


def terms(ledger: Ledger) -> set[int]:
    return {claim.term for claim in ledger.claims}


@on_kafka
def test_a_learner_that_was_held_up_ends_when_another_has_taken_over_and_spoils_nothing(
    learner_settings: Settings, observer: Observer, ledger: Ledger, start_learner: StartLearner
) -> None:
    prefix = learner_settings.topic_prefix
    # Shorter than the wait for the first learner: that it has to wait is no stall.
    other = learner_settings.model_copy(
        update={"learner_group": f"{prefix}learner-2", "stall_timeout_seconds": 3.0}
    )
    with contextlib.closing(open_store(learner_settings)) as store:

        def served_number() -> int:
            pointer = store.pointer("epoch", epoch_name(*PLACE))
            if pointer is None:
                return 0
            blob = store.blob("epoch", pointer.name, pointer.sha256)
            return epochs.from_bytes(blob, encoder=ENCODER).number

        first = start_learner(learner_settings)
        ledger.wait_until_read(observer.texts(0, 40))
        second = start_learner(other, "two", is_awaited=False)
        wait_until(lambda: "learner" in problems(second), "the second says that it waits", SETTLE_SECONDS)
        assert "another learner" in problems(second)["learner"]
        deadline = time.monotonic() + 5
        wait_until(lambda: time.monotonic() > deadline or not second.is_running, "longer than a stall")
        assert second.is_running

        # One that waits can be told to stop.
        third = start_learner(
            learner_settings.model_copy(update={"learner_group": f"{prefix}learner-3"}),
            "three",
            is_awaited=False,
        )
        wait_until(lambda: "learner" in problems(third), "a third waits as well", SETTLE_SECONDS)
        assert third.stop(15) == 0

        # Held up with something in hand that is not written down.
        observer.texts(40, 60)
        wait_until(lambda: metric(first, "learner_observations", outcome="learned") == 60, "it has read them")
        first.freeze()
        last = observer.texts(60, 100)
        wait_until(lambda: is_active(second), "the second takes over", SETTLE_SECONDS)
        ledger.wait_until_read(last)
        wait_until(lambda: served_number() == 2, "its epoch is served")
        first.thaw()
        wait_until(lambda: not first.is_running, "the first ends", SETTLE_SECONDS)
        assert first.exit_code not in {0, None}
        assert "must no longer write to it" in first.log()
        last = observer.texts(100, 140)
        ledger.wait_until_read(last)
        assert served_number() == 3
    assert second.is_running
    assert second.stop() == 0
    assert_equal_to_undisturbed(learner_settings, ledger)
    assert ledger.numbers(PLACE) == [1, 2, 3]
    assert not ledger.log.spoiled
    assert_whole(ledger.look())
    assert_whole(compacted(ledger.records))


def is_active(learner: Worker) -> bool:
    return learner.is_running and metric(learner, "learner_active") == 1


def problems(learner: Worker) -> dict[str, str]:
    """Return what keeps a learner from being ready; nothing while it does not answer."""
    with contextlib.suppress(OSError):
        _, body = ready(learner)
        return dict(body.get("waiting", {}))
    return {}


@dataclasses.dataclass
class Processes:
    """What starts workers and learners, with settings of this test whose files lie in a folder of their own."""

    settings: Settings
    folder: Path
    start_worker: StartWorker
    start_learner: StartLearner

    def with_encoder(self, artifact: Path, **overrides: Any) -> Settings:
        """Push an adapter for an encoder; return settings with both."""
        encoder = read_manifest(artifact).fingerprint
        name = overrides.get("adapter", "default")
        push_adapter(self.settings, name, adapter_of(encoder).blob)
        cache_dir = self.folder / f"cache-{encoder[:8]}"
        return self.settings.model_copy(update={"artifact": artifact, "cache_dir": cache_dir, **overrides})


@pytest.fixture
def processes(
    learner_settings: Settings, tmp_path: Path, start_worker: StartWorker, start_learner: StartLearner
) -> Processes:
    return Processes(learner_settings, tmp_path, start_worker, start_learner)


@on_kafka
def test_documents_that_killed_workers_and_new_groups_read_again_count_once(
    processes: Processes, slow_artifact: Path, ledger: Ledger
) -> None:
    place = read_manifest(slow_artifact).fingerprint, TENANT
    settings = processes.with_encoder(slow_artifact, group_instance_id="only")
    processes.start_learner(settings)
    worker = processes.start_worker(settings)
    with Load(settings, per_second=60) as stream:
        wait_until(lambda: stream.n_sent > 60, "a load")
        wait_for_batch(state_dir(worker))
        worker.kill()
        worker.start()
        n_sent = stream.n_sent
        wait_until(lambda: stream.n_sent > n_sent + 60, "a load")
    n_documents = len(stream.confirmed)

    def n_counted() -> int:
        state = ledger.look().states.get(place)
        return 0 if state is None else state.summary.n_seen

    wait_until(lambda: n_counted() >= n_documents, "every document is counted", DRAIN_SECONDS)
    worker.stop()
    with contextlib.closing(Topic(settings, OBSERVATIONS)) as observed:
        n_first = sum(len(record.json.get("texts", ())) for record in observed.look())
        processes.start_worker(settings, group=f"{settings.group}-again", group_instance_id=None)
        wait_until(
            lambda: (
                sum(len(record.json.get("texts", ())) for record in observed.look()) >= n_first + n_documents
            ),
            "all is observed again",
            DRAIN_SECONDS,
        )
    assert_equal_to_undisturbed(settings, ledger)
    assert n_counted() == n_documents


@on_kafka
def test_two_encoders_on_the_same_topics_know_nothing_of_each_other(
    processes: Processes, tiny_artifact: Path, ledger: Ledger
) -> None:
    learner_settings, start_worker = processes.settings, processes.start_worker
    other_artifact = write_artifact(processes.folder / "other", weights_sha256="1" * 64)
    artifacts = {"one": tiny_artifact, "two": other_artifact}
    encoders = {name: read_manifest(artifact).fingerprint for name, artifact in artifacts.items()}
    assert len(set(encoders.values())) == 2
    processes.start_learner(learner_settings)
    settings = {
        name: processes.with_encoder(
            artifact, group=f"{learner_settings.group}-{name}", adapter=f"for-{name}"
        )
        for name, artifact in artifacts.items()
    }
    topic = learner_settings.topic_prefix + DOCUMENTS
    with contextlib.closing(kafka.KafkaProducer(**kafka_options(learner_settings))) as producer:

        def send(start: int, stop: int) -> None:
            for number in range(start, stop):
                producer.send(topic, json.dumps({"text": f"w{number} w{number + 1}"}).encode())
            producer.flush()

        send(0, 40)
        start_worker(settings["one"])
        ledger.wait_for(lambda log: (encoders["one"], TENANT) in log.epochs, "an epoch of the one")
        start_worker(settings["two"])
        ledger.wait_for(lambda log: (encoders["two"], TENANT) in log.epochs, "an epoch of the other")
        # The first one's marks are not the second's: both have seen every document.
        ledger.wait_for(
            lambda log: {state.summary.n_seen for state in log.states.values()} == {40}, "both have learned"
        )
        with contextlib.closing(Topic(learner_settings, VECTORS)) as vectors:

            def followers() -> set[str]:
                send(0, 1)
                values = [record.json for record in vectors.look()]
                return {value["encoder"] for value in values if value.get("epoch")}

            wait_until(lambda: len(followers()) == 2, "both workers follow", 60)
    log = ledger.look()
    assert log.epochs.keys() == {(encoder, TENANT) for encoder in encoders.values()}
    assert len({epoch.current.sha256 for epoch in log.epochs.values()}) == 2


@on_kafka
def test_workers_go_on_while_redis_is_away_and_get_what_was_learned_when_it_is_back(
    processes: Processes, redis_server: RedisServer, tiny_artifact: Path, ledger: Ledger
) -> None:
    encoder = read_manifest(tiny_artifact).fingerprint
    settings = processes.with_encoder(tiny_artifact, registry_poll_seconds=1.0)
    processes.start_worker(settings)
    learner = processes.start_learner(settings)
    topic = settings.topic_prefix + DOCUMENTS
    with (
        contextlib.closing(Outputs(settings)) as outputs,
        contextlib.closing(kafka.KafkaProducer(**kafka_options(settings))) as producer,
    ):

        def epoch_of_next(n: int = 1) -> int:
            sent = [
                producer.send(topic, json.dumps({"text": f"w{number % 400} w7"}).encode()).get(30)
                for number in range(n)
            ]
            places = [(item.partition, item.offset) for item in sent]
            outputs.wait_for(places)
            return int(outputs.vector(places[-1]).json.get("epoch", 0))

        epoch_of_next(40)
        wait_until(lambda: epoch_of_next() == 1, "the first epoch serves", 60)
        with contextlib.closing(redis.Redis.from_url(settings.redis_url, socket_timeout=5)) as client:
            client.flushall()
        assert epoch_of_next() >= 1
        with contextlib.closing(open_store(settings)) as store:
            name = epoch_name(encoder, TENANT)
            wait_until(lambda: store.pointer("epoch", name) is not None, "Redis is filled again", 20)
        redis_server.kill()
        number = epoch_of_next(30)
        assert number >= 1
        ledger.wait_for(
            lambda log: log.epochs[encoder, TENANT].current.number > number, "an epoch without Redis"
        )
        assert epoch_of_next() == number
        redis_server.restart()
        wait_until(lambda: epoch_of_next() > number, "the epoch serves", 60)
    assert learner.is_running


@on_kafka
def test_a_learner_waits_for_its_broker_and_its_topics_and_says_so(
    service_settings: Settings, start_learner: StartLearner
) -> None:
    learner = start_learner(service_settings, is_awaited=False)
    wait_until(lambda: "topics are missing" in problems(learner).get("broker", ""), "it says what it lacks")
    assert f"{service_settings.topic_prefix}{OBSERVATIONS}" in problems(learner)["broker"]
    away = start_learner(
        service_settings.model_copy(update={"broker": "127.0.0.1:1"}), "away", is_awaited=False
    )
    wait_until(lambda: "does not answer" in problems(away).get("broker", ""), "it says that nobody answers")
    assert away.stop() == 0
    create_topics(service_settings)
    learner.wait_ready(SETTLE_SECONDS)
    assert "waiting: topics are missing" in learner.log()
