"""``worker``, ``learner``, ``config`` and ``doctor``: running the service, and finding out why it does not run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json
from alignstream.ops.cli.options import settings_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("worker")(worker)
    app.command("learner")(learner)
    app.command("config")(config)
    app.command("doctor")(doctor)


def worker(
    artifact: Annotated[
        Path | None, typer.Option(help="Encoder folder; replaces ALIGNSTREAM_ARTIFACT.")
    ] = None,
) -> None:
    """Run a worker until it is told to stop. On SIGTERM it finishes the batch in hand, commits and ends."""
    from alignstream.ops.admin.encoder_choice import artifact_folder
    from alignstream.streams.worker import app

    settings = settings_with(artifact=artifact)
    sys.exit(app.run(settings, artifact_folder(settings)))


def learner() -> None:
    """Run a learner until it is told to stop: it turns what workers see into epochs.

    If several learners run, one works and the others wait.
    """
    from alignstream.streams.learner import app as service
    from alignstream.streams.settings import load

    sys.exit(service.run(load()))


def config(as_json: AsJson = False) -> None:
    """Show every setting: its value, where the value comes from, and what it means. Secrets are masked."""
    from rich.markup import escape
    from rich.padding import Padding

    from alignstream.ops.admin.settings_view import shown_settings

    rows = shown_settings()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        origin = "" if row["from"] == "default" else f"  [yellow](from {escape(row['from'])})[/]"
        console.print(
            f"[bold]ALIGNSTREAM_{row['name'].upper()}[/] = {escape(row['value'])}{origin}", soft_wrap=True
        )
        console.print(Padding(f"[dim]{escape(row['description'])}[/]", (0, 0, 0, 4)))


def doctor(
    as_json: AsJson = False,
    skip_encoder: Annotated[
        bool, typer.Option("--skip-encoder", help="Do not load the encoder, which takes seconds.")
    ] = False,
) -> None:
    """Check broker, topics, Redis, encoder, adapter, disk and ports, and say what to do about problems."""
    from rich.markup import escape

    from alignstream.ops.admin.doctor import examine

    checks = examine(with_encoder=not skip_encoder)
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        marks = {"ok": "[green]ok  [/]", "warning": "[yellow]warn[/]", "problem": "[bold red]FAIL[/]"}
        for check in checks:
            console.print(
                f"{marks[check.state]} [bold]{escape(check.name)}[/]: {escape(check.message)}", soft_wrap=True
            )
            if check.remedy:
                console.print(f"       → {escape(check.remedy)}", soft_wrap=True)
    if any(check.state == "problem" for check in checks):
        if not as_json:
            errors.print("there are problems; see FAIL above")
        raise typer.Exit(DONE_IN_PART)
