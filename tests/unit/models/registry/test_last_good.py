"""The last good copy on disk: what was saved comes back, and nothing else ever does."""

import os
import re
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path

import pytest

from alignstream.models.errors import RegistryCorrupt, RegistryError
from alignstream.models.registry import last_good as copies_module
from alignstream.models.registry import layout
from alignstream.models.registry.last_good import LastGoodCopies
from alignstream.models.registry.layout import Pointer
from alignstream.models.registry.memory_store import MemoryStore

URL = "redis://127.0.0.1:6379/0"
BLOB = b"first bytes"
OTHER = b"second bytes"


@pytest.fixture
def copies(tmp_path: Path) -> LastGoodCopies:
    return LastGoodCopies(tmp_path / "cache", URL)


def published(blob: bytes, name: str = "default") -> Pointer:
    return MemoryStore().publish("adapter", name, blob, dim=3, encoder="e", note="größer")


def folder_of(copies: LastGoodCopies, name: str = "default") -> Path:
    return copies.folder / "adapter" / name


def test_what_was_saved_comes_back_bit_for_bit(copies: LastGoodCopies) -> None:
    pointer = published(BLOB)
    copies.save("adapter", pointer, BLOB)
    assert copies.load("adapter", "default") == (pointer, BLOB)
    assert LastGoodCopies(copies.folder.parent, URL).load("adapter", "default") == (pointer, BLOB)


def test_a_later_copy_replaces_the_earlier_one(copies: LastGoodCopies) -> None:
    copies.save("adapter", published(BLOB), BLOB)
    later = published(OTHER)
    copies.save("adapter", later, OTHER)
    assert copies.load("adapter", "default") == (later, OTHER)


def test_nothing_saved_is_none_and_makes_no_folder(copies: LastGoodCopies) -> None:
    assert copies.load("adapter", "default") is None
    assert copies.names("adapter") == []
    assert not copies.folder.parent.exists()


def test_names_are_listed_by_kind_and_in_order(copies: LastGoodCopies) -> None:
    for name in ("b", "a"):
        copies.save("labels", published(BLOB, name), BLOB)
    (copies.folder / "labels" / "unfinished").mkdir()
    assert copies.names("labels") == ["a", "b"]
    assert copies.names("adapter") == []
    assert copies.load("adapter", "a") is None


def test_registries_are_apart_and_credentials_do_not_matter(tmp_path: Path) -> None:
    same = {
        LastGoodCopies(tmp_path, url).folder
        for url in (URL, "redis://127.0.0.1", "redis://:pw@127.0.0.1:6379/0", "redis://u:x@127.0.0.1/0")
    }
    others = {
        LastGoodCopies(tmp_path, url).folder
        for url in ("redis://127.0.0.1:6380/0", "redis://127.0.0.1:6379/1", "redis://other:6379/0")
    }
    assert len(same) == 1
    assert len(others) == 3
    assert not same & others


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def overgrow(path: Path) -> None:
    os.truncate(path, layout.BLOB_BYTES_MAX + 1)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, truncate, lengthen, overgrow, empty, Path.unlink])
def test_a_damaged_blob_is_reported_and_saving_again_heals_it(
    copies: LastGoodCopies, damage: Callable[[Path], None]
) -> None:
    pointer = published(BLOB)
    copies.save("adapter", pointer, BLOB)
    damage(folder_of(copies) / f"{pointer.sha256}.blob")
    with pytest.raises(RegistryCorrupt, match="remove"):
        copies.load("adapter", "default")
    copies.save("adapter", pointer, BLOB)
    assert copies.load("adapter", "default") == (pointer, BLOB)


@pytest.mark.parametrize("damage", [flip, truncate, lengthen, overgrow, empty])
def test_a_damaged_pointer_is_reported(copies: LastGoodCopies, damage: Callable[[Path], None]) -> None:
    copies.save("adapter", published(BLOB), BLOB)
    damage(folder_of(copies) / "pointer.json")
    with pytest.raises(RegistryCorrupt, match=r"pointer\.json"):
        copies.load("adapter", "default")


def test_a_copy_under_another_name_is_reported(copies: LastGoodCopies) -> None:
    copies.save("adapter", published(BLOB), BLOB)
    folder_of(copies).rename(folder_of(copies, "renamed"))
    with pytest.raises(RegistryCorrupt, match="belongs to 'default'"):
        copies.load("adapter", "renamed")


def test_a_pointer_whose_size_is_wrong_is_reported(copies: LastGoodCopies) -> None:
    copies.save("adapter", published(BLOB), BLOB)
    path = folder_of(copies) / "pointer.json"
    path.write_bytes(re.sub(rb'"size_bytes":\d+', b'"size_bytes":7', path.read_bytes()))
    with pytest.raises(RegistryCorrupt, match="expected 7"):
        copies.load("adapter", "default")


def test_a_blob_that_does_not_belong_to_the_pointer_is_not_saved(copies: LastGoodCopies) -> None:
    good = published(BLOB)
    copies.save("adapter", good, BLOB)
    with pytest.raises(RegistryCorrupt, match="blob to save"):
        copies.save("adapter", published(OTHER), BLOB)
    assert copies.load("adapter", "default") == (good, BLOB)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "/etc", "a\n"])
def test_a_name_never_leads_out_of_the_folder(copies: LastGoodCopies, name: str) -> None:
    with pytest.raises(RegistryError, match="not a valid registry name"):
        copies.load("adapter", name)


@pytest.mark.parametrize("n_writes", [0, 1])
def test_a_crash_in_the_middle_leaves_the_earlier_copy(
    copies: LastGoodCopies, monkeypatch: pytest.MonkeyPatch, n_writes: int
) -> None:
    earlier = published(BLOB)
    copies.save("adapter", earlier, BLOB)
    replace = Path.replace
    done: list[Path] = []

    def crash(self: Path, target: Path) -> Path:
        if len(done) == n_writes:
            raise KeyboardInterrupt
        done.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            copies.save("adapter", published(OTHER), OTHER)
    assert copies.load("adapter", "default") == (earlier, BLOB)
    assert list(folder_of(copies).glob(".*")) == []


def test_leftovers_go_when_nobody_can_be_writing_them_any_more(copies: LastGoodCopies) -> None:
    copies.save("adapter", published(BLOB), BLOB)
    folder = folder_of(copies)
    (folder / ".half.tmp").write_bytes(b"half")
    copies.save("adapter", published(OTHER), OTHER)
    assert len(list(folder.iterdir())) == 4  # another worker may need the blob in a moment
    old = time.time() - copies_module.LEFTOVER_SECONDS - 1
    for path in folder.iterdir():
        os.utime(path, (old, old))
    copies.save("adapter", published(OTHER), OTHER)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"{published(OTHER).sha256}.blob", "pointer.json"]
    )


def test_the_bytes_are_on_the_disk_before_they_get_their_name(
    copies: LastGoodCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append(Path(target).suffix)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    copies.save("adapter", published(BLOB), BLOB)
    assert steps == ["file", ".blob", "folder", "file", ".json", "folder"]


def test_others_on_the_machine_cannot_read_the_copies(copies: LastGoodCopies) -> None:
    copies.save("adapter", published(BLOB), BLOB)
    for path in (folder_of(copies), *folder_of(copies).iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_disk_that_refuses_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    blocker = tmp_path / "cache"
    blocker.write_text("a file where the folder should be")
    copies = LastGoodCopies(blocker, URL)
    with pytest.raises(RegistryError, match="cannot save a copy") as refused:
        copies.save("adapter", published(BLOB), BLOB)
    assert str(blocker) in str(refused.value)
    for call in (lambda: copies.load("adapter", "default"), lambda: copies.names("adapter")):
        with pytest.raises(RegistryError, match="cannot be read"):
            call()


def save_often(root: Path, blob: bytes) -> None:
    copies = LastGoodCopies(root, URL)
    pointer = published(blob)
    for _ in range(30):
        copies.save("adapter", pointer, blob)


def test_workers_that_share_the_folder_never_see_a_mixture(tmp_path: Path) -> None:
    blobs = [BLOB * 1000, OTHER * 1000]
    copies = LastGoodCopies(tmp_path, URL)
    n_seen = 0
    with ProcessPoolExecutor(len(blobs)) as pool:
        savers = [pool.submit(save_often, tmp_path, blob) for blob in blobs]
        deadline = time.monotonic() + 60
        while wait_for(savers, timeout=0.001).not_done:
            assert time.monotonic() < deadline, "the two savers did not end within 60 s"
            copy = copies.load("adapter", "default")
            if copy is not None:
                assert copy[1] in blobs
                n_seen += 1
        for saver in savers:
            saver.result(60)
    assert n_seen > 0
