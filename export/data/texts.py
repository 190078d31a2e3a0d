"""Read texts to fit and judge adapters on from people's own files.

Nothing here encodes or fits. Subsamples are fixed and evenly spaced, so that every run reads the same texts.
"""

import dataclasses
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from alignstream.models.adapter.languages import is_known_tag, language_key, variety_key
from alignstream.models.errors import TextError

JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
#: Longer than any tag in use; a longer one is text in the wrong column.
MAX_TAG_CHARACTERS: Final = 35
#: Texts of one evaluation pool: similarities of all with all stay at seconds and a few hundred MB.
MAX_POOL_TEXTS: Final = 12_000
#: Bytes of a line with its end. A text of a megabyte is a book, and one of 16 MB took 4.8 GB of memory.
MAX_LINE_BYTES: Final = 1_000_000


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts by language, each once, and how many repeated lines were left out."""

    by_language: dict[str, list[str]]
    n_repeated: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Parallel:
    """The same texts in several languages: line by line translations of each other.

    Parameters
    ----------
    name : str
        Of the set, or the file without its folder.
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
        """Count the lines of one language."""
        return len(self.by_language[self.pivot])

    def where(self, row: int) -> str:
        """Say where a row stands, from 0: file and line, or set and row."""
        if not self.lines:
            return f"{self.name}, row {row + 1}"
        return f"{self.file or self.name}, line {self.lines[row]}"


def evenly_spaced(n: int, wanted: int) -> list[int]:
    """Return ``wanted`` positions spread evenly over ``range(n)``, or all of them."""
    if wanted >= n:
        return list(range(n))
    return [position * n // wanted for position in range(wanted)]


def normalised(text: str) -> str:
    """Return a text without what makes no other text of it: case, width and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_texts(paths: Sequence[Path]) -> Texts:
    """Read monolingual texts by language.

    Parameters
    ----------
    paths : sequence of Path
        Each a folder with one file a language (``<language>.txt``, a text a line), a JSON lines file
        (``.jsonl`` or ``.ndjson``, objects with ``language`` and ``text``), or a file of
        ``language<TAB>text`` lines.

    Returns
    -------
    Texts
        Blank lines are skipped; a text that stands twice in a language counts once.

    Raises
    ------
    TextError
        A file is missing, not UTF-8 or malformed, a tag is unknown, a language has no text, or there are fewer
        than two languages.
    """
    found: dict[str, dict[str, None]] = {}
    repeated: dict[str, int] = {}
    for path in paths:
        for language, text in _read_path(path):
            texts = found.setdefault(language, {})
            if text is None:
                continue
            if text in texts:
                repeated[language] = repeated.get(language, 0) + 1
            texts[text] = None
    empty = sorted(language for language, texts in found.items() if not texts)
    if empty:
        raise TextError(f"no text for language {', '.join(empty)}; add texts or leave the language out")
    n_languages = len({language_key(language) or language for language in found})
    if n_languages < 2:
        raise TextError(
            f"texts of at least 2 languages are needed to see how languages differ, but "
            f"{', '.join(map(str, paths))} hold {n_languages}"
            + (f": {', '.join(sorted(found))} are one language" if len(found) > 1 else "")
        )
    return Texts({language: list(found[language]) for language in sorted(found)}, repeated)


def read_parallel(path: Path, *, limit: int | None = MAX_POOL_TEXTS) -> Parallel:
    """Read parallel texts: a header of language tags, then one tab-separated row a line; no cell is blank.

    The first column is the pivot that retrieval is measured to and from. A row may stand twice: ``check_rows``
    refuses that.

    Parameters
    ----------
    path : Path
        The file.
    limit : int or None
        Texts to keep of all languages together: rows are thinned evenly, to two at least. None: every row.

    Raises
    ------
    TextError
        The file is missing, not UTF-8 or malformed, a tag is unknown, two tags name one language, or there are
        fewer than two languages or two rows.
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
    keep = evenly_spaced(len(lines), len(lines) if limit is None else max(2, limit // len(languages)))
    return Parallel(
        name=path.name,
        pivot=languages[0],
        by_language={
            language: [column[position] for position in keep]
            for language, column in zip(languages, columns, strict=True)
        },
        lines=tuple(lines[position] for position in keep),
        file=path,
    )


def check_rows(parallel: Parallel) -> None:
    """Refuse parallel texts in which a row stands twice, whatever its case, width or spacing.

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
                "a row that stands twice counts twice: keep one of them"
            )


def check_no_overlap(fitted: Parallel, held_out: Parallel) -> None:
    """Refuse parallel texts to judge on that are fitted on, whatever their case, width or spacing.

    Parameters
    ----------
    fitted, held_out : Parallel
        Languages that both have are compared, whatever their tags: ``yo`` with ``yor_Latn``.

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
            found = rows.get(normalised(text))
            if found is not None:
                raise TextError(
                    f"{fitted.where(row)}: this {language} text is in {held_out.where(found)} too; figures on text "
                    "that was fitted on mean nothing: take it out of one of them"
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


def _read_path(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield language and text; None says that a language's file is there."""
    try:
        is_folder = path.is_dir()
        names = list(path.iterdir()) if is_folder else []
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error
    if is_folder:
        files = sorted(file for file in names if file.suffix.lower() == ".txt")
        if not files:
            raise TextError(f"{path} holds no <language>.txt; each language needs a file, with a text a line")
        for file in files:
            language = check_language(file.stem, file, None)
            yield language, None
            for _, line in read_lines(file):
                if line.strip():
                    yield language, line.strip()
    elif path.suffix.lower() in JSON_SUFFIXES:
        yield from _read_json_lines(path)
    else:
        yield from _read_tab_separated(path)


def _read_json_lines(path: Path) -> Iterator[tuple[str, str | None]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextError(f"{path}, line {number}: not JSON: {error}") from error
        language = record.get("language") if isinstance(record, dict) else None
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(language, str) or not isinstance(text, str):
            raise TextError(f"{path}, line {number}: an object with strings 'language' and 'text' is needed")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(f"{path}, line {number}: the text holds a lone surrogate") from error
        yield check_language(language, path, number), text.strip() or None


def _read_tab_separated(path: Path) -> Iterator[tuple[str, str | None]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        language, tab, text = line.partition("\t")
        if not tab:
            raise TextError(f"{path}, line {number}: language<TAB>text is needed, but there is no tab")
        yield check_language(language, path, number), text.strip() or None


def check_language(tag: str, path: Path, number: int | None, *, is_header: bool = False) -> str:
    """Return a tag without its surrounding blanks.

    Parameters
    ----------
    tag : str
        What stands where a tag is expected.
    path : Path
        The file, for the message.
    number : int or None
        Its line; None where the file's name holds the tag.
    is_header : bool
        The line is the header, so text in it says that there is none.

    Raises
    ------
    TextError
        It is not made of letters, digits, - and _, or its first part is no language that the registry knows.
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


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, from 1; only line feeds end a line, as text may hold the others.

    Raises
    ------
    TextError
        The file cannot be read, is not UTF-8, or has a line of more than ``MAX_LINE_BYTES``.
    """
    try:
        with path.open("rb") as file:
            # Never more than a line of the longest size is in memory, whatever the file.
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
