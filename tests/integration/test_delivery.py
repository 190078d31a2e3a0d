"""Nothing is lost, whatever is killed; and a worker that is asked to leave repeats nothing.

Faults are put where they hurt: a worker is killed or asked to leave while its journal names records in hand.
"""

import contextlib
import json
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from oracle import (
    DRAIN_SECONDS,
    N_KEYS,
    Load,
    Outputs,
    Place,
    StartWorker,
    Verdict,
    judge,
    metric,
    notes,
    numbered,
    open_producer,
    wait_for_batch,
    wait_until,
)
from tiny_encoder import MAX_TOKENS, text_of

from alignstream.ops.embedded.broker import Broker
from alignstream.ops.embedded.redis import RedisServer
from alignstream.ops.embedded.worker import Worker
from alignstream.ops.topics import create_topics
from alignstream.streams.settings import Settings, load
from alignstream.streams.topics import DOCUMENTS

#: Below what the slow encoder can do, so that what waits after a fault is worked off.
PER_SECOND = 60.0
N_KILLS = 3
N_STOPS = 20
#: Records that a killed worker may have published and not committed: those since its last commit, and its batch.
MAX_DUPLICATES_PER_KILL = 150


def report(verdict: Verdict, what: str, record_property: "RecordProperty") -> None:
    """Keep the figures with the test's result."""
    record_property(what, str(verdict))


def state_dir(worker: Worker) -> Path:
    """Return the folder in which a worker of ``start_worker`` keeps its journal."""
    return worker.folder.parent / f"state-{worker.name.rpartition('-')[2]}"


def kill_in_mid_batch(worker: Worker) -> None:
    wait_for_batch(state_dir(worker))
    worker.kill()


def test_a_worker_killed_in_mid_batch_loses_nothing_and_repeats_little(
    slow_settings: Settings, start_worker: StartWorker, record_property: "RecordProperty"
) -> None:
    worker = start_worker(slow_settings)
    with contextlib.closing(Outputs(slow_settings)) as outputs:
        with Load(slow_settings, per_second=PER_SECOND) as stream:
            for number in range(1, N_KILLS + 1):
                n_before = len(outputs.records)
                wait_until(
                    lambda n_before=n_before: outputs.look() is not None and len(outputs.records) > n_before + 20,  # type: ignore[misc]
                    f"outputs before kill {number}",
                    DRAIN_SECONDS,
                )
                kill_in_mid_batch(worker)
                assert stream.n_sent > 0
                worker.restart()
        verdict = judge(slow_settings, stream.confirmed, outputs)
    report(verdict, "kill -9", record_property)
    assert not verdict.faults, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    assert verdict.n_dead == 0, "a burst of kills condemns nobody"
    assert verdict.n_duplicates <= N_KILLS * MAX_DUPLICATES_PER_KILL, verdict
    assert not notes(state_dir(worker)), "nothing is left in the journal"


@pytest.mark.kafka
def test_workers_that_come_and_go_repeat_and_reorder_nothing(
    own_kafka: Broker,
    redis_server: RedisServer,
    slow_artifact: Path,
    tmp_path: Path,
    start_worker: StartWorker,
    record_property: "RecordProperty",
) -> None:
    settings = load(
        broker=own_kafka.address,
        redis_url=redis_server.url,
        group="come-and-go",
        artifact=slow_artifact,
        adapter="identity",
        cache_dir=tmp_path / "cache",
        session_timeout_seconds=6.0,
        # One core each, so that both workers, the broker and the load get their share.
        threads=1,
        metrics_port=0,
        log_format="text",
    )
    create_topics(settings)
    workers = [start_worker(settings), start_worker(settings)]
    codes: list[int | None] = []
    failures: list[BaseException] = []

    def come_and_go(worker: Worker) -> None:
        try:
            for _ in range(N_STOPS // len(workers)):
                wait_for_batch(state_dir(worker))
                codes.append(worker.stop())
                worker.start()
        except BaseException as error:  # noqa: BLE001 (raised in the test's thread)
            failures.append(error)

    with contextlib.closing(Outputs(settings)) as outputs:
        with Load(settings, per_second=PER_SECOND) as stream:
            threads = [threading.Thread(target=come_and_go, args=(worker,)) for worker in workers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures, failures
            sent_after_last_stop = stream.n_sent
            wait_until(lambda: stream.n_sent > sent_after_last_stop + 60, "the stream goes on")
        verdict = judge(settings, stream.confirmed, outputs)
    report(verdict, "SIGTERM", record_property)
    assert codes == [0] * N_STOPS
    assert not verdict.faults, verdict
    assert verdict.n_duplicates == 0, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    for worker in workers:
        assert "Traceback" not in worker.log()


@pytest.mark.kafka
def test_a_broker_killed_and_restarted_on_its_log_costs_no_record(
    own_kafka: Broker,
    redis_server: RedisServer,
    slow_artifact: Path,
    tmp_path: Path,
    start_worker: StartWorker,
    record_property: "RecordProperty",
) -> None:
    settings = load(
        broker=own_kafka.address,
        redis_url=redis_server.url,
        artifact=slow_artifact,
        adapter="identity",
        cache_dir=tmp_path / "cache",
        session_timeout_seconds=6.0,
        metrics_port=0,
        log_format="text",
    )
    create_topics(settings)
    worker = start_worker(settings)
    with contextlib.closing(Outputs(settings)) as outputs:
        with Load(settings, per_second=PER_SECOND) as stream:
            wait_until(lambda: outputs.look() is not None and len(outputs.records) > 50, "outputs")
            wait_for_batch(state_dir(worker))
            own_kafka.kill()
            own_kafka.restart()
            n_before = metric(worker, "records_consumed_total") if worker.is_running else 0.0
            if not worker.is_running:  # its supervisor would do the same
                worker.start()
            wait_until(
                lambda: metric(worker, "records_consumed_total") > n_before + 50, "work goes on", DRAIN_SECONDS
            )
        verdict = judge(settings, stream.confirmed, outputs)
    report(verdict, "broker kill -9", record_property)
    assert not verdict.faults, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    assert verdict.n_duplicates <= MAX_DUPLICATES_PER_KILL, verdict


def test_a_record_that_kills_its_worker_alone_is_given_up_and_its_neighbours_are_not(
    slow_settings: Settings, start_worker: StartWorker
) -> None:
    # The test is the killer: it kills the worker whenever the journal names the one record, and only then.
    attempts = 2
    settings = slow_settings.model_copy(update={"crash_attempts": attempts, "batch_records": 8})
    documents = [numbered("key", number) for number in range(8)]
    # At the encoder's limit, so that there is time to see it in hand.
    documents[4] = {"id": "the killer", "text": text_of(4, MAX_TOKENS)}
    with (
        contextlib.closing(open_producer(settings)) as producer,
        contextlib.closing(Outputs(settings)) as outputs,
    ):
        topic = settings.topic_prefix + DOCUMENTS
        sent = [
            producer.send(topic, json.dumps(document).encode(), key=b"one partition").get(30)
            for document in documents
        ]
        places: list[Place] = [(item.partition, item.offset) for item in sent]
        partition, killer = places[4]
        worker = start_worker_and_kill_when(
            lambda: killer in notes_of(worker_state(settings), partition)["in_hand"], settings, start_worker
        )
        for attempt in range(1, attempts + 1):
            pass
        outputs.wait_for(places)
        letter = outputs.dead(places[4])
    del worker, letter, attempt, random, signal, time, N_KEYS
