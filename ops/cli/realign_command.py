"""``alignstream realign``: move stored vectors to another adapter's space, without encoding the texts again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignstream.ops.cli.console import DONE_IN_PART, AsJson, errors, print_json
from alignstream.ops.cli.options import Version

if TYPE_CHECKING:
    from alignstream.ops.admin.realign_run import RealignReport
    from alignstream.ops.admin.stored_vectors import RealignRefusal

#: Refused records that are shown; a topic written before ALIGNSTREAM_RAW_VECTOR was on has millions.
SHOWN_REFUSALS = 10


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("realign")(realign)


def realign(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|-",
            help="Vectors written by 'encode' or 'tail --json'; - is standard input. Default: the topic.",
        ),
    ] = None,
    *,
    topic: Annotated[
        str | None,
        typer.Option(help="Topic to read, up to its end. Default: vectors.aligned.v1.", show_default=False),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File to write; - is standard output.")
    ] = None,
    to_topic: Annotated[
        str | None, typer.Option(help="Existing topic to write instead; keys and headers stay.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Name in the registry. Default: the setting.", show_default=False)
    ] = None,
    version: Version = None,
    adapter_file: Annotated[
        Path | None, typer.Option(help="An adapter file instead of one in the registry.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move stored vectors to the space of another adapter, using the raw vectors in their records.

    The records must have been written with ALIGNSTREAM_RAW_VECTOR=true. A record that cannot be moved correctly is
    refused, with the reason, and is not in the output. Exit code 3: some were refused; 1: all were.
    """
    from rich.progress import Progress

    from alignstream.ops.admin.realign_run import open_destination, realign_records
    from alignstream.streams.settings import load
    from alignstream.streams.wire.topics import VECTORS

    if file is not None and topic is not None:
        raise typer.BadParameter("give either a file or --topic")
    if (output is None) == (to_topic is None):
        raise typer.BadParameter("give either --output or --to-topic")
    if adapter_file is not None and (adapter is not None or version is not None):
        raise typer.BadParameter("--adapter-file excludes --adapter and --version")
    if as_json and output == "-":
        raise typer.BadParameter("--json and --output - would both write to standard output")
    settings = load()
    destination = open_destination(settings, name=adapter, version=version, file=adapter_file)
    n_shown = 0

    def show_refused(refusal: "RealignRefusal") -> None:
        nonlocal n_shown
        n_shown += 1
        if n_shown <= SHOWN_REFUSALS:
            errors.print(
                f"{refusal.place}: {refusal.reason}: {refusal.message}", markup=False, soft_wrap=True
            )

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("realigning", total=None)
        report = realign_records(
            settings,
            (topic or VECTORS) if file is None else (None if file == "-" else Path(file)),
            to_topic if output is None else (None if output == "-" else Path(output)),
            destination,
            on_refused=show_refused,
            on_progress=lambda: progress.advance(task),
        )
    _show(report, adapter_version=destination.adapter.version, as_json=as_json)
    if not report.is_whole:
        raise typer.Exit(DONE_IN_PART)


def _show(report: "RealignReport", *, adapter_version: str, as_json: bool) -> None:
    n_refused = report.refused.total()
    if as_json:
        print_json(
            {
                "adapter_version": adapter_version,
                "realigned": report.realigned,
                "unchanged": report.unchanged,
                "tombstones": report.tombstones,
                "refused": dict(sorted(report.refused.items())),
                "not_written": [
                    {"record": record.index + 1, "reason": record.reason} for record in report.not_written
                ],
                "seconds": round(report.seconds, 3),
            }
        )
        return
    if n_refused > SHOWN_REFUSALS:
        errors.print(f"... and {n_refused - SHOWN_REFUSALS} more")
    for record in report.not_written[:SHOWN_REFUSALS]:
        errors.print(f"output record {record.index + 1}: {record.reason}", markup=False, soft_wrap=True)
    errors.print(
        f"{report.realigned} realigned to version {adapter_version}, {report.unchanged} unchanged, "
        f"{report.tombstones} tombstones, {n_refused} refused"
        + (f" ({report.reasons})" if report.reasons else "")
        + (f", {len(report.not_written)} not written" if report.not_written else "")
        + f", {report.seconds:.1f} s",
        markup=False,
        soft_wrap=True,
    )
