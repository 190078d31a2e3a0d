"""What a worker serves follows the registry; what cannot be verified never serves, and the last good one goes on."""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bounded import join

from alignstream.models.adapter.adapter import IDENTITY, Adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.errors import RegistryCorrupt, RegistryError, RegistryUnavailable
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.registry import layout
from alignstream.models.registry.follower import Follower, Served
from alignstream.models.registry.last_good import LastGoodCopies
from alignstream.models.registry.layout import Kind, Pointer
from alignstream.models.registry.memory_store import MemoryStore

ENCODER = hashlib.sha256(b"encoder").hexdigest()
DIM = 4
URL = "redis://127.0.0.1:6379/0"
NAME = "default"


def adapter(shift: float, *, encoder: str = ENCODER) -> Adapter:
    return Adapter(encoder, DIM, (Centre(np.full(DIM, shift, dtype=np.float32)),))


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.looks: list[bool] = []
        self.swaps: list[tuple[Kind, str]] = []
        self.refusals: list[tuple[Kind, str, str]] = []

    def looked(self, *, registry_is_up: bool) -> None:
        self.looks.append(registry_is_up)

    def swapped(self, kind: Kind, name: str, served: Served) -> None:
        assert served.source == "registry"
        self.swaps.append((kind, name))

    def rejected(self, kind: Kind, name: str, reason: str, message: str) -> None:
        assert message
        self.refusals.append((kind, name, reason))


class Registry(MemoryStore):
    """A real store in memory that can go away, and whose bytes can be damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.refuses_blobs = False
        self.n_blobs = 0

    def pointers(self, kind: Kind) -> Mapping[str, Pointer | RegistryCorrupt]:
        if self.is_away:
            raise RegistryUnavailable("no answer in 0.5 s; is Redis running?")
        return super().pointers(kind)

    def blob(self, kind: Kind, name: str, sha256: str) -> bytes:
        self.n_blobs += 1
        if self.refuses_blobs:
            raise RegistryError("NOPERM: the user may not read it")
        return super().blob(kind, name, sha256)

    def flush(self) -> None:
        with self._changed:
            self._values.clear()
            self._histories.clear()
            self._names.clear()

    def damage(self, key: str, value: bytes | None) -> None:
        with self._changed:
            if value is None:
                del self._values[key]
            else:
                self._values[key] = value


class Scene:
    """A follower on a registry, on a disk that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry()
        self.folder = folder
        self.now = 1000.0
        self.start()

    def start(self) -> None:
        self.told = Told()
        self.follower = Follower(
            self.registry,
            LastGoodCopies(self.folder, URL),
            encoder=ENCODER,
            dim=DIM,
            listener=self.told,
            clock=lambda: self.now,
        )

    def push(self, value: Adapter | LabelSet | bytes, name: str = NAME) -> Pointer:
        kind: Kind = "labels" if isinstance(value, LabelSet) else "adapter"
        return self.registry.publish(kind, name, value if isinstance(value, bytes) else value.blob)

    def served(self, name: str = NAME) -> str | None:
        found = self.follower.catalogue.adapter(name)
        return None if found is None else found.version


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "copies")


def test_identity_always_serves_and_nothing_replaces_it(scene: Scene) -> None:
    scene.push(adapter(0.1), IDENTITY)
    scene.follower.refresh()
    found = scene.follower.catalogue.adapter(IDENTITY)
    assert found is not None
    assert found.is_identity
    assert scene.told.swaps == []


def test_a_pushed_adapter_and_label_set_serve_at_the_next_look(scene: Scene) -> None:
    assert scene.served() is None
    scene.push(adapter(0.1))
    scene.push(LabelSet(("a", "b")), "topics")
    assert scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert scene.follower.catalogue.label_set("topics") == LabelSet(("a", "b"))
    assert scene.told.swaps == [("adapter", NAME), ("labels", "topics")]
    assert scene.follower.fresh_at == 1000.0


def test_a_catalogue_in_use_never_changes(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    in_use = scene.follower.catalogue
    scene.push(adapter(0.2))
    scene.follower.refresh()
    held = in_use.adapter(NAME)
    assert held is not None
    assert held.version == adapter(0.1).version
    assert scene.served() == adapter(0.2).version
    with pytest.raises(TypeError):
        in_use.adapters["x"] = in_use.adapters[NAME]  # type: ignore[index]


def test_a_look_that_finds_nothing_new_changes_and_fetches_nothing(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    catalogue, n_blobs = scene.follower.catalogue, scene.registry.n_blobs
    scene.now = 2000.0
    scene.follower.refresh()
    assert scene.follower.catalogue is catalogue
    assert scene.registry.n_blobs == n_blobs
    assert scene.follower.fresh_at == 2000.0
    assert catalogue.adapters[NAME].since == 1000.0


def test_a_rollback_serves_the_older_version_again(scene: Scene) -> None:
    first = scene.push(adapter(0.1))
    scene.push(adapter(0.2))
    scene.follower.refresh()
    scene.registry.move("adapter", NAME, first.version)
    scene.follower.refresh()
    assert scene.served() == adapter(0.1).version


def blob_key(pointer: Pointer) -> str:
    return layout.blob_key("adapter", NAME, pointer.sha256)


def test_a_wrong_blob_is_refused_once_and_the_last_good_one_serves(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    pointer = scene.push(adapter(0.2))
    scene.registry.damage(blob_key(pointer), b"something else")
    for _ in range(3):
        scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert scene.told.refusals == [("adapter", NAME, "RegistryCorrupt")]
    assert scene.registry.n_blobs == 2
    assert ("adapter", NAME) in scene.follower.problems
    scene.push(adapter(0.3))
    scene.follower.refresh()
    assert scene.served() == adapter(0.3).version
    assert scene.follower.problems == {}


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (adapter(0.2, encoder="0" * 64).blob, "AdapterMismatch"),
        (b"\x00" * 100, "AdapterCorrupt"),
        (adapter(0.2).blob[:-5], "AdapterCorrupt"),
        (b'{"labels":["a"]}', "AdapterCorrupt"),
    ],
)
def test_an_adapter_that_is_none_of_this_encoder_is_refused(scene: Scene, blob: bytes, reason: str) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    scene.push(blob)
    scene.follower.refresh()
    scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert scene.told.refusals == [("adapter", NAME, reason)]


def test_a_label_set_that_is_none_is_refused(scene: Scene) -> None:
    scene.registry.publish("labels", "topics", b'{"labels":["a","a"]}')
    scene.follower.refresh()
    assert scene.follower.catalogue.label_set("topics") is None
    assert scene.told.refusals == [("labels", "topics", "LabelsError")]


def test_a_pointer_to_nothing_is_refused_and_followed_once_there_is_something(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    pointer = scene.push(adapter(0.2))
    scene.registry.damage(blob_key(pointer), None)
    for _ in range(3):
        scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert len(scene.told.refusals) == 1
    scene.registry.damage(blob_key(pointer), adapter(0.2).blob)
    scene.follower.refresh()
    assert scene.served() == adapter(0.2).version
    assert scene.follower.problems == {}


def test_a_registry_that_lets_nobody_read_is_asked_again(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.registry.refuses_blobs = True
    scene.follower.refresh()
    assert scene.served() is None
    scene.registry.refuses_blobs = False
    scene.follower.refresh()
    assert scene.served() == adapter(0.1).version


def test_a_damaged_pointer_hides_no_other(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.push(adapter(0.2), "other")
    scene.registry.damage(layout.current_key("adapter", NAME), b"{")
    scene.follower.refresh()
    scene.follower.refresh()
    assert (scene.served(), scene.served("other")) == (None, adapter(0.2).version)
    assert scene.told.refusals == [("adapter", NAME, "corrupt-pointer")]
    assert scene.follower.fresh_at is None


def test_an_older_revision_is_refused_until_a_newer_one_comes(scene: Scene) -> None:
    old = scene.push(adapter(0.1))
    scene.push(adapter(0.2))
    scene.follower.refresh()
    scene.registry.damage(layout.current_key("adapter", NAME), layout.encode_pointer(old))
    scene.follower.refresh()
    scene.follower.refresh()
    assert scene.served() == adapter(0.2).version
    assert scene.told.refusals == [("adapter", NAME, "stale-pointer")]
    newer = msgspec.structs.replace(old, revision=old.revision + 10)
    scene.registry.damage(layout.current_key("adapter", NAME), layout.encode_pointer(newer))
    scene.follower.refresh()
    assert scene.served() == adapter(0.1).version


def test_a_flushed_registry_serves_on_but_is_no_longer_confirmed(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    scene.registry.flush()
    scene.now = 2000.0
    assert scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert scene.follower.fresh_at == 1000.0
    scene.push(adapter(0.2))
    scene.follower.refresh()
    assert scene.served() == adapter(0.2).version
    assert scene.follower.fresh_at == 2000.0


def test_a_registry_that_is_away_is_survived_and_found_again(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    scene.registry.is_away = True
    scene.now = 2000.0
    assert not scene.follower.refresh()
    assert not scene.follower.registry_is_up
    assert scene.served() == adapter(0.1).version
    assert scene.follower.fresh_at == 1000.0
    assert ("adapter", "*") in scene.follower.problems
    scene.registry.is_away = False
    scene.push(adapter(0.2))
    assert scene.follower.refresh()
    assert scene.served() == adapter(0.2).version
    assert scene.follower.problems == {}
    assert scene.told.looks == [True, False, True]


def test_a_start_without_registry_serves_the_last_good_copy_from_disk(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.push(LabelSet(("a",)), "topics")
    scene.follower.refresh()
    scene.registry.is_away = True
    scene.start()
    assert not scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert scene.follower.catalogue.adapters[NAME].source == "disk"
    assert scene.follower.catalogue.label_set("topics") == LabelSet(("a",))
    assert scene.follower.fresh_at is None
    scene.registry.is_away = False
    scene.follower.refresh()
    assert scene.follower.catalogue.adapters[NAME].source == "registry"
    assert scene.follower.fresh_at == 1000.0


def test_a_damaged_copy_on_disk_does_not_stop_the_start(scene: Scene) -> None:
    scene.push(adapter(0.1))
    scene.follower.refresh()
    (blob,) = scene.folder.rglob("*.blob")
    blob.write_bytes(b"damaged")
    scene.start()
    assert scene.served() is None
    assert scene.told.refusals == [("adapter", NAME, "disk")]
    scene.follower.refresh()
    assert scene.served() == adapter(0.1).version


def test_a_full_disk_costs_the_next_start_not_this_one(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    scene = Scene(blocked / "copies")
    scene.push(adapter(0.1))
    scene.follower.refresh()
    assert scene.served() == adapter(0.1).version
    assert ("adapter", NAME, "disk") in scene.told.refusals


def test_the_number_of_served_names_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignstream.models.registry.follower.MAX_NAMES", 3)
    blob = adapter(0.1).blob
    for number in range(6):
        scene.registry.publish("adapter", f"name-{number:04}", blob)
    scene.follower.refresh()
    assert len(scene.follower.catalogue.adapters) == 1 + 3


def test_a_reader_never_sees_half_of_what_one_look_changed(scene: Scene) -> None:
    stop, pairs = threading.Event(), set[tuple[str, str]]()

    def read() -> None:
        while not stop.is_set():
            catalogue = scene.follower.catalogue
            found, labels = catalogue.adapter(NAME), catalogue.label_set("topics")
            if found is not None or labels is not None:
                pairs.add((found.version if found else "", labels.version if labels else ""))

    reader = threading.Thread(target=read)
    reader.start()
    expected = set()
    for number in range(8):
        value, labels = adapter(0.01 * (number + 1)), LabelSet((f"label {number}",))
        scene.push(value)
        scene.push(labels, "topics")
        scene.follower.refresh()
        expected.add((value.version, labels.version))
    stop.set()
    join([reader], "the reader ends when told to", 5)
    assert pairs
    assert pairs <= expected


def test_it_follows_hints_and_obeys_a_stop_at_once(scene: Scene) -> None:
    stop, swapped = threading.Event(), threading.Event()
    scene.told.swapped = lambda *_: swapped.set()  # type: ignore[method-assign]
    thread = threading.Thread(target=scene.follower.run, args=(stop,), kwargs={"poll_seconds": 300.0})
    thread.start()
    try:
        scene.push(adapter(0.1))
        assert swapped.wait(5), "the hint was not followed; the next poll is minutes away"
    finally:
        stop.set()
        scene.registry.close()
        join([thread], "the follower obeys a stop", 5)
