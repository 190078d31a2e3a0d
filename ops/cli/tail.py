"""``alignstream tail``: show the records of topics."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from alignstream.ops.cli.console import errors
from alignstream.ops.cli.record_lines import show_record

if TYPE_CHECKING:
    from alignstream.ops.client.record import Record

#: Records that are shown if nothing else is asked for, as tail(1) does.
TAIL_RECORDS = 10


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("tail")(tail)


def tail(
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC", help="With or without the prefix.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new records.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the oldest.")] = False,
    id: Annotated[
        str | None,
        typer.Option(
            help="Only this document: its id, or topic-partition-offset. Searches from the beginning, or with "
            "--follow from now on."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show records with vectors, labels and errors decoded; without options, the newest ten.

    Reads without a consumer group, so it disturbs no worker and commits nothing.
    """
    from alignstream.ops.client.reader import read, read_last
    from alignstream.ops.client.record import record_ids
    from alignstream.streams.settings import load

    settings = load()
    records: Iterable[Record]
    if not (follow or from_beginning or id is not None):
        records = read_last(settings, topics, limit or TAIL_RECORDS)
    else:
        start_early = from_beginning or (id is not None and not follow)
        records = read(settings, topics, from_beginning=start_early, follow=follow)
    n_shown = 0
    for record in records:
        if id is not None and id not in record_ids(record):
            continue
        show_record(record, as_json=as_json)
        n_shown += 1
        if n_shown == limit:
            break
    if not n_shown and not as_json:
        errors.print("no records" if id is None else f"no record of {id}", markup=False)
