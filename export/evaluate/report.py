"""What an evaluation found: one structure, as table rows, JSON and Markdown. Kinds of columns are never mixed.

A column is always named with its kind, and every column is compared with raw cosine on the same
candidates of the same run. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from alignstream.export.data.selection import listed
from alignstream.export.evaluate.columns import ADAPTER, RAW, Kind, Results
from alignstream.export.evaluate.compared import MeasureResult, column_result, rounded_json
from alignstream.export.evaluate.statistics import Interval
from alignstream.models.checks.significance import DRAWS

FORMAT: Final = "alignstream.evaluation/1"
KINDS: Final[tuple[Kind, ...]] = ("inductive", "causal", "transductive")
#: What each kind of column saw; printed under every table.
LEGEND: Final[Mapping[str, str]] = {
    "inductive": "one text at a time, and what was fitted beforehand",
    "causal": "also the texts that came before it in the same stream",
    "transductive": "all test texts of both sides at once: no live stream has that",
}
#: The units that figures are averaged over and computed from, if not languages and texts.
_UNITS: Final = {
    "terms": ("lists", "pairs"),
    "words": ("language pairs", "sentence pairs"),
    "similarity": ("languages", "pairs"),
}
#: More languages than this are not named where they are all.
_NAMED: Final = 5
HEADINGS: Final = (
    "kind",
    "column",
    "mean",
    "change",
    "95 % interval",
    "wins",
    "losses",
    "worse beyond chance",
)


class TaskResult(msgspec.Struct, frozen=True):
    """One task on one set.

    Parameters
    ----------
    task, set : str
    use : str
        Whether anything was fitted or chosen on the set, for the reader.
    pivot : str
        Where the task has one.
    n_texts : dict of str to int
        Texts, pairs or terms of each language.
    seconds : float
        Including the encoding of texts whose vectors were not stored.
    measures : list of MeasureResult
    notes : list of str
        Sentences on what the figures mean on these texts.
    warnings : list of str
        Possible faults of the texts.
    """

    task: str
    set: str
    use: str
    pivot: str
    n_texts: dict[str, int]
    seconds: float
    measures: list[MeasureResult]
    notes: list[str] = []
    warnings: list[str] = []

    @property
    def uses_adapter(self) -> bool:
        """Whether there is a column of the adapter."""
        return any(column.name == ADAPTER.name for measure in self.measures for column in measure.columns)


class Evaluation(msgspec.Struct, frozen=True):
    """All that one run found, and what it depends on.

    Parameters
    ----------
    encoder : str
        Fingerprint.
    adapter, adapter_version : str, optional
        As it was asked for, and its version. None where no task uses it.
    uses_tags : bool
        Whether the adapter was told the language of each text.
    seed, n_draws : int
        Seed of the bootstrap.
    limit : int, optional
        Texts of each language at most.
    seconds : float
    tasks : list of TaskResult
    """

    encoder: str
    adapter: str | None
    adapter_version: str | None
    uses_tags: bool
    seed: int
    limit: int | None
    seconds: float
    tasks: list[TaskResult]
    n_draws: int = DRAWS
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value; figures rounded to a thousandth of a point."""
        value: dict[str, Any] = rounded_json(msgspec.to_builtins(self))
        return value

    def to_markdown(self, *, title: str = "Evaluation") -> str:
        """Return a page: summaries of every measure, then the figures of every language."""
        lines = [f"# {title}", "", self.headline(), ""]
        lines += [f"- **{kind}**: {LEGEND[kind]}" for kind in KINDS]
        for task in self.tasks:
            lines += ["", f"## {heading(task)}", "", facts(task)]
            lines += [f"\nWarning: {warning}" for warning in task.warnings]
            lines += [f"\n{note}" for note in notes(task)]
            for measure in task.measures:
                lines += ["", f"### {measure.name}", "", *markdown_table(HEADINGS, summary_rows(measure))]
                lines += ["", *markdown_table(*language_rows(measure))]
        return "\n".join([*lines, ""])

    def headline(self) -> str:
        """Say in a sentence what was evaluated."""
        tags = "told the language of each text" if self.uses_tags else "without language tags"
        limit = "all texts" if self.limit is None else f"at most {self.limit} texts a language"
        adapter = (
            "no adapter"
            if self.adapter is None
            else f"adapter {self.adapter} (version {self.adapter_version}), {tags}"
        )
        return (
            f"Encoder {self.encoder[:12]}, {adapter}; {limit}; seed {self.seed}, {self.n_draws} draws; "
            f"{self.seconds:.1f} s."
        )


def compare_columns(results: Results, *, seed: int) -> list[MeasureResult]:
    """Compare every column with raw cosine; columns are ordered by kind, inductive ones first.

    Parameters
    ----------
    results : dict
        The results of a task.
    seed : int
        Seed of the bootstrap.
    """
    measures = []
    for name, columns in results.items():
        raw = columns.get(RAW)
        ordered = sorted(columns, key=lambda column: KINDS.index(column.kind))
        measures.append(
            MeasureResult(
                name,
                [
                    column_result(column, columns[column], None if column == RAW else raw, seed=seed)
                    for column in ordered
                ],
            )
        )
    return measures


def repeated_note(n_repeated: Mapping[str, int], effect: str) -> list[str]:
    """Say how many texts occur more than once, and the effect; nothing if none does.

    Parameters
    ----------
    n_repeated : mapping of str to int
        By language, the number of lines that repeat an earlier one.
    effect : str
        The effect on the figures.
    """
    counts = {language: n for language, n in n_repeated.items() if n}
    if not counts:
        return []
    total = sum(counts.values())
    by_language = listed([f"{language} {n}" for language, n in counts.items()])
    what = "1 line repeats" if total == 1 else f"{total} lines repeat"
    return [f"{what} the text of an earlier one in the same language ({by_language}): {effect}."]


def slipped_warning(languages: Sequence[str], where: str, how: str) -> list[str]:
    """Warn of languages whose translations do not find each other; nothing if there are none."""
    if not languages:
        return []
    message = (
        f"{where}: translations of {listed(languages)} find each other no more often than by chance, {how}; have lines "
        "slipped, or are columns mixed up? If not, the encoder does not know the language"
    )
    return [message]


def heading(task: TaskResult) -> str:
    """Name a task and its set."""
    return f"{task.task}: {task.set}"


def facts(task: TaskResult) -> str:
    """Summarise the data behind a task's figures."""
    sizes = sorted(set(task.n_texts.values()))
    n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    pivot = f", pivot {task.pivot}" if task.pivot else ""
    what, of = _UNITS.get(task.task, ("languages", "texts"))
    return f"{len(task.n_texts)} {what}, {n} {of} each{pivot}; {task.seconds:.1f} s. {task.use}."


def notes(task: TaskResult) -> list[str]:
    """Return all that belongs below a task's facts."""
    what, _ = _UNITS.get(task.task, ("languages", "texts"))
    changes = [column.change for measure in task.measures for column in measure.columns]
    return [*task.notes, *interval_notes(changes, what.removesuffix("s"))]


def summary_rows(measure: MeasureResult) -> list[list[str]]:
    """Return a row a column, under ``HEADINGS``: figures in points, losing languages by name."""
    rows = []
    for column in measure.columns:
        change, interval, wins, losses, worse = "", "", "", "", ""
        if column.change is not None:
            change, interval = change_cells(column.change)
            wins = str(len(column.wins))
            n = len(column.by_language)
            losses = _named(column.losses, n)
            worse = (
                "not tested" if column.significantly_worse is None else _named(column.significantly_worse, n)
            )
        rows.append([column.kind, column.name, f"{column.mean:.1f}", change, interval, wins, losses, worse])
    return rows


def language_rows(measure: MeasureResult) -> tuple[list[str], list[list[str]]]:
    """Return headings with the kind of each column, and a row a language."""
    headings = ["language", *(f"{column.name} [{column.kind}]" for column in measure.columns)]
    languages = sorted({language for column in measure.columns for language in column.by_language})
    rows = [
        [
            language,
            *(
                f"{column.by_language[language]:.1f}" if language in column.by_language else ""
                for column in measure.columns
            ),
        ]
        for language in languages
    ]
    return headings, rows


def change_cells(change: Interval | None) -> tuple[str, str]:
    """Return a change and its interval as cells."""
    if change is None:
        return "", ""
    if change.low is None or change.high is None:
        return f"{change.mean:+.1f}", "none"
    return f"{change.mean:+.1f}", f"{change.low:+.1f} to {change.high:+.1f}"


def interval_notes(changes: Sequence[Interval | None], what: str) -> list[str]:
    """Say why a change has no interval; nothing if all have one."""
    if all(change is None or change.low is not None for change in changes):
        return []
    return [f"There is no 95 % interval: it is drawn over {what}s, and there is one {what}."]


def _named(languages: list[str], n: int) -> str:
    """Count languages and name them; that all n of many lose needs no names."""
    if not languages:
        return "0"
    return f"{len(languages)} ({'all' if len(languages) == n > _NAMED else ', '.join(languages)})"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; bars in cells are escaped."""
    table = [list(headings), ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
