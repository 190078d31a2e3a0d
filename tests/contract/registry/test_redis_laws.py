"""What a registry in Redis holds, and that it is unavailable in bounded time when Redis is away."""

import contextlib
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from registry_places import (
    BLOB,
    BOUND_SECONDS,
    LOOPBACK,
    OTHER,
    RedisPlace,
    Server,
    assert_unavailable,
    calls_of,
    current,
    opened,
    seconds_of,
    sha256_of,
)

from alignstream.models.errors import RegistryCorrupt, RegistryUnavailable
from alignstream.models.registry import layout as wire
from alignstream.models.registry.memory_store import MemoryStore


@pytest.mark.parametrize("part", ["current", "history", "names", "blob"])
def test_another_type_of_value_is_corrupt_and_is_not_overwritten(redis_place: RedisPlace, part: str) -> None:
    good = redis_place.writer.publish("adapter", "good", OTHER)
    pointer = redis_place.writer.publish("adapter", "default", BLOB)
    key = {
        "current": current(),
        "history": wire.history_key("adapter", "default"),
        "names": wire.names_key("adapter"),
        "blob": wire.blob_key("adapter", "default", pointer.sha256),
    }[part]
    redis_place.remove(key)
    redis_place.raw.hset(key, "field", "value")
    reads: dict[str, Callable[[], object]] = {
        "current": lambda: redis_place.reader.pointer("adapter", "default"),
        "history": lambda: redis_place.reader.history("adapter", "default"),
        "names": lambda: redis_place.reader.pointers("adapter"),
        "blob": lambda: redis_place.reader.blob("adapter", "default", pointer.sha256),
    }
    with pytest.raises(RegistryCorrupt, match=key):
        reads[part]()
    if part == "current":
        found = redis_place.reader.pointers("adapter")
        assert isinstance(found["default"], RegistryCorrupt)
        assert found["good"] == good
    if part == "blob":  # named by its content: the right bytes are right whatever lay there
        redis_place.writer.publish("adapter", "default", BLOB)
        assert reads[part]() == BLOB
        return
    with pytest.raises(RegistryCorrupt, match=key):
        redis_place.writer.publish("adapter", "default", OTHER)
    assert redis_place.raw.hgetall(key) == {b"field": b"value"}
    if part != "current":
        assert redis_place.reader.pointer("adapter", "default") == pointer


def test_a_listed_name_that_cannot_be_one_is_reported(redis_place: RedisPlace) -> None:
    good = redis_place.writer.publish("adapter", "good", BLOB)
    redis_place.raw.sadd(wire.names_key("adapter"), b"../x", b"\xff")
    found = dict(redis_place.reader.pointers("adapter"))
    assert found.pop("good") == good
    assert set(found) == {"../x", "\\xff"}
    assert all(isinstance(error, RegistryCorrupt) for error in found.values())


def test_what_is_too_large_is_never_fetched(redis_place: RedisPlace) -> None:
    pointer = redis_place.writer.publish("adapter", "default", BLOB)
    key = wire.blob_key("adapter", "default", pointer.sha256)
    redis_place.raw.setrange(key, wire.BLOB_BYTES_MAX, b"x")
    redis_place.raw.setrange(current(), 50_000_000, b"x")
    redis_place.raw.config_resetstat()
    with pytest.raises(RegistryCorrupt, match="at most"):
        redis_place.reader.blob("adapter", "default", pointer.sha256)
    with pytest.raises(RegistryCorrupt, match="at most"):
        redis_place.reader.pointer("adapter", "default")
    assert isinstance(redis_place.reader.pointers("adapter")["default"], RegistryCorrupt)
    assert "cmdstat_get" not in redis_place.raw.info("commandstats")


def test_a_history_does_not_grow_without_bound_in_redis(
    redis_place: RedisPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HISTORY_MAX", 3)
    for _ in range(5):
        redis_place.writer.publish("adapter", "default", BLOB)
    assert redis_place.raw.llen(wire.history_key("adapter", "default")) == 3


def test_nothing_in_the_registry_expires(redis_place: RedisPlace) -> None:
    redis_place.writer.publish("adapter", "default", BLOB)
    keys: Any = redis_place.raw.keys("*")
    assert len(keys) == 4
    assert {redis_place.raw.ttl(key) for key in keys} == {-1}


def test_the_layout_is_the_documented_one(redis_place: RedisPlace) -> None:
    pointer = redis_place.writer.publish("labels", "topics", BLOB)
    raw = redis_place.raw
    assert raw.get(f"alignstream:labels:topics:blob:{sha256_of(BLOB)}") == BLOB
    stored: Any = raw.get("alignstream:labels:topics:current")
    assert json.loads(stored)["revision"] == pointer.revision
    assert raw.lrange("alignstream:labels:topics:history", 0, -1) == [stored]
    assert raw.smembers("alignstream:labels:names") == {b"topics"}


def test_a_revision_starts_from_the_clock_of_redis(redis_place: RedisPlace) -> None:
    before: Any = redis_place.raw.time()
    revision = redis_place.writer.publish("adapter", "default", BLOB).revision
    after: Any = redis_place.raw.time()
    first, last = (seconds * 1000 + microseconds // 1000 for seconds, microseconds in (before, after))
    assert first <= revision <= last


def test_a_lost_answer_to_a_swap_is_not_sent_again(
    redis_place: RedisPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis_place.writer._client
    execute: Callable[..., object] = client.execute_command
    swaps = []

    def lose_the_answer(*command: object) -> object:
        reply = execute(*command)
        if command[0] == "EVAL":
            swaps.append(reply)
            raise redis.ConnectionError("Connection closed by server.")
        return reply

    monkeypatch.setattr(client, "execute_command", lose_the_answer)
    with pytest.raises(RegistryUnavailable, match="may have been made"):
        redis_place.writer.publish("adapter", "default", BLOB)
    assert swaps == [1]


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_frozen_redis_is_unavailable_in_bounded_time(server: Server, *, is_connected: bool) -> None:
    names = list(calls_of(MemoryStore()))
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(names)) as pool:
        opened_stores = [stack.enter_context(opened(server.url)) for _ in names]
        for store in opened_stores if is_connected else ():
            store.publish("adapter", "default", BLOB)
            for connection in store._client.connection_pool._available_connections:
                connection.next_health_check = 0.0  # the worst case: a PING is due as well
        with server.frozen():
            calls = [calls_of(store)[name] for store, name in zip(opened_stores, names, strict=True)]
            list(pool.map(assert_unavailable, calls))  # raises what one of them raised
        for store in opened_stores:
            assert store.pointers("adapter") is not None  # and all is well again


def test_a_killed_redis_is_unavailable_and_comes_back(own_server: Server) -> None:
    with opened(own_server.url) as store:
        store.publish("adapter", "default", BLOB)
        own_server.kill()
        for call in calls_of(store).values():
            assert_unavailable(call)
        own_server.start()
        assert store.pointer("adapter", "default") is None  # it kept nothing; the connection is new
        assert store.publish("adapter", "default", BLOB) == store.pointer("adapter", "default")


def test_nothing_listens_is_unavailable(own_server: Server) -> None:
    own_server.kill()
    with opened(own_server.url) as store:
        for call in calls_of(store).values():
            assert_unavailable(call)


def test_a_port_that_accepts_nothing_is_unavailable_in_bounded_time() -> None:
    # A listening socket whose queue is full drops further connections, as a firewall does.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with opened(f"redis://{LOOPBACK}:{listener.getsockname()[1]}") as store:
            assert_unavailable(lambda: store.pointer("adapter", "default"))
            assert seconds_of(lambda: store.wait_for_hint(0)) < BOUND_SECONDS
