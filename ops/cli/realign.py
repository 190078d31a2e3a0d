"""``alignstream realign``: stored vectors to the space of another adapter, without encoding the texts again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignstream.ops.cli.console import DONE_IN_PART, AsJson, errors, print_json

if TYPE_CHECKING:
    from alignstream.ops.admin.realign import RealignReport, Refusal

#: Refused records that are shown; a topic written before the setting was on has millions.
SHOWN_REFUSALS = 10


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("realign")(realign)


def realign(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|-]",
            help="Vectors as 'encode' or 'tail --json' wrote them; - is standard input. Default: the topic.",
        ),
    ] = None,
    *,
    topic: Annotated[
        str | None,
        typer.Option(help="Read this topic, to its end. Default: vectors.aligned.v1.", show_default=False),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File to write; - is standard output.")
    ] = None,
    to_topic: Annotated[
        str | None, typer.Option(help="Topic to write instead, which exists; same keys, same headers.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Name in the registry. Default: the setting.", show_default=False)
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="A version of its history. Default: the current one.")
    ] = None,
    adapter_file: Annotated[
        Path | None, typer.Option(help="An adapter file, instead of one in the registry.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move stored vectors to the space of another adapter, from the raw vectors in their records.

    Needs records that were written with ALIGNSTREAM_RAW_VECTOR=true. Records that cannot be moved honestly are
    refused, each with its reason, and are not in the output. Exit code 3: some were refused; 1: all were.
    """
    from rich.progress import Progress

    from alignstream.ops.admin.realign import open_destination, realign_records
    from alignstream.streams.settings import load
    from alignstream.streams.wire.topics import VECTORS

    if file is not None and topic is not None:
        raise typer.BadParameter("give a file or --topic, not both")
    if (output is None) == (to_topic is None):
        raise typer.BadParameter("give --output or --to-topic, one of the two")
    if adapter_file is not None and (adapter is not None or version is not None):
        raise typer.BadParameter("--adapter-file stands for itself: give no --adapter and no --version")
    if as_json and output == "-":
        raise typer.BadParameter("--json and --output - would both write to standard output")
    settings = load()
    destination = open_destination(settings, name=adapter, version=version, file=adapter_file)
    n_shown = 0

    def refused(item: "Refusal") -> None:
        nonlocal n_shown
        n_shown += 1
        if n_shown <= SHOWN_REFUSALS:
            errors.print(
                f"{item.place}: {item.reason}: {item.message}", markup=False, highlight=False, soft_wrap=True
            )

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("realigning", total=None)
        report = realign_records(
            settings,
            (topic or VECTORS) if file is None else (None if file == "-" else Path(file)),
            to_topic if output is None else (None if output == "-" else Path(output)),
            destination,
            on_refused=refused,
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
                    {"record": item.index + 1, "reason": item.reason} for item in report.not_written
                ],
                "seconds": round(report.seconds, 3),
            }
        )
        return
    if n_refused > SHOWN_REFUSALS:
        errors.print(f"... and {n_refused - SHOWN_REFUSALS} more", highlight=False)
    for item in report.not_written[:SHOWN_REFUSALS]:
        errors.print(f"written record {item.index + 1}: {item.reason}", markup=False, highlight=False)
    errors.print(
        f"{report.realigned} realigned to version {adapter_version}, {report.unchanged} unchanged, "
        f"{report.tombstones} tombstones, {n_refused} refused"
        + (f" ({report.reasons})" if report.reasons else "")
        + (f", {len(report.not_written)} not written" if report.not_written else "")
        + f", {report.seconds:.1f} s",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
