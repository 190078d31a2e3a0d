"""What every registry does: revisions, moves, conflicts, names, pruning, damage."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_places import BLOB, OTHER, Place, current, sha256_of

from alignstream.models.errors import RegistryConflict, RegistryCorrupt, RegistryError
from alignstream.models.registry import layout as wire
from alignstream.models.registry import store as stores
from alignstream.models.registry.layout import Pointer
from alignstream.models.registry.memory_store import MemoryStore
from alignstream.models.registry.store import Store


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
