"""Write a command's output whole or not at all, with errors that a person can act on."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from alignstream.models.errors import AlignstreamError
from alignstream.models.files import replace_file, replacing


@contextlib.contextmanager
def open_output(path: Path | None) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when it is complete; None gives standard output.

    Raises
    ------
    AlignstreamError
        It cannot be written; what was there before is left as it was.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _write_errors(path), replacing(path) as temporary, temporary.open("wb") as file:
        yield file


def write_output(path: Path, content: bytes) -> None:
    """Write a file in one step.

    Raises
    ------
    AlignstreamError
        It cannot be written; what was there before is left as it was.
    """
    with _write_errors(path):
        replace_file(path, content)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AlignstreamError(f"cannot write {path}: {error.strerror or error}") from error
