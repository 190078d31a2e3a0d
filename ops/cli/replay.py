"""``alignstream replay``: replay streams as the service sees them, and measure what adapting queries gains."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alignstream.ops.admin.output_file import write_output
from alignstream.ops.cli.console import AsJson, console, errors, print_json
from alignstream.ops.cli.inputs import Artifact, open_session
from alignstream.ops.cli.outputs import Markdown, check_outputs, print_line, print_table

if TYPE_CHECKING:
    from alignstream.export.evaluate.prequential.replay_report import PrequentialReport

_VARIABLE: Final = "ALIGNSTREAM_DATA"


def replay(
    *,
    stream: Annotated[
        Path | None,
        typer.Option(
            "--stream",
            help="Your own stream: JSON lines in order, with text, language and group, which translations share, and "
            "optionally segment, to report by. Default: streams of the sets in ALIGNSTREAM_DATA.",
        ),
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Texts a second.")] = 65.0,
    adapter: Annotated[
        str, typer.Option("--adapter", help="Adapter file, 'shipped' or 'identity'.")
    ] = "shipped",
    artifact: Artifact = None,
    pivot: Annotated[
        str | None,
        typer.Option(
            "--pivot",
            help="With --stream: language that retrieval goes to and from. Default: English, else the first.",
        ),
    ] = None,
    no_tags: Annotated[
        bool, typer.Option("--no-tags", help="With --stream: messages do not name their language.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the order of messages and of the intervals.")
    ] = 0,
    by_language: Annotated[
        bool, typer.Option("--by-language", help="Also print the figures of every language.")
    ] = False,
    markdown: Markdown = None,
    as_json: AsJson = False,
) -> None:
    """Replay streams message by message, and judge each query with what was known when it came.

    A prequential evaluation: each query adapts to the texts before it alone, as in the service, and is then learned
    from. The figures say how much more adapted queries find than static vectors do, and how soon after a change.
    """
    from alignstream.export.data.stream_file import read_stream
    from alignstream.export.evaluate.prequential.replay_page import to_markdown
    from alignstream.export.evaluate.prequential.replay_run import replay_own, replay_public_sets
    from alignstream.models.errors import EvaluationError

    if stream is None:
        # The named streams have their own pivots and tags.
        for name, is_given in (("--no-tags", no_tags), ("--pivot", pivot is not None)):
            if is_given:
                raise typer.BadParameter(f"{name} is for --stream; leave it out")
    check_outputs(markdown=markdown)
    texts = None if stream is None else read_stream(stream)
    root = os.environ.get(_VARIABLE)
    if stream is None and not root:
        raise EvaluationError(
            f"'replay' needs texts: name a file with --stream, or set {_VARIABLE} to the folder with the public sets"
        )
    session = open_session(adapter, artifact, uses_tags=not no_tags, seed=seed, template=None)
    with errors.status("replaying") as status:
        if texts is not None:
            report = replay_own(session, texts, name=str(stream), pivot=pivot, rate=rate)
        else:
            report = replay_public_sets(
                session, Path(root or ""), rate=rate, status=lambda name: status.update(f"replaying: {name}")
            )
    # Figures are shown before files are written: a full disk does not cost them.
    if as_json:
        print_json(report.to_json())
    else:
        _print(report, by_language=by_language)
    if markdown is not None:
        write_output(markdown, to_markdown(report).encode())


def _print(report: "PrequentialReport", *, by_language: bool) -> None:
    from rich.markup import escape

    from alignstream.export.evaluate.prequential import replay_page as page

    print_line(report.headline())
    for stream in report.streams:
        console.print(
            f"\n[bold]{escape(stream.name)}[/]: {escape(stream.what)}", highlight=False, soft_wrap=True
        )
        print_table("points", page.headings(stream), page.summary_rows(stream))
        print_table("change from static", page.CHANGE_HEADINGS, page.change_rows(stream))
        for note in page.stream_notes(stream):
            print_line(note)
        if by_language:
            for segment in stream.segments:
                print_table(f"{segment.name} by language", *page.segment_table(segment))
    if report.late:
        print_table("a language that comes late", *page.late_table(report.late))
    if report.hostile:
        print_table("hostile texts", page.HOSTILE_HEADINGS, page.hostile_rows(report.hostile))
    console.print()
    for name, text in page.LEGEND.items():
        print_line(f"{name}: {text}")
    if report.goals:
        print_table("goals", page.GOAL_HEADINGS, page.goal_rows(report.goals))


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("replay")(replay)
