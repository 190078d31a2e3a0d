"""Passwords and certificates: SASL_SSL with SCRAM, mutual TLS, and Redis with TLS and a user of few rights."""

import contextlib
import dataclasses
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kafka
import numpy as np
import pytest
import redis
from bounded import wait_until
from kafka.admin import UserScramCredentialUpsertion
from running_service import FAILED, SESSION_TIMEOUT_SECONDS, RunKafka, Shell, ready
from started_servers import environment_of, start_redis, start_worker
from tiny_encoder import DIM

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.errors import AlignstreamError, RegistryUnavailable
from alignstream.ops.admin.registry import push_adapter
from alignstream.ops.client.broker_topics import create_topics, describe_topics
from alignstream.ops.client.client import Client
from alignstream.ops.local.ports import LOOPBACK, free_port
from alignstream.ops.local.redis import RedisServer
from alignstream.ops.local.supervised import worker
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings, load

pytestmark = pytest.mark.kafka

USER, PASSWORD = "aligner", "correct horse battery staple"
REDIS_PASSWORD = "another secret"  # noqa: S105 (of a server that lives for a minute)
#: What a worker needs of Redis, and nothing more.
WORKER_RIGHTS = (
    "on resetkeys ~alignstream:* resetchannels &alignstream:events -@all "
    "+get +strlen +smembers +subscribe +unsubscribe +ping"
)


class Certificates(NamedTuple):
    """PEM files: an authority, a server with its key in one file, a client, and an authority that nobody knows."""

    ca: Path
    server: Path
    client: Path
    client_key: Path
    stranger: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    openssl = shutil.which("openssl")
    assert openssl is not None, "these tests make their certificates with the openssl command"

    def make(name: str, *options: str) -> tuple[Path, Path]:
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        files = ["-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}"]
        done = subprocess.run(
            [*command, *files, *options], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return key, certificate

    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")
    ca_key, ca = make("authority", *authority)
    _, stranger = make("stranger", *authority)
    signed = ("-CA", str(ca), "-CAkey", str(ca_key), "-addext", "basicConstraints=critical,CA:FALSE")
    server_key, server = make("server", *signed, "-addext", f"subjectAltName=IP:{LOOPBACK}")
    client_key, client = make("client", *signed)
    both = folder / "server-with-key.pem"
    both.write_text(server_key.read_text() + server.read_text())
    return Certificates(ca, both, client, client_key, stranger)


class Secure(NamedTuple):
    """Addresses of one broker: open, with passwords over TLS, and with certificates."""

    plain: str
    passwords: str
    mutual: str


@pytest.fixture(scope="module")
def secure_kafka(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, run_kafka: RunKafka
) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    plain, controller, passwords, mutual = (free_port() for _ in range(4))
    # Where a broker's folder names ports, it takes these.
    (folder / "server.properties").write_text(
        f"listeners=PLAINTEXT://{LOOPBACK}:{plain},CONTROLLER://{LOOPBACK}:{controller}\n"
    )
    advertised = f"PLAINTEXT://{LOOPBACK}:{plain},SASL_SSL://{LOOPBACK}:{passwords},SSL://{LOOPBACK}:{mutual}"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    overrides = {
        "listeners": f"{advertised},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": advertised,
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL"
        ),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
        "listener.name.ssl.ssl.client.auth": "required",
    }
    with run_kafka(folder, overrides) as broker:
        assert broker.port == plain
        with contextlib.closing(kafka.KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                user = UserScramCredentialUpsertion(USER, mechanism, PASSWORD)
                assert admin.alter_user_scram_credentials([user]) == {USER: None}
        yield Secure(*(f"{LOOPBACK}:{port}" for port in (plain, passwords, mutual)))


class Front(socketserver.ThreadingTCPServer):
    """Speaks TLS for a server that does not: not every build of Redis does."""

    daemon_threads = True

    def __init__(self, port: int, certificates: Certificates) -> None:
        self.back = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates.server)
        super().__init__((LOOPBACK, free_port()), _Pass)
        self.port: int = self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that does not trust us leaves, as it should."""


class _Pass(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        front: Front = self.server  # type: ignore[assignment]
        with (
            front.context.wrap_socket(self.request, server_side=True) as near,
            socket.create_connection((LOOPBACK, front.back)) as far,
        ):
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join(60)


def _copy(source: socket.socket, goal: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            goal.sendall(data)
    for end in (source, goal):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def secure_redis(certificates: Certificates, tmp_path: Path) -> Iterator[str]:
    """Yield the address of a Redis behind TLS, with a user for workers, and one that may do all."""
    with (
        start_redis(tmp_path / "redis") as server,
        contextlib.closing(redis.Redis.from_url(server.url)) as client,
        Front(server.port, certificates) as front,
    ):
        for user, rights in (("worker", WORKER_RIGHTS), ("publisher", "on ~* &* +@all")):
            command = ["ACL", "SETUSER", user, f">{REDIS_PASSWORD}", *rights.split()]
            client.execute_command(*command)  # type: ignore[no-untyped-call] # the library's
        client.acl_setuser("default", enabled=False)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield f"rediss://{LOOPBACK}:{front.port}/0"
        front.shutdown()


@pytest.fixture
def settings(secure_kafka: Secure, tiny_artifact: Path, topic_prefix: str, tmp_path: Path) -> Settings:
    """Return settings without any way in; the topics are made."""
    found = load(
        broker=secure_kafka.plain,
        topic_prefix=topic_prefix,
        group=f"{topic_prefix}group",
        artifact=tiny_artifact,
        cache_dir=tmp_path / "cache",
        state_dir=tmp_path / "state",
        session_timeout_seconds=SESSION_TIMEOUT_SECONDS,
        metrics_port=0,
        log_format="text",
        adapter="identity",
    )
    create_topics(found)
    return found


def changed(settings: Settings, **values: Any) -> Settings:
    """Return settings with others, checked as those of a user are."""
    return load(**{**settings.model_dump(exclude_unset=True), **values})


@dataclasses.dataclass(frozen=True)
class WaysIn:
    """The settings of this test with each way in, and with those that are refused and what must be said."""

    by_password: Settings
    by_certificate: Settings
    refused: dict[str, tuple[Settings, str]]


@pytest.fixture
def ways_in(settings: Settings, secure_kafka: Secure, certificates: Certificates, tmp_path: Path) -> WaysIn:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(f"{PASSWORD}\n")
    wrong.write_text("wrong\n")
    by_password = changed(
        settings,
        broker=secure_kafka.passwords,
        broker_security="SASL_SSL",
        broker_username=USER,
        broker_password_file=right,
        broker_ca_file=certificates.ca,
    )
    without_certificate = changed(
        settings, broker=secure_kafka.mutual, broker_security="SSL", broker_ca_file=certificates.ca
    )
    by_certificate = changed(
        without_certificate, broker_cert_file=certificates.client, broker_key_file=certificates.client_key
    )
    refused = {
        "a wrong password": (changed(by_password, broker_password_file=wrong), "user name or password"),
        "an authority nobody knows": (
            changed(by_password, broker_ca_file=certificates.stranger),
            "certificate verify failed",
        ),
        "no client certificate": (without_certificate, "bad certificate"),
        "no TLS where it is needed": (
            changed(by_certificate, broker=secure_kafka.plain),
            "no TLS connection",
        ),
    }
    return WaysIn(by_password, by_certificate, refused)


REFUSALS = (
    "a wrong password",
    "an authority nobody knows",
    "no client certificate",
    "no TLS where it is needed",
)


def test_worker_and_client_work_with_passwords_over_tls_on_broker_and_redis(
    ways_in: WaysIn, certificates: Certificates, secure_redis: str, tmp_path: Path
) -> None:
    secured = changed(
        ways_in.by_password,
        redis_url=secure_redis,
        redis_ca_file=certificates.ca,
        redis_username="worker",
        redis_password=REDIS_PASSWORD,
        adapter="default",
    )
    fingerprint = read_manifest(secured.artifact or Path()).fingerprint
    adapter = Adapter(fingerprint, DIM, (Centre(np.full(DIM, 0.1, dtype=np.float32)),))
    with pytest.raises(AlignstreamError, match="refused"):
        push_adapter(secured, "default", adapter.blob)  # a worker's rights are to read
    push_adapter(changed(secured, redis_username="publisher"), "default", adapter.blob)
    with start_worker(environment_of(secured), tmp_path / "worker") as running, Client(secured) as client:
        result = client.await_result(client.produce("w1 w2", labels=["w1", "w3"]))
        assert result.vector.fields.adapter_version == adapter.version
        assert result.labels is not None
        newer = Adapter(fingerprint, DIM, (Centre(np.full(DIM, -0.1, dtype=np.float32)),))
        push_adapter(changed(secured, redis_username="publisher"), "default", newer.blob)

        def version() -> str:
            return client.await_result(client.produce("w1")).vector.fields.adapter_version

        wait_until(lambda: version() == newer.version, "the hint reaches a worker with few rights", 3)
        log = running.log()
    for secret in (PASSWORD, REDIS_PASSWORD):
        assert secret not in log
    assert "Traceback" not in log


def test_worker_and_client_work_with_certificates(
    ways_in: WaysIn, redis_server: RedisServer, tmp_path: Path
) -> None:
    secured = changed(ways_in.by_certificate, redis_url=redis_server.url)
    with start_worker(environment_of(secured), tmp_path / "worker"), Client(secured) as client:
        assert client.await_result(client.produce("w1 w2")).vector.array.shape == (DIM,)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_both_mechanisms_let_the_tools_in(ways_in: WaysIn, mechanism: str) -> None:
    found = describe_topics(changed(ways_in.by_password, broker_sasl_mechanism=mechanism))
    assert all(topic.exists for topic in found)


@pytest.mark.parametrize("why", REFUSALS)
def test_the_tools_say_why_they_are_not_let_in(ways_in: WaysIn, why: str) -> None:
    refused, said = ways_in.refused[why]
    _, err = Shell(environment_of(refused))("topics", "describe", expect=FAILED)
    assert said in err
    assert PASSWORD not in err


@pytest.mark.parametrize("why", REFUSALS[:2])
def test_a_worker_says_why_it_is_not_let_in_and_waits(
    ways_in: WaysIn, redis_server: RedisServer, tmp_path: Path, why: str
) -> None:
    refused, said = ways_in.refused[why]
    process = worker(environment_of(changed(refused, redis_url=redis_server.url)), tmp_path / "worker")
    process.spawn()

    def problem() -> str:
        with contextlib.suppress(OSError):
            status, body = ready(process)
            assert status == 503
            found: str = body["waiting"].get("broker", "")
            return found
        return ""

    try:
        wait_until(lambda: problem() not in {"", "not connected"}, "it says what is wrong")
        assert said in problem()
        assert problem() in process.log()
        assert PASSWORD not in process.log()
    finally:
        assert process.stop() == 0, "and it can be stopped"


def test_redis_refusals_are_named(settings: Settings, certificates: Certificates, secure_redis: str) -> None:
    values = {"redis_url": secure_redis, "redis_username": "worker", "redis_password": REDIS_PASSWORD}
    good = changed(settings, redis_ca_file=certificates.ca, **values)
    with contextlib.closing(open_store(good)) as store:
        assert store.pointers("adapter") == {}
    for wrong, said in (
        ({"redis_password": "wrong"}, "refused the credentials"),
        ({"redis_ca_file": certificates.stranger}, "certificate"),
        ({"redis_ca_file": None}, "certificate"),
    ):
        with (
            contextlib.closing(open_store(changed(good, **wrong))) as store,
            pytest.raises(RegistryUnavailable, match=said) as caught,
        ):
            store.pointers("adapter")
        assert REDIS_PASSWORD not in str(caught.value)
