"""What a tenant's feedback changes on the public sets: ``python -m alignstream.export.figures.feedback_figures``.

It prints the tables of ``docs/pages/measurements/feedback.md``; ``--document`` writes them there. Needs
ALIGNSTREAM_DATA. Texts that are not in the cache are encoded, for two minutes; the figures take about five.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from alignstream.export.evaluate.statistics import TIE_POINTS
from alignstream.export.figures import program
from alignstream.export.figures.feedback_labels import (
    EXAMPLE_LANGUAGES,
    ExampleTask,
    command_examples,
    topic_examples,
)
from alignstream.export.figures.feedback_memory import (
    PARAPHRASE,
    PARAPHRASED,
    Remembered,
    paraphrases,
    recalled,
    remembered,
)
from alignstream.export.figures.feedback_pairs import (
    FIGURES,
    LOW_RESOURCE,
    FeedbackLines,
    Searched,
    reviews,
    search_after,
    search_lines,
    tico,
)
from alignstream.export.figures.marked_section import MarkedSection
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.adapter import Adapter

N_PAIRS: Final = (10, 100, 300)
N_REVIEW_PAIRS: Final = (10, 50)
N_EXAMPLES: Final = (1, 5, 20)
#: Of the pairs, how many have another's target.
SHUFFLED_SHARE: Final = 0.2
#: Draws of pairs, and of examples.
SEEDS: Final = 3
EXAMPLE_SEEDS: Final = 5

#: What figures are named by.
Key = TypeVar("Key")

SECTION: Final = MarkedSection(
    heading="## What feedback changes",
    begin="<!-- written by: python -m alignstream.export.figures.feedback_figures "
    "--document docs/pages/measurements/feedback.md -->",
    end="<!-- end of what feedback changes -->",
)


def pair_tables(
    lines: FeedbackLines,
    title: str,
    languages: Sequence[str] = LOW_RESOURCE,
    sizes: Sequence[int] = N_PAIRS,
    seeds: int = SEEDS,
) -> Iterator[str]:
    """Yield the tables of pairs."""
    plain = {language: search_lines(lines, language, None) for language in languages}
    clean = {
        (n, language): search_after(lines, language, n, seeds=seeds) for n in sizes for language in languages
    }
    yield from (
        f"{title}, {len(languages)} languages: {len(lines.judged)} lines looked up among {lines.n}, {seeds} draws",
        "",
        "| pairs | maps accepted | X → English | with `query_vector` | English → X | better, worse | worst |",
        "|---|---|---|---|---|---|---|",
    )
    yield f"| 0 | | {_points(plain)} | | |"
    for n in sizes:
        yield _means(str(n), plain, {language: clean[n, language] for language in languages})
    for n in sizes:
        runs = {
            language: search_after(lines, language, n, share=SHUFFLED_SHARE, seeds=seeds)
            for language in languages
        }
        yield _means(f"{n}, {SHUFFLED_SHARE:.0%} of them shuffled", plain, runs)
    middle = sizes[len(sizes) // 2]
    runs = {language: search_after(lines, language, middle, share=1.0, seeds=1) for language in languages}
    yield _means(f"{middle}, all of them shuffled", plain, runs)
    counts = " | ".join(map(str, (0, *sizes)))
    yield from ("", "By language: stored vectors, X → English and English → X", "")
    yield f"| language | {counts} | {counts} |"
    yield "|---" * (3 + 2 * len(sizes)) + "|"
    for language in languages:
        columns = [plain[language], *(Searched.mean(clean[n, language]) for n in sizes)]
        cells = [f"{run.to_english:.1f}" for run in columns] + [f"{run.from_english:.1f}" for run in columns]
        yield f"| {language} | " + " | ".join(cells) + " |"


def _means(name: str, plain: Mapping[str, Searched], runs: Mapping[str, Sequence[Searched]]) -> str:
    means = {language: Searched.mean(of_language) for language, of_language in runs.items()}
    judged = [run.is_accepted for of_language in runs.values() for run in of_language]
    changes = {
        (language, figure): getattr(means[language], figure) - getattr(plain[language], figure)
        for language in plain
        for figure in ("to_english", "from_english")
    }
    wins = _wins(changes, {key: key[0] for key in changes})
    return f"| {name} | {sum(judged)} of {len(judged)} | {_points(means)} | {wins} |"


def _points(means: Mapping[str, Searched]) -> str:
    figures = [statistics.fmean(getattr(run, figure) for run in means.values()) for figure in FIGURES]
    return " | ".join(f"{value:.1f}" for value in figures)


def _wins(changes: Mapping[Key, float], names: Mapping[Key, str]) -> str:
    """Return how many are better and worse, and the worst: two cells."""
    better = sum(change > TIE_POINTS for change in changes.values())
    worse = sum(change < -TIE_POINTS for change in changes.values())
    worst = min(changes, key=changes.__getitem__)
    return f"{better}, {worse} of {len(changes)} | {changes[worst]:+.1f} ({names[worst]})"


def memory_table(
    texts: Remembered,
    languages: Sequence[str] = LOW_RESOURCE,
    sizes: Sequence[int] = N_PAIRS,
    seeds: int = SEEDS,
) -> Iterator[str]:
    """Yield the table of the memory alone, without maps."""
    yield from (
        f"Translation memory without maps, {len(languages)} languages: plain → with it, {seeds} draws",
        "",
        "| query | looked up | " + " | ".join(f"{n} pairs" for n in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    )
    cells: dict[tuple[str, str], list[str]] = {}
    for n in sizes:
        runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for language in languages:
            for seed in range(seeds):
                for key, pair in recalled(texts, language, n, seed).items():
                    runs.setdefault(key, []).append(pair)
        for key, pairs in runs.items():
            cells.setdefault(key, []).append(_change(np.mean(pairs, axis=0)))
    for (query, looked_up), figures in cells.items():
        yield f"| {query} | {looked_up} | " + " | ".join(figures) + " |"


def _change(points: Sequence[float] | NDArray[np.float64]) -> str:
    before, after = points
    return f"{before:.1f} → {after:.1f}"


def label_table(task: ExampleTask, title: str, seeds: int = EXAMPLE_SEEDS) -> Iterator[str]:
    """Yield the table of label examples of one set of texts."""
    plain = task.right(np.zeros(0, dtype=np.int64), "")
    yield from (
        f"{title}: {len(task.judged)} languages, {len(task.labels)} labels, {seeds} draws of examples",
        "",
        "| examples a label | right | draws | better, worse | worst |",
        "|---|---|---|---|---|",
        f"| none | {statistics.fmean(plain.values()):.1f} | | | |",
    )
    for language in task.examples:
        for n in N_EXAMPLES:
            yield _label_row(f"{n}, {language}", plain, task.drawn(n, language, seeds))
    first, most = next(iter(task.examples)), N_EXAMPLES[-1]
    yield _label_row(f"{most} of one label alone, {first}", plain, task.one_sided(most, first, 1))


def _label_row(name: str, plain: Mapping[str, float], runs: Sequence[Mapping[str, float]]) -> str:
    means = [statistics.fmean(run.values()) for run in runs]
    changes = _changes(plain, runs)
    wins = _wins(changes, {key: key for key in changes})
    return f"| {name} | {statistics.fmean(means):.1f} | {min(means):.1f} to {max(means):.1f} | {wins} |"


def _changes(plain: Mapping[str, float], runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.fmean(run[key] for run in runs) - value for key, value in plain.items()}


def by_language(task: ExampleTask, n: int, language: str, seeds: int = EXAMPLE_SEEDS) -> Iterator[str]:
    """Yield which languages gain and lose by examples of one language."""
    plain = task.right(np.zeros(0, dtype=np.int64), "")
    changes = _changes(plain, task.drawn(n, language, seeds))
    yield from (f"By language, {n} examples a label in {language}, mean of the draws:", "")
    for name, sign in (("more", 1.0), ("less", -1.0)):
        clear = {key: change for key, change in changes.items() if sign * change > TIE_POINTS}
        named = ", ".join(
            f"{key} {plain[key]:.1f} → {plain[key] + change:.1f}" for key, change in clear.items()
        )
        yield f"* {len(clear)} languages find {name}: {named or 'none'}"


def tables(sources: Sources, adapter: Adapter) -> Iterator[str]:
    """Yield the lines of all tables."""
    lines = tico(sources, adapter)
    yield from (*pair_tables(lines, "Pairs, TICO-19"), "")
    others = reviews(sources, adapter)
    languages = [language for language in others.raw if language != "en"]
    yield from (*pair_tables(others, "Pairs, NusaX", languages, N_REVIEW_PAIRS), "")
    yield from (*memory_table(remembered(sources, lines)), "")
    alike = paraphrases(sources, adapter)
    yield (
        f"Of {alike.n} paraphrases of remembered sources (STS benchmark, similarity at least {PARAPHRASE:g} of 5, "
        f"{len(PARAPHRASED)} languages), {_change(alike.either)} find their own translation or that of the remembered "
        f"source first, {_change(alike.own)} their own."
    )
    yield ""
    news = topic_examples(sources, adapter)
    yield from (*label_table(news, "Label examples, SIB-200"), "")
    yield from (*by_language(news, N_EXAMPLES[-1], EXAMPLE_LANGUAGES[0]), "")
    yield from label_table(command_examples(sources, adapter), "Label examples, xSID")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    program.run_section(program.parser_of("feedback_figures", __doc__), arguments, SECTION, _run)


def _run(options: argparse.Namespace) -> Iterator[str]:
    sources = program.open_sources(options)
    return tables(sources, sources.shipped_adapter())


if __name__ == "__main__":
    main()
