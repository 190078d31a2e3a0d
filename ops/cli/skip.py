"""``alignstream skip``: move the consumer group past one record that no worker can read."""

from typing import Annotated

import typer

from alignstream.ops.cli.console import AsJson, console, errors, print_json


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("skip")(skip)


def skip(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="With or without the prefix.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0)],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0)],
    *,
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="Also give up the records that are stuck with it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move the consumer group past one record that no worker can unpack. Stop the workers first.

    The records that are stuck with it (its batch, and what comes before) are first produced again at the end of the
    topic, so that only the named record is lost.
    """
    import dataclasses

    from alignstream.ops.admin.skip_record import skip as skip_record
    from alignstream.streams.settings import load

    skipped = skip_record(load(), topic, partition, offset, drop_others=drop_others, is_dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **dataclasses.asdict(skipped)})
        return
    before = "had committed nothing" if skipped.previous is None else f"was at offset {skipped.previous}"
    verb = "would go on" if dry_run else "goes on"
    console.print(
        f"group {skipped.group} {before} and {verb} at {skipped.committed} of {skipped.topic} {skipped.partition}"
    )
    if skipped.requeued:
        done = "would be" if dry_run else "were"
        console.print(f"{skipped.requeued} other records {done} produced again at the end of {skipped.topic}")
    if skipped.dropped:
        done = "would be" if dry_run else "were"
        errors.print(f"{skipped.dropped} other records {done} given up")
