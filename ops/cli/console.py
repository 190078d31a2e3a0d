"""What every command prints with: text for people, JSON for machines, one version string."""

import importlib.metadata
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

DONE_IN_PART = 3

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

#: ``--json`` of every command that a machine may read.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Write one JSON value to standard output, unwrapped and uncoloured."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Write one JSON value on one line, at once: the reader of a pipe may be waiting for it."""
    json.dump(value, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """Print a warning to standard error."""
    errors.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def print_some(lines: list[str], *, most: int) -> None:
    """Print the first lines to standard error, and say how many more there are."""
    for line in lines[:most]:
        errors.print(line, markup=False, soft_wrap=True)
    if len(lines) > most:
        errors.print(f"... and {len(lines) - most} more")


def version() -> str:
    """Return the version of the installed distribution."""
    return importlib.metadata.version("alignstream")


def print_version(is_asked: bool) -> None:
    """Print the version and exit, if ``--version`` was given."""
    if is_asked:
        sys.stdout.write(f"alignstream {version()}\n")
        raise typer.Exit
