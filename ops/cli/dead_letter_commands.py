"""``alignstream deadletters``: list, show and replay refused records."""

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json, print_json_line
from alignstream.ops.cli.record_lines import clean, show_record
from alignstream.ops.cli.tail import TAIL_RECORDS

if TYPE_CHECKING:
    from alignstream.ops.client.dead_letters import DeadLetterSelection, ReplayReport

dead_letters_app = typer.Typer(no_args_is_help=True, help="List, show and replay refused records.")

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; repeatable.")]
Since = Annotated[
    str | None, typer.Option(help="From this time on: RFC 3339, or how long ago (90s, 30m, 2h, 7d).")
]
Until = Annotated[str | None, typer.Option(help="Before this time, in the same formats.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(dead_letters_app, name="deadletters")


def _selection(
    reasons: list[str] | None, since: str | None, until: str | None, limit: int | None = None
) -> "DeadLetterSelection":
    from alignstream.ops.client.dead_letters import DeadLetterSelection, parse_moment

    now = dt.datetime.now(dt.UTC)
    return DeadLetterSelection(
        frozenset(reasons) if reasons else None,
        None if since is None else parse_moment(since, now=now),
        None if until is None else parse_moment(until, now=now),
        limit,
    )


@dead_letters_app.command("list")
def list_reasons(
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Count at most this many, the oldest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by reason."""
    from alignstream.ops.client.dead_letters import count_by_reason
    from alignstream.streams.settings import load

    counts = count_by_reason(load(), _selection(reason, since, until, limit))
    if as_json:
        rows = [
            {
                "reason": entry.reason,
                "count": entry.count,
                "first": entry.first.timestamp.isoformat(timespec="seconds"),
                "last": entry.last.timestamp.isoformat(timespec="seconds"),
            }
            for entry in counts
        ]
        print_json({"total": sum(entry.count for entry in counts), "reasons": rows})
        return
    if not counts:
        console.print("no dead letters")
        return
    table = Table("reason", "count", "first (UTC)", "last (UTC)")
    for entry in counts:
        first, last = (f"{record.timestamp:%Y-%m-%d %H:%M:%S}" for record in (entry.first, entry.last))
        table.add_row(clean(entry.reason), str(entry.count), first, last)
    console.print(table)


@dead_letters_app.command("show")
def show(
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = TAIL_RECORDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show the newest dead letters: reason, source, and as much of the value as can be shown."""
    from alignstream.ops.client.dead_letters import newest
    from alignstream.streams.settings import load

    letters = newest(load(), _selection(reason, since, until), limit)
    for letter in letters:
        if as_json:
            print_json_line(letter.as_json())
        else:
            show_record(letter.record, as_json=False)
    if not letters and not as_json:
        console.print("no dead letters")


@dead_letters_app.command("replay")
def replay(
    *,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, the oldest.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be replayed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the topics that they came from, with the same key, value and headers.

    The dead letters stay: a second replay sends them again. Exit code 3: some could not be replayed.
    """
    from alignstream.ops.client.dead_letters import replay as replay_selection
    from alignstream.streams.settings import load

    report = replay_selection(load(), _selection(reason, since, until, limit), is_dry_run=dry_run)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "replayed": report.replayed,
                "by_reason": report.reasons,
                "replaced": report.replaced,
                "unaddressed": report.unaddressed,
                "refused": len(report.refused),
            }
        )
    else:
        _print_replayed(report, is_dry_run=dry_run)
    if report.replaced or report.unaddressed or report.refused:
        raise typer.Exit(DONE_IN_PART)


def _print_replayed(report: "ReplayReport", *, is_dry_run: bool) -> None:
    verb = "would be replayed" if is_dry_run else "replayed"
    by_reason = ", ".join(f"{name} {count}" for name, count in sorted(report.reasons.items()))
    console.print(f"{report.replayed} {verb}" + (f" ({clean(by_reason)})" if by_reason else ""))
    if report.replaced:
        errors.print(f"{report.replaced} not replayed: their value was too large to keep")
    if report.unaddressed:
        errors.print(f"{report.unaddressed} not replayed: they do not name their source topic")
    if report.refused:
        errors.print(f"{len(report.refused)} refused: {report.refused[0].reason}", markup=False)
