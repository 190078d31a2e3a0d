"""``alignstream encode``: the service's pipeline over a file."""

from pathlib import Path
from typing import Annotated

import typer

from alignstream.ops.cli.console import DONE_IN_PART, errors


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("encode")(encode)


def encode(
    file: Annotated[
        str, typer.Argument(help="JSON lines or plain text, a line a document; - is standard input.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="File of vectors; - is standard output.")],
    labels_output: Annotated[
        Path | None, typer.Option("--labels-output", help="File of zero-shot labels, JSON lines.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="jsonl, or npz with ids and vectors.")] = "jsonl",
    input_format: Annotated[str, typer.Option("--input-format", help="auto, jsonl or text.")] = "auto",
    language: Annotated[str | None, typer.Option(help="Language tag of plain text.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Name, .safetensors file, or none. Default: the setting.")
    ] = None,
    artifact: Annotated[Path | None, typer.Option(help="Encoder folder. Default: the setting.")] = None,
) -> None:
    """Encode and align a file without a broker; exit code 3 if some records were rejected."""
    from rich.progress import Progress

    from alignstream.models.errors import AlignstreamError
    from alignstream.ops.admin.backfill import Rejection, encode_file, open_pipeline
    from alignstream.streams.settings import load

    if format not in {"jsonl", "npz"}:
        raise typer.BadParameter(f"{format!r} is not jsonl or npz", param_hint="--format")
    if input_format not in {"auto", "jsonl", "text"}:
        raise typer.BadParameter(f"{input_format!r} is not auto, jsonl or text", param_hint="--input-format")
    source = None if file == "-" else Path(file)
    if source is not None and not source.is_file():
        raise AlignstreamError(f"there is no file {source}")
    if format == "npz" and output == "-":
        raise typer.BadParameter("npz needs a file", param_hint="--output")
    settings = load(**({} if artifact is None else {"artifact": artifact}))

    def rejected(item: Rejection) -> None:
        errors.print(f"{file}:{item.line}: {item.reason}: {item.message}", markup=False, highlight=False)

    run = open_pipeline(settings, adapter)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("encoding", total=None)
        report = encode_file(
            run, source, None if output == "-" else Path(output),
            labels_output=labels_output,
            input_format="auto" if input_format == "auto" else ("jsonl" if input_format == "jsonl" else "text"),
            output_format="npz" if format == "npz" else "jsonl",
            language=language,
            on_rejected=rejected,
            on_progress=lambda count: progress.advance(task, count),
        )  # fmt: skip
    errors.print(
        f"{report.n_vectors} vectors, {report.n_labels} label records, {report.n_rejected} rejected, "
        f"{report.seconds:.1f} s",
        highlight=False,
    )
    if report.n_labels_dropped:
        errors.print(f"{report.n_labels_dropped} label records were not written: give --labels-output")
    if report.n_rejected:
        raise typer.Exit(DONE_IN_PART)
