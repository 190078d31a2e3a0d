"""The local stack on its own: brokers and Redis start, keep what they should, and leave nothing behind."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from bounded import ended, program, read_line
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from started_servers import start_kafka, start_redis

from alignstream.models.errors import ProcessError, StackError
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.local import stack as stack_module
from alignstream.ops.local.brokers import Broker, kafka_home
from alignstream.ops.local.ports import is_port_free
from alignstream.ops.local.redis import RedisServer, answers_ping, redis_binary
from alignstream.ops.local.server import Server
from alignstream.ops.local.stack import Stack, down, read_state, up
from alignstream.streams.settings import Settings, load

#: Serves /readyz as a worker does.
WEB = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["ALIGNSTREAM_METRICS_PORT"])), Handler).serve_forever()
"""
STANDS_IN = (sys.executable, "-P", "-c", WEB)
RUNS_A_STACK = """
import time
from alignstream.ops.local.stack import Stack
with Stack() as stack:
    print(stack.broker.pid, stack.redis.pid, stack.folder, flush=True)
    time.sleep(600)
"""


IS_UP_HALF_WAY = """
import sys, time
from pathlib import Path
from alignstream.ops.local.stack import up
from alignstream.streams.settings import load
def prepare(stack):
    print(stack.broker.pid, stack.redis.pid, flush=True)
    time.sleep(600)
up(load(state_dir=Path(sys.argv[1])), prepare=prepare)
"""


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Find nothing running below the tests but the servers of the session."""
    of_the_session = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    left = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie too
            left[process.pid] = process.cmdline()
    assert not set(left) - of_the_session, left


def create(address: str, topic: str) -> None:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])


def produce(broker: Broker, topic: str, values: list[bytes]) -> list[int]:
    producer = KafkaProducer(
        bootstrap_servers=broker.address,
        enable_idempotence=broker.settings.get("idempotence", True),
        acks="all",
    )
    with contextlib.closing(producer):
        sent = [producer.send(topic, value, partition=0) for value in values]
        return [record.get(20).offset for record in sent]


def consume(address: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=address, group_id=None, enable_auto_commit=False)
    with contextlib.closing(consumer):
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        values: list[bytes] = []
        for _ in range(100):
            for records in consumer.poll(timeout_ms=200).values():
                values += [record.value for record in records]
            if len(values) >= count:
                break
        return values


def gone(pids: list[int]) -> bool:
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    return not alive


def test_a_broker_serves_an_independent_client(broker: Broker, topic_prefix: str) -> None:
    create(broker.address, topic_prefix)
    assert produce(broker, topic_prefix, [b"one", b"two"]) == [0, 1]
    assert consume(broker.address, topic_prefix, 2) == [b"one", b"two"]


def test_a_broker_listens_on_loopback_alone(broker: Broker) -> None:
    listening = [
        item for item in psutil.Process(broker.pid).net_connections("tcp") if item.status == "LISTEN"
    ]
    assert broker.port in {item.laddr.port for item in listening}
    assert {item.laddr.ip.removeprefix("::ffff:") for item in listening} == {"127.0.0.1"}


def test_a_frozen_broker_keeps_its_port_and_serves_again_when_thawed(
    broker: Broker, topic_prefix: str
) -> None:
    create(broker.address, topic_prefix)
    broker.freeze()
    try:
        assert broker.is_running
        assert not is_port_free(broker.port)
    finally:
        broker.thaw()
    assert produce(broker, topic_prefix, [b"after"]) == [0]


def test_kafka_keeps_what_it_acknowledged_when_killed_and_when_started_anew_on_its_folder(
    own_kafka: Broker,
) -> None:
    address, pid = own_kafka.address, own_kafka.pid
    create(address, "t")
    produce(own_kafka, "t", [b"one", b"two"])
    own_kafka.kill()
    own_kafka.restart()
    assert own_kafka.address == address
    assert own_kafka.pid != pid
    assert consume(address, "t", 2) == [b"one", b"two"]
    assert produce(own_kafka, "t", [b"three"]) == [2]
    own_kafka.stop()
    with start_kafka(kafka_home(), own_kafka.folder, overrides={"num.partitions": "2"}) as again:
        assert again.address == address
        assert consume(address, "t", 3) == [b"one", b"two", b"three"]


def test_kafka_opens_its_folder_on_other_ports_where_its_own_are_taken(own_kafka: Broker) -> None:
    create(own_kafka.address, "t")
    produce(own_kafka, "t", [b"one"])
    own_kafka.stop()
    with socket.create_server(("127.0.0.1", own_kafka.port)):
        with start_kafka(kafka_home(), own_kafka.folder) as again:
            assert again.port != own_kafka.port
            assert consume(again.address, "t", 1) == [b"one"]
        with pytest.raises(ProcessError, match=f"port {own_kafka.port} is taken"):
            own_kafka.restart()


def test_a_folder_that_is_no_kafka_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"is no Apache Kafka: there is no bin/kafka-server-start\.sh"):
        start_kafka(tmp_path, tmp_path / "data")


def test_redis_is_new_enough_and_forgets_on_a_restart_unless_told_to_save(tmp_path: Path) -> None:
    for save in (False, True):
        with start_redis(tmp_path / str(save), save=save) as server:
            with contextlib.closing(redis.Redis.from_url(server.url)) as client:
                assert int(client.info("server")["redis_version"].split(".")[0]) >= 7
                client.set("key", "value")
            url, port = server.url, server.port
            server.kill()
            assert not answers_ping(port)
            server.restart()
            assert server.url == url
            with contextlib.closing(redis.Redis.from_url(url)) as client:
                assert client.get("key") == (b"value" if save else None)
        assert not answers_ping(port)
        assert not list((tmp_path / "False").glob("*.rdb"))


def test_a_frozen_redis_accepts_and_does_not_answer(redis_server: RedisServer) -> None:
    redis_server.freeze()
    try:
        assert not answers_ping(redis_server.port)
    finally:
        redis_server.thaw()
    assert answers_ping(redis_server.port)


def test_redis_takes_the_port_it_is_given_and_says_when_it_is_taken(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with pytest.raises(ProcessError, match=f"port {redis_server.port} is taken"):
        start_redis(tmp_path, port=redis_server.port)


def test_an_old_redis_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redis-server"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for version, is_used in (("6.2.1", False), ("7.0.15", True)):
        binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0:0'\n")
        binary.chmod(0o755)
        assert (redis_binary() == str(binary)) is is_used


def test_a_stack_gives_its_environment_and_ends_all_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stack() as stack:
        for name, value in stack.environment().items():
            monkeypatch.setenv(name, value)
        settings = load()
        assert settings.broker == stack.broker.address
        assert settings.redis_url == stack.redis.url
        assert settings.metrics_port == stack.metrics_port
        assert not settings.idempotence
        pids = [stack.broker.pid, stack.redis.pid]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert gone(pids)
    assert not stack.folder.exists()


def test_a_stack_runs_on_apache_kafka(own_kafka: Broker, tmp_path: Path) -> None:
    own_kafka.stop()  # it says that there is one
    with Stack(tmp_path / "stack", kafka_home=kafka_home()) as stack:
        assert stack.broker.kind == "kafka"
        assert stack.environment()["ALIGNSTREAM_IDEMPOTENCE"] == "true"
    assert not stack.broker.is_running
    assert not stack.redis.is_running


def test_a_stack_of_which_one_part_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, *, is_detached: bool) -> Server:
        command = (sys.executable, "-S", "-c", "raise SystemExit('no memory')")
        return Server("redis", command, folder=folder, is_ready=lambda _: False, is_detached=is_detached)

    monkeypatch.setattr(stack_module, "redis_server", broken)
    stack = Stack(tmp_path)
    with pytest.raises(ProcessError, match="no memory"):
        stack.start()
    assert gone([server.pid for server in stack.servers])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stack_leaves_nothing_when_its_program_is_ended(number: signal.Signals) -> None:
    with program([sys.executable, "-P", "-c", RUNS_A_STACK], stderr=subprocess.DEVNULL) as process:
        broker, server, folder = read_line(process, "the stack is up").split()
        assert psutil.pid_exists(int(broker))
        process.send_signal(number)
        ended(process, f"the program ends on {number.name}")
        assert gone([int(broker), int(server)])
        assert Path(folder).exists() is (number != signal.SIGINT)
        shutil.rmtree(folder, ignore_errors=True)


def test_every_test_gets_a_running_broker_fresh_names_and_an_empty_redis(
    service_settings: Settings,
) -> None:
    with contextlib.closing(redis.Redis.from_url(service_settings.redis_url)) as client:
        assert client.dbsize() == 0
    create(service_settings.broker, f"{service_settings.topic_prefix}documents.v1")
    assert service_settings.group != "alignstream"
    assert load(**service_settings.model_dump(exclude_unset=True)) == service_settings


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Settings]:
    """Yield settings with a state folder of their own, and end what a test leaves up there."""
    settings = load(state_dir=tmp_path / "state")
    yield settings
    with contextlib.suppress(StackError):
        down(settings)


def test_up_leaves_a_stack_running_that_down_ends(local: Settings) -> None:
    prepared: list[str] = []

    def prepare(stack: Stack) -> None:
        prepared.append(stack.broker.address)
        create_topics(load(broker=stack.broker.address, **stack.broker.settings))

    state = up(local, prepare=prepare, worker_command=STANDS_IN)
    assert prepared == [state.environment["ALIGNSTREAM_BROKER"]]
    assert state == read_state(local.state_dir)
    assert state.is_complete
    assert [process.name for process in state.processes] == [
        "tansu",
        "redis",
        "worker-supervisor",
        "learner-supervisor",
    ]
    assert f"export ALIGNSTREAM_BROKER={prepared[0]}\n" in state.exports()
    pids = [process.pid for process in state.processes]
    (worker,) = psutil.Process(pids[-2]).children()
    (learner,) = psutil.Process(pids[-1]).children()
    with pytest.raises(StackError, match=r"a local stack is running: tansu .*'alignstream down' ends it"):
        up(local, prepare=lambda _: None)
    create(prepared[0], "t")
    assert [process.name for process in down(local)] == [
        "learner-supervisor",
        "worker-supervisor",
        "redis",
        "tansu",
    ]
    assert gone([*pids, worker.pid, learner.pid])
    assert read_state(local.state_dir) is None
    assert down(local) == []


def test_up_that_fails_leaves_nothing_and_says_why(local: Settings) -> None:
    pids: list[int] = []

    def prepare(stack: Stack) -> None:
        pids.extend(server.pid for server in stack.servers)
        assert read_state(local.state_dir) is not None, "known to 'down' from the start on"

    command = (sys.executable, "-S", "-c", "raise SystemExit('error: the encoder is broken')")
    with pytest.raises(ProcessError, match="the encoder is broken"):
        up(local, prepare=prepare, worker_command=command)
    assert gone(pids)
    assert read_state(local.state_dir) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_up_that_is_ended_half_way_leaves_nothing_that_down_does_not_end(
    local: Settings, number: signal.Signals
) -> None:
    command = [sys.executable, "-P", "-c", IS_UP_HALF_WAY, str(local.state_dir)]
    with program(command, stderr=subprocess.DEVNULL) as process:
        pids = [int(pid) for pid in read_line(process, "broker and Redis are up").split()]
        assert len(pids) == 2
        process.send_signal(number)
        ended(process, f"'up' ends on {number.name}")
    if number == signal.SIGKILL:
        state = read_state(local.state_dir)
        assert state is not None
        assert not state.is_complete
        assert sorted(process.pid for process in down(local)) == sorted(pids)
    assert gone(pids)
    assert read_state(local.state_dir) is None


def test_down_spares_a_process_that_has_the_pid_of_one_that_ended(local: Settings) -> None:
    state = up(local, prepare=lambda _: None, with_worker=False)
    path = local.state_dir / stack_module.STATE_FILE
    stored = json.loads(path.read_text())
    boot = stored["processes"][0]["started"].rpartition("/")[0]
    innocent = {"name": "redis", "pid": os.getpid(), "started": f"{boot}/1"}
    stored["processes"].append(innocent)
    path.write_text(json.dumps(stored))
    assert [process.pid for process in down(local)] == [process.pid for process in reversed(state.processes)]


def test_up_starts_over_after_a_crash_of_all_its_processes(local: Settings) -> None:
    first = up(local, prepare=lambda _: None, with_worker=False)
    for process in first.processes:
        os.kill(process.pid, signal.SIGKILL)
    assert gone([process.pid for process in first.processes])
    second = up(local, prepare=lambda _: None, with_worker=False)
    assert second.running() == list(second.processes)
    down(local)


def test_a_state_file_that_cannot_be_read_is_named(local: Settings) -> None:
    local.state_dir.mkdir()
    path = local.state_dir / stack_module.STATE_FILE
    path.write_text("{")
    with pytest.raises(StackError, match=r"cannot read .*stack\.json"):
        down(local)
    path.unlink()


def test_up_and_down_do_not_run_at_the_same_time(local: Settings) -> None:
    def prepare(_: Stack) -> None:
        with pytest.raises(StackError, match="at work"):
            down(local)

    up(local, prepare=prepare, with_worker=False)
    down(local)
