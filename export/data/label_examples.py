"""Texts to fit a label set to, with and without labels, read from people's own files. Nothing here encodes."""

import dataclasses
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.lines import (
    JSON_SUFFIXES,
    check_language,
    check_unicode,
    read_cells,
    read_filled_lines,
    read_objects,
)
from alignstream.export.data.texts import normalised
from alignstream.models.errors import TextError
from alignstream.models.labels.calibration import MIN_EXAMPLES
from alignstream.models.labels.label_set import LabelSet

#: A file with one column more: language and text.
TABLE_SUFFIXES: Final = frozenset({".tsv"})


@dataclasses.dataclass(frozen=True)
class LabelTexts:
    """Texts, each once, with their languages where they are known.

    Parameters
    ----------
    texts : tuple of str
    languages : tuple of str or None
        Tag of each text.
    n_repeated : int
        Texts that stood in an earlier line and were left out.
    gold : ndarray of shape (n, n_labels), bool, optional
        Labels of examples: True where a label is right.
    """

    texts: tuple[str, ...]
    languages: tuple[str | None, ...]
    n_repeated: int = 0
    gold: NDArray[np.bool_] | None = None

    def without(self, others: "LabelTexts") -> "LabelTexts":
        """Return the same without the texts of others, ignoring case, width and spacing."""
        known = set(map(normalised, others.texts))
        keep = [row for row, text in enumerate(self.texts) if normalised(text) not in known]
        return dataclasses.replace(
            self,
            texts=tuple(self.texts[row] for row in keep),
            languages=tuple(self.languages[row] for row in keep),
        )


def read_sample(path: Path, *, language: str | None = None) -> LabelTexts:
    """Read texts without labels.

    Parameters
    ----------
    path : Path
        A text a line; ``.tsv``: lines of ``language<TAB>text``; ``.jsonl`` or ``.ndjson``: objects with ``text`` and,
        where it is known, ``language``.
    language : str, optional
        Tag of the texts without one.

    Raises
    ------
    TextError
        The file is missing, not UTF-8, malformed or empty, or a tag is unknown.
    """
    tags: dict[str, str | None] = {}
    n_lines = 0
    for text, tag in _texts(path):
        n_lines += 1
        tags.setdefault(text, tag or language)
    if not tags:
        raise TextError(f"{path} holds no texts; write one text a line")
    return LabelTexts(tuple(tags), tuple(tags.values()), n_repeated=n_lines - len(tags))


def read_examples(path: Path, label_set: LabelSet, *, language: str | None = None) -> LabelTexts:
    """Read texts with labels.

    Parameters
    ----------
    path : Path
        Lines of ``label<TAB>text`` or ``label<TAB>language<TAB>text``; ``.jsonl`` or ``.ndjson``: objects with
        ``label``, ``text`` and, if known, ``language``. A text with several labels is repeated, if the set
        allows several.
    label_set : LabelSet
        Whose labels they are.
    language : str, optional
        Tag of the texts without one.

    Raises
    ------
    TextError
        The file is missing, not UTF-8 or malformed, a label is not in the set, a text has two labels that exclude
        each other, or there are too few texts; the message names the line.
    """
    positions = {label: position for position, label in enumerate(label_set.labels)}
    examples: dict[str, tuple[str | None, set[int], int]] = {}
    for number, label, text, tag in _labelled(path):
        if label not in positions:
            near = difflib.get_close_matches(label, positions, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(label_set.labels)[:200]}"
            raise TextError(f"{path}, line {number}: no label {label[:50]!r} in this set; {hint}")
        _, labels, first = examples.setdefault(text, (tag or language, set(), number))
        labels.add(positions[label])
        if len(labels) > 1 and not label_set.multi_label:
            raise TextError(
                f"{path}, line {number}: this text has another label on line {first}, but the labels of this set "
                "exclude each other; keep one, or push the set with --multi-label"
            )
    if len(examples) < MIN_EXAMPLES:
        raise TextError(
            f"{path}: {len(examples)} texts with labels are too few to calibrate on, {MIN_EXAMPLES} are needed; "
            "add some, or leave --examples out"
        )
    gold = np.zeros((len(examples), len(positions)), dtype=np.bool_)
    for row, (_, labels, _) in enumerate(examples.values()):
        gold[row, list(labels)] = True
    return LabelTexts(tuple(examples), tuple(tag for tag, _, _ in examples.values()), gold=gold)


def _texts(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield text and tag."""
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        for number, record in read_objects(path):
            (text,), tag = _strings(record, ("text",), path, number)
            if text:
                yield text, tag
        return
    for number, line in read_filled_lines(path):
        if suffix not in TABLE_SUFFIXES:
            yield line.strip(), None
            continue
        first, tab, text = line.partition("\t")
        if not tab:
            raise TextError(f"{path}, line {number}: language<TAB>text is needed, but there is no tab")
        language = check_language(first, path, number)
        if text.strip():
            yield text.strip(), language


def _labelled(path: Path) -> Iterator[tuple[int, str, str, str | None]]:
    """Yield line, label, text and tag."""
    if path.suffix.lower() in JSON_SUFFIXES:
        for number, record in read_objects(path):
            (text, label), tag = _strings(record, ("text", "label"), path, number)
            if not text or not label:
                raise TextError(f"{path}, line {number}: label and text are needed, none blank")
            yield number, label, text, tag
        return
    for number, cells in read_cells(path):
        if len(cells) not in {2, 3} or not all(cells):
            raise TextError(
                f"{path}, line {number}: label<TAB>text or label<TAB>language<TAB>text is needed, none blank, but "
                f"there are {sum(map(bool, cells))} in {len(cells)} cells"
            )
        tag = check_language(cells[1], path, number) if len(cells) == 3 else None
        yield number, cells[0], cells[-1], tag


def _strings(
    record: dict[str, Any], needed: tuple[str, ...], path: Path, number: int
) -> tuple[list[str], str | None]:
    """Return the strings that an object must have, and its tag if there is one."""
    values, language = [record.get(name) for name in needed], record.get("language")
    strings = [value.strip() for value in values if isinstance(value, str)]
    if len(strings) != len(needed) or not isinstance(language, str | None):
        raise TextError(
            f"{path}, line {number}: an object with strings {' and '.join(map(repr, needed))} is needed; 'language' "
            "is optional"
        )
    check_unicode("".join(strings), path, number)
    return strings, None if language is None else check_language(language, path, number)
