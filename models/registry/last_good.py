"""The last good copies on disk, so that a worker can start while the registry is unavailable.

Each registry, kind and name has a folder with the blob, named by its sha256, and ``pointer.json``. The pointer
is replaced last and atomically, so that a crash leaves the older copy or the newer one, never a mix.
Several workers may share the folders. This module must never touch the network.
"""

import contextlib
import hashlib
import hmac
import time
from pathlib import Path

from alignstream.models.errors import RegistryCorrupt, RegistryError
from alignstream.models.files import replace_file
from alignstream.models.registry import layout
from alignstream.models.registry.layout import Kind, Pointer

POINTER_FILE = "pointer.json"
#: Younger files are kept: another worker may be between writing its blob and its pointer, which takes less than this.
LEFTOVER_SECONDS = 60.0
_ADDRESS_CHARACTERS = 16


class LastGoodCopies:
    """Copies of registry values that have proved good, one per kind and name.

    The poller thread calls `save` after a swap, and a starting worker calls `load`; neither happens in the
    path of a batch. A failed save matters only if the next start finds no registry.

    Parameters
    ----------
    root : Path
        Folder of the copies; made by the first save.
    registry_url : str
        The registry that the copies come from. User, password and options are ignored.

    Raises
    ------
    RegistryError
        The URL cannot be parsed.
    """

    def __init__(self, root: Path, registry_url: str) -> None:
        address = layout.address(registry_url)
        self.folder = root / hashlib.sha256(address.encode()).hexdigest()[:_ADDRESS_CHARACTERS]

    def save(self, kind: Kind, pointer: Pointer, blob: bytes) -> None:
        """Replace the copy of a name; the bytes are on disk when this returns.

        Raises
        ------
        RegistryCorrupt
            Pointer and blob do not belong together; the older copy stays.
        RegistryError
            Writing failed; the older copy stays.
        """
        folder = self._folder(kind, pointer.name)
        raw = layout.encode_pointer(pointer)
        layout.decode_pointer(raw, name=pointer.name, where="the pointer to save")
        _check(pointer, blob, where="the blob to save")
        blob_path = folder / f"{pointer.sha256}.blob"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(blob_path, blob, is_private=True)
            replace_file(folder / POINTER_FILE, raw, is_private=True)
            _remove_leftovers(folder, keep=blob_path)
        except OSError as error:
            raise RegistryError(
                f"{folder}: cannot save a copy of {kind} {pointer.name}: {error.strerror or error}; "
                f"check the disk and the owner of the folder"
            ) from error

    def load(self, kind: Kind, name: str) -> tuple[Pointer, bytes] | None:
        """Return the copy of a name after checking it; None if there is none.

        Raises
        ------
        RegistryCorrupt
            There is a copy, but it is not what was saved.
        RegistryError
            Reading failed.
        """
        path = self._folder(kind, name) / POINTER_FILE
        raw = _read(path, layout.POINTER_BYTES_MAX)
        if raw is None:
            return None
        pointer = layout.decode_pointer(raw, name=name, where=str(path))
        blob_path = path.with_name(f"{pointer.sha256}.blob")
        blob = _read(blob_path, layout.BLOB_BYTES_MAX)
        if blob is None:
            raise RegistryCorrupt(f"{blob_path} is missing, but {POINTER_FILE} names it; remove the folder")
        _check(pointer, blob, where=str(blob_path))
        return pointer, blob

    def names(self, kind: Kind) -> list[str]:
        """Return the names that have a copy, good or not, in order.

        Raises
        ------
        RegistryError
            Reading failed.
        """
        layout.check_kind(kind)
        folder = self.folder / kind
        try:
            return sorted(
                path.name
                for path in folder.iterdir()
                if layout.NAME_PATTERN.fullmatch(path.name) and (path / POINTER_FILE).exists()
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"{folder}: cannot be read: {error.strerror or error}") from error

    def _folder(self, kind: Kind, name: str) -> Path:
        layout.check_kind(kind)
        layout.check_name(name)
        return self.folder / kind / name


def _check(pointer: Pointer, blob: bytes, *, where: str) -> None:
    """Raise RegistryCorrupt unless the blob is the one that the pointer names."""
    actual = hashlib.sha256(blob).hexdigest()
    if len(blob) != pointer.size_bytes or not hmac.compare_digest(actual, pointer.sha256):
        raise RegistryCorrupt(
            f"{where}: {len(blob)} bytes with sha256 {actual[: layout.VERSION_CHARACTERS]}…, expected "
            f"{pointer.size_bytes} with {pointer.version}…; remove it, and the registry will supply a new one"
        )


def _read(path: Path, bytes_max: int) -> bytes | None:
    """Return a file's bytes, or None if it does not exist; refuse a file with more than ``bytes_max``."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > bytes_max:
        raise RegistryCorrupt(f"{path} holds more than {bytes_max} bytes; remove it")
    return content


def _remove_leftovers(folder: Path, *, keep: Path) -> None:
    """Remove older blobs, and files that a crash left half-written."""
    oldest = time.time() - LEFTOVER_SECONDS
    for path in folder.iterdir():
        if path != keep and path.suffix in {".blob", ".tmp"}:
            with contextlib.suppress(FileNotFoundError):  # another worker was quicker
                if path.stat().st_mtime < oldest:
                    path.unlink()
