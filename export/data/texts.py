"""Monolingual texts by language, read from people's own files. Nothing here encodes or fits."""

import dataclasses
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from alignstream.export.data.lines import (
    JSON_SUFFIXES,
    check_language,
    check_unicode,
    read_filled_lines,
    read_objects,
)
from alignstream.models.adapter.languages import language_key
from alignstream.models.errors import TextError


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts by language, each once, and how many repeated lines were left out."""

    by_language: dict[str, list[str]]
    n_repeated: dict[str, int]


def evenly_spaced(n: int, wanted: int) -> list[int]:
    """Return ``wanted`` positions spread evenly over ``range(n)``, or all of them.

    Every subsample is taken like this, so that every run reads the same texts.

    Examples
    --------
    >>> evenly_spaced(10, 4)
    [0, 2, 5, 7]
    """
    if wanted >= n:
        return list(range(n))
    return [position * n // wanted for position in range(wanted)]


def normalised(text: str) -> str:
    """Return a text as it is compared with others: without differences of case, width and spacing.

    Examples
    --------
    >>> normalised("  Grüße  AUS Köln ")
    'grüsse aus köln'
    """
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
        Blank lines are skipped; a text that occurs twice in a language counts once.

    Raises
    ------
    TextError
        A file is missing, not UTF-8 or malformed, a tag is unknown, a language has no text, or there are fewer
        than two languages.
    """
    by_language: dict[str, dict[str, None]] = {}
    n_repeated: dict[str, int] = {}
    for path in paths:
        for language, text in _read_path(path):
            texts = by_language.setdefault(language, {})
            if text is None:
                continue
            if text in texts:
                n_repeated[language] = n_repeated.get(language, 0) + 1
            texts[text] = None
    empty = sorted(language for language, texts in by_language.items() if not texts)
    if empty:
        raise TextError(f"no text for language {', '.join(empty)}; add texts or leave the language out")
    n_languages = len({language_key(language) or language for language in by_language})
    if n_languages < 2:
        raise TextError(
            f"texts of at least 2 languages are needed to see how languages differ, but "
            f"{', '.join(map(str, paths))} hold {n_languages}"
            + (f": {', '.join(sorted(by_language))} are one language" if len(by_language) > 1 else "")
        )
    return Texts({language: list(by_language[language]) for language in sorted(by_language)}, n_repeated)


def _read_path(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield language and text; None says that a language's file is there."""
    try:
        is_folder = path.is_dir()
        entries = list(path.iterdir()) if is_folder else []
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error
    if is_folder:
        files = sorted(file for file in entries if file.suffix.lower() == ".txt")
        if not files:
            raise TextError(f"{path} holds no <language>.txt; each language needs a file, with a text a line")
        for file in files:
            language = check_language(file.stem, file, None)
            yield language, None
            for _, line in read_filled_lines(file):
                yield language, line.strip()
    elif path.suffix.lower() in JSON_SUFFIXES:
        yield from _read_json_lines(path)
    else:
        yield from _read_tab_separated(path)


def _read_json_lines(path: Path) -> Iterator[tuple[str, str | None]]:
    for number, record in read_objects(path):
        language, text = record.get("language"), record.get("text")
        if not isinstance(language, str) or not isinstance(text, str):
            raise TextError(f"{path}, line {number}: an object with strings 'language' and 'text' is needed")
        check_unicode(text, path, number)
        yield check_language(language, path, number), text.strip() or None


def _read_tab_separated(path: Path) -> Iterator[tuple[str, str | None]]:
    for number, line in read_filled_lines(path):
        language, tab, text = line.partition("\t")
        if not tab:
            raise TextError(f"{path}, line {number}: language<TAB>text is needed, but there is no tab")
        yield check_language(language, path, number), text.strip() or None
