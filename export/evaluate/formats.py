"""Read texts to evaluate on, in plain formats that anyone can make; every error names file and line.

Parallel text and terms: TSV with a header of language tags. Labelled text: JSON lines. Scored pairs: TSV of
language, score and two texts. Word alignments: TSV of two sentences, and links in Pharaoh's notation. Nothing
here encodes.
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from alignstream.export.data import texts as datasets
from alignstream.export.data.texts import Parallel, check_language, evenly_spaced, normalised, read_lines
from alignstream.export.evaluate.word_alignment import WordPair
from alignstream.models.adapter.languages import language_key, same_language
from alignstream.models.errors import TextError

#: Beside a user's own files, which nobody here chose anything on.
OWN_FILE: Final = "given by the user"

_LINK: Final = re.compile(r"(\d{1,6})-(\d{1,6})")
#: Third cell of the header where links stand beside their sentences.
_LINKS: Final = "links"
#: Names and characters of a name that a message holds at most: it must stay readable.
_SHOWN_NAMES: Final = 20
_SHOWN_CHARACTERS: Final = 40


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Texts by language with the label of each.

    Parameters
    ----------
    name : str
        File or set, for messages and reports.
    texts, gold : dict of str to list of str
        By language, item i of one belongs to item i of the other.
    words : dict of str to str
        What stands in the template for each label; the labels that a text may get.
    train : tuple of list of str, optional
        Texts of the pivot and their labels to train a head on.
    train_language : str
        The pivot.
    """

    name: str
    texts: dict[str, list[str]]
    gold: dict[str, list[str]]
    words: dict[str, str]
    train: tuple[list[str], list[str]] | None = None
    train_language: str = ""


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts within a language, and how alike people found them."""

    name: str
    first: dict[str, list[str]]
    second: dict[str, list[str]]
    scores: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class TermList:
    """Terms of two languages and which translate each other.

    Parameters
    ----------
    source_language, target_language : str
        Tags.
    source, target : list of str
        Distinct terms.
    pairs : list of (int, int)
        Positions in both; every term stands in at least one.
    """

    source_language: str
    target_language: str
    source: list[str]
    target: list[str]
    pairs: list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Terms:
    """Lists of terms by name: that of the language, or of both where no pivot is among them."""

    name: str
    lists: dict[str, TermList]


@dataclasses.dataclass(frozen=True)
class WordPairs:
    """Sentence pairs with gold links, by the languages of each side."""

    name: str
    pairs: dict[tuple[str, str], list[WordPair]]


def read_parallel(path: Path, *, pivot: str | None = None) -> Parallel:
    """Read parallel texts whole: a header of language tags, then one tab-separated row a line, no cell blank.

    Parameters
    ----------
    path : Path
        The file.
    pivot : str, optional
        The language that retrieval goes to and from. Default: the first column.

    Raises
    ------
    TextError
        The file is missing, not UTF-8 or malformed, has fewer than two languages or rows, one language twice, or
        no such pivot.
    """
    found = datasets.read_parallel(path, limit=None)
    if pivot is None:
        return found
    return dataclasses.replace(found, pivot=find_language(pivot, list(found.by_language), str(path)))


def read_labelled(path: Path, *, train: Path | None = None, pivot: str | None = None) -> Labelled:
    """Read labelled texts: JSON lines, objects with strings ``text``, ``language`` and ``label``.

    Parameters
    ----------
    path : Path
        Texts to judge on.
    train : Path, optional
        Texts to train a head on, in the same format; only those of the pivot are taken.
    pivot : str, optional
        Default: ``en``.

    Raises
    ------
    TextError
        A file is missing, not UTF-8, malformed or empty, has one label only, or no training text of the pivot; or a
        training text is among those to judge on, in the same language.
    """
    texts, gold, lines = _labelled(path)
    found = Labelled(path.name, texts, gold, words_of(gold))
    if train is None:
        return found
    train_texts, train_gold, train_lines = _labelled(train)
    language = find_language(pivot or "en", list(train_texts), str(train))
    for other in texts:
        if same_language(other, language):
            check_apart(
                train_texts[language],
                texts[other],
                functools.partial(_line, train, train_lines[language]),
                functools.partial(_line, path, lines[other]),
            )
    return dataclasses.replace(
        found, train=(train_texts[language], train_gold[language]), train_language=language
    )


def check_apart(
    train: Sequence[str],
    test: Sequence[str],
    where_train: Callable[[int], str],
    where_test: Callable[[int], str],
) -> None:
    """Refuse texts to judge on that are trained on, whatever their case, width or spacing.

    Parameters
    ----------
    train, test : sequence of str
        Texts of one language.
    where_train, where_test : callable
        Say where a text of either stands, from 0.

    Raises
    ------
    TextError
        A text stands in both; the message says where.
    """
    known = {normalised(text): row for row, text in reversed(list(enumerate(train)))}
    common = [row for row, text in enumerate(test) if normalised(text) in known]
    if common:
        more = f" ({len(common) - 1} more texts are in both)" if len(common) > 1 else ""
        raise TextError(
            f"{where_test(common[0])}: this text is trained on, at {where_train(known[normalised(test[common[0]])])}"
            f"{more}; figures on text that was trained on mean nothing: take it out of one of them"
        )


def read_scored(path: Path) -> ScoredPairs:
    """Read scored pairs: lines of ``language<TAB>score<TAB>text<TAB>text``, without a header.

    Raises
    ------
    TextError
        The file is missing, not UTF-8, malformed or empty, or all scores of a language are the same.
    """
    found = ScoredPairs(path.name, {}, {}, {})
    for number, cells in _rows(path):
        if len(cells) != 4 or not all(cells):
            raise TextError(
                f"{path}, line {number}: language, score and two texts with tabs between them are needed, none "
                f"blank, but there are {sum(map(bool, cells))} in {len(cells)} cells"
            )
        language = check_language(cells[0], path, number)
        found.first.setdefault(language, []).append(cells[2])
        found.second.setdefault(language, []).append(cells[3])
        found.scores.setdefault(language, []).append(_score(cells[1], path, number))
    if not found.scores:
        raise TextError(f"{path} holds no pair")
    for language, scores in found.scores.items():
        if len(set(scores)) < 2:
            raise TextError(f"{path}: all scores of {language} are the same, so nothing can be compared")
    return found


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
    rows = _rows(path)
    _, header = next(rows, (1, [""]))
    beside = len(header) == 3 and header[2].lower() == _LINKS
    if len(header) != 2 + beside or beside != (alignments is None):
        raise TextError(
            f"{path}, line 1: a header of two language tags is needed, such as 'en<TAB>sw', with --alignments FILE; "
            f"or 'en<TAB>sw<TAB>{_LINKS}' without"
        )
    languages = check_language(header[0], path, 1), check_language(header[1], path, 1)
    lines = None if alignments is None else list(read_lines(alignments))
    found: list[WordPair] = []
    for number, cells in rows:
        if len(cells) != len(header) or not all(cells[:2]):
            raise TextError(f"{path}, line {number}: {len(header)} cells with tabs between them are needed")
        words = tuple(cells[0].split()), tuple(cells[1].split())
        if lines is None or alignments is None:
            where, text = f"{path}, line {number}", cells[2]
        elif len(found) < len(lines):
            where, text = f"{alignments}, line {lines[len(found)][0]}", lines[len(found)][1]
        else:
            raise TextError(f"{path}, line {number}: {alignments} has no line for this pair")
        found.append(WordPair(*words, read_links(text, (len(words[0]), len(words[1])), where)))
    if lines is not None and len(found) < len(lines):
        raise TextError(f"{alignments} has {len(lines)} lines, but {path} {len(found)} sentence pairs")
    if len(found) < 2:
        raise TextError(f"{path}: at least two sentence pairs are needed below the header")
    return WordPairs(path.name, {languages: found})


def read_links(text: str, lengths: tuple[int, int], where: str) -> frozenset[tuple[int, int]]:
    """Read Pharaoh's notation: ``0-0 1-2``.

    Raises
    ------
    TextError
        An item is no link, or points beyond a sentence of so many words; ``where`` stands in the message.
    """
    links = set()
    for item in text.split():
        match = _LINK.fullmatch(item)
        if match is None:
            raise TextError(f"{where}: {item[:20]!r} is not a link; links look like '0-0 1-2'")
        link = int(match[1]), int(match[2])
        if link[0] >= lengths[0] or link[1] >= lengths[1]:
            raise TextError(
                f"{where}: link {item} points beyond sentences of {lengths[0]} and {lengths[1]} words (from 0)"
            )
        links.add(link)
    return frozenset(links)


def terms_of(texts: Parallel) -> Terms:
    """Take parallel text as lists of terms: each language with the pivot."""
    lists = {
        language: term_list(
            language, texts.pivot, list(zip(column, texts.by_language[texts.pivot], strict=True))
        )
        for language, column in texts.by_language.items()
        if language != texts.pivot
    }
    return Terms(texts.name, {name: item for name, item in lists.items() if len(item.pairs) > 1})


def term_list(source_language: str, target_language: str, pairs: list[tuple[str, str]]) -> TermList:
    """Make a list of terms; pairs of identical strings say nothing about meaning and are left out."""
    kept = list(dict.fromkeys((one, other) for one, other in pairs if one.casefold() != other.casefold()))
    source = list(dict.fromkeys(one for one, _ in kept))
    target = list(dict.fromkeys(other for _, other in kept))
    rows, columns = ({term: n for n, term in enumerate(side)} for side in (source, target))
    return TermList(
        source_language,
        target_language,
        source,
        target,
        [(rows[one], columns[other]) for one, other in kept],
    )


def find_language(wanted: str, languages: list[str], where: str) -> str:
    """Return the name that a set has for a language: the same, or another code of it (``en`` for ``eng``).

    Raises
    ------
    TextError
        There is none.
    """
    if wanted in languages:
        return wanted
    key = language_key(wanted)
    for name in languages:
        if key is not None and language_key(name) == key:
            return name
    raise TextError(f"{where} has no language {shown(wanted)}; it has {few(languages)}")


def few(names: Sequence[str]) -> str:
    """Return names with commas between them for a message: twenty at most, and how many more there are."""
    listed = ", ".join(names[:_SHOWN_NAMES])
    return listed if len(names) <= _SHOWN_NAMES else f"{listed} and {len(names) - _SHOWN_NAMES} more"


def shown(name: str) -> str:
    """Return what a user typed, in quotes, for a message: its beginning where it is long."""
    return repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…")


def choose_languages(languages: list[str], wanted: list[str] | None, where: str) -> list[str]:
    """Return the languages that are asked for, in the set's order; all of them if none is.

    Raises
    ------
    TextError
        One is not there.
    """
    if wanted is None:
        return languages
    names = {find_language(item, languages, where) for item in wanted}
    return [name for name in languages if name in names]


def words_of(gold: Mapping[str, list[str]]) -> dict[str, str]:
    """Return each label that occurs with the words that stand for it: itself."""
    return {label: label for label in sorted({item for labels in gold.values() for item in labels})}


def limited(texts: Parallel, limit: int | None) -> Parallel:
    """Keep at most so many lines, evenly spaced, the same in every language."""
    keep = evenly_spaced(texts.n_lines, limit or texts.n_lines)
    return dataclasses.replace(
        texts,
        by_language={
            language: [column[line] for line in keep] for language, column in texts.by_language.items()
        },
        lines=tuple(texts.lines[line] for line in keep) if texts.lines else (),
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in read_lines(path):
        if line.strip():
            yield number, [cell.strip() for cell in line.split("\t")]


def _labelled(path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, list[int]]]:
    """Return texts, labels and lines by language."""
    texts: dict[str, list[str]] = {}
    gold: dict[str, list[str]] = {}
    lines: dict[str, list[int]] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextError(f"{path}, line {number}: not JSON: {error}") from error
        values = (
            [record.get(key) for key in ("text", "language", "label")] if isinstance(record, dict) else []
        )
        cells = [value.strip() for value in values if isinstance(value, str)]
        if len(cells) != 3 or not all(cells):
            raise TextError(
                f"{path}, line {number}: an object with strings 'text', 'language' and 'label' is needed, none blank"
            )
        if any("\ud800" <= character <= "\udfff" for cell in cells for character in cell):
            raise TextError(f"{path}, line {number}: the text holds a lone surrogate")
        language = check_language(cells[1], path, number)
        texts.setdefault(language, []).append(cells[0])
        gold.setdefault(language, []).append(cells[2])
        lines.setdefault(language, []).append(number)
    if len({label for labels in gold.values() for label in labels}) < 2:
        raise TextError(f"{path}: texts with at least two labels are needed")
    return texts, gold, lines


def _line(path: Path, lines: Sequence[int], row: int) -> str:
    return f"{path}, line {lines[row]}"


def _score(cell: str, path: Path, number: int) -> float:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise TextError(f"{path}, line {number}: {cell[:20]!r} is not a score")
    return score
