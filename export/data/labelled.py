"""Labelled texts to judge labels and classifiers on, read from JSON lines. Nothing here encodes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alignstream.export.data.lines import check_language, check_unicode, read_objects
from alignstream.export.data.selection import find_language
from alignstream.export.data.texts import normalised
from alignstream.models.adapter.languages import same_language
from alignstream.models.errors import TextError


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """Texts by language with the label of each.

    Parameters
    ----------
    name : str
        File or set, for messages and reports.
    texts, gold : dict of str to list of str
        By language: the texts, and the label of each.
    words : dict of str to str
        The words put into the template for each label; the labels that a text may get.
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

    def rows(self, kept: Mapping[str, Sequence[int]]) -> "LabelledSet":
        """Return some rows of some languages."""
        return dataclasses.replace(
            self,
            texts={language: [self.texts[language][n] for n in rows] for language, rows in kept.items()},
            gold={language: [self.gold[language][n] for n in rows] for language, rows in kept.items()},
        )


@dataclasses.dataclass(frozen=True)
class _LabelledFile:
    """The content of a file by language: texts, their labels and their lines."""

    path: Path
    texts: dict[str, list[str]]
    gold: dict[str, list[str]]
    lines: dict[str, list[int]]

    def where(self, language: str) -> Callable[[int], str]:
        """Return a function that names the position of a language's text, counted from 0."""
        return lambda row: f"{self.path}, line {self.lines[language][row]}"


def read_labelled(path: Path, *, train: Path | None = None, pivot: str | None = None) -> LabelledSet:
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
    judged = _read_file(path)
    labelled = LabelledSet(path.name, judged.texts, judged.gold, words_of(judged.gold))
    if train is None:
        return labelled
    trained = _read_file(train)
    language = find_language(pivot or "en", list(trained.texts), str(train))
    for other in judged.texts:
        if same_language(other, language):
            check_apart(
                trained.texts[language], judged.texts[other], trained.where(language), judged.where(other)
            )
    return dataclasses.replace(
        labelled, train=(trained.texts[language], trained.gold[language]), train_language=language
    )


def check_apart(
    train: Sequence[str],
    test: Sequence[str],
    where_train: Callable[[int], str],
    where_test: Callable[[int], str],
) -> None:
    """Refuse evaluation texts that are also training texts, ignoring case, width and spacing.

    Parameters
    ----------
    train, test : sequence of str
        Texts of one language.
    where_train, where_test : callable
        Name the position of a text of either, counted from 0.

    Raises
    ------
    TextError
        A text is in both; the message says where.
    """
    known = {normalised(text): row for row, text in reversed(list(enumerate(train)))}
    common = [row for row, text in enumerate(test) if normalised(text) in known]
    if common:
        more = f" ({len(common) - 1} more texts are in both)" if len(common) > 1 else ""
        raise TextError(
            f"{where_test(common[0])}: this text is trained on, at {where_train(known[normalised(test[common[0]])])}"
            f"{more}; remove it from one file, or the figures are meaningless"
        )


def words_of(gold: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return each label that occurs with the words for it: itself."""
    return {label: label for label in sorted({label for labels in gold.values() for label in labels})}


def _read_file(path: Path) -> _LabelledFile:
    read = _LabelledFile(path, {}, {}, {})
    for number, record in read_objects(path):
        values = [record.get(name) for name in ("text", "language", "label")]
        strings = [value.strip() for value in values if isinstance(value, str)]
        if len(strings) != 3 or not all(strings):
            raise TextError(
                f"{path}, line {number}: an object with strings 'text', 'language' and 'label' is needed, none blank"
            )
        check_unicode("".join(strings), path, number)
        text, tag, label = strings
        language = check_language(tag, path, number)
        read.texts.setdefault(language, []).append(text)
        read.gold.setdefault(language, []).append(label)
        read.lines.setdefault(language, []).append(number)
    if len({label for labels in read.gold.values() for label in labels}) < 2:
        raise TextError(f"{path}: texts with at least two labels are needed")
    return read
