"""An adapter against raw vectors on one set, language by language: wins and losses, nothing left out.

Raw and aligned vectors always meet identical candidates. Pure: no encoder and no files.
"""

import statistics
from collections.abc import Mapping
from typing import Any

import msgspec

from alignstream.export.data.vector_sets import LabelledTexts
from alignstream.export.evaluate.measures import (
    LABELS,
    MIXED_POOL,
    Transform,
    label_accuracy,
    mixed_pool,
    neighbours_kept,
    retrieval,
    transformed,
)
from alignstream.export.evaluate.statistics import losses, wins
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import AdapterError


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One figure with raw vectors and with the adapter, in points (percent)."""

    raw: float
    adapter: float

    @property
    def gain(self) -> float:
        """The gain of the adapter."""
        return self.adapter - self.raw


class SetReport(msgspec.Struct, frozen=True):
    """The effect of an adapter on one set of texts.

    Parameters
    ----------
    name : str
        The set.
    use : str
        Whether anything was chosen on it, for the reader.
    pivot : str
        The language that retrieval goes to and from; empty without retrieval.
    n_lines : int
        Texts of each language.
    measures : dict of str to dict of str to Change
        By measure, then by language.
    kept : dict of str to float
        By language, the share of neighbours within it that stay (``models.checks.neighbours``), in points.
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
            raw=statistics.fmean(change.raw for change in changes),
            adapter=statistics.fmean(change.adapter for change in changes),
        )

    @property
    def mean_kept(self) -> float:
        """The share of neighbours that stay, averaged over languages, in points."""
        return statistics.fmean(self.kept.values())

    def wins(self, measure: str) -> list[str]:
        """Name the languages that gain more than ``TIE_POINTS``, most first."""
        return wins(self._gains(measure))

    def losses(self, measure: str) -> list[str]:
        """Name the languages that lose more than ``TIE_POINTS``, most first."""
        return losses(self._gains(measure))

    def _gains(self, measure: str) -> dict[str, float]:
        return {language: change.gain for language, change in self.measures[measure].items()}

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
            "neighbours_kept": round(self.mean_kept, 1),
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
    aligned = transformed(raw, transform)
    before = measure(raw, pivot=pivot, labelled=labelled)
    if labelled is not None:
        labelled = aligned_labels(labelled, transform)
    after = measure(aligned, pivot=pivot, labelled=labelled, common=common)
    return SetReport(
        name=name,
        use=use,
        pivot=pivot or "",
        n_lines=lengths.pop(),
        measures={
            name: {
                language: Change(raw=figure, adapter=after[name][language])
                for language, figure in by_language.items()
            }
            for name, by_language in before.items()
        },
        kept={language: neighbours_kept(X, aligned[language]) for language, X in raw.items()},
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
    figures: dict[str, dict[str, float]] = {}
    if pivot is not None:
        figures |= {name: scores.figures for name, scores in retrieval(vectors, pivot).items()}
        figures[MIXED_POOL] = mixed_pool(vectors).figures
    if labelled is not None:
        gold = dict.fromkeys(vectors, labelled.gold)
        figures[LABELS] = label_accuracy(vectors, labelled.prototypes, gold, common=common).figures
    return figures


def aligned_labels(labelled: LabelledTexts, transform: Transform) -> LabelledTexts:
    """Return label texts as a transform leaves them: no language is named, as in the service."""
    return LabelledTexts(prototypes=transform(labelled.prototypes, None), gold=labelled.gold)


def _rounded(change: Change) -> list[float]:
    return [round(change.raw, 1), round(change.adapter, 1)]
