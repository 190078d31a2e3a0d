"""``alignstream produce``: send the lines of a file as documents."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from alignstream.models.errors import AlignstreamError
from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json, print_some

if TYPE_CHECKING:
    from alignstream.ops.client.document_lines import RejectedLine
    from alignstream.ops.client.producer import ProduceReport

#: Problems that are shown; a wrong file has thousands.
SHOWN_PROBLEMS = 10


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("produce")(produce)


def produce(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file, or - for standard input.")],
    *,
    format: Annotated[
        Literal["auto", "jsonl", "text"],
        typer.Option(help="auto: by the file's extension, else by its first line."),
    ] = "auto",
    language: Annotated[str | None, typer.Option(help="BCP-47 tag for records that have none.")] = None,
    labels: Annotated[str | None, typer.Option(help="Labels for records that have none: a,b,c.")] = None,
    label_set: Annotated[str | None, typer.Option(help="Label set for records that have no labels.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant for records that have none.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of every record. Default: none.")] = None,
    key_field: Annotated[
        str | None, typer.Option(help="Field of the JSON record that becomes its key.")
    ] = None,
    topic: Annotated[str, typer.Option(help="Topic to produce to.")] = "documents.v1",
    raw: Annotated[bool, typer.Option("--raw", help="Send JSON lines without looking at them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send JSON lines or plain text, one document a line, and wait until the broker has confirmed them all.

    JSON lines are sent byte for byte; options only fill in fields that a line lacks. A line must be JSON. Whether it
    is a valid document is for the service to say, in its dead letters. Exit code 3: some lines were not sent.
    """
    from alignstream.ops.client.connection import resolve_topic
    from alignstream.ops.client.document_lines import LineReader, detect_format
    from alignstream.ops.client.producer import produce_documents
    from alignstream.streams.settings import load

    fill = _fill_in(language=language, labels=labels, label_set=label_set, tenant=tenant)
    if key is not None and key_field is not None:
        raise typer.BadParameter("give either --key or --key-field")
    if raw and (fill or key_field):
        raise typer.BadParameter(
            "--raw sends lines as they are: it fills in no fields and takes no key from one"
        )
    settings = load()
    rejected: list[RejectedLine] = []
    with contextlib.ExitStack() as stack:
        source, size_bytes = _open(file, stack)
        head = _first_lines(source)
        chosen = detect_format(file, head[-1] if head else b"") if format == "auto" else format
        if chosen == "text" and (key_field or raw):
            raise typer.BadParameter("--key-field and --raw are for JSON lines (--format jsonl)")
        reader = LineReader(chosen, fill, None if key is None else key.encode(), key_field, raw)
        with_progress = _progress(stack, size_bytes)
        records = reader.read(with_progress(_chain(head, source)), rejected.append)
        report = produce_documents(settings, records, topic=topic)
    if as_json:
        print_json(
            {
                "topic": resolve_topic(settings, topic),
                "format": chosen,
                "confirmed": report.confirmed,
                "rejected": [{"line": line.line, "reason": line.reason} for line in rejected],
                "refused": [{"record": record.index, "reason": record.reason} for record in report.failed],
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
        raise typer.BadParameter("give either --labels or --label-set")
    fill: dict[str, Any] = {"language": language, "label_set": label_set, "tenant": tenant}
    if labels is not None:
        fill["labels"] = [label.strip() for label in labels.split(",") if label.strip()]
    return {name: value for name, value in fill.items() if value is not None}


def _print_produced(report: "ProduceReport", rejected: "list[RejectedLine]") -> None:
    problems = [f"line {line.line}: {line.reason}" for line in rejected]
    problems += [f"record {record.index + 1}: {record.reason}" for record in report.failed]
    print_some(problems, most=SHOWN_PROBLEMS)
    not_sent = f", {len(problems)} not sent" if problems else ""
    console.print(f"{report.confirmed} confirmed{not_sent}")


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
    """Return a function that shows how far lines have been read, on a terminal only."""
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
