"""Keep vectors of texts on disk, by encoder: a second fit on the same texts takes seconds.

Only sha256 of texts and their vectors are stored, never a text. The folder may be deleted at any time.
"""

import contextlib
import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alignstream.models.arrays import Matrix
from alignstream.models.errors import CacheError
from alignstream.models.files import replacing

_FOLDER: Final = "embeddings"
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: Texts of one step of the progress bar; an interrupted run keeps all steps that were done.
_STEP: Final = 64
#: New texts after which a set is written: a run that is killed loses no more. A large set is written
#: after each eighth of it, as each write rewrites the file.
_SAVE_EVERY: Final = 4096
_SAVE_SHARE: Final = 8
#: Rows of a file that are in memory at once: 6 MB of 384 numbers.
_BLOCK_ROWS: Final = 4096
#: Bytes of a sha256, the key of a text.
_KEY_BYTES: Final = 32
#: A stored row whose length is further from 1 than this was not written by an encoder.
_MAX_NORM_ERROR: Final = 1e-3
#: What numpy and the zip container raise for a file that is absent, cut, damaged or of another layout; a changed
#: bit may ask for decompression or a password.
_UNREADABLE: Final = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile
)  # fmt: skip


class EmbeddingCache:
    """Vectors of named sets of texts, encoded once per encoder.

    A vector depends on its text and the encoder alone, bit for bit, so a stored one equals a new one.

    Parameters
    ----------
    cache_dir : Path
        The cache; vectors lie in ``cache_dir/embeddings/<fingerprint>/<set>.npz``.
    fingerprint : str
        Names the encoder.
    dim : int
        Embedding dimension.
    encode : callable
        Texts to unit vectors of shape (n, dim), float32; called only for texts that are not stored.
    """

    def __init__(
        self, cache_dir: Path, *, fingerprint: str, dim: int, encode: Callable[[Sequence[str]], Matrix]
    ) -> None:
        self._folder = Path(cache_dir) / _FOLDER / fingerprint
        self._dim = dim
        self._encode = encode

    def embed(
        self, sets: Mapping[str, Sequence[str]], *, on_texts: Callable[[int], None] = lambda _: None
    ) -> dict[str, Matrix]:
        """Return the vectors of every set, in the order of its texts.

        Parameters
        ----------
        sets : mapping of str to sequence of str
            Texts by the name of their set.
        on_texts : callable
            Called with the number of texts that were just finished.

        Returns
        -------
        dict of str to ndarray of shape (n_texts, dim), float32
            New arrays, which a caller may change.

        Raises
        ------
        CacheError
            The folder cannot be written.

        Notes
        -----
        New vectors are written every few thousand texts, and at any end, an interrupt included. Memory is the
        result and about 200 bytes a text: stored vectors are read in blocks.
        """
        return {name: self._embed_set(name, texts, on_texts) for name, texts in sets.items()}

    def embed_with_progress(self, sets: Mapping[str, Sequence[str]], *, title: str) -> dict[str, Matrix]:
        """Return the vectors of every set, as ``embed``, with a progress bar where standard error is a terminal."""
        total = sum(map(len, sets.values()))
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("texts"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(title, total=total)
            return self.embed(sets, on_texts=lambda done: progress.advance(task, done))

    def _embed_set(self, name: str, texts: Sequence[str], on_texts: Callable[[int], None]) -> Matrix:
        path = self._folder / f"{_file_name(name)}.npz"
        result = np.empty((len(texts), self._dim), dtype=np.float32)
        rows, first = _index(texts)
        is_done = self._read(path, rows, result)
        own = np.arange(len(texts))
        pending = np.flatnonzero((first == own) & ~is_done)
        n_done = len(texts) - len(pending)
        n_saved = n_done
        on_texts(n_done)
        try:
            for start in range(0, len(pending), _STEP):
                step = pending[start : start + _STEP]
                result[step] = self._encoded([texts[row] for row in step])
                is_done[step] = True
                n_done += len(step)
                on_texts(len(step))
                if n_done - n_saved >= max(_SAVE_EVERY, n_done // _SAVE_SHARE):
                    self._write(path, rows, result, is_done)
                    n_saved = n_done
            if n_done > n_saved:
                self._write(path, rows, result, is_done)
        except BaseException:
            # An interrupt must not lose encoded vectors; a failed write matters less.
            if n_done > n_saved:
                with contextlib.suppress(CacheError):
                    self._write(path, rows, result, is_done)
            raise
        again = np.flatnonzero(first != own)
        for start in range(0, len(again), _BLOCK_ROWS):
            block = again[start : start + _BLOCK_ROWS]
            result[block] = result[first[block]]
        return result

    def _encoded(self, texts: list[str]) -> Matrix:
        vectors = self._encode(texts)
        if vectors.shape != (len(texts), self._dim):
            raise ValueError(
                f"{len(texts)} texts became vectors of shape {vectors.shape}, not {(len(texts), self._dim)}"
            )
        return vectors

    def _read(self, path: Path, rows: Mapping[bytes, int], result: Matrix) -> NDArray[np.bool_]:
        """Put stored vectors into their rows; a file that is absent or damaged holds nothing.

        Returns
        -------
        ndarray of shape (n_texts,), bool
            The rows that are filled.
        """
        is_done = np.zeros(len(result), dtype=np.bool_)
        try:
            with _StoredVectors(path, self._dim) as stored:
                keys = stored.keys()
                for start, block in stored.blocks(len(keys)):
                    places = np.array(
                        [rows.get(key.tobytes(), -1) for key in keys[start : start + len(block)]]
                    )
                    wanted = places >= 0
                    result[places[wanted]] = block[wanted]
                    is_done[places[wanted]] = True
        except _UnreadableError:
            # What came before the damage is not trusted either: the checksum is that of all vectors together.
            is_done[:] = False
        return is_done

    def _write(
        self, path: Path, rows: Mapping[bytes, int], result: Matrix, is_done: NDArray[np.bool_]
    ) -> None:
        """Add encoded rows to a file in one step; keep the others."""
        done = {key: row for key, row in rows.items() if is_done[row]}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, is_durable=False) as temporary:
                try:
                    with _StoredVectors(path, self._dim) as stored:
                        _write_file(temporary, done, result, stored)
                except _UnreadableError:
                    # There is no file yet, or it was damaged in the meantime.
                    _write_file(temporary, done, result, None)
        except OSError as error:
            raise CacheError(
                f"cannot write to the cache ({error}); set ALIGNSTREAM_CACHE_DIR to a folder that can be written"
            ) from error


class _UnreadableError(Exception):
    """A file is absent, cut, damaged or of another layout."""


class _StoredVectors:
    """A file of vectors, read a block at a time: what ``numpy.load`` reads, without holding it whole.

    Parameters
    ----------
    path : Path
        An ``.npz`` with ``keys`` of shape (n, 32), uint8, and ``vectors`` of shape (n, dim), float32.
    dim : int

    Raises
    ------
    _UnreadableError
        On entering or reading.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self._path = path
        self._dim = dim

    def __enter__(self) -> Self:
        with _reading():
            self._archive = zipfile.ZipFile(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def keys(self) -> NDArray[np.uint8]:
        """Return the key of each text; shape (n, 32)."""
        with _reading(), self._archive.open("keys.npy") as member:
            n = _read_header(member, np.dtype(np.uint8), _KEY_BYTES)
            keys = np.frombuffer(_read_exactly(member, n * _KEY_BYTES), dtype=np.uint8)
            _check_end(member)
            return keys.reshape(n, _KEY_BYTES)

    def blocks(self, n: int) -> Iterator[tuple[int, Matrix]]:
        """Yield all n vectors in blocks with their first row; damage may be found behind the last block only."""
        with _reading(), self._archive.open("vectors.npy") as member:
            if _read_header(member, np.dtype(np.float32), self._dim) != n:
                raise ValueError("there are not as many vectors as keys")
            for start in range(0, n, _BLOCK_ROWS):
                n_rows = min(_BLOCK_ROWS, n - start)
                numbers = np.frombuffer(_read_exactly(member, n_rows * self._dim * 4), dtype=np.float32)
                block = numbers.reshape(n_rows, self._dim)
                if not np.all(np.abs(np.linalg.norm(block, axis=1) - 1.0) <= _MAX_NORM_ERROR):
                    raise ValueError("a row is not a unit vector")
                yield start, block
            _check_end(member)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise _UnreadableError(str(error)) from error


def _index(texts: Sequence[str]) -> tuple[dict[bytes, int], NDArray[np.int64]]:
    """Return the first row of each distinct text by its key, and the first row of the text of every row."""
    rows: dict[bytes, int] = {}
    first = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        first[row] = rows.setdefault(hashlib.sha256(text.encode()).digest(), row)
    return rows, first


def _write_file(path: Path, done: Mapping[bytes, int], result: Matrix, stored: _StoredVectors | None) -> None:
    """Write the stored rows, then the new ones; the layout is that of ``numpy.savez``."""
    keys = np.empty((0, _KEY_BYTES), dtype=np.uint8) if stored is None else stored.keys()
    known = {key.tobytes() for key in keys}
    added = [key for key in done if key not in known]
    places = np.array([done[key] for key in added], dtype=np.int64)
    n = len(keys) + len(added)
    with zipfile.ZipFile(path, "w") as archive:
        # The container has a checksum of every member, so damaged bytes cannot pass as vectors.
        with archive.open("keys.npy", "w", force_zip64=True) as member:
            _write_header(member, "|u1", (n, _KEY_BYTES))
            member.write(keys.tobytes())
            member.write(b"".join(added))
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            _write_header(member, "<f4", (n, result.shape[1]))
            for _, block in () if stored is None else stored.blocks(len(keys)):
                member.write(block.tobytes())
            for start in range(0, len(places), _BLOCK_ROWS):
                member.write(result[places[start : start + _BLOCK_ROWS]].tobytes())


def _read_header(member: IO[bytes], dtype: np.dtype[Any], n_columns: int) -> int:
    """Read a numpy array's header and return its number of rows."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, stored_dtype = read(member)
    if stored_dtype != dtype or len(shape) != 2 or shape[1] != n_columns or (is_fortran and shape[0] > 1):
        raise ValueError(f"an array of {stored_dtype} and shape {shape} is not in this cache's format")
    return int(shape[0])


def _write_header(member: IO[bytes], descr: str, shape: tuple[int, int]) -> None:
    np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": shape})


def _read_exactly(member: IO[bytes], n: int) -> bytes:
    data = member.read(n)
    if len(data) != n:
        raise EOFError(f"{len(data)} bytes where {n} should be")
    return data


def _check_end(member: IO[bytes]) -> None:
    # The checksum is compared where the last byte is read, which an exact read may stop short of.
    if member.read(1):
        raise ValueError("there are more bytes than the header says")


def _file_name(name: str) -> str:
    """Return the name itself where it is a plain file name, else its sha256."""
    return name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()
