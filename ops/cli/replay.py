"""``alignstream evaluate --causal``: replay streams as the service meets them, and say what following them is worth."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alignstream.ops.cli.console import AsJson, console, errors, print_json

if TYPE_CHECKING:
    from alignstream.export.evaluate.prequential.replay_report import (
        CausalEvaluation,
        CausalStream,
    )

_VARIABLE: Final = "ALIGNSTREAM_DATA"
_PANEL: Final = "With --causal"
#: What is for people's own stream alone: the named streams have each of it in one of them.
_OWN: Final = {"no_tags": "--no-tags", "pivot": "--pivot"}


def causal(
    context: typer.Context,
    *,
    causal: Annotated[
        bool,
        typer.Option(
            "--causal",
            help="Replay streams as the service meets them: what queries that follow the stream find.",
        ),
    ] = False,
    stream: Annotated[
        Path | None,
        typer.Option(
            "--stream",
            rich_help_panel=_PANEL,
            help="Your own stream: JSON lines in order, with text, language, and a group that translations share; a "
            "segment to report lines together. Default: streams of the sets in ALIGNSTREAM_DATA.",
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, rich_help_panel=_PANEL, help="Texts a second.")
    ] = 65.0,
    adapter: Annotated[
        str, typer.Option("--adapter", rich_help_panel=_PANEL, help="Adapter file, 'shipped' or 'identity'.")
    ] = "shipped",
    artifact: Annotated[
        Path | None,
        typer.Option(
            "--artifact",
            rich_help_panel=_PANEL,
            help="Encoder artifact. Default: as configured, else the embedded one.",
        ),
    ] = None,
    pivot: Annotated[
        str | None,
        typer.Option(
            "--pivot",
            rich_help_panel=_PANEL,
            help="With --stream: language to go to and from. Default: English where it is there, else the first.",
        ),
    ] = None,
    no_tags: Annotated[
        bool,
        typer.Option(
            "--no-tags", rich_help_panel=_PANEL, help="With --stream: messages do not name their language."
        ),
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, rich_help_panel=_PANEL, help="Of the order of messages, and of intervals."
        ),
    ] = 0,
    by_language: Annotated[
        bool,
        typer.Option(
            "--by-language", rich_help_panel=_PANEL, help="Also print the figures of every language."
        ),
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", rich_help_panel=_PANEL, help="Write a Markdown page.")
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            "--document",
            rich_help_panel=_PANEL,
            help="Write the tables between the markers of a document, such as docs/following.md.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge an adapter against raw cosine, task by task; or, with --causal, what it is worth to follow a stream."""
    _check_usage(context, causal=causal, is_own=stream is not None, document=document)
    if context.invoked_subcommand is not None:
        return
    from alignstream.export.evaluate.prequential.own_stream import read_stream
    from alignstream.export.evaluate.prequential.replay_page import (
        split_document,
        to_markdown,
        write_document,
    )
    from alignstream.export.evaluate.prequential.replay_run import evaluate_causal, evaluate_own
    from alignstream.models.errors import EvaluationError
    from alignstream.ops.cli import evaluate

    evaluate.check_outputs(markdown=markdown)
    if document is not None:
        evaluate.check_outputs(markdown=document)
        split_document(document)
    documents = None if stream is None else read_stream(stream)
    root = os.environ.get(_VARIABLE)
    if stream is None and not root:
        raise EvaluationError(
            f"'--causal' needs texts: name a file with --stream, or set {_VARIABLE} to the folder with the public sets"
        )
    session = evaluate.open_session(adapter, artifact, uses_tags=not no_tags, seed=seed, template=None)
    with errors.status("replaying") as status:
        if documents is not None and stream is not None:
            found = evaluate_own(session, documents, name=str(stream), pivot=pivot, rate=rate)
        else:
            found = evaluate_causal(
                session, Path(root or ""), rate=rate, status=lambda name: status.update(f"replaying: {name}")
            )
    # Figures are shown before files are written: a full disk does not cost them.
    if as_json:
        print_json(found.to_json())
    else:
        _print(found, by_language=by_language)
    if markdown is not None:
        evaluate.write(markdown, to_markdown(found))
    if document is not None:
        write_document(document, found)


def _check_usage(context: typer.Context, *, causal: bool, is_own: bool, document: Path | None) -> None:
    given = [
        name
        for name in context.params
        if name != "causal" and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if context.invoked_subcommand is not None:
        if causal or given:
            raise typer.BadParameter(
                f"--causal and its options stand alone; options of {context.invoked_subcommand!r} come after its name"
            )
        return
    if not causal:
        raise typer.BadParameter("these options are for --causal; name a task, or add --causal")
    if not is_own:
        for name in given:
            if name in _OWN:
                raise typer.BadParameter(f"{_OWN[name]} is for --stream; leave it out")
    elif document is not None:
        raise typer.BadParameter("--document is for the named streams; write your own with --markdown")


def _print(found: "CausalEvaluation", *, by_language: bool) -> None:
    from rich.markup import escape

    from alignstream.export.evaluate.prequential import replay_page as page

    console.print(escape(found.headline()), highlight=False, soft_wrap=True)
    for stream in found.streams:
        console.print(
            f"\n[bold]{escape(stream.name)}[/]: {escape(stream.what)}", highlight=False, soft_wrap=True
        )
        _print_table("points", page.headings(stream), page.summary_rows(stream))
        _print_table("change from static", page.CHANGE_HEADINGS, page.change_rows(stream))
        for note in page.stream_notes(stream):
            console.print(escape(note), highlight=False, soft_wrap=True)
        if by_language:
            _print_languages(stream)
    if found.late:
        _print_table("a language that comes late", *page.late_table(found.late))
    if found.hostile:
        _print_table("hostile texts", page.HOSTILE_HEADINGS, page.hostile_rows(found.hostile))
    console.print()
    for name, text in page.LEGEND.items():
        console.print(f"{name}: {text}", highlight=False, soft_wrap=True)
    if found.goals:
        _print_table("goals", page.GOAL_HEADINGS, page.goal_rows(found.goals))


def _print_languages(stream: "CausalStream") -> None:
    from alignstream.export.evaluate.prequential.replay_page import segment_table

    for segment in stream.segments:
        _print_table(f"{segment.name} by language", *segment_table(segment))


def _print_table(title: str, headings: "list[str] | tuple[str, ...]", rows: list[list[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for name in headings:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        # Emphasis is Markdown's.
        table.add_row(*(escape(cell.replace("**", "")) for cell in row))
    console.print(table, highlight=False)
