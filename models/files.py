"""Replace a file whole or not at all: readers and crashes see the old bytes or the new ones, never a mixture."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, content: bytes, *, is_durable: bool = True, is_private: bool = False) -> None:
    """Write a file's bytes in one step.

    Parameters
    ----------
    path : Path
        In a folder that is there.
    content : bytes
    is_durable : bool
        Return only when file and name are on the disk, so that they outlive a power cut. False: they outlive the
        process, and cost no wait for the disk.
    is_private : bool
        Nobody but the owner may read it, whatever the umask says.

    Raises
    ------
    OSError
        The disk refused; what stood there before is left as it was.
    """
    with replacing(path, is_durable=is_durable) as temporary:
        if is_private:
            temporary.touch(mode=0o600)
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another when the block has ended well.

    Parameters
    ----------
    path : Path
        What is replaced; it need not be there yet.
    is_durable : bool
        As for ``replace_file``.

    Yields
    ------
    Path
        In the same folder, hidden; it ends in ``.tmp`` and is removed when the block fails.

    Raises
    ------
    OSError
        The disk refused; what stood there before is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if is_durable:
            _sync(temporary, os.O_RDONLY)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if is_durable:
        # The new name is lasting only when the folder is on the disk too.
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
