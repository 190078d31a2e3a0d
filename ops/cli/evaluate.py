"""``alignstream evaluate``: judge an adapter against raw cosine, task by task."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alignstream.models.errors import ExtraMissing
from alignstream.ops.admin.output_file import write_output
from alignstream.ops.cli.console import AsJson, console, errors, print_json, warn
from alignstream.ops.cli.inputs import Artifact, open_session
from alignstream.ops.cli.outputs import Markdown, check_outputs, print_line

if TYPE_CHECKING:
    from alignstream.export.evaluate.compared import MeasureResult
    from alignstream.export.evaluate.layer_report import LayerReport
    from alignstream.export.evaluate.report import Evaluation

#: Top-level packages of the export extra: one of them missing means that the extra is not installed.
_EXTRA: Final = frozenset({"huggingface_hub", "optimum", "torch", "transformers"})
#: Lines of each language that layers are compared on, unless told otherwise.
_LAYER_LINES: Final = 100
_VARIABLE: Final = "ALIGNSTREAM_DATA"

_PARALLEL_HELP: Final = "Parallel text: TSV with a header of language tags, then a row a line."
_LABELLED_HELP: Final = "Labelled text: JSON lines with text, language and label."
_WORDS_HELP: Final = (
    "Compares raw tokens with tokens less the mean of their language. The column 'adapter' takes that mean from the "
    "adapter's first step; its other steps play no part. An adapter without such means has no such column."
)
#: Each task with what it measures and the file that it reads.
_TASKS: Final = {
    "retrieval": ("Find translations by the nearest vector, to the pivot and back.", _PARALLEL_HELP),
    "pool": ("Find all translations of a text in one pool of all languages.", _PARALLEL_HELP),
    "labels": ("Zero-shot labels: the nearest label text.", _LABELLED_HELP),
    "head": ("A classifier trained on one language, applied to all.", _LABELLED_HELP),
    "terms": (
        "Find a term's translation in the other list, both ways.",
        "Terms: TSV with a header of language tags, then terms that translate each other, a row a line.",
    ),
    "words": (
        f"Word alignment by token vectors, F1 against gold links.\n\n{_WORDS_HELP}",
        "Sentence pairs: TSV with a header of two language tags; words are separated by spaces.",
    ),
    "similarity": (
        "Similarity within a language against people's scores.",
        "Scored pairs: lines of language, score and two texts, separated by tabs.",
    ),
    "neighbours": ("How many of each text's nearest neighbours within its language stay.", _PARALLEL_HELP),
    "all": ("Every task on the development parts of the sets in ALIGNSTREAM_DATA.", "Not used."),
}

Png = Annotated[Path | None, typer.Option("--png", help="Write a picture to this file.")]

app = typer.Typer(no_args_is_help=True)


def _evaluate(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="File to judge on, in the task's format. Default: sets of ALIGNSTREAM_DATA."),
    ] = None,
    *,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Name of a set in ALIGNSTREAM_DATA; may be given several times."),
    ] = None,
    adapter: Annotated[
        str, typer.Option("--adapter", help="Adapter file, 'shipped' or 'identity'.")
    ] = "shipped",
    artifact: Artifact = None,
    pivot: Annotated[
        str | None,
        typer.Option(
            "--pivot",
            help="Language that retrieval goes to and from. Default: the first of a file, English in the named sets.",
        ),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            "--languages",
            help="Language tags, separated by commas. Default: all of a file, a fixed choice of a named set.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=2,
            help="At most this many texts of each language. Default: all of a file, 100 of a named set.",
        ),
    ] = None,
    no_tags: Annotated[
        bool, typer.Option("--no-tags", help="Do not tell the adapter the language of a text.")
    ] = False,
    train: Annotated[
        Path | None, typer.Option("--train", help="For 'head' with a file: labelled texts to train on.")
    ] = None,
    alignments: Annotated[
        Path | None,
        typer.Option(
            "--alignments",
            help="For 'words' with a file: gold links, a line such as '0-0 1-2' for each pair.",
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="For 'labels': a sentence with {label} in it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    by_language: Annotated[
        bool, typer.Option("--by-language", help="Also print the figures of every language.")
    ] = False,
    markdown: Markdown = None,
    png: Png = None,
    as_json: AsJson = False,
) -> None:
    from alignstream.export.data.selection import TextSelection
    from alignstream.export.evaluate.run import DEFAULT_LIMIT, check, evaluate
    from alignstream.export.evaluate.task_texts import TaskTexts
    from alignstream.models.errors import WrongUsage

    task = context.command.name or ""
    if template is not None and task not in {"labels", "all"}:
        raise typer.BadParameter("--template is for 'labels'; leave it out")
    root = os.environ.get(_VARIABLE)
    if limit is None and data is None:
        limit = DEFAULT_LIMIT
    tags = None if languages is None else _split(languages)
    texts = TaskTexts(
        path=data,
        train=train,
        alignments=alignments,
        root=Path(root) if root else None,
        names=tuple(set_ or ()),
        selection=TextSelection(languages=tags, pivot=pivot, limit=limit),
    )
    try:
        check(task, texts)
    except WrongUsage as error:
        raise typer.BadParameter(str(error)) from error
    check_outputs(markdown=markdown, png=png)
    session = open_session(adapter, artifact, uses_tags=not no_tags, seed=seed, template=template)
    evaluation = evaluate(session, task, texts)
    for result in evaluation.tasks:
        for warning in result.warnings:
            warn(warning)
    # Figures are shown before files are written: a full disk does not cost them.
    if as_json:
        print_json(evaluation.to_json())
    else:
        _print(evaluation, by_language=by_language)
    if markdown is not None:
        write_output(markdown, evaluation.to_markdown().encode())
    if png is not None:
        from alignstream.export.evaluate.chart import write_png

        write_png(evaluation, png)


def layers(
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Local folder (transformers or sentence-transformers), hub name, or 'embedded'.",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help=_PARALLEL_HELP)],
    poolings: Annotated[
        str, typer.Option("--poolings", help="mean, cls, or both, separated by a comma.")
    ] = "mean,cls",
    pivot: Annotated[
        str | None,
        typer.Option("--pivot", help="Language that retrieval goes to and from. Default: the first column."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=2, help="At most this many lines of each language.")
    ] = _LAYER_LINES,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    markdown: Markdown = None,
    png: Png = None,
    as_json: AsJson = False,
) -> None:
    """Compare hidden layers and poolings of an encoder before it is exported. Needs the export extra."""
    from alignstream.export.data.parallel import read_parallel
    from alignstream.export.data.selection import listed, quoted
    from alignstream.export.evaluate.layer_report import POOLINGS

    chosen = _split(poolings)
    if unknown := [name for name in chosen if name not in POOLINGS]:
        raise typer.BadParameter(
            f"unknown pooling {quoted(unknown[0])}; layers are compared by {listed(POOLINGS)}",
            param_hint="--poolings",
        )
    if not chosen:
        raise typer.BadParameter(f"no pooling is named; take {listed(POOLINGS)}", param_hint="--poolings")
    check_outputs(markdown=markdown, png=png)
    texts = read_parallel(data, pivot=pivot, limit=None).limited(limit)
    try:
        from alignstream.export.evaluate.layers import compare_layers
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise ExtraMissing(
            f"'evaluate layers' needs {error.name}, which is not installed: pip install 'alignstream[export]'"
        ) from error
    with errors.status(f"comparing the layers of {model}"):
        report = compare_layers(model, texts, poolings=chosen, seed=seed)
    for warning in report.warnings:
        warn(warning)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        _print_layers(report)
    if markdown is not None:
        write_output(markdown, report.to_markdown().encode())
    if png is not None:
        from alignstream.export.evaluate.chart import write_layers_png

        write_layers_png(report, png)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _print(evaluation: "Evaluation", *, by_language: bool) -> None:
    from rich.markup import escape

    from alignstream.export.evaluate.report import KINDS, LEGEND, facts, heading, notes

    print_line(evaluation.headline())
    for task in evaluation.tasks:
        console.print(f"\n[bold]{escape(heading(task))}[/]", highlight=False)
        for line in (facts(task), *notes(task)):
            print_line(line)
        for measure in task.measures:
            _print_measure(measure, by_language=by_language)
    console.print()
    for kind in KINDS:
        print_line(f"{kind}: {LEGEND[kind]}")


def _print_measure(measure: "MeasureResult", *, by_language: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from alignstream.export.evaluate.report import HEADINGS, language_rows, summary_rows

    is_compared = any(column.change is not None for column in measure.columns)
    title = f"{measure.name}, points" + ("; change from raw cosine" if is_compared else "")
    table = Table(title=title, title_justify="left")
    for position, name in enumerate(HEADINGS):
        table.add_column(name, justify="right" if 2 <= position <= 5 else "left", overflow="fold")
    before = None
    for row in summary_rows(measure):
        if before not in {None, row[0]}:
            table.add_section()
        before = row[0]
        table.add_row(*map(escape, row))
    console.print(table, highlight=False)
    if by_language:
        headings, rows = language_rows(measure)
        table = Table(title=f"{measure.name} by language", title_justify="left")
        for position, name in enumerate(headings):
            table.add_column(escape(name), justify="right" if position else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table, highlight=False)


def _print_layers(report: "LayerReport") -> None:
    from rich.table import Table

    from alignstream.export.evaluate.layer_report import LAYER_HEADINGS

    for line in (report.headline(), *report.all_notes()):
        print_line(line)
    table = Table()
    for position, name in enumerate(LAYER_HEADINGS):
        is_narrow = position in {0, len(LAYER_HEADINGS) - 1}
        table.add_column(name, justify="right" if position else "left", no_wrap=is_narrow)
    best = [report.best.pooling, str(report.best.layer)]
    for row in report.rows():
        table.add_row(*row, style="bold" if row[:2] == best else None)
    console.print(table, highlight=False)
    print_line(report.advice())


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, (purpose, file) in _TASKS.items():
        app.command(name, help=f"{purpose}\n\nDATA: {file}")(_evaluate)
    app.command("layers")(layers)
    root.add_typer(app, name="evaluate", help="Judge an adapter against raw cosine, task by task.")
