"""Parallel texts: the same lines in several languages, read, thinned and kept apart. Nothing here encodes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from alignstream.export.data.lines import check_language, read_lines
from alignstream.export.data.selection import find_language
from alignstream.export.data.texts import evenly_spaced, normalised
from alignstream.models.adapter.languages import language_key, variety_key
from alignstream.models.errors import TextError

#: Texts of one evaluation pool: similarities of all with all stay at seconds and a few hundred MB.
MAX_POOL_TEXTS: Final = 12_000


@dataclasses.dataclass(frozen=True)
class Parallel:
    """The same texts in several languages: line by line translations of each other.

    Parameters
    ----------
    name : str
        Name of the set, or of the file without its folder.
    pivot : str
        The language that retrieval is measured to and from.
    by_language : dict of str to list of str
        By tag, row by row translations.
    lines : tuple of int, optional
        Line of each row in its file, from 1; empty for the public sets.
    file : Path, optional
        Where it was read from, for messages.
    """

    name: str
    pivot: str
    by_language: dict[str, list[str]]
    lines: tuple[int, ...] = ()
    file: Path | None = None

    @property
    def n_lines(self) -> int:
        """Number of lines of each language."""
        return len(self.by_language[self.pivot])

    def where(self, row: int) -> str:
        """Name the position of a row, counted from 0: file and line, or set and row."""
        if not self.lines:
            return f"{self.name}, row {row + 1}"
        return f"{self.file or self.name}, line {self.lines[row]}"

    def limited(self, limit: int | None) -> "Parallel":
        """Keep at most this many lines, evenly spaced, the same in every language; None keeps all."""
        keep = evenly_spaced(self.n_lines, limit or self.n_lines)
        return dataclasses.replace(
            self,
            by_language={
                language: [column[line] for line in keep] for language, column in self.by_language.items()
            },
            lines=tuple(self.lines[line] for line in keep) if self.lines else (),
        )


def read_parallel(path: Path, *, pivot: str | None = None, limit: int | None = MAX_POOL_TEXTS) -> Parallel:
    """Read parallel texts: a header of language tags, then one tab-separated row a line; no cell is blank.

    A row may occur twice: ``check_rows`` refuses that.

    Parameters
    ----------
    path : Path
        The file.
    pivot : str, optional
        The language that retrieval is measured to and from, by any of its codes. Default: the first column.
    limit : int or None
        Texts to keep of all languages together: rows are thinned evenly, to two at least. None: every row.

    Raises
    ------
    TextError
        The file is missing, not UTF-8 or malformed, a tag is unknown, two tags name one language, there are
        fewer than two languages or two rows, or there is no such pivot.
    """
    rows = read_lines(path)
    _, header = next(rows, (1, ""))
    languages = [check_language(tag, path, 1, is_header=True) for tag in header.split("\t")]
    _check_header(languages, path)
    columns: list[list[str]] = [[] for _ in languages]
    lines: list[int] = []
    for number, line in rows:
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(languages) or not all(cells):
            raise TextError(
                f"{path}, line {number}: {len(languages)} texts with tabs between them are needed, none blank, "
                f"but there are {sum(map(bool, cells))} in {len(cells)} cells"
            )
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
        lines.append(number)
    if len(lines) < 2:
        raise TextError(f"{path}: at least two rows of parallel text are needed below the header")
    everything = Parallel(
        name=path.name,
        pivot=languages[0] if pivot is None else find_language(pivot, languages, str(path)),
        by_language=dict(zip(languages, columns, strict=True)),
        lines=tuple(lines),
        file=path,
    )
    return everything.limited(None if limit is None else max(2, limit // len(languages)))


def check_rows(parallel: Parallel) -> None:
    """Refuse parallel texts in which a row occurs twice, ignoring case, width and spacing.

    Raises
    ------
    TextError
        All texts of a row are those of an earlier one; the message names both lines.
    """
    seen: dict[tuple[str, ...], int] = {}
    for row, texts in enumerate(zip(*parallel.by_language.values(), strict=True)):
        first = seen.setdefault(tuple(map(normalised, texts)), row)
        if first != row:
            raise TextError(
                f"{parallel.where(row)}: the row is {parallel.where(first)} again, but for case and spacing at most; "
                "a row that occurs twice counts twice: keep one of them"
            )


def check_no_overlap(fitted: Parallel, held_out: Parallel) -> None:
    """Refuse evaluation texts that are also training texts, ignoring case, width and spacing.

    Parameters
    ----------
    fitted, held_out : Parallel
        Languages that both have are compared, however their tags are written: ``yo`` with ``yor_Latn``.

    Raises
    ------
    TextError
        A text of one is in the other, in the same language; the message names both lines.
    """
    known: dict[str, dict[str, int]] = {}
    for language, column in held_out.by_language.items():
        rows = known.setdefault(language_key(language) or language, {})
        for row, text in enumerate(column):
            rows.setdefault(normalised(text), row)
    for language, column in fitted.by_language.items():
        rows = known.get(language_key(language) or language, {})
        for row, text in enumerate(column):
            same = rows.get(normalised(text))
            if same is not None:
                raise TextError(
                    f"{fitted.where(row)}: this {language} text is in {held_out.where(same)} too; "
                    "remove it from one file, or the figures are meaningless"
                )


def _check_header(languages: Sequence[str], path: Path) -> None:
    named: dict[str, str] = {}
    for language in languages:
        key = variety_key(language)
        if key in named:
            raise TextError(
                f"{path}, line 1: {named[key]!r} and {language!r} are one language; the header must name each once"
            )
        named[key] = language
    if len(languages) < 2:
        raise TextError(
            f"{path}, line 1: the header must name at least two languages, with tabs between them"
        )
