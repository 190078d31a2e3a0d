"""Results of a replay, as tables and as Markdown. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from alignstream.export.evaluate.columns import RAW
from alignstream.export.evaluate.prequential.replay_report import (
    Goal,
    HostileDamage,
    LateLanguages,
    PrequentialReport,
    Recovery,
    ReplayedSegment,
    ReplayedStream,
)
from alignstream.export.evaluate.prequential.stream_replay import EPOCHS, STATIC, WITH_HUBNESS
from alignstream.export.evaluate.report import change_cells, markdown_table

#: What each column is, below the tables.
LEGEND: Final[Mapping[str, str]] = {
    "raw": "vectors as encoded, on both sides",
    "static": "vectors of the adapter alone, on both sides; what is stored in every other column too",
    "epochs": "queries that use the epoch open at their time; epochs open by doubling and on drift, between batches",
    "live": "the same with an epoch every two seconds as well",
    "ideal": "the means of an epoch before every message, which no service could afford; its bank for hubness is "
    "renewed every 256 messages",
    "+ hubness": "by cosine less half the hubness of what is stored, measured when an epoch opens",
}
_NAMED: Final = 5
#: The columns that are shown by language, and those whose changes are shown.
SHOWN: Final = (RAW.name, STATIC.name, EPOCHS.name, WITH_HUBNESS[EPOCHS].name)
ADAPTED: Final = (EPOCHS.name, WITH_HUBNESS[EPOCHS].name)
CHANGE_HEADINGS: Final = (
    "segment", "measure", "epochs: change from static (95 %)", "wins / losses", "worse beyond chance",
    "with hubness", "wins / losses", "worse beyond chance",
)  # fmt: skip
GOAL_HEADINGS: Final = ("goal", "bound", "found", "")
HOSTILE_HEADINGS: Final = (
    "hostile texts", "static", "epochs, without them", "epochs, with them", "change from static",
    "with hubness, without them", "with them", "other languages", "worst of them",
)  # fmt: skip
LATE: Final = (
    "Other languages were learned from in a new domain when these join; every language but the pivot is late once. "
    "Only the first texts of each count."
)
HOSTILE: Final = (
    "Of the messages that name one language, 30 % are hostile for a stretch; then the stream goes on clean. Search of "
    "that language's clean texts in the stretch and after it, the mean of both measures, and what changes for all "
    "other languages beside a stream without hostile texts. The means are over the languages attacked."
)


def to_markdown(report: PrequentialReport, *, title: str = "Streams") -> str:
    """Return a page."""
    return "\n".join([f"# {title}", "", *section(report, level="##"), ""])


def section(report: PrequentialReport, *, level: str = "####") -> list[str]:
    """Return the lines of tables and their legend, without a title."""
    lines = [report.headline(), ""]
    lines += [f"- **{name}**: {text}" for name, text in LEGEND.items()]
    if report.goals:
        lines += ["", f"{level} Goals", "", *markdown_table(GOAL_HEADINGS, goal_rows(report.goals))]
    for stream in report.streams:
        lines += ["", f"{level} {stream.name}", "", stream.what, ""]
        lines += markdown_table(headings(stream), summary_rows(stream))
        lines += ["", *markdown_table(CHANGE_HEADINGS, change_rows(stream))]
        lines += ["", *(f"- {note}" for note in stream_notes(stream))]
    if report.late:
        lines += ["", f"{level} A language that comes late", "", LATE, ""]
        lines += markdown_table(*late_table(report.late))
    if report.hostile:
        lines += ["", f"{level} Hostile texts", "", HOSTILE, ""]
        lines += markdown_table(HOSTILE_HEADINGS, hostile_rows(report.hostile))
    for stream in report.streams:
        for segment in stream.segments:
            if not segment.is_home:
                lines += ["", f"{level} {stream.name}: {segment.name} by language", ""]
                lines += markdown_table(*segment_table(segment))
    return lines


def _columns(stream: ReplayedStream) -> list[str]:
    return list(
        dict.fromkeys(
            column.name
            for segment in stream.segments
            for measure in segment.measures
            for column in measure.columns
        )
    )


def _short(name: str) -> str:
    """Return the heading of a column; a column with hubness is right of the same without."""
    return "+ hubness" if name.endswith(" + hubness") else name


def headings(stream: ReplayedStream) -> list[str]:
    """Return the headings of a stream's table."""
    return ["segment", "measure", *map(_short, _columns(stream))]


def summary_rows(stream: ReplayedStream) -> list[list[str]]:
    """Return a row a segment and measure, under ``headings``: means over languages, in points."""
    rows = []
    for segment in stream.segments:
        for position, measure in enumerate(segment.measures):
            by_name = {column.name: column for column in measure.columns}
            cells = [f"{by_name[name].mean:.1f}" if name in by_name else "" for name in _columns(stream)]
            rows.append(["" if position else segment.name, measure.name, *cells])
    return rows


def change_rows(stream: ReplayedStream) -> list[list[str]]:
    """Return a row a segment and measure, under ``CHANGE_HEADINGS``: what epochs change from static."""
    rows = []
    for segment in stream.segments:
        for position, measure in enumerate(segment.measures):
            cells = []
            for column in measure.columns:
                if column.name in ADAPTED:
                    mean, interval = change_cells(column.change)
                    cells += [f"{mean} ({interval})", f"{len(column.wins)} / {counted(column.losses)}"]
                    cells.append(counted(column.significantly_worse))
            rows.append(["" if position else segment.name, measure.name, *cells])
    return rows


def counted(languages: Sequence[str] | None) -> str:
    """Count languages, and name them where they are few."""
    if languages is None:
        return "not tested"
    if not 0 < len(languages) <= _NAMED:
        return str(len(languages))
    return f"{len(languages)} ({', '.join(languages)})"


def stream_notes(stream: ReplayedStream) -> list[str]:
    """Return a sentence a segment on its epochs and on how soon it recovered."""
    notes = []
    for segment in stream.segments:
        opened = ", ".join(f"{position} ({reason})" for position, reason in segment.openings) or "never"
        live = f"; {segment.n_live} epochs of live" if segment.n_live else ""
        note = (
            f"{segment.name}: {segment.n_messages} messages, {segment.n_languages} languages, pivot {segment.pivot}; "
            f"epochs opened after {opened}{live}."
        )
        if segment.refusals:
            note += (
                f" {len(segment.refusals)} were refused by their gate, the last as {segment.refusals[-1]}."
            )
        if segment.recovery is not None:
            note += f" {recovery_note(segment.recovery)}"
        notes.append(note)
    return notes


def recovery_note(recovery: Recovery) -> str:
    """Say how soon a change was made good."""
    span = f"on held-out texts {recovery.before:.1f} with the epoch from before, {recovery.after:.1f} with the last"
    if recovery.n_texts is None:
        return f"Nothing to make good: {span}."
    return f"90 % made good after {recovery.n_texts} messages ({recovery.seconds:.1f} s): {span}."


def segment_table(segment: ReplayedSegment) -> tuple[list[str], list[list[str]]]:
    """Return headings and a row a language: points by measure, without the columns that no service has."""
    columns = [
        (measure.name, column)
        for measure in segment.measures
        for column in measure.columns
        if column.name in SHOWN
    ]
    languages = sorted({language for _, column in columns for language in column.by_language})
    rows = [
        [
            language,
            *(
                f"{column.by_language[language]:.1f}" if language in column.by_language else ""
                for _, column in columns
            ),
        ]
        for language in languages
    ]
    head, last = ["language"], ""
    for name, column in columns:
        head.append(_short(column.name) if name == last else f"{name}: {column.name}")
        last = name
    return head, rows


def late_table(late: Sequence[LateLanguages]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of languages that come late."""
    columns = list(next(iter(late[0].figures.values())))
    rows = [
        [
            f"first {first.n_first} texts of each ({first.n_texts})",
            measure,
            *(f"{by_column[name]:.1f}" for name in columns),
        ]
        for first in late
        for measure, by_column in first.figures.items()
    ]
    return ["texts", "measure", *columns], rows


def hostile_rows(hostile: Sequence[HostileDamage]) -> list[list[str]]:
    """Return a row a kind of hostile texts, under ``HOSTILE_HEADINGS``."""
    return [
        [
            f"{damage.kind} ({', '.join(damage.victims)})", f"{damage.static:.1f}", f"{damage.without:.1f}",
            f"{damage.epochs:.1f}", f"{damage.epochs - damage.static:+.2f}", f"{damage.without_hubness:.1f}",
            f"{damage.epochs_hubness:.1f}", f"{damage.others:+.2f}", f"{damage.worst_other:+.2f}",
        ]
        for damage in hostile
    ]  # fmt: skip


def goal_rows(goals: Sequence[Goal]) -> list[list[str]]:
    """Return a row a goal, under ``GOAL_HEADINGS``."""
    return [
        [goal.name, goal.bound, goal.found, "holds" if goal.holds else "**does not hold**"] for goal in goals
    ]
