"""Which changes let texts keep their neighbours: ``python -m alignstream.export.figures.neighbour_figures``.

It prints the tables of ``docs/pages/measurements/neighbours.md``, which justify ``gate.MIN_NEIGHBOURS_KEPT``;
``--document`` writes them there. Needs ALIGNSTREAM_DATA. The tables take a minute; texts that are not in the
cache are encoded first, most of them by ``make adapter`` too.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.data.public_sets import DEV_LANGUAGES, TICO_LANGUAGES
from alignstream.export.data.texts import evenly_spaced
from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.export.evaluate.measures import (
    FROM_PIVOT,
    TO_PIVOT,
    neighbours_kept,
    retrieval,
    similarity,
    transformed,
)
from alignstream.export.figures import program
from alignstream.export.figures.feedback_learning import asked, epoch_of, right_points, shuffled
from alignstream.export.figures.feedback_pairs import LOW_RESOURCE, FeedbackLines, tico
from alignstream.export.figures.marked_section import MarkedSection
from alignstream.export.figures.neighbour_changes import VectorChange, as_unit, vector_changes
from alignstream.export.figures.sources import N_DEV_LINES, N_TICO_LINES, Sources
from alignstream.export.fit.onboarding import own_map
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks import gate, neighbours
from alignstream.models.fit.closed_form import PairSums, procrustes, ridge
from alignstream.models.learner import tenant_map_fit
from alignstream.models.serving.query_adaptation import QueryAdaptation

#: As many texts of a language as the check before a push has.
N_FEW: Final = 35
N_PAIRS: Final = (10, 100, 300)
SEED: Final = 0
#: Not a map: queries moved by a tenant's memory, looked up among stored vectors.
MEMORY: Final = "queries with a tenant's memory"

SECTION: Final = MarkedSection(
    heading="## Figures",
    begin="<!-- written by: python -m alignstream.export.figures.neighbour_figures "
    "--document docs/pages/measurements/neighbours.md -->",
    end="<!-- end of the figures of neighbours -->",
)


#: A way to fit a map of shape (dim, dim) to pairs: to aligned vectors of shape (n, dim) of either side.
FitMap = Callable[[Matrix, Matrix], Array64]

MAPS: Final[Mapping[str, FitMap]] = {
    "a tenant's map": tenant_map_fit.fit,
    "map of an onboarded language": lambda X, Y: own_map(X.astype(np.float64), Y.astype(np.float64)),
    "ridge, λ = 3": lambda X, Y: ridge(PairSums.of(X, Y), strength=3.0),
    "half of Procrustes": lambda X, Y: procrustes(PairSums.of(X, Y)),
    "Procrustes": lambda X, Y: procrustes(PairSums.of(X, Y), blend=1.0),
    "least squares": lambda X, Y: np.linalg.pinv(X.astype(np.float64)) @ Y.astype(np.float64),
}


@dataclasses.dataclass(frozen=True)
class Kept:
    """Shares of neighbours that stay, in points: one for each language, or for each run of a language."""

    points: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean, in points."""
        return statistics.fmean(self.points)

    @property
    def cell(self) -> str:
        """The mean, and the lowest."""
        return f"{self.mean:.0f} ({min(self.points):.0f})"

    @property
    def refused(self) -> str:
        """How many the gate refuses."""
        n = sum(points < 100.0 * gate.MIN_NEIGHBOURS_KEPT for points in self.points)
        return f"{n} of {len(self.points)}"


def change_table(
    changes: Iterable[VectorChange],
    sets: Mapping[str, Mapping[str, Matrix]],
    scored: Mapping[str, ScoredVectors],
    *,
    pivot: str,
) -> Iterator[str]:
    """Yield the table of changes, the mildest first: what stays of neighbours, of similarity and of search.

    Parameters
    ----------
    changes : iterable of VectorChange
    sets : mapping of str to mapping of str to ndarray of shape (n_lines, dim), float32
        Raw vectors by language, by the name of the set; search is measured on the first.
    scored : mapping of str to ScoredVectors
        Pairs that people scored.
    pivot : str
        Language of the first set that the others are searched from.
    """
    searched = next(iter(sets.values()))
    raw, before = similarity(scored).figures, _search(searched, pivot)
    yield f"| change | {' | '.join(sets)} | refused | similarity, worst | to {pivot}, from {pivot} |"
    yield "|---" * (len(sets) + 4) + "|"
    rows = []
    for change in changes:
        kept = [
            Kept([neighbours_kept(X, change.transform(X, language)) for language, X in vectors.items()])
            for vectors in sets.values()
        ]
        every = Kept([points for of_set in kept for points in of_set.points])
        figures = similarity(scored, change.transform).figures
        gains = [figures[language] - raw[language] for language in raw]
        after = _search(transformed(searched, change.transform), pivot)
        cells = [
            change.name,
            *(of_set.cell for of_set in kept),
            every.refused,
            f"{statistics.fmean(gains):+.1f}, {min(gains):+.1f}",
            f"{after[0] - before[0]:+.1f}, {after[1] - before[1]:+.1f}",
        ]
        rows.append((every.mean, f"| {' | '.join(cells)} |"))
    yield from (row for _, row in sorted(rows, reverse=True))


def _search(vectors: Mapping[str, Matrix], pivot: str) -> tuple[float, float]:
    """Return retrieval to the pivot and from it, in points: means over languages."""
    both_ways = retrieval(vectors, pivot)
    to, back = (statistics.fmean(both_ways[name].figures.values()) for name in (TO_PIVOT, FROM_PIVOT))
    return to, back


def map_table(
    lines: FeedbackLines, languages: Sequence[str] = LOW_RESOURCE, sizes: Sequence[int] = N_PAIRS
) -> Iterator[str]:
    """Yield the table of maps and memories that are fitted to pairs, right ones and shuffled ones."""
    yield "| fitted | pairs | neighbours kept | refused | to English | shuffled pairs: kept | refused | to English |"
    yield "|---" * 8 + "|"
    plain = statistics.fmean(
        right_points(lines.plain[language][lines.judged], lines.plain["en"], lines.judged)
        for language in languages
    )
    for name in (*MAPS, MEMORY):
        for n in sizes:
            cells = [name, str(n)]
            for is_shuffled in (False, True):
                runs = [_run_of(lines, language, name, n, is_shuffled=is_shuffled) for language in languages]
                kept = Kept([points for points, _ in runs])
                right = statistics.fmean(points for _, points in runs)
                cells += [kept.cell, kept.refused, f"{right - plain:+.1f}"]
            yield f"| {' | '.join(cells)} |"


def _run_of(
    lines: FeedbackLines, language: str, name: str, n: int, *, is_shuffled: bool
) -> tuple[float, float]:
    """Return what judged texts keep of neighbours, and how many find their translation: both in points."""
    rows, judged = lines.chosen(n, SEED), lines.judged
    targets = shuffled(n, 1.0, SEED) if is_shuffled else list(range(n))
    before, english = lines.plain[language][judged], lines.plain["en"]
    if name == MEMORY:
        epoch = epoch_of(lines.adapter, lines.pairs(language, rows, targets))
        after = asked(QueryAdaptation(lines.adapter, epoch), lines.raw[language][judged], language)
        kept = 100.0 * neighbours.neighbours_kept(before, before, queries=after)
    else:
        W = MAPS[name](lines.plain[language][rows], english[rows[targets]])
        after = as_unit(before.astype(np.float64) @ W)
        kept = neighbours_kept(before, after)
    return kept, right_points(after, english, judged)


def tables(sources: Sources, adapter: Adapter) -> Iterator[str]:
    """Yield the lines of all tables."""
    lines = sources.sets.tico(TICO_LANGUAGES, n_lines=N_TICO_LINES)
    news = sources.sets.ntrex(DEV_LANGUAGES, is_dev=True, n_lines=N_DEV_LINES)
    health = sources.embed(lines.name, lines.by_language)
    few = evenly_spaced(lines.n_lines, N_FEW)
    sets = {
        "TICO-19": health,
        "NTREX-128": sources.embed(news.name, news.by_language),
        "SIB-200": sources.dev().topical,
        f"{N_FEW} texts": {language: X[few] for language, X in health.items()},
    }
    yield (
        f"Adapters and damage, against vectors as encoded: {len(health)} languages of TICO-19 "
        f"({lines.n_lines} texts each), {len(DEV_LANGUAGES)} of the development parts of NTREX-128 and SIB-200 "
        f"(some {N_DEV_LINES}), and {N_FEW} texts of TICO-19, which is what the check before a push has."
    )
    yield ""
    languages = sorted({language for vectors in sets.values() for language in vectors})
    yield from change_table(vector_changes(adapter, languages), sets, sources.similarity(), pivot=lines.pivot)
    memory = tico(sources, adapter)
    yield ""
    yield (
        f"Maps and memories behind the shipped adapter, of {len(LOW_RESOURCE)} languages of TICO-19 each for itself: "
        f"fitted to pairs of the second half of its lines, judged on the {len(memory.judged)} of the first"
    )
    yield ""
    yield from map_table(memory)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    program.run_section(program.parser_of("neighbour_figures", __doc__), arguments, SECTION, _run)


def _run(options: argparse.Namespace) -> Iterator[str]:
    sources = program.open_sources(options)
    return tables(sources, sources.shipped_adapter())


if __name__ == "__main__":
    main()
