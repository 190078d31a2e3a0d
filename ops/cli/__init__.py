"""The command line. Importing it loads no numpy, no faust and no onnxruntime.

Exit codes: 0 done; 1 it could not be done (the message says why and what to do); 2 wrong usage;
3 done in part (some records were rejected, or a check found a problem); 130 interrupted.
"""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from alignstream.models.errors import AlignstreamError
from alignstream.ops.cli import (
    adapters as registry,
)
from alignstream.ops.cli import (
    compare,
    demo,
    encode,
    evaluate,
    export,
    fit,
    labels,
    local,
    onboard,
    realign,
    records,
    serve,
    state,
    train,
)
from alignstream.ops.cli.console import errors, print_version

app = typer.Typer(
    name="alignstream",
    help="Meaning that is the same in every language, on a live Kafka stream.",
    epilog="Exit codes: 0 done; 1 it could not be done; 2 wrong usage; 3 done in part; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    pass


for _module in (
    demo,
    local,
    serve,
    records,
    registry,
    labels,
    state,
    encode,
    realign,
    fit,
    onboard,
    train,
    evaluate,
    compare,
    export,
):
    _module.register(app)


def main() -> None:
    """Run the command line; every error that a user can act on is one message without a traceback."""
    try:
        app()
    except AlignstreamError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe left, as `head` does
        sys.stderr.close()
        sys.exit(0)
