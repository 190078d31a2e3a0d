"""What commands print: lines, tables, the report of a fit; files that cannot be written are refused before the work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignstream.models.errors import AlignstreamError
from alignstream.ops.cli.console import console, print_json

if TYPE_CHECKING:
    from alignstream.models.adapter.adapter import Adapter

Markdown = Annotated[Path | None, typer.Option("--markdown", help="Write a Markdown page to this file.")]


def check_outputs(*, markdown: Path | None = None, png: Path | None = None) -> None:
    """Refuse files that cannot be written, before any work is done.

    Raises
    ------
    AlignstreamError
        A folder is not there or not writable, a folder has the file's name, or matplotlib is not installed.
    """
    for path in (markdown, png):
        if path is None:
            continue
        try:
            is_folder, has_parent = path.is_dir(), path.parent.is_dir()
        except OSError as error:
            raise AlignstreamError(f"cannot write {path}: {error.strerror or error}") from error
        if is_folder:
            raise AlignstreamError(f"cannot write {path}: it is a folder; name a file in it")
        if not has_parent:
            raise AlignstreamError(f"cannot write {path}: there is no folder {path.parent}; make it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise AlignstreamError(f"cannot write {path}: no permission; choose another place")
    if png is not None:
        from alignstream.export.evaluate.chart import check_matplotlib

        check_matplotlib()


def print_line(text: str) -> None:
    """Print a line as it is: no markup, no colours, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_fit(adapter: "Adapter", output: Path) -> None:
    """Print what a fit wrote, as JSON: the file, the adapter's version and its report."""
    print_json(
        {"adapter": str(output), "version": adapter.version, "encoder": adapter.encoder, **adapter.report}
    )


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; emphasis of Markdown is left out."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for name in headings:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell.replace("**", "")) for cell in row))
    console.print(table, highlight=False)
