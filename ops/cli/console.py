"""What every command prints with: tables for people, JSON for machines, one version string."""

import importlib.metadata
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

DONE_IN_PART = 3

console = Console()
errors = Console(stderr=True)

#: ``--json`` of every command that a machine may read.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Write one JSON value to standard output, unwrapped and uncoloured."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")
    sys.stdout.flush()


def version() -> str:
    """Return the version of the installed distribution."""
    return importlib.metadata.version("alignstream")


def print_version(wanted: bool) -> None:
    """Print the version and stop, when ``--version`` was given."""
    if wanted:
        sys.stdout.write(f"alignstream {version()}\n")
        raise typer.Exit
