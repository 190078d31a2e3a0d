"""A file is replaced whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from alignstream.models.files import replace_file, replacing


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_is_written_takes_the_place_of_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_a_writer_that_fails_leaves_the_old_bytes_and_nothing_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half of it")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_what_the_disk_refuses_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        replace_file(tmp_path / "missing" / "file", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "folder", b"")
    assert names(tmp_path) == ["folder"]


def test_who_may_read_it_is_up_to_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "file", b"")
        replace_file(tmp_path / "secret", b"", is_private=True)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"file": 0o640, "secret": 0o600}


@pytest.mark.parametrize(("is_durable", "n_synced"), [(True, 2), (False, 0)])
def test_a_durable_file_is_synced_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_durable: bool, n_synced: int
) -> None:
    synced: list[int] = []
    plain = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(handle) or plain(handle))
    replace_file(tmp_path / "file", b"bytes", is_durable=is_durable)
    assert len(synced) == n_synced
