"""What replayed streams gave, as one structure. Changes are those from static vectors. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from alignstream.export.evaluate.prequential.replay import STATIC, Played
from alignstream.export.evaluate.set_report import TIE_POINTS
from alignstream.export.evaluate.statistics import (
    Interval,
    bootstrap_interval,
    significantly_worse,
)
from alignstream.export.evaluate.tasks import Kind, Scores

FORMAT: Final = "alignstream.causal/1"


class CausalColumn(msgspec.Struct, frozen=True):
    """One column of a measure, in points.

    Parameters
    ----------
    name, kind : str
    mean : float
        Over languages, each counting the same.
    by_language : dict of str to float
    change : Interval, optional
        From static, with its interval over languages; None for raw and static.
    wins, losses, significantly_worse : list of str
        Languages beyond ``TIE_POINTS`` points from static, most first; those that lose beyond chance.
    """

    name: str
    kind: Kind
    mean: float
    by_language: dict[str, float]
    change: Interval | None
    wins: list[str]
    losses: list[str]
    significantly_worse: list[str]


class CausalMeasure(msgspec.Struct, frozen=True):
    """One measure: its columns."""

    name: str
    columns: list[CausalColumn]

    def mean(self, column: str) -> float:
        """Return a column's mean over languages, in points."""
        return next(item.mean for item in self.columns if item.name == column)

    def has(self, column: str) -> bool:
        """Say whether there is such a column."""
        return any(item.name == column for item in self.columns)


class Recovery(msgspec.Struct, frozen=True):
    """How soon epochs made good what a change of domain cost, on texts that are held out.

    Parameters
    ----------
    before, after : float
        Mean of the measures by cosine, in points: with the epoch from before the change, and with the last one.
    n_texts : int, optional
        Messages until an epoch had 90 % of the difference; None where there was less than half a point to gain.
    seconds : float, optional
        The same at the stated rate.
    """

    before: float
    after: float
    n_texts: int | None
    seconds: float | None


class CausalSegment(msgspec.Struct, frozen=True):
    """One segment of a stream.

    Parameters
    ----------
    name, pivot : str
    n_messages : int
    n_languages : int
        Those whose texts are looked up or looked for.
    is_change, is_home : bool
        The domain is another than before; it is the one that adapters are fitted on.
    openings : list of (int, str)
        After how many of its messages epochs opened, and why.
    n_live : int
        Epochs of ``live`` in it.
    refusals : list of str
        Why epochs that were due did not open.
    measures : list of CausalMeasure
    recovery : Recovery, optional
    """

    name: str
    pivot: str
    n_messages: int
    n_languages: int
    is_change: bool
    is_home: bool
    openings: list[tuple[int, str]]
    n_live: int
    refusals: list[str]
    measures: list[CausalMeasure]
    recovery: Recovery | None = None


class CausalStream(msgspec.Struct, frozen=True):
    """A stream with what its segments gave."""

    name: str
    what: str
    segments: list[CausalSegment]


class Late(msgspec.Struct, frozen=True):
    """Languages that join late: their first texts of each, in points by column and measure."""

    n_first: int
    n_texts: int
    figures: dict[str, dict[str, float]]


class Hostile(msgspec.Struct, frozen=True):
    """What hostile texts did, in points over the clean texts of the stretch and after it.

    Parameters
    ----------
    kind : str
    victims : list of str
        Languages that hostile texts named, each in a run of its own.
    static, without, epochs : float
        Search of the victims' clean texts: by static vectors, and with epochs of a stream without and with hostile
        texts; means of both measures, by cosine.
    without_hubness, epochs_hubness : float
        The same with hubness.
    others : float
        Mean change of all other languages.
    worst_other : float
        The mean change of the language that lost most.
    """

    kind: str
    victims: list[str]
    static: float
    without: float
    epochs: float
    without_hubness: float
    epochs_hubness: float
    others: float
    worst_other: float


class Goal(msgspec.Struct, frozen=True):
    """A promise and what was found."""

    name: str
    bound: str
    found: str
    holds: bool


class CausalEvaluation(msgspec.Struct, frozen=True):
    """All that a run found, and what it depends on.

    Parameters
    ----------
    encoder : str
        Fingerprint.
    adapter, adapter_version : str
    seed : int
        Of the order of messages, and of intervals.
    rate : float
        Texts a second, to say how long something takes.
    live_texts : int
        Messages of two seconds at that rate.
    seconds : float
    streams : list of CausalStream
    late : list of Late
    hostile : list of Hostile
    goals : list of Goal
    """

    encoder: str
    adapter: str
    adapter_version: str
    seed: int
    rate: float
    live_texts: int
    seconds: float
    streams: list[CausalStream]
    late: list[Late] = []
    hostile: list[Hostile] = []
    goals: list[Goal] = []
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value; figures rounded to a thousandth of a point."""
        value: dict[str, Any] = _rounded(msgspec.to_builtins(self))
        return value

    def headline(self) -> str:
        """Say in a sentence what was replayed."""
        return (
            f"Encoder {self.encoder[:12]}, adapter {self.adapter} (version {self.adapter_version}); seed {self.seed}; "
            f"at {self.rate:g} texts a second two seconds are {self.live_texts} texts."
        )


def segment_of(played: Played, *, seed: int, recovery: Recovery | None = None) -> CausalSegment | None:
    """Return the figures of a segment; None where nothing was looked up in it."""
    results = played.results()
    if not results:
        return None
    measures = []
    for name, columns in results.items():
        static = columns[STATIC]
        measures.append(
            CausalMeasure(
                name,
                [
                    _column(
                        column.name, column.kind, scores, None if column.kind == "inductive" else static, seed
                    )
                    for column, scores in columns.items()
                ],
            )
        )
    languages = {language for item in measures for language in item.columns[0].by_language}
    return CausalSegment(
        name=played.segment.name,
        pivot=played.segment.pivot,
        n_messages=len(played.segment.messages),
        n_languages=len(languages),
        is_change=played.segment.is_change,
        is_home=played.segment.is_home,
        openings=[(item.position, item.reason) for item in played.opened],
        n_live=played.n_live,
        refusals=played.refusals,
        measures=measures,
        recovery=recovery,
    )


def _column(name: str, kind: Kind, scores: Scores, static: Scores | None, seed: int) -> CausalColumn:
    figures = scores.figures
    mean = float(np.mean(list(figures.values())))
    if static is None:
        return CausalColumn(name, kind, mean, figures, None, [], [], [])
    gains = {language: figure - static.figures[language] for language, figure in figures.items()}
    return CausalColumn(
        name=name,
        kind=kind,
        mean=mean,
        by_language=figures,
        change=bootstrap_interval(np.array(list(gains.values())), seed=seed),
        wins=_beyond(gains, 1.0),
        losses=_beyond(gains, -1.0),
        significantly_worse=significantly_worse(static.per_text, scores.per_text, seed=seed),
    )


def _beyond(gains: Mapping[str, float], sign: float) -> list[str]:
    found = [language for language, gain in gains.items() if sign * gain > TIE_POINTS]
    return sorted(found, key=lambda language: (-sign * gains[language], language))


def _rounded(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
