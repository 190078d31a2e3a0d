"""``alignstream export``: write encoder artifacts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from alignstream.models.errors import ExtraMissing
from alignstream.ops.cli.console import AsJson, console, errors, print_json, warn

if TYPE_CHECKING:
    from alignstream.models.encoder.artifact import Manifest

#: Top-level packages of the export extra: one of them missing means that the extra is not installed.
_EXTRA = frozenset({"huggingface_hub", "optimum", "torch", "transformers"})

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; a new one, or an empty one.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing artifact.")]

app = typer.Typer(no_args_is_help=True)


@app.command()
def onnx(
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Local folder (transformers or sentence-transformers), hub name, or 'embedded'.",
        ),
    ],
    output: Output,
    layer: Annotated[
        int | None,
        typer.Option("--layer", help="Transformer layer to use, counted from 1. Default: the last."),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls", "pooler"] | None,
        typer.Option("--pooling", help="Default: what the model's folder says, else mean."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", help="Put in front of every text. Default: 'query: ' for e5 models, else nothing."
        ),
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="Only fp32.")] = "fp32",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Export an encoder from torch to ONNX and compare the two. Needs the export extra."""
    try:
        from alignstream.export.encoders.onnx_export import export_onnx
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise ExtraMissing(
            f"'export onnx' needs {error.name}, which is not installed: pip install 'alignstream[export]'. "
            "'export embedded' needs no torch."
        ) from error
    with errors.status(f"exporting {model}"):
        manifest = export_onnx(
            model,
            output,
            layer=layer,
            pooling=pooling,
            prefix=prefix,
            precision=precision,
            overwrite=overwrite,
            warn=warn,
        )
    _report(manifest, output, as_json=as_json)


@app.command()
def embedded(*, output: Output, overwrite: Overwrite = False, as_json: AsJson = False) -> None:
    """Assemble the embedded encoder from the packaged graph and weights; needs no torch."""
    from alignstream.export.encoders.embedded import assemble

    with errors.status("assembling the embedded encoder"):
        manifest = assemble(output, overwrite=overwrite)
    _report(manifest, output, as_json=as_json)


def _report(manifest: "Manifest", output: Path, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        print_json(msgspec.to_builtins(manifest))
        return
    _print_facts(manifest, output)
    if manifest.parity:
        _print_parity(manifest.parity)


def _print_facts(manifest: "Manifest", output: Path) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("artifact", output),
        ("source", f"{manifest.source} ({manifest.revision})"),
        ("family", manifest.family),
        ("layer", manifest.layer or "last"),
        ("pooling", manifest.pooling + (f", dense with {manifest.dense}" if manifest.dense else "")),
        ("prefix", repr(manifest.prefix)),
        ("dimensions", manifest.dim),
        ("max. tokens", manifest.max_tokens),
        ("fingerprint", manifest.fingerprint),
    ):
        table.add_row(f"[bold]{name}[/]", str(value))
    console.print(table)


def _print_parity(parity: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="Compared with torch", caption=_summary(parity), caption_justify="left")
    table.add_column("script")
    for name in ("tokens", "largest difference", "lowest cosine"):
        table.add_column(name, justify="right")
    by_script: dict[str, list[dict[str, Any]]] = {}
    for row in parity["per_text"]:
        by_script.setdefault(row["script"], []).append(row)
    for script, rows in by_script.items():
        table.add_row(
            script,
            ", ".join(str(row["tokens"]) for row in sorted(rows, key=lambda row: int(row["tokens"]))),
            f"{max(row['difference'] for row in rows):.1e}",
            f"{min(row['cosine'] for row in rows):.7f}",
        )
    console.print(table)


def _summary(parity: dict[str, Any]) -> str:
    return (
        f"{parity['texts']} texts in {parity['scripts']} scripts, {parity['shortest_tokens']} to "
        f"{parity['longest_tokens']} tokens: largest difference {parity['largest_difference']:.1e} "
        f"(limit {parity['max_difference']:.0e}), lowest cosine {parity['lowest_cosine']:.7f} "
        f"(limit {parity['min_cosine']}); same token ids"
    )


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app, name="export", help="Write encoder artifacts.")
