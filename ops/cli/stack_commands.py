"""The local stack: ``alignstream up`` and ``alignstream down``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignstream.ops.cli.console import AsJson, console, errors, print_json

if TYPE_CHECKING:
    from alignstream.ops.local.stack import Stack, StackState

#: ``--kafka`` of the commands that start a broker.
RunKafka = Annotated[
    bool,
    typer.Option("--kafka", help="Run Apache Kafka from KAFKA_HOME instead of Tansu, the in-memory broker."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("up")(up)
    app.command("down")(down)


def up(
    *,
    kafka: RunKafka = False,
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="Partitions of each topic.")] = 4,
    worker: Annotated[bool, typer.Option(help="Start a worker, and restart it when it fails.")] = True,
    learner: Annotated[
        bool, typer.Option(help="Start a learner too, so that queries adapt to the stream.")
    ] = True,
    show: Annotated[
        bool, typer.Option("--show", help="Start nothing; show the stack that is running.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a broker, Redis, a worker and a learner on this machine, and leave them running.

    To use them from a shell:

    eval "$(alignstream up)"
    """
    from alignstream.ops.local.brokers import kafka_home
    from alignstream.ops.local.stack import settings_from
    from alignstream.ops.local.stack import up as start
    from alignstream.streams.settings import load

    def prepare(stack: "Stack") -> None:
        from alignstream.ops.admin.registry import prepare_registry
        from alignstream.ops.client.broker_topics import create_topics

        settings = settings_from(stack.environment())
        errors.print(f"{stack.broker.name} on {stack.broker.address}, Redis on {stack.redis.url}")
        create_topics(settings, partitions=partitions)
        if worker:
            prepare_registry(settings)
            names = ["worker", "learner"] if learner else ["worker"]
            logs = ", ".join(str(stack.folder / name / f"{name}.log") for name in names)
            errors.print(f"starting {' and '.join(names)}; logs: {logs}", soft_wrap=True)

    if show:
        state = _running(load().state_dir)
    else:
        state = start(
            load(),
            prepare=prepare,
            kafka_home=kafka_home() if kafka else None,
            with_worker=worker,
            with_learner=learner,
        )
    if as_json:
        print_json(
            {
                "environment": state.environment,
                "processes": {process.name: process.pid for process in state.processes},
                "folder": state.folder,
            }
        )
    else:
        typer.echo(state.exports(), nl=False)
    errors.print(
        f"the local stack is up; its logs and data are in {state.folder}; 'alignstream down' ends it",
        soft_wrap=True,
    )


def _running(state_dir: Path) -> "StackState":
    from alignstream.models.errors import StackError
    from alignstream.ops.local.stack import read_state

    state = read_state(state_dir)
    if state is None or not state.running():
        raise StackError("no local stack is running; 'alignstream up' starts one")
    return state


def down(*, as_json: AsJson = False) -> None:
    """End the local stack that 'up' left running, and nothing else."""
    from alignstream.ops.local.stack import down as end
    from alignstream.streams.settings import load

    ended = end(load())
    if as_json:
        print_json({"ended": {process.name: process.pid for process in ended}})
    elif ended:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in ended)
        console.print(f"ended {names}", soft_wrap=True)
    else:
        console.print("no local stack is running")
