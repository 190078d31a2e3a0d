"""Sentence pairs with gold links between their words, read from tables. Nothing here encodes."""

import dataclasses
import re
from pathlib import Path
from typing import Final

from alignstream.export.data.lines import check_language, read_cells, read_lines
from alignstream.models.errors import TextError

_LINK: Final = re.compile(r"(\d{1,6})-(\d{1,6})")
#: Third cell of the header if the links are in the same file as the sentences.
_LINKS: Final = "links"

#: Positions of a source and of a target word, from 0.
Links = frozenset[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class WordPair:
    """Two sentences as words, and the gold links between positions of both, from 0."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    links: Links


@dataclasses.dataclass(frozen=True)
class WordPairs:
    """Sentence pairs with gold links, by the languages of each side."""

    name: str
    pairs: dict[tuple[str, str], list[WordPair]]


def read_words(path: Path, *, alignments: Path | None = None) -> WordPairs:
    """Read sentence pairs with gold links.

    Parameters
    ----------
    path : Path
        A header of two language tags, then ``source<TAB>target`` lines of words with single spaces between them;
        or three columns, the third headed ``links`` and holding each pair's links.
    alignments : Path, optional
        The links in a file of their own: line i belongs to sentence pair i. Pharaoh's notation, ``0-0 1-2``:
        positions of words from 0; a line may be blank.

    Raises
    ------
    TextError
        A file is missing, not UTF-8 or malformed, a link points beyond a sentence, or numbers of lines differ.
    """
    rows = read_cells(path)
    _, header = next(rows, (1, [""]))
    beside = len(header) == 3 and header[2].lower() == _LINKS
    if len(header) != 2 + beside or beside != (alignments is None):
        raise TextError(
            f"{path}, line 1: a header of two language tags is needed, such as 'en<TAB>sw', with --alignments FILE; "
            f"or 'en<TAB>sw<TAB>{_LINKS}' without"
        )
    languages = check_language(header[0], path, 1), check_language(header[1], path, 1)
    link_lines = None if alignments is None else list(read_lines(alignments))
    pairs: list[WordPair] = []
    for number, cells in rows:
        if len(cells) != len(header) or not all(cells[:2]):
            raise TextError(f"{path}, line {number}: {len(header)} cells with tabs between them are needed")
        source, target = tuple(cells[0].split()), tuple(cells[1].split())
        if link_lines is None or alignments is None:
            where, text = f"{path}, line {number}", cells[2]
        elif len(pairs) < len(link_lines):
            link_number, text = link_lines[len(pairs)]
            where = f"{alignments}, line {link_number}"
        else:
            raise TextError(f"{path}, line {number}: {alignments} has no line for this pair")
        pairs.append(WordPair(source, target, read_links(text, (len(source), len(target)), where)))
    if link_lines is not None and len(pairs) < len(link_lines):
        raise TextError(f"{alignments} has {len(link_lines)} lines, but {path} {len(pairs)} sentence pairs")
    if len(pairs) < 2:
        raise TextError(f"{path}: at least two sentence pairs are needed below the header")
    return WordPairs(path.name, {languages: pairs})


def read_links(text: str, lengths: tuple[int, int], where: str) -> Links:
    """Read Pharaoh's notation.

    Raises
    ------
    TextError
        An item is not a link, or points beyond the end of a sentence; the message names ``where``.

    Examples
    --------
    >>> sorted(read_links("0-0 1-2", (2, 3), "line 1"))
    [(0, 0), (1, 2)]
    """
    links = set()
    for link_text in text.split():
        match = _LINK.fullmatch(link_text)
        if match is None:
            raise TextError(f"{where}: {link_text[:20]!r} is not a link; links look like '0-0 1-2'")
        link = int(match[1]), int(match[2])
        if link[0] >= lengths[0] or link[1] >= lengths[1]:
            raise TextError(
                f"{where}: link {link_text} points beyond sentences of {lengths[0]} and {lengths[1]} words (from 0)"
            )
        links.add(link)
    return frozenset(links)
