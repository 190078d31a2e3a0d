"""The texts of a task: the user's file or a named set, cut to the selection, and parallel ones as vectors."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from alignstream.export.data.labelled import LabelledSet, read_labelled
from alignstream.export.data.named_sets import NamedSets
from alignstream.export.data.parallel import Parallel, read_parallel
from alignstream.export.data.public_sets import VARIABLE
from alignstream.export.data.scored_pairs import ScoredPairs, read_scored
from alignstream.export.data.selection import TextSelection, choose_languages
from alignstream.export.data.terms import Terms, terms_of
from alignstream.export.data.texts import evenly_spaced
from alignstream.export.data.word_pairs import WordPair, read_words
from alignstream.export.evaluate.chance import first_lines
from alignstream.export.evaluate.report import repeated_note
from alignstream.export.evaluate.session import Session
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.errors import EvaluationError, TextError

#: Names in the cache that fitting uses too, so that nothing is encoded twice.
_PARTS: Final = {"xsid-valid": "xsid"}


@dataclasses.dataclass(frozen=True)
class TaskTexts:
    """Where texts come from: a file of one's own, or sets by name.

    Parameters
    ----------
    path : Path, optional
        A file in the task's format (``export.data``).
    train : Path, optional
        Labelled texts to train a head on, in addition to ``path``.
    alignments : Path, optional
        Links in Pharaoh's notation, in addition to ``path``.
    root : Path, optional
        ALIGNSTREAM_DATA.
    names : tuple of str
        Sets of it; none takes those that the task is usually run on.
    selection : TextSelection
        Languages, pivot and limit.
    """

    path: Path | None = None
    train: Path | None = None
    alignments: Path | None = None
    root: Path | None = None
    names: tuple[str, ...] = ()
    selection: TextSelection = dataclasses.field(default_factory=TextSelection)

    def parallel(self, name: str | None) -> Parallel:
        """Return parallel texts: of a named set, or of the file (None)."""
        if name is not None:
            return self._sets().parallel(name, self.selection)
        texts = read_parallel(self._file(), pivot=self.selection.pivot, limit=None)
        languages = choose_languages(list(texts.by_language), self.selection.languages, texts.name)
        kept = {
            language: column
            for language, column in texts.by_language.items()
            if language in languages or language == texts.pivot
        }
        return dataclasses.replace(texts, by_language=kept).limited(self.selection.limit)

    def labelled(self, name: str | None) -> LabelledSet:
        """Return labelled texts."""
        if name is not None:
            return self._sets().labelled(name, self.selection)
        texts = read_labelled(self._file(), train=self.train, pivot=self.selection.pivot)
        return texts.rows(self._rows({language: len(column) for language, column in texts.texts.items()}))

    def scored(self, name: str | None) -> ScoredPairs:
        """Return pairs with people's scores."""
        if name is not None:
            return self._sets().scored(self.selection)
        pairs = read_scored(self._file())
        return pairs.rows(self._rows({language: len(scores) for language, scores in pairs.scores.items()}))

    def terms(self, name: str | None) -> Terms:
        """Return lists of terms."""
        return terms_of(self.parallel(None)) if name is None else self._sets().terms(name, self.selection)

    def words(self, name: str | None) -> tuple[str, dict[tuple[str, str], list[WordPair]]]:
        """Return the name of a set or file, and sentence pairs with gold links by their languages."""
        if name is None:
            texts = read_words(self._file(), alignments=self.alignments)
        else:
            texts = self._sets().words(self.selection)
        limit = self.selection.limit
        return texts.name, {
            languages: [pairs[line] for line in evenly_spaced(len(pairs), limit or len(pairs))]
            for languages, pairs in texts.pairs.items()
        }

    def _rows(self, sizes: Mapping[str, int]) -> dict[str, list[int]]:
        """Return the rows of each language that is wanted, evenly spaced up to the limit."""
        languages = choose_languages(list(sizes), self.selection.languages, self._file().name)
        limit = self.selection.limit
        return {language: evenly_spaced(sizes[language], limit or sizes[language]) for language in languages}

    def _file(self) -> Path:
        if self.path is None:
            raise EvaluationError("there is no file to read")
        return self.path

    def _sets(self) -> NamedSets:
        if self.root is None:
            raise EvaluationError(f"the public sets are not there: set {VARIABLE} to their folder")
        return NamedSets(self.root)


@dataclasses.dataclass(frozen=True)
class EncodedLines:
    """Parallel text as vectors: raw ones until ``align`` has run, as there is memory for one copy alone.

    Parameters
    ----------
    name, pivot : str
    vectors : dict of str to ndarray of shape (n_lines, dim) or (n_distinct, dim), float32
    same : dict of str to ndarray of shape (n_lines,), int64
        By language, the first line with the text of each line; or the row of its text, where each has one.
    n_repeated : dict of str to int
        By language, the lines whose text stood before; languages without any are left out.
    """

    name: str
    pivot: str
    vectors: dict[str, Matrix]
    same: dict[str, Indices]
    n_repeated: dict[str, int]

    @property
    def sizes(self) -> dict[str, int]:
        """Lines of each language."""
        return {language: len(lines) for language, lines in self.same.items()}

    def align(self, session: Session) -> None:
        """Replace raw vectors by aligned ones."""
        for language, X in self.vectors.items():
            session.align_in_place(X, language)

    def notes(self, effect: str) -> list[str]:
        """Say how many texts occur more than once, and the effect."""
        return repeated_note(self.n_repeated, effect)


def encode_lines(
    session: Session, texts: TaskTexts, name: str | None, *, is_distinct: bool = False
) -> EncodedLines:
    """Read and encode parallel text, each line or each distinct text; the texts themselves are let go."""
    parallel = read_lines_of(texts, name)
    columns, same, n_repeated = distinct_lines(parallel, is_distinct=is_distinct)
    vectors = session.embed(cache_part(name, parallel.name), columns)
    return EncodedLines(parallel.name, parallel.pivot, vectors, same, n_repeated)


def read_lines_of(texts: TaskTexts, name: str | None) -> Parallel:
    """Return parallel text of at least two languages and two lines.

    Raises
    ------
    TextError
        There are fewer.
    """
    parallel = texts.parallel(name)
    if len(parallel.by_language) < 2 or parallel.n_lines < 2:
        raise TextError(f"{parallel.name}: at least two languages and two lines are needed")
    return parallel


def distinct_lines(
    parallel: Parallel, *, is_distinct: bool
) -> tuple[dict[str, list[str]], dict[str, Indices], dict[str, int]]:
    """Return the texts to encode by language, where each line's text is, and how many lines repeat one.

    Parameters
    ----------
    is_distinct : bool
        Each text once, and the row of each line's text; else every line, and the first line with the same text.
    """
    columns, same, n_repeated = dict(parallel.by_language), {}, {}
    for language, column in parallel.by_language.items():
        first = first_lines(column)
        kept, rows = np.unique(first, return_inverse=True)
        if len(kept) < len(column):
            n_repeated[language] = len(column) - len(kept)
        if is_distinct:
            columns[language] = [column[line] for line in kept]
        same[language] = rows.astype(np.int64) if is_distinct else first
    return columns, same, n_repeated


def cache_part(name: str | None, own: str) -> str:
    """Return the name that vectors have in the cache: files of one's own never meet the named sets."""
    return f"evaluate-{own}" if name is None else _PARTS.get(name, name)
