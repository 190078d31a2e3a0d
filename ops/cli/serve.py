"""``worker``, ``learner``, ``config`` and ``doctor``: running the service, and finding out why it does not run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("worker")(worker)
    app.command("learner")(learner)
    app.command("config")(config)
    app.command("doctor")(doctor)


def worker(
    artifact: Annotated[Path | None, typer.Option(help="Encoder folder; as ALIGNSTREAM_ARTIFACT.")] = None,
) -> None:
    """Run a worker until it is told to stop (SIGTERM finishes the batch in hand, commits and leaves)."""
    from alignstream.ops.admin.encoder_choice import artifact_folder
    from alignstream.streams.settings import load
    from alignstream.streams.worker import app

    settings = load(**({} if artifact is None else {"artifact": artifact}))
    sys.exit(app.run(settings, artifact_folder(settings)))


def learner() -> None:
    """Run the learner until it is told to stop: it turns what workers see into epochs. One works, others wait."""
    from alignstream.streams.learner import app as service
    from alignstream.streams.settings import load

    sys.exit(service.run(load()))


def config(as_json: AsJson = False) -> None:
    """Show every setting: value, where it comes from, unit and reason; secrets are masked."""
    from rich.markup import escape
    from rich.padding import Padding

    from alignstream.ops.admin.settings_view import shown_settings

    rows = shown_settings()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        where = "" if row["from"] == "default" else f"  [yellow](from {escape(row['from'])})[/]"
        line = f"[bold]ALIGNSTREAM_{row['name'].upper()}[/] = {escape(row['value'])}{where}"
        console.print(line, highlight=False, soft_wrap=True)
        console.print(Padding(f"[dim]{escape(row['description'])}[/]", (0, 0, 0, 4)), highlight=False)


def doctor(
    as_json: AsJson = False,
    skip_encoder: Annotated[
        bool, typer.Option("--skip-encoder", help="Do not load the encoder (takes seconds).")
    ] = False,
) -> None:
    """Check broker, topics, Redis, encoder, adapter, disk and ports; say what to do about what is wrong."""
    from rich.markup import escape

    from alignstream.ops.admin.doctor import examine

    checks = examine(with_encoder=not skip_encoder)
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        marks = {"ok": "[green]ok  [/]", "warning": "[yellow]warn[/]", "problem": "[bold red]FAIL[/]"}
        for check in checks:
            line = f"{marks[check.state]} [bold]{escape(check.name)}[/]: {escape(check.message)}"
            console.print(line, highlight=False, soft_wrap=True)
            if check.remedy:
                console.print(f"       → {escape(check.remedy)}", highlight=False, soft_wrap=True)
    if any(check.state == "problem" for check in checks):
        if not as_json:
            errors.print("something is wrong; see FAIL above")
        raise typer.Exit(DONE_IN_PART)
