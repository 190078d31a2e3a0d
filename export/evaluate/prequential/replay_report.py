"""Results of a replay, as one structure. Changes are those from static vectors. Pure."""

from typing import Any, Final

import msgspec

from alignstream.export.evaluate.compared import MeasureResult, column_result, rounded_json
from alignstream.export.evaluate.prequential.stream_replay import STATIC, Played

FORMAT: Final = "alignstream.replay/1"


class Recovery(msgspec.Struct, frozen=True):
    """How soon search recovers after a change of domain, on held-out texts.

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


class ReplayedSegment(msgspec.Struct, frozen=True):
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
    measures : list of MeasureResult
        Changes are those from static; raw is not compared.
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
    measures: list[MeasureResult]
    recovery: Recovery | None = None


class ReplayedStream(msgspec.Struct, frozen=True):
    """A stream with what its segments gave."""

    name: str
    what: str
    segments: list[ReplayedSegment]


class LateLanguages(msgspec.Struct, frozen=True):
    """Languages that join late: their first texts of each, in points by column and measure."""

    n_first: int
    n_texts: int
    figures: dict[str, dict[str, float]]


class HostileDamage(msgspec.Struct, frozen=True):
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


class PrequentialReport(msgspec.Struct, frozen=True):
    """All that a replay found, and what it depends on.

    Parameters
    ----------
    encoder : str
        Fingerprint.
    adapter, adapter_version : str
    seed : int
        Seed of the order of messages and of the intervals.
    rate : float
        Texts a second, to convert texts into seconds.
    live_texts : int
        Messages of two seconds at that rate.
    seconds : float
    streams : list of ReplayedStream
    late : list of LateLanguages
    hostile : list of HostileDamage
    goals : list of Goal
    """

    encoder: str
    adapter: str
    adapter_version: str
    seed: int
    rate: float
    live_texts: int
    seconds: float
    streams: list[ReplayedStream]
    late: list[LateLanguages] = []
    hostile: list[HostileDamage] = []
    goals: list[Goal] = []
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value; figures rounded to a thousandth of a point."""
        value: dict[str, Any] = rounded_json(msgspec.to_builtins(self))
        return value

    def headline(self) -> str:
        """Say in a sentence what was replayed."""
        return (
            f"Encoder {self.encoder[:12]}, adapter {self.adapter} (version {self.adapter_version}); seed {self.seed}; "
            f"at {self.rate:g} texts a second two seconds are {self.live_texts} texts."
        )


def segment_of(played: Played, *, seed: int, recovery: Recovery | None = None) -> ReplayedSegment | None:
    """Return the figures of a segment; None if nothing was looked up in it."""
    results = played.results()
    if not results:
        return None
    measures = [
        MeasureResult(
            name,
            [
                column_result(
                    column, scores, None if column.kind == "inductive" else columns[STATIC], seed=seed
                )
                for column, scores in columns.items()
            ],
        )
        for name, columns in results.items()
    ]
    languages = {language for measure in measures for language in measure.columns[0].by_language}
    return ReplayedSegment(
        name=played.segment.name,
        pivot=played.segment.pivot,
        n_messages=len(played.segment.messages),
        n_languages=len(languages),
        is_change=played.segment.is_change,
        is_home=played.segment.is_home,
        openings=[(epoch.position, epoch.reason) for epoch in played.opened],
        n_live=played.n_live,
        refusals=played.refusals,
        measures=measures,
        recovery=recovery,
    )
