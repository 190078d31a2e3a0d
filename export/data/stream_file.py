"""People's own streams to replay: JSON lines in the order of the log, refused by their line. Nothing here encodes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignstream.export.data.lines import check_language, check_unicode, read_objects
from alignstream.export.data.selection import quoted
from alignstream.models.errors import TextError


@dataclasses.dataclass(frozen=True)
class StreamText:
    """A line of a stream file: its text, its language where it is known, what translations share, and its segment."""

    text: str
    language: str | None
    group: str | None
    segment: str


def read_stream(path: Path) -> list[StreamText]:
    """Read a stream: JSON lines in the order of the log, with ``text``, ``language``, ``group``, ``segment``.

    Translations of each other share a ``group``; a text without one is learned from, but not looked up. Lines of one
    ``segment`` must follow each other and are reported together. Other fields, such as those of ``documents.v1``, are
    ignored.

    Raises
    ------
    TextError
        The file is missing, not UTF-8 or malformed, a tag is unknown, a segment is interrupted, or nothing in it has
        a translation.
    """
    texts = list(_stream_texts(path))
    languages_of: dict[tuple[str, str], set[str | None]] = {}
    for text in texts:
        if text.group is not None:
            languages_of.setdefault((text.segment, text.group), set()).add(text.language)
    if all(len(languages) < 2 for languages in languages_of.values()):
        raise TextError(
            f"{path}: no text has a translation in its segment: translations of each other need the same 'group', and "
            "a 'language' each, or there is nothing to look up"
        )
    return texts


def _stream_texts(path: Path) -> Iterator[StreamText]:
    finished: set[str] = set()
    current: str | None = None
    for number, record in read_objects(path):
        text = _stream_text(record, path, number)
        if text.segment != current:
            if text.segment in finished:
                raise TextError(
                    f"{path}, line {number}: segment {quoted(text.segment)} appears again; "
                    "keep its lines together"
                )
            finished.add(text.segment)
            current = text.segment
        yield text


def _stream_text(record: dict[str, Any], path: Path, number: int) -> StreamText:
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        raise TextError(f"{path}, line {number}: an object with a string 'text' is needed, not blank")
    check_unicode(text, path, number)
    values: dict[str, str | None] = {}
    for name in ("language", "group", "segment"):
        value = record.get(name)
        if name == "group" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise TextError(
                f"{path}, line {number}: {name!r} is not a text, or blank; leave it out or give one"
            )
        values[name] = value
    language = values["language"]
    if language is not None:
        language = check_language(language, path, number)
    return StreamText(text.strip(), language, values["group"], values["segment"] or "stream")
