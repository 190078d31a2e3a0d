"""The command line. Importing it loads no numpy, no faust and no onnxruntime.

Exit codes: 0 done; 1 failed (the message says why and what to do); 2 wrong usage; 3 partly done (some records were
rejected, or a check found a problem); 130 interrupted.
"""

import inspect
import sys
from typing import Annotated

import typer
from rich.markup import escape
from typer.models import CommandInfo, TyperInfo

from alignstream.models.errors import AlignstreamError
from alignstream.ops.cli import (
    adapter_commands,
    compare,
    dead_letter_commands,
    demo,
    encode,
    evaluate,
    export,
    fit,
    label_commands,
    onboard,
    produce,
    realign_command,
    replay,
    service_commands,
    skip,
    stack_commands,
    state_commands,
    tail,
    topic_commands,
    train,
)
from alignstream.ops.cli.console import errors, print_version

app = typer.Typer(
    name="alignstream",
    help="Cross-lingual embedding alignment on a live Kafka stream.",
    epilog="Exit codes: 0 done; 1 failed; 2 wrong usage; 3 partly done; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


for _module in (
    demo,
    stack_commands,
    service_commands,
    topic_commands,
    produce,
    tail,
    dead_letter_commands,
    skip,
    adapter_commands,
    label_commands,
    state_commands,
    encode,
    realign_command,
    fit,
    onboard,
    train,
    evaluate,
    replay,
    compare,
    export,
):
    _module.register(app)


def _unwrap_help(group: typer.Typer) -> None:
    """Join the lines of each paragraph of help: typer keeps the line breaks of a docstring after its first one."""
    commands: list[CommandInfo | TyperInfo] = [*group.registered_commands]
    if group.registered_callback is not None:
        commands.append(group.registered_callback)
    for command in commands:
        text = command.help or inspect.getdoc(command.callback)
        if text:
            paragraphs = inspect.cleandoc(text).split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for subgroup in group.registered_groups:
        if subgroup.typer_instance is not None:
            _unwrap_help(subgroup.typer_instance)


_unwrap_help(app)


def main() -> None:
    """Run the command line; an error that a user can act on is one message without a traceback."""
    try:
        app()
    except AlignstreamError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has left, as `head` does
        sys.stderr.close()
        sys.exit(0)
