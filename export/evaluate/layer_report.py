"""What comparing layers found: one structure, as table rows and Markdown. Pure."""

import statistics
from typing import Final

import msgspec

from alignstream.export.evaluate.report import change_cells, interval_notes, markdown_table
from alignstream.export.evaluate.statistics import Interval

#: How the encoder's states of a text become its vector, where layers are compared.
POOLINGS: Final = ("mean", "cls")
LAYER_HEADINGS: Final = (
    "pooling",
    "layer",
    "to pivot",
    "from pivot",
    "mixed pool",
    "score",
    "change from best",
    "95 % interval",
)


class LayerResult(msgspec.Struct, frozen=True):
    """One layer and pooling: means over the languages other than the pivot, raw cosine, in points.

    Parameters
    ----------
    layer : int
        From 1, as ``alignstream export onnx --layer`` counts.
    pooling : str
        One of ``POOLINGS``.
    to_pivot, from_pivot, mixed_pool : float
    by_language : dict of str to float
        The mean of both directions, averaged with the mixed pool.
    change : Interval, optional
        The mean difference to the best layer, and its interval over languages; without one for a single language.
        None for the best itself.
    """

    layer: int
    pooling: str
    to_pivot: float
    from_pivot: float
    mixed_pool: float
    by_language: dict[str, float]
    change: Interval | None = None

    @property
    def score(self) -> float:
        """The mean over languages, by which the best is chosen."""
        return statistics.fmean(self.by_language.values())


class LayerReport(msgspec.Struct, frozen=True):
    """What comparing layers found.

    Parameters
    ----------
    model : str
        As it was named.
    set, pivot : str
        The parallel text.
    n_lines : int
        Lines of each language.
    languages : list of str
    results : list of LayerResult
        By layer, then pooling.
    best : LayerResult
        The highest score; of equals the lowest layer, which is the fastest.
    command : str
        Exports that layer.
    seed, n_draws : int
        Seed of the bootstrap.
    seconds : float
        With encoding.
    notes, warnings : list of str
        As in ``TaskResult``.
    """

    model: str
    set: str
    pivot: str
    n_lines: int
    languages: list[str]
    results: list[LayerResult]
    best: LayerResult
    command: str
    seed: int
    n_draws: int
    seconds: float
    notes: list[str] = []
    warnings: list[str] = []

    def headline(self) -> str:
        """Say in a sentence what was compared."""
        return (
            f"{self.model} on {self.set}: {len(self.languages)} languages, {self.n_lines} lines each, pivot "
            f"{self.pivot}; raw cosine, means over languages in points; seed {self.seed}, {self.n_draws} draws; "
            f"{self.seconds:.1f} s."
        )

    def advice(self) -> str:
        """Name the best layer, and the command that exports it."""
        best = self.best
        return f"best: layer {best.layer} with {best.pooling} pooling (half retrieval, half mixed pool)\n{self.command}"

    def rows(self) -> list[list[str]]:
        """Return a row a layer and pooling, under ``LAYER_HEADINGS``."""
        rows = []
        for result in sorted(self.results, key=lambda result: result.pooling):
            figures = (result.to_pivot, result.from_pivot, result.mixed_pool, result.score)
            cells = (f"{figure:.1f}" for figure in figures)
            rows.append([result.pooling, str(result.layer), *cells, *change_cells(result.change)])
        return rows

    def all_notes(self) -> list[str]:
        """Return all that belongs below the table."""
        return [*self.notes, *interval_notes([result.change for result in self.results], "language")]

    def to_markdown(self) -> str:
        """Return a page: every layer, then the scores of every language."""
        lines = ["# Layers", "", self.headline()]
        lines += [f"\nWarning: {warning}" for warning in self.warnings]
        lines += [f"\n{note}" for note in self.all_notes()]
        lines += ["", *markdown_table(LAYER_HEADINGS, self.rows()), "", *self.advice().splitlines(), ""]
        ordered = sorted(self.results, key=lambda result: result.pooling)
        names = ["language", *(f"layer {result.layer}, {result.pooling}" for result in ordered)]
        rows = [
            [language, *(f"{result.by_language[language]:.1f}" for result in ordered)]
            for language in sorted(self.best.by_language)
        ]
        return "\n".join([*lines, *markdown_table(names, rows), ""])
