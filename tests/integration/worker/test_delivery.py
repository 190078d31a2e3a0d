"""Nothing is lost, whatever is killed; and a worker that is asked to leave repeats nothing.

Faults are put where they hurt: a worker is killed, or asked to leave, while its journal names records in
hand. Every verdict is kept with the test's result (``--junit-xml``), and printed with ``-s``.
"""

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bounded import join, wait_until
from oracle import DRAIN_SECONDS, Load, Outputs, Place, Verdict, judge, numbered, open_producer
from running_service import RunKafka, StartWorker, metric, notes, state_dir, wait_for_batch
from started_servers import environment_of
from started_servers import start_worker as start_one_worker
from tiny_encoder import MAX_TOKENS, text_of

from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.local.brokers import Broker
from alignstream.ops.local.redis import RedisServer
from alignstream.ops.local.supervised import Worker
from alignstream.ops.local.supervised import worker as prepare_worker
from alignstream.streams.kafka.watchdog import EXIT_STALLED
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.topics import DOCUMENTS

Report = Callable[[str, object], None]

#: Below what the slow encoder can do, so that what waits after a fault is worked off.
PER_SECOND = 20.0
#: A join takes the local broker six seconds.
N_KILLS = {"kafka": 2, "tansu": 2}
N_STOPS = {"kafka": 6, "tansu": 2}
CRASH_ATTEMPTS = {"kafka": 2, "tansu": 1}
#: What a killed worker may have published and not committed: a second's worth, what waited before, its batch.
MAX_DUPLICATES_PER_KILL = 150


def keep(record_property: Report, what: str, verdict: Verdict) -> None:
    record_property(what, str(verdict))
    print(f"\n{what}: {verdict}")  # noqa: T201 (for -s)


def wait_for_more(outputs: Outputs, count: int) -> None:
    """Wait until so many more records are published than there are now."""
    goal = len(outputs.records) + count

    def is_reached() -> bool:
        outputs.look()
        return len(outputs.records) >= goal

    wait_until(is_reached, f"{count} more outputs", DRAIN_SECONDS)


def test_a_worker_killed_in_mid_batch_loses_nothing_and_repeats_little(
    slow_settings: Settings, broker: Broker, start_worker: StartWorker, record_property: Report
) -> None:
    n_kills = N_KILLS[broker.kind]
    # A static member is back at once; else the group waits for the one that was killed.
    settings = slow_settings.model_copy(update={"group_instance_id": "only"})
    worker = start_worker(settings)
    with contextlib.closing(Outputs(settings)) as outputs:
        with Load(settings, per_second=PER_SECOND) as stream:
            for _ in range(n_kills):
                wait_for_more(outputs, 20)
                wait_for_batch(state_dir(worker))
                worker.kill()
                worker.start()
            wait_for_more(outputs, 1)
        verdict = judge(settings, stream.confirmed, outputs)
    keep(record_property, f"kill -9 of a worker, {n_kills} times", verdict)
    assert not verdict.faults, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    assert verdict.n_dead == 0, "a burst of kills condemns nobody"
    assert verdict.n_duplicates <= n_kills * MAX_DUPLICATES_PER_KILL, verdict
    assert not notes(state_dir(worker)), "nothing is left in the journal"


def test_workers_that_come_and_go_lose_repeat_and_reorder_nothing(
    slow_settings: Settings, broker: Broker, start_worker: StartWorker, record_property: Report
) -> None:
    # One core each, so that both workers, the broker and the stream get their share.
    workers = [start_worker(slow_settings, threads=1) for _ in range(2)]
    n_stops = N_STOPS[broker.kind]
    codes: list[int | None] = []
    failures: list[BaseException] = []

    # Two that leave, and two that join, in the same moment hang the local broker's group for ever.
    at_once = [[worker] for worker in workers] if broker.kind == "kafka" else [workers]

    def come_and_go(own: list[Worker]) -> None:
        try:
            for worker in own * (n_stops // len(workers)):
                wait_for_batch(state_dir(worker))
                codes.append(worker.stop())
                worker.start()
        except BaseException as error:  # noqa: BLE001 (shown in the test's thread)
            failures.append(error)

    with contextlib.closing(Outputs(slow_settings)) as outputs:
        with Load(slow_settings, per_second=PER_SECOND) as stream:
            threads = [threading.Thread(target=come_and_go, args=(own,)) for own in at_once]
            for thread in threads:
                thread.start()
            join(threads, f"{n_stops} stops and starts", 60.0 * n_stops)
            assert not failures, failures
            wait_for_more(outputs, 1)
        verdict = judge(slow_settings, stream.confirmed, outputs)
    keep(record_property, f"SIGTERM of a worker, {n_stops} times", verdict)
    assert codes == [0] * n_stops
    assert not verdict.faults, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    assert verdict.n_duplicates == 0, verdict
    for worker in workers:
        assert "Traceback" not in worker.log_path.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.usefixtures("_unclosed_sockets")
def test_a_broker_killed_and_restarted_on_its_log_costs_no_record(
    own_kafka: Broker,
    redis_server: RedisServer,
    slow_artifact: Path,
    tmp_path: Path,
    record_property: Report,
) -> None:
    settings = load(
        broker=own_kafka.address,
        redis_url=redis_server.url,
        artifact=slow_artifact,
        adapter="identity",
        cache_dir=tmp_path / "cache",
        state_dir=tmp_path / "state",
        session_timeout_seconds=6.0,
        metrics_port=0,
        log_format="text",
    )
    create_topics(settings)
    with (
        start_one_worker(environment_of(settings), tmp_path / "worker") as worker,
        contextlib.closing(Outputs(settings)) as outputs,
    ):
        with Load(settings, per_second=PER_SECOND) as stream:
            wait_for_more(outputs, 20)
            wait_for_batch(settings.state_dir)
            own_kafka.kill()
            own_kafka.restart()
            has_lived = worker.is_running
            if not has_lived:  # whoever supervises it would do the same
                worker.start()
            n_before = metric(worker, "records_consumed_total")
            wait_until(
                lambda: metric(worker, "records_consumed_total") > n_before + 20,
                "work goes on",
                DRAIN_SECONDS,
            )
        verdict = judge(settings, stream.confirmed, outputs)
    lived = "lived through it" if has_lived else "ended and was started again"
    keep(record_property, f"kill -9 of the broker (the worker {lived})", verdict)
    assert not verdict.faults, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    assert verdict.n_duplicates <= MAX_DUPLICATES_PER_KILL, verdict


def test_a_worker_that_the_group_never_lets_in_ends_and_is_started_again(
    run_kafka: RunKafka, redis_server: RedisServer, slow_artifact: Path, tmp_path: Path
) -> None:
    with run_kafka(tmp_path / "kafka", {"group.initial.rebalance.delay.ms": "600000"}) as broker:
        settings = load(
            broker=broker.address,
            redis_url=redis_server.url,
            artifact=slow_artifact,
            adapter="identity",
            cache_dir=tmp_path / "cache",
            state_dir=tmp_path / "state",
            stall_timeout_seconds=3.0,
            metrics_port=0,
            log_format="text",
        )
        create_topics(settings)
        waiting = prepare_worker(environment_of(settings), tmp_path / "worker").spawn()
        try:
            wait_until(lambda: not waiting.is_running, "it ends")
        finally:
            waiting.kill()
    assert waiting.exit_code == EXIT_STALLED
    assert "stalled: the consumer group did not answer for 3 s" in waiting.log()


def test_a_record_that_kills_its_worker_alone_is_given_up_and_its_neighbours_are_not(
    slow_settings: Settings, broker: Broker, start_worker: StartWorker
) -> None:
    # The test is what kills: whenever the journal names the one record in hand, first with its neighbours.
    # A static member is back at once; else the group waits for the one that was killed.
    settings = slow_settings.model_copy(
        update={"max_crashes_alone": CRASH_ATTEMPTS[broker.kind], "group_instance_id": "only"}
    )
    documents = [numbered("key", number) for number in range(8)]
    # 64 label sentences at the encoder's limit are encoded with it: time enough to be seen in hand.
    sentence = "{label} " + text_of(0, MAX_TOKENS)
    documents[4] |= {"labels": [f"w{number}" for number in range(64)], "template": sentence}
    topic = settings.topic_prefix + DOCUMENTS
    with (
        contextlib.closing(open_producer(settings)) as producer,
        contextlib.closing(Outputs(settings)) as outputs,
    ):
        futures = [producer.send(topic, json.dumps(item).encode(), key=b"same") for item in documents]
        places: list[Place] = [(sent.partition, sent.offset) for sent in (item.get(30) for item in futures)]
        partition, killer = places[4]
        worker = start_worker(settings)

        def note() -> dict[str, Any]:
            return notes(state_dir(worker)).get(partition, {})

        wait_until(lambda: killer in note().get("in_flight", {}), "it is in hand with its neighbours")
        worker.kill()
        for attempt in range(1, settings.max_crashes_alone + 1):
            worker.start()
            wait_until(
                lambda attempt=attempt: note().get("attempts", {}).get(str(killer)) == attempt,  # type: ignore[misc]
                f"it is in hand alone, attempt {attempt}",
            )
            assert not outputs.is_done(places[4])
            worker.kill()
        worker.start()
        outputs.wait_for(places)
        verdict = judge(settings, places, outputs)
        letter = outputs.dead(places[4])
    assert letter.header("alignstream.error.reason") == "inference-failed"
    assert letter.header("alignstream.error.attempts") == str(settings.max_crashes_alone)
    assert letter.json == documents[4]
    assert not verdict.faults, verdict
    assert (verdict.n_vectors, verdict.n_dead) == (7, 1)
