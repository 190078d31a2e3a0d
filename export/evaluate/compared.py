"""Columns of a measure compared with a baseline: means, intervals, wins, losses, and losses beyond chance. Pure."""

from typing import Any

import msgspec
import numpy as np

from alignstream.export.evaluate.columns import Column, Kind
from alignstream.export.evaluate.measures import Scores
from alignstream.export.evaluate.statistics import (
    Interval,
    bootstrap_interval,
    losses,
    significantly_worse,
    wins,
)


class ColumnResult(msgspec.Struct, frozen=True):
    """One column of a measure.

    Parameters
    ----------
    name : str
        What vectors went through.
    kind : str
        Which texts it saw: inductive, causal or transductive.
    by_language : dict of str to float
        In points.
    mean : float
        Over languages, each counting the same.
    change : Interval, optional
        The mean difference to the baseline, and its interval over languages; without one for a single language. None
        for a column that is not compared, such as the baseline itself.
    wins, losses : list of str
        Languages beyond ``TIE_POINTS`` points, most first.
    significantly_worse : list of str, optional
        Languages that lose beyond chance over their texts (``statistics.significantly_worse``). None where the
        column is not compared, or the measure is not a mean over texts.
    """

    name: str
    kind: Kind
    by_language: dict[str, float]
    mean: float
    change: Interval | None
    wins: list[str]
    losses: list[str]
    significantly_worse: list[str] | None


class MeasureResult(msgspec.Struct, frozen=True):
    """One measure and its columns."""

    name: str
    columns: list[ColumnResult]

    def of_kind(self, kind: Kind) -> list[ColumnResult]:
        """Return the columns of one kind."""
        return [column for column in self.columns if column.kind == kind]

    def mean(self, column: str) -> float:
        """Return a column's mean over languages, in points."""
        return next(result.mean for result in self.columns if result.name == column)


def column_result(column: Column, scores: Scores, baseline: Scores | None, *, seed: int) -> ColumnResult:
    """Compare a column with a baseline on the same texts.

    Parameters
    ----------
    column : Column
    scores : Scores
        The scores of the column.
    baseline : Scores, optional
        The scores to compare with; None for no comparison.
    seed : int
        Seed of the bootstrap.
    """
    figures = scores.figures
    mean = float(np.mean(list(figures.values())))
    if baseline is None:
        return ColumnResult(column.name, column.kind, figures, mean, None, [], [], None)
    gains = {language: figure - baseline.figures[language] for language, figure in figures.items()}
    worse = None
    if scores.per_text and baseline.per_text:
        worse = significantly_worse(baseline.per_text, scores.per_text, seed=seed)
    return ColumnResult(
        name=column.name,
        kind=column.kind,
        by_language=figures,
        mean=mean,
        change=bootstrap_interval(np.array(list(gains.values())), seed=seed),
        wins=wins(gains),
        losses=losses(gains),
        significantly_worse=worse,
    )


def rounded_json(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return a JSON value with its figures rounded to a thousandth of a point."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: rounded_json(part) for key, part in value.items()}
    return [rounded_json(part) for part in value] if isinstance(value, list) else value
