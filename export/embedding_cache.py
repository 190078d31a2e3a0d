"""Keep vectors of texts on disk, by encoder: a second fit on the same texts takes seconds.

Only sha256 of texts and their vectors are stored, never a text. The folder may be deleted at any time.
"""

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alignstream.models.alignment.members import Matrix
from alignstream.models.errors import AlignstreamError

_FOLDER: Final = "embeddings"
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: Texts of one step of the progress bar; a stopped run loses at most the set it was in.
_STEP: Final = 64
#: A stored row whose length is further from 1 than this was not written by an encoder.
_MAX_NORM_ERROR: Final = 1e-3


class CacheError(AlignstreamError):
    """The cache cannot be written."""


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
        Numbers of a vector.
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

        Raises
        ------
        CacheError
            The folder cannot be written.
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
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = self._read(path)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        on_texts(len(texts) - len(missing))
        pending = list(missing.items())
        for start in range(0, len(pending), _STEP):
            step = pending[start : start + _STEP]
            vectors = self._encode([text for _, text in step])
            known.update({key: vector for (key, _), vector in zip(step, vectors, strict=True)})
            on_texts(len(step))
        if missing:
            self._write(path, known)
        if not keys:
            return np.empty((0, self._dim), dtype=np.float32)
        return np.stack([known[key] for key in keys])

    def _read(self, path: Path) -> dict[bytes, NDArray[np.float32]]:
        """Read a set; a file that is absent or damaged holds nothing and is written anew."""
        try:
            # The zip container has a checksum of every member, so damaged bytes cannot pass as vectors.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return {}
        if vectors.dtype != np.float32 or vectors.shape != (len(keys), self._dim) or keys.shape[1:] != (32,):
            return {}
        if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1.0) <= _MAX_NORM_ERROR):
            return {}
        return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    def _write(self, path: Path, known: Mapping[bytes, NDArray[np.float32]]) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(len(known), 32)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(file, keys=keys, vectors=np.stack(list(known.values())))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise CacheError(
                f"cannot write to the cache ({error}); set ALIGNSTREAM_CACHE_DIR to a folder that can be written"
            ) from error


def _file_name(name: str) -> str:
    """Return the name itself where it is a plain file name, else its sha256."""
    return name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()
