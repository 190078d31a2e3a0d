"""People's own streams: JSON lines in the order of the log, refused by their line. Nothing here encodes."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignstream.export.data.texts import check_language, read_lines
from alignstream.export.evaluate.formats import find_language, shown
from alignstream.export.evaluate.prequential.replay import Segment
from alignstream.export.evaluate.prequential.stream_index import NO_GROUP, Messages
from alignstream.models.adapter.languages import same_language
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TextError


@dataclasses.dataclass(frozen=True)
class Document:
    """A line of a stream file: its text, its language where it is known, what translations share, and its segment."""

    text: str
    language: str | None
    group: str | None
    segment: str


def read_stream(path: Path) -> list[Document]:
    """Read a stream: JSON lines in the order of the log, with ``text``, ``language``, ``group``, ``segment``.

    Translations of each other share a ``group``; without one a text is learned from, but not looked up. Lines of one
    ``segment`` stand together, and are reported together. Other fields, such as those of ``documents.v1``, do not
    count.

    Raises
    ------
    TextError
        The file is missing, not UTF-8 or malformed, a tag is unknown, a segment is interrupted, or nothing in it has
        a translation.
    """
    found = list(_documents(path))
    by_group: dict[tuple[str, str], set[str | None]] = {}
    for item in found:
        if item.group is not None:
            by_group.setdefault((item.segment, item.group), set()).add(item.language)
    if all(len(languages) < 2 for languages in by_group.values()):
        raise TextError(
            f"{path}: no text has a translation in its segment: translations of each other need the same 'group', and "
            "a 'language' each, or there is nothing to look up"
        )
    return found


def _documents(path: Path) -> Iterator[Document]:
    done: set[str] = set()
    last: str | None = None
    for number, line in read_lines(path):
        if not line.strip():
            continue
        item = _document(line, path, number)
        if item.segment != last:
            if item.segment in done:
                raise TextError(
                    f"{path}, line {number}: segment {shown(item.segment)} began before and was over; its lines "
                    "stand together, so name this segment otherwise"
                )
            done.add(item.segment)
            last = item.segment
        yield item


def _document(line: str, path: Path, number: int) -> Document:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TextError(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(text := record.get("text"), str) or not text.strip():
        raise TextError(f"{path}, line {number}: an object with a string 'text' is needed, not blank")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise TextError(f"{path}, line {number}: the text holds a lone surrogate")
    values: dict[str, str | None] = {}
    for name in ("language", "group", "segment"):
        value = record.get(name)
        if name == "group" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise TextError(f"{path}, line {number}: {name!r} is no text, or blank; leave it out or give one")
        values[name] = value
    language = values["language"]
    if language is not None:
        language = check_language(language, path, number)
    return Document(text.strip(), language, values["group"], values["segment"] or "stream")


def own_segments(
    documents: Sequence[Document],
    embed: Callable[[Sequence[str]], Matrix],
    *,
    pivot: str | None,
    uses_tags: bool,
    where: str,
) -> tuple[Segment, ...]:
    """Return the segments of people's own documents.

    Parameters
    ----------
    documents : sequence of Document
    embed : callable
        Texts to unit vectors of shape (n, dim), float32.
    pivot : str, optional
        Tag of the language that retrieval goes to and from. Default: ``en`` where it is there, else the first.
    uses_tags : bool
        Whether messages name their language.
    where : str
        The file, for messages.

    Raises
    ------
    TextError
        There is no such pivot.
    """
    languages = list(dict.fromkeys(item.language for item in documents if item.language is not None))
    if pivot is None:
        english = [name for name in languages if same_language(name, "en")]
        chosen = english[0] if english else languages[0]
    else:
        chosen = find_language(pivot, languages, where)
    X = embed([item.text for item in documents])
    numbers: dict[tuple[str, str], int] = {}
    segments = []
    for name in dict.fromkeys(item.segment for item in documents):
        rows = [row for row, item in enumerate(documents) if item.segment == name]
        segments.append(
            Segment(
                name=name,
                pivot=chosen,
                messages=Messages(
                    vectors=X[rows],
                    languages=tuple(documents[row].language or "no tag" for row in rows),
                    tags=tuple(documents[row].language if uses_tags else None for row in rows),
                    groups=np.array([_group(documents[row], numbers) for row in rows], dtype=np.int64),
                ),
            )
        )
    return tuple(segments)


def _group(item: Document, numbers: dict[tuple[str, str], int]) -> int:
    if item.group is None or item.language is None:
        return NO_GROUP
    return numbers.setdefault((item.segment, item.group), len(numbers))
