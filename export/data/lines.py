"""Lines of people's text files, and the values in them: bounded, UTF-8, refused by file and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from alignstream.models.adapter.languages import is_known_tag
from alignstream.models.errors import TextError

JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
#: Longer than any tag in use; a longer one is text in the wrong column.
MAX_TAG_CHARACTERS: Final = 35
#: Bytes of a line with its end. A text of a megabyte is a book, and one of 16 MB took 4.8 GB of memory.
MAX_LINE_BYTES: Final = 1_000_000


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, from 1; only line feeds end a line, as text may hold the others.

    Raises
    ------
    TextError
        The file cannot be read, is not UTF-8, or has a line of more than ``MAX_LINE_BYTES``.
    """
    try:
        with path.open("rb") as file:
            # Never more than a line of the longest size is in memory.
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if len(line) > MAX_LINE_BYTES:
                    raise TextError(
                        f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes; a line holds one text: split it, "
                        "or are the line feeds missing?"
                    )
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise TextError(
                        f"{path}, line {number}: not UTF-8 at byte {error.start + 1} of the line; convert the file"
                    ) from error
                yield number, text.rstrip("\r\n")
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error


def read_filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, as ``read_lines`` does."""
    return ((number, line) for number, line in read_lines(path) if line.strip())


def read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the tab-separated cells of lines that are not blank, without the blanks around each cell."""
    for number, line in read_filled_lines(path):
        yield number, [cell.strip() for cell in line.split("\t")]


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON lines file with their line numbers.

    A line that holds another JSON value counts as an object without fields: readers report missing fields.

    Raises
    ------
    TextError
        As ``read_lines``, or a line is not JSON.
    """
    for number, line in read_filled_lines(path):
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextError(f"{path}, line {number}: not JSON: {error}") from error
        yield number, value if isinstance(value, dict) else {}


def check_unicode(text: str, path: Path, number: int) -> None:
    """Refuse a lone surrogate: JSON can write one, UTF-8 cannot.

    Raises
    ------
    TextError
        With the file and the line.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise TextError(f"{path}, line {number}: the text holds a lone surrogate")


def check_language(tag: str, path: Path, number: int | None, *, is_header: bool = False) -> str:
    """Return a tag without the blanks around it.

    Parameters
    ----------
    tag : str
        The text where a tag is expected.
    path : Path
        The file, for the message.
    number : int or None
        Its line; None where the file's name holds the tag.
    is_header : bool
        The line is the header, so text in it says that there is none.

    Raises
    ------
    TextError
        It is not made of letters, digits, - and _, or its first part is not a language of the registry.
    """
    tag = tag.strip()
    where = f"{path}, line {number}" if number else str(path)
    if not tag or len(tag) > MAX_TAG_CHARACTERS or not tag.replace("-", "").replace("_", "").isalnum():
        raise TextError(
            f"{where}: {tag[:50]!r} is not a language tag (letters, digits, - and _)"
            + ("; is the header missing?" if is_header else "")
        )
    if not is_known_tag(tag):
        if is_header:
            advice = "is the header missing?"
        elif number:
            advice = "take its code, or x- and a name where it has none"
        else:
            advice = "the file's name must hold it: rename the file, or move it away"
        raise TextError(
            f"{where}: {tag!r} is not the tag of a language, such as 'sw' or 'zh-Hant', in IANA's registry; {advice}"
        )
    return tag
