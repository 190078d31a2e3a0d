"""Commands on topics and records: ``topics``, ``produce``, ``tail``, ``deadletters``, ``skip``."""

import contextlib
import datetime as dt
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer
from rich.markup import escape
from rich.table import Table

from alignstream.models.errors import AlignstreamError
from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json
from alignstream.ops.cli.show import clean, show, write_line

if TYPE_CHECKING:
    from alignstream.ops.client.dead_letters import Selection
    from alignstream.ops.client.producer import ProduceReport, Rejected
    from alignstream.ops.client.reader import Record

#: Rejected lines that are shown; a wrong file has thousands.
SHOWN_REJECTIONS = 10
#: Records that ``tail`` shows where nothing else is asked for, as tail(1) does.
TAIL_RECORDS = 10

topics_app = typer.Typer(no_args_is_help=True, help="Create and describe the topics of the service.")
dead_letters_app = typer.Typer(no_args_is_help=True, help="List, show and replay what was refused.")

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; may be repeated.")]
Since = Annotated[
    str | None, typer.Option(help="From this time on: RFC 3339, or so long ago (90s, 30m, 2h, 7d).")
]
Until = Annotated[str | None, typer.Option(help="Before this time: as --since.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(topics_app, name="topics")
    app.command("produce")(produce)
    app.command("tail")(tail)
    app.add_typer(dead_letters_app, name="deadletters")
    app.command("skip")(skip)


# -- topics --------------------------------------------------------------------------------------


@topics_app.command("create")
def topics_create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic that is created.")] = 4,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition; 3 in production.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing, and wait until all can be used. Existing ones are left alone."""
    from alignstream.ops.client.topics import ensure_topics
    from alignstream.streams.settings import load

    report = ensure_topics(load(), partitions=partitions, replication=replication)
    if as_json:
        print_json({"created": report.created, "existing": report.existing, "notes": report.notes})
        return
    for name in report.created:
        console.print(f"[green]created[/] {name}", highlight=False)
    for name in report.existing:
        console.print(f"exists  {name}", highlight=False)
    for note in report.notes:
        errors.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)


@topics_app.command("describe")
def topics_describe(as_json: AsJson = False) -> None:
    """Show partitions, records, lag of the group and configuration of the service's topics."""
    import dataclasses

    from alignstream.ops.client.topics import describe_topics
    from alignstream.streams.settings import load

    settings = load()
    topics = describe_topics(settings)
    if as_json:
        print_json({"group": settings.group, "topics": [dataclasses.asdict(topic) for topic in topics]})
    else:
        table = Table("topic", "partitions", "records", f"lag of {settings.group}")
        table.columns[0].no_wrap = True
        for topic in topics:
            held = sum(topic.end_offsets.values()) - sum(topic.begin_offsets.values())
            table.add_row(
                topic.name,
                str(len(topic.end_offsets)) if topic.exists else "[red]missing[/]",
                f"{held:,}" if topic.exists else "",
                f"{sum(topic.lag.values()):,}" if topic.lag else "",
            )
        console.print(table)
        for topic in topics:
            facts = [*(f"{key}={value}" for key, value in topic.config.items()), *topic.notes]
            console.print(escape(f"{topic.name}: {', '.join(facts)}"), highlight=False, soft_wrap=True)
    if not all(topic.exists for topic in topics):
        raise typer.Exit(DONE_IN_PART)


# -- produce -------------------------------------------------------------------------------------


def produce(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file, or - for standard input.")],
    *,
    format: Annotated[
        Literal["auto", "jsonl", "text"],
        typer.Option(help="auto: by the file's ending, else by its first line."),
    ] = "auto",
    language: Annotated[str | None, typer.Option(help="BCP-47 tag for records without one.")] = None,
    labels: Annotated[str | None, typer.Option(help="Labels for records without any: a,b,c.")] = None,
    label_set: Annotated[str | None, typer.Option(help="Label set for records without labels.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant for records without one.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of every record. Default: none.")] = None,
    key_field: Annotated[str | None, typer.Option(help="Field of the JSON record that is its key.")] = None,
    topic: Annotated[str, typer.Option(help="Topic to produce to.")] = "documents.v1",
    raw: Annotated[bool, typer.Option("--raw", help="Send JSON lines unseen, whatever they hold.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send JSON lines or plain text (one document a line), and wait until the broker has confirmed all.

    JSON lines go out byte for byte, except that options fill in fields that a line lacks. A line must be
    JSON; whether it is a good document is for the service to say, in its dead letters. Exit code 3: some
    lines were not sent.
    """
    from alignstream.ops.client.connection import resolve_topic
    from alignstream.ops.client.producer import LineReader, detect_format, produce_documents
    from alignstream.streams.settings import load

    fill = _fill_in(language=language, labels=labels, label_set=label_set, tenant=tenant)
    if key is not None and key_field is not None:
        raise typer.BadParameter("give --key or --key-field, not both")
    if raw and (fill or key_field):
        raise typer.BadParameter(
            "--raw sends lines unseen: it fills nothing in and takes no key from a field"
        )
    settings = load()
    rejected: list[Rejected] = []
    with contextlib.ExitStack() as stack:
        source, size_bytes = _open(file, stack)
        head = _first_lines(source)
        chosen = detect_format(file, head[-1] if head else b"") if format == "auto" else format
        if chosen == "text" and (key_field or raw):
            raise typer.BadParameter("--key-field and --raw are for JSON lines (--format jsonl)")
        reader = LineReader(chosen, fill, None if key is None else key.encode(), key_field, raw)
        advance = _progress(stack, size_bytes)
        records = reader.read(advance(_chain(head, source)), rejected.append)
        report = produce_documents(settings, records, topic=topic)
    if as_json:
        print_json(
            {
                "topic": resolve_topic(settings, topic),
                "format": chosen,
                "confirmed": report.confirmed,
                "rejected": [{"line": item.line, "reason": item.reason} for item in rejected],
                "refused": [{"record": item.index, "reason": item.reason} for item in report.failed],
                "seconds": round(report.seconds, 3),
            }
        )
    else:
        _print_produced(report, rejected)
    if rejected or report.failed:
        raise typer.Exit(DONE_IN_PART)


def _fill_in(
    *, language: str | None, labels: str | None, label_set: str | None, tenant: str | None
) -> dict[str, Any]:
    """Return the fields that options give to lines that lack them."""
    if labels is not None and label_set is not None:
        raise typer.BadParameter("give --labels or --label-set, not both")
    fill: dict[str, Any] = {"language": language, "label_set": label_set, "tenant": tenant}
    if labels is not None:
        fill["labels"] = [label.strip() for label in labels.split(",") if label.strip()]
    return {name: value for name, value in fill.items() if value is not None}


def _print_produced(report: "ProduceReport", rejected: "list[Rejected]") -> None:
    problems = [f"line {item.line}: {item.reason}" for item in rejected]
    problems += [f"record {item.index + 1}: {item.reason}" for item in report.failed]
    for problem in problems[:SHOWN_REJECTIONS]:
        errors.print(problem, markup=False, highlight=False, soft_wrap=True)
    if len(problems) > SHOWN_REJECTIONS:
        errors.print(f"... and {len(problems) - SHOWN_REJECTIONS} more", highlight=False)
    left = f", {len(problems)} not sent" if problems else ""
    console.print(f"{report.confirmed} confirmed{left}", highlight=False)


def _open(file: str, stack: contextlib.ExitStack) -> tuple[BinaryIO, int | None]:
    if file == "-":
        return sys.stdin.buffer, None
    path = Path(file)
    try:
        return stack.enter_context(path.open("rb")), path.stat().st_size
    except OSError as error:
        raise AlignstreamError(f"{file} cannot be read: {error.strerror}") from error


def _first_lines(source: BinaryIO) -> list[bytes]:
    """Return the lines up to the first that is not blank."""
    lines = []
    for line in source:
        lines.append(line)
        if line.strip():
            break
    return lines


def _chain(head: list[bytes], source: BinaryIO) -> Iterator[bytes]:
    yield from head
    yield from source


def _progress(
    stack: contextlib.ExitStack, size_bytes: int | None
) -> Callable[[Iterable[bytes]], Iterable[bytes]]:
    """Return a function that shows how far lines have been read; without a terminal it shows nothing."""
    if not errors.is_terminal:
        return lambda lines: lines
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn

    bar = stack.enter_context(
        Progress(
            "producing", BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=errors, transient=True
        )
    )
    task = bar.add_task("producing", total=size_bytes)

    def advance(lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            yield line
            bar.advance(task, len(line))

    return advance


# -- tail ----------------------------------------------------------------------------------------


def tail(
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="With or without the prefix.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, from now.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the oldest.")] = False,
    id: Annotated[
        str | None,
        typer.Option(
            help="Only this document: its id, or topic-partition-offset. Searches from the "
            "beginning, with --follow from now."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show records with their vectors, labels and reasons decoded; without options the newest ten.

    Reads without a consumer group, so it disturbs no worker and commits nothing.
    """
    from alignstream.ops.client.reader import read, read_last, record_ids
    from alignstream.streams.settings import load

    settings = load()
    records: Iterable[Record]
    if not (follow or from_beginning or id is not None):
        records = read_last(settings, topics, limit or TAIL_RECORDS)
    else:
        start_early = from_beginning or (id is not None and not follow)
        records = read(settings, topics, from_beginning=start_early, follow=follow)
    shown = 0
    for record in records:
        if id is not None and id not in record_ids(record):
            continue
        show(record, as_json=as_json)
        shown += 1
        if shown == limit:
            break
    if not shown and not as_json:
        errors.print("no records" if id is None else f"no record of {id}", markup=False, highlight=False)


# -- dead letters and skip -----------------------------------------------------------------------


def _selection(
    reasons: list[str] | None, since: str | None, until: str | None, limit: int | None = None
) -> "Selection":
    from alignstream.ops.client.dead_letters import Selection, parse_moment

    now = dt.datetime.now(dt.UTC)
    return Selection(
        frozenset(reasons) if reasons else None,
        None if since is None else parse_moment(since, now=now),
        None if until is None else parse_moment(until, now=now),
        limit,
    )


@dead_letters_app.command("list")
def dead_letters_list(
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Count at most so many, the oldest.")] = None,
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
def show_dead_letter(
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = TAIL_RECORDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show the newest dead letters: reason, source, and the value as far as it can be shown."""
    from alignstream.ops.client.dead_letters import newest
    from alignstream.streams.settings import load

    letters = newest(load(), _selection(reason, since, until), limit)
    for letter in letters:
        if as_json:
            write_line(letter.as_json())
        else:
            show(letter.record, as_json=False)
    if not letters and not as_json:
        console.print("no dead letters")


@dead_letters_app.command("replay")
def dead_letters_replay(
    *,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be replayed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Produce dead letters again to the topics that they came from, with key, value and headers kept.

    The dead letters stay: replaying twice produces twice. Exit code 3: some could not be replayed.
    """
    from alignstream.ops.client.dead_letters import replay
    from alignstream.streams.settings import load

    report = replay(load(), _selection(reason, since, until, limit), is_dry_run=dry_run)
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
        verb = "would be replayed" if dry_run else "replayed"
        by_reason = ", ".join(f"{name} {count}" for name, count in sorted(report.reasons.items()))
        console.print(
            f"{report.replayed} {verb}" + (f" ({clean(by_reason)})" if by_reason else ""), highlight=False
        )
        if report.replaced:
            errors.print(f"{report.replaced} left: their value was too large to keep", highlight=False)
        if report.unaddressed:
            errors.print(f"{report.unaddressed} left: they name no source topic", highlight=False)
        if report.refused:
            errors.print(
                f"{len(report.refused)} refused: {report.refused[0].reason}", markup=False, highlight=False
            )
    if report.replaced or report.unaddressed or report.refused:
        raise typer.Exit(DONE_IN_PART)


def skip(
    topic: Annotated[str, typer.Argument(help="With or without the prefix.")],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    *,
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="Give up what is stuck with it, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let the group pass over one record that no worker can unpack. Stop the workers first.

    Others that are stuck with it (its batch, and what is before) are first produced again to the end of the
    topic, so that only the one named is lost.
    """
    import dataclasses

    from alignstream.ops.admin.offsets import skip as skip_record
    from alignstream.streams.settings import load

    done = skip_record(load(), topic, partition, offset, drop_others=drop_others, is_dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **dataclasses.asdict(done)})
        return
    before = "had committed nothing" if done.previous is None else f"was at {done.previous}"
    verb = "would go on" if dry_run else "goes on"
    console.print(
        f"group {done.group} {before} and {verb} at {done.committed} of {done.topic} {done.partition}",
        highlight=False,
    )
    if done.requeued:
        console.print(
            f"{done.requeued} other records produced again at the end of {done.topic}", highlight=False
        )
    if done.dropped:
        errors.print(f"{done.dropped} other records given up", highlight=False)
