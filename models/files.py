"""Replace files atomically: a reader sees the old bytes or the new ones, never a mix, even after a crash."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, content: bytes, *, is_durable: bool = True, is_private: bool = False) -> None:
    """Replace the content of a file atomically.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    content : bytes
    is_durable : bool
        Wait until file and name are on disk and survive a power cut. False: they survive a crash of the process
        only, without the wait.
    is_private : bool
        Only the owner may read the file, whatever the umask.

    Raises
    ------
    OSError
        Writing failed; the old file is untouched.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pointer.json")
    ...     replace_file(path, b"old")
    ...     replace_file(path, b"new")
    ...     path.read_bytes(), len(list(Path(folder).iterdir()))
    (b'new', 1)
    """
    with replacing(path, is_durable=is_durable) as temporary:
        if is_private:
            temporary.touch(mode=0o600)
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path, and let it replace ``path`` if the block succeeds.

    Parameters
    ----------
    path : Path
        The file to replace; it need not exist.
    is_durable : bool
        As for ``replace_file``.

    Yields
    ------
    Path
        A hidden path in the same folder that ends in ``.tmp``; removed if the block fails.

    Raises
    ------
    OSError
        Writing failed; the old file is untouched.
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
        # The new name survives a power cut only once the folder is on disk too.
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
