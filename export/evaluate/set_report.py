"""Judge an adapter against raw vectors, language by language: wins and losses, nothing left out.

Raw and aligned vectors always meet identical candidates. Pure: numpy alone, no encoder and no files.
"""

import statistics
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.vector_sets import LabelledTexts, ScoredVectors
from alignstream.export.evaluate.search import search
from alignstream.export.evaluate.statistics import spearman
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import AdapterError
from alignstream.models.labels.zero_shot import label_cosines

#: A change of at most this many points is neither a win nor a loss.
TIE_POINTS: Final = 0.5
#: Neighbours of a text within its language that are compared before and after.
N_NEIGHBOURS: Final = 10
#: Rows of similarities held at once: 1,024 against a pool of 12,000 take 50 MB.
_BLOCK_ROWS: Final = 1024
#: Similarities held at once where the candidates are more: the same 50 MB.
_BLOCK_CELLS: Final = 12_500_000

TO_PIVOT: Final = "to pivot"
FROM_PIVOT: Final = "from pivot"
MIXED_POOL: Final = "mixed pool"
LABELS: Final = "labels"

#: Unit vectors and their language's tag (None: unknown, as of label texts) to aligned unit vectors.
Transform = Callable[[Matrix, str | None], Matrix]


def transform_of(adapter: Adapter) -> Transform:
    """Return what an adapter does to vectors of a language, as a message that names it would have it."""
    return lambda X, language: adapter.transform_many(X, Context(language=language))


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One figure with raw vectors and with the adapter, in points (percent)."""

    raw: float
    adapter: float


class SetReport(msgspec.Struct, frozen=True):
    """What an adapter does on one set of texts.

    Parameters
    ----------
    name : str
        The set.
    use : str
        Whether anything was chosen on it: for the reader, who should know.
    pivot : str
        The language that retrieval goes to and from; empty without retrieval.
    n_lines : int
        Texts of each language.
    measures : dict of str to dict of str to Change
        By measure, then by language.
    kept : dict of str to float
        By language, the share of the ten nearest neighbours within it that stay neighbours, in points.
    """

    name: str
    use: str
    pivot: str
    n_lines: int
    measures: dict[str, dict[str, Change]]
    kept: dict[str, float]

    def mean(self, measure: str) -> Change:
        """Average over languages, each counting the same."""
        changes = self.measures[measure].values()
        return Change(
            raw=statistics.fmean(item.raw for item in changes),
            adapter=statistics.fmean(item.adapter for item in changes),
        )

    def wins(self, measure: str) -> list[str]:
        """Name the languages that gain more than ``TIE_POINTS``, most first."""
        return self._beyond(measure, sign=1.0)

    def losses(self, measure: str) -> list[str]:
        """Name the languages that lose more than ``TIE_POINTS``, most first."""
        return self._beyond(measure, sign=-1.0)

    def _beyond(self, measure: str, *, sign: float) -> list[str]:
        gains = {
            language: sign * (item.adapter - item.raw) for language, item in self.measures[measure].items()
        }
        beyond = [language for language, gain in gains.items() if gain > TIE_POINTS]
        return sorted(beyond, key=lambda language: (-gains[language], language))

    def summary(self) -> dict[str, Any]:
        """Return a small JSON value: means, wins and losses, and the rounded figures of every language.

        The figures of a language are in the order of ``measures``: keys of JSON objects have none.
        """
        languages = sorted({language for by_language in self.measures.values() for language in by_language})
        return {
            "set": self.name,
            "use": self.use,
            "pivot": self.pivot,
            "lines": self.n_lines,
            "measures": list(self.measures),
            "mean": {name: _rounded(self.mean(name)) for name in self.measures},
            "wins": {name: len(self.wins(name)) for name in self.measures},
            "losses": {name: self.losses(name) for name in self.measures},
            "neighbours_kept": round(statistics.fmean(self.kept.values()), 1),
            "by_language": {
                language: [
                    _rounded(by_language[language]) if language in by_language else None
                    for by_language in self.measures.values()
                ]
                for language in languages
            },
        }


def judge(
    name: str,
    raw: Mapping[str, Matrix],
    transform: Transform,
    *,
    use: str,
    pivot: str | None = None,
    labelled: LabelledTexts | None = None,
    common: Vector64 | None = None,
) -> SetReport:
    """Compare raw and aligned vectors on one set.

    Parameters
    ----------
    name : str
        The set.
    raw : mapping of str to ndarray of shape (n_lines, dim), float32
        Unit vectors by language; row i of every language says the same.
    transform : callable
        The adapter: unit vectors and their language to aligned unit vectors.
    use : str
        Whether anything was chosen on the set.
    pivot : str, optional
        Measure retrieval to and from this language, and the mixed pool.
    labelled : LabelledTexts, optional
        Measure zero-shot labels.
    common : ndarray of shape (dim,), optional
        What labels leave out of aligned vectors (``Adapter.common_direction``).

    Raises
    ------
    AdapterError
        Languages differ in their number of lines, or there are fewer than two lines.
    """
    lengths = {len(X) for X in raw.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise AdapterError(f"{name}: every language needs the same number of lines, at least 2")
    aligned = {language: transform(X, language) for language, X in raw.items()}
    before = measure(raw, pivot=pivot, labelled=labelled)
    if labelled is not None:
        labelled = LabelledTexts(prototypes=transform(labelled.prototypes, None), gold=labelled.gold)
    after = measure(aligned, pivot=pivot, labelled=labelled, common=common)
    measures = {
        name: {
            language: Change(raw=figure, adapter=after[name][language])
            for language, figure in by_language.items()
        }
        for name, by_language in before.items()
    }
    return SetReport(
        name=name,
        use=use,
        pivot=pivot or "",
        n_lines=lengths.pop(),
        measures=measures,
        kept={language: neighbours_kept(raw[language], aligned[language]) for language in raw},
    )


def measure(
    vectors: Mapping[str, Matrix],
    *,
    pivot: str | None = None,
    labelled: LabelledTexts | None = None,
    common: Vector64 | None = None,
) -> dict[str, dict[str, float]]:
    """Measure vectors as they are: retrieval and mixed pool with a pivot, labels with labelled texts.

    Returns
    -------
    dict of str to dict of str to float
        By measure, then by language, in points.
    """
    found: dict[str, dict[str, float]] = {}
    if pivot is not None:
        found |= retrieval(vectors, pivot)
        found[MIXED_POOL] = mixed_pool(vectors)
    if labelled is not None:
        found[LABELS] = label_accuracy(vectors, labelled.prototypes, labelled.gold, common)
    return found


def retrieval(vectors: Mapping[str, Matrix], pivot: str) -> dict[str, dict[str, float]]:
    """Find translations by the nearest vector, from each language to the pivot and back.

    Returns
    -------
    dict
        For ``TO_PIVOT`` and ``FROM_PIVOT``, by language: texts whose translation came first, in points.

    Notes
    -----
    O(n_texts · n_pivot · dim) a language, in blocks of rows. Of equals the first one counts.
    """
    found: dict[str, dict[str, float]] = {TO_PIVOT: {}, FROM_PIVOT: {}}
    for language, X in vectors.items():
        if language == pivot:
            continue
        to_pivot, from_pivot = _nearest_both_ways(X, vectors[pivot])
        lines = np.arange(len(X))
        found[TO_PIVOT][language] = _points(to_pivot == lines)
        found[FROM_PIVOT][language] = _points(from_pivot == lines)
    return found


def mixed_pool(vectors: Mapping[str, Matrix]) -> dict[str, float]:
    """Find all translations of a text among all texts of all languages.

    Returns
    -------
    dict of str to float
        By the language of the query, R-precision in points: with R other languages, the share of a text's R
        nearest that are its translations. Texts that are near for their language alone cost points.

    Notes
    -----
    O(n_texts² · dim), in blocks. Strong alignment in the sense of Roy et al. 2020, "LAReQA".
    """
    languages = list(vectors)
    pool = np.concatenate([vectors[language] for language in languages])
    n_lines, n_others = len(vectors[languages[0]]), len(languages) - 1
    lines = np.tile(np.arange(n_lines), len(languages))
    precision = np.empty(len(pool))
    for start in range(0, len(pool), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(pool)))
        similarities = pool[rows] @ pool.T
        similarities[rows - start, rows] = -np.inf
        nearest = np.argpartition(similarities, -n_others, axis=1)[:, -n_others:]
        precision[rows] = (lines[nearest] == lines[rows, None]).mean(axis=1)
    return {
        language: _points(precision[position * n_lines : (position + 1) * n_lines])
        for position, language in enumerate(languages)
    }


def neighbours_kept(raw: Matrix, aligned: Matrix) -> float:
    """Measure how much of the neighbourhood within one language stays.

    Parameters
    ----------
    raw, aligned : ndarray of shape (n, dim), float32
        Vectors of the same texts.

    Returns
    -------
    float
        The mean share of a text's ``N_NEIGHBOURS`` nearest that stay among them, in points; 100 for a single text.

    Notes
    -----
    O(n² · dim), in blocks: memory grows with n, not with n². Of equals the first ones are neighbours.
    """
    k = min(N_NEIGHBOURS, len(raw) - 1)
    if k < 1:
        return 100.0
    own = np.arange(len(raw), dtype=np.int64)
    before, after = (search(X, X, k, exclude=own)[0] for X in (raw, aligned))
    return _points((before[:, :, None] == after[:, None, :]).any(axis=2).mean(axis=1))


def similarity(pairs: Mapping[str, ScoredVectors], transform: Transform) -> dict[str, float]:
    """Compare similarity within each language with people's judgements.

    Returns
    -------
    dict of str to float
        By language, Spearman's rank correlation of cosines with scores, in points.
    """
    found = {}
    for language, scored in pairs.items():
        first, second = transform(scored.first, language), transform(scored.second, language)
        cosines = np.einsum("ij,ij->i", first.astype(np.float64), second.astype(np.float64))
        found[language] = 100.0 * spearman(cosines, scored.scores)
    return found


def label_accuracy(
    vectors: Mapping[str, Matrix],
    prototypes: Matrix,
    gold: NDArray[np.int64],
    common: Vector64 | None = None,
) -> dict[str, float]:
    """Label each text by the nearest label text.

    Returns
    -------
    dict of str to float
        By language, the share of right labels in points.
    """
    return {
        language: _points(label_cosines(X, prototypes, common).argmax(axis=1) == gold)
        for language, X in vectors.items()
    }


def _nearest_both_ways(X: Matrix, Y: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of Y nearest to each row of X, and the other way round, from one product in blocks."""
    forward = np.empty(len(X), dtype=np.int64)
    backward = np.zeros(len(Y), dtype=np.int64)
    best = np.full(len(Y), -np.inf, dtype=np.float32)
    columns = np.arange(len(Y))
    n_rows = max(1, min(_BLOCK_ROWS, _BLOCK_CELLS // max(1, len(Y))))
    for start in range(0, len(X), n_rows):
        similarities = X[start : start + n_rows] @ Y.T
        forward[start : start + n_rows] = similarities.argmax(axis=1)
        rows = similarities.argmax(axis=0)
        values = similarities[rows, columns]
        # Only what is nearer replaces an earlier row, so that of equals the first stays.
        is_nearer = values > best
        best[is_nearer], backward[is_nearer] = values[is_nearer], rows[is_nearer] + start
    return forward, backward


def _points(values: NDArray[Any]) -> float:
    return float(values.mean()) * 100.0


def _rounded(change: Change) -> list[float]:
    return [round(change.raw, 1), round(change.adapter, 1)]
