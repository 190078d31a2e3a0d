"""``alignstream encode``: the service's pipeline over a file."""

from pathlib import Path
from typing import Annotated

import typer

from alignstream.ops.cli.console import DONE_IN_PART, errors
from alignstream.ops.cli.options import AdapterChoice, settings_with


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("encode")(encode)


def encode(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="JSON lines, or plain text with one document a line."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="File for the vectors; - is standard output.")
    ],
    labels_output: Annotated[
        Path | None, typer.Option("--labels-output", help="File for the zero-shot labels, as JSON lines.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="jsonl, or npz with ids and vectors.")] = "jsonl",
    input_format: Annotated[str, typer.Option("--input-format", help="auto, jsonl or text.")] = "auto",
    language: Annotated[str | None, typer.Option(help="Language tag of plain text.")] = None,
    adapter: AdapterChoice = None,
    artifact: Annotated[Path | None, typer.Option(help="Encoder folder. Default: the setting.")] = None,
) -> None:
    """Encode and align a file without a broker. Exit code 3: some records were rejected."""
    from rich.progress import Progress

    from alignstream.models.errors import AlignstreamError
    from alignstream.ops.admin.backfill import BackfillRejection, encode_file, open_pipeline

    if format not in {"jsonl", "npz"}:
        raise typer.BadParameter(f"{format!r} is neither jsonl nor npz", param_hint="--format")
    if input_format not in {"auto", "jsonl", "text"}:
        raise typer.BadParameter(f"{input_format!r} is not auto, jsonl or text", param_hint="--input-format")
    source = None if file == "-" else Path(file)
    if source is not None and not source.is_file():
        raise AlignstreamError(f"there is no file {source}")
    if format == "npz" and output == "-":
        raise typer.BadParameter("npz can only be written to a file", param_hint="--output")
    settings = settings_with(artifact=artifact)

    def show_rejected(rejection: BackfillRejection) -> None:
        errors.print(
            f"{file}:{rejection.line}: {rejection.reason}: {rejection.message}", markup=False, soft_wrap=True
        )

    run = open_pipeline(settings, adapter)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("encoding", total=None)
        report = encode_file(
            run, source, None if output == "-" else Path(output),
            labels_output=labels_output,
            input_format="auto" if input_format == "auto" else ("jsonl" if input_format == "jsonl" else "text"),
            output_format="npz" if format == "npz" else "jsonl",
            language=language,
            on_rejected=show_rejected,
            on_progress=lambda n_done: progress.advance(task, n_done),
        )  # fmt: skip
    errors.print(
        f"{report.n_vectors} vectors, {report.n_labels} label records, {report.n_rejected} rejected, "
        f"{report.seconds:.1f} s"
    )
    if report.n_labels_dropped:
        errors.print(f"{report.n_labels_dropped} label records were not written; --labels-output writes them")
    if report.n_rejected:
        raise typer.Exit(DONE_IN_PART)
