"""What a tenant's feedback changes on the public sets: ``python -m alignstream.export.figures.feedback_figures``.

It prints the tables of ``docs/pages/measurements/feedback.md``; ``--document`` writes them there. Needs
ALIGNSTREAM_DATA. What is not in the cache is encoded, for two minutes; the figures take about five.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import platformdirs
from numpy.typing import NDArray
from rich.console import Console

from alignstream.export.data.public_vectors import Sources
from alignstream.export.figures.feedback_trials import (
    EXAMPLE_LANGUAGES,
    FIGURES,
    LOW_RESOURCE,
    PARAPHRASE,
    PARAPHRASED,
    Labelled,
    Lines,
    Remembered,
    Searched,
    commands,
    paraphrases,
    recalled,
    remembered,
    reviews,
    search,
    search_after,
    tico,
    topics,
)
from alignstream.export.figures.label_figures import TIE_POINTS, shipped_adapter
from alignstream.export.figures.shipped_adapter import open_sources
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.errors import AlignstreamError
from alignstream.models.files import replace_file

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

HEADING: Final = "## What feedback changes"
BEGIN: Final = (
    "<!-- written by: python -m alignstream.export.figures.feedback_figures "
    "--document docs/pages/measurements/feedback.md -->"
)
END: Final = "<!-- end of what feedback changes -->"


def pair_tables(
    lines: Lines,
    title: str,
    languages: Sequence[str] = LOW_RESOURCE,
    sizes: Sequence[int] = N_PAIRS,
    seeds: int = SEEDS,
) -> Iterator[str]:
    """Yield the tables of pairs."""
    plain = {language: search(lines, language, None) for language in languages}
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
        told = [plain[language], *(Searched.mean(clean[n, language]) for n in sizes)]
        cells = [f"{item.to_english:.1f}" for item in told] + [f"{item.from_english:.1f}" for item in told]
        yield f"| {language} | " + " | ".join(cells) + " |"


def _means(name: str, plain: Mapping[str, Searched], runs: Mapping[str, Sequence[Searched]]) -> str:
    means = {language: Searched.mean(items) for language, items in runs.items()}
    judged = [run.is_accepted for items in runs.values() for run in items]
    changes = {
        (language, figure): getattr(means[language], figure) - getattr(plain[language], figure)
        for language in plain
        for figure in ("to_english", "from_english")
    }
    told = _wins(changes, {key: key[0] for key in changes})
    return f"| {name} | {sum(judged)} of {len(judged)} | {_points(means)} | {told} |"


def _points(means: Mapping[str, Searched]) -> str:
    figures = [statistics.fmean(getattr(item, figure) for item in means.values()) for figure in FIGURES]
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
    for (query, looked_up), told in cells.items():
        yield f"| {query} | {looked_up} | " + " | ".join(told) + " |"


def _change(points: Sequence[float] | NDArray[np.float64]) -> str:
    before, after = points
    return f"{before:.1f} → {after:.1f}"


def label_table(task: Labelled, title: str, seeds: int = EXAMPLE_SEEDS) -> Iterator[str]:
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
    told = _wins(changes, {key: key for key in changes})
    return f"| {name} | {statistics.fmean(means):.1f} | {min(means):.1f} to {max(means):.1f} | {told} |"


def _changes(plain: Mapping[str, float], runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.fmean(run[key] for run in runs) - value for key, value in plain.items()}


def by_language(task: Labelled, n: int, language: str, seeds: int = EXAMPLE_SEEDS) -> Iterator[str]:
    """Yield which languages gain and lose by examples of one language."""
    plain = task.right(np.zeros(0, dtype=np.int64), "")
    changes = _changes(plain, task.drawn(n, language, seeds))
    yield from (f"By language, {n} examples a label in {language}, mean of the draws:", "")
    for name, sign in (("more", 1.0), ("less", -1.0)):
        those = {key: change for key, change in changes.items() if sign * change > TIE_POINTS}
        told = ", ".join(
            f"{key} {plain[key]:.1f} → {plain[key] + change:.1f}" for key, change in those.items()
        )
        yield f"* {len(those)} languages find {name}: {told or 'none'}"


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
    news = topics(sources, adapter)
    yield from (*label_table(news, "Label examples, SIB-200"), "")
    yield from (*by_language(news, N_EXAMPLES[-1], EXAMPLE_LANGUAGES[0]), "")
    yield from label_table(commands(sources, adapter), "Label examples, xSID")


def written(page: str, lines: Sequence[str]) -> str:
    """Return a page with the tables between its markers; where it has none, they are put at its end.

    Raises
    ------
    AlignstreamError
        The page has one of the markers alone, or several.
    """
    counts = page.count(BEGIN), page.count(END)
    section = "\n".join((BEGIN, "", *lines, "", END))
    if counts == (0, 0):
        heading = "" if HEADING in page else f"{HEADING}\n\n"
        return f"{page.rstrip()}\n\n{heading}{section}\n".lstrip()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if counts != (1, 1) or not begin or not end:
        raise AlignstreamError(
            f"the page must hold {BEGIN!r} and, after it, {END!r}, once each; mend it, or delete both"
        )
    return f"{before}{section}{after}"


def write_page(path: Path, lines: Sequence[str], *, is_trial: bool = False) -> None:
    """Write the tables into a page, which is made where there is none; on trial say only what would go wrong.

    Raises
    ------
    AlignstreamError
        The page cannot be read or written, or its markers are not as they should be.
    """
    try:
        page = written(path.read_text(encoding="utf-8") if path.exists() else "", lines)
        if not is_trial:
            replace_file(path, page.encode())
    except (OSError, UnicodeDecodeError) as error:
        raise AlignstreamError(f"cannot write the figures into {path}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m alignstream.export.figures.feedback_figures", description=__doc__
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("ALIGNSTREAM_DATA"))
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=os.environ.get("ALIGNSTREAM_CACHE_DIR") or platformdirs.user_cache_dir("alignstream"),
    )
    parser.add_argument(
        "--document", type=Path, help="also write the tables between their markers in this page"
    )
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("name the folder with the public sets: --data or ALIGNSTREAM_DATA")
    console = Console(highlight=False, soft_wrap=True)
    try:
        if options.document is not None:
            write_page(options.document, [], is_trial=True)
        sources = open_sources(options.data, options.cache_dir, threads=0)
        made = []
        for line in tables(sources, shipped_adapter(sources)):
            console.print(line, markup=False)
            made.append(line)
        if options.document is not None:
            write_page(options.document, made)
    except AlignstreamError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
