"""``alignstream evaluate``: judge an adapter against raw cosine, task by task."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alignstream.models.errors import AlignstreamError, ExtraMissing
from alignstream.models.files import replace_file
from alignstream.ops.cli import replay as causal
from alignstream.ops.cli.console import AsJson, console, errors, print_json

if TYPE_CHECKING:
    from alignstream.export.evaluate.layer_report import LayerReport
    from alignstream.export.evaluate.report import Evaluation, MeasureResult
    from alignstream.export.evaluate.session import Session

#: Top-level packages of the export extra: one of them missing means that the extra is not installed.
_EXTRA: Final = frozenset({"huggingface_hub", "optimum", "torch", "transformers"})
#: Lines of each language that layers are compared on, unless told otherwise.
_LAYER_LINES: Final = 100
_VARIABLE: Final = "ALIGNSTREAM_DATA"

_PARALLEL_HELP: Final = "Parallel text: TSV with a header of language tags, then a row a line."
_LABELLED_HELP: Final = "Labelled text: JSON lines with text, language and label."
_WORDS_HELP: Final = (
    "Raw tokens are compared with tokens less their language's mean. The column 'adapter' takes that mean from what "
    "the adapter's first step subtracts from sentences; its other steps play no part, and where it holds no such "
    "means there is no such column."
)
#: Each task with what it measures and the file that it reads.
_TASKS: Final = {
    "retrieval": ("Find translations by the nearest vector, to the pivot and back.", _PARALLEL_HELP),
    "pool": ("Find all translations of a text in one pool of all languages.", _PARALLEL_HELP),
    "labels": ("Zero-shot labels: the nearest label text.", _LABELLED_HELP),
    "head": ("A classifier trained on one language, applied to all.", _LABELLED_HELP),
    "terms": ("Find a term's translation in the other list, both ways.", f"Terms as p{_PARALLEL_HELP[1:]}"),
    "words": (
        f"Word alignment by token vectors, F1 against gold links.\n\n{_WORDS_HELP}",
        "Sentence pairs: TSV with a header of two language tags; words with spaces between them.",
    ),
    "similarity": (
        "Similarity within a language against people's scores.",
        "Scored pairs: lines of language, score and two texts, with tabs between them.",
    ),
    "neighbours": ("How much of each text's neighbourhood within its language stays.", _PARALLEL_HELP),
    "all": ("Every task on the development parts of the sets in ALIGNSTREAM_DATA.", "Not used."),
}

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
        typer.Option("--set", help="A set of ALIGNSTREAM_DATA by name; may be given several times."),
    ] = None,
    adapter: Annotated[
        str, typer.Option("--adapter", help="Adapter file, 'shipped' or 'identity'.")
    ] = "shipped",
    artifact: Annotated[
        Path | None,
        typer.Option("--artifact", help="Encoder artifact. Default: as configured, else the embedded one."),
    ] = None,
    pivot: Annotated[
        str | None,
        typer.Option("--pivot", help="Language to go to and from. Default: a file's first, else English."),
    ] = None,
    languages: Annotated[
        str | None, typer.Option("--languages", help="Tags with commas between them. Default: as usual.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=2,
            help="Texts of each language at most. Default: all of a file, 100 of the named sets.",
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
        typer.Option("--alignments", help="For 'words' with a file: gold links, '0-0 1-2' a line."),
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="For 'labels': sentence with {label} in it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    by_language: Annotated[
        bool, typer.Option("--by-language", help="Also print the figures of every language.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a Markdown page.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a picture.")] = None,
    as_json: AsJson = False,
) -> None:
    from alignstream.export.evaluate.public_tasks import Choice
    from alignstream.export.evaluate.run import DEFAULT_LIMIT, check, evaluate
    from alignstream.export.evaluate.session import Data
    from alignstream.models.errors import WrongUsage

    task = context.command.name or ""
    if template is not None and task not in {"labels", "all"}:
        raise typer.BadParameter("--template is for 'labels'; leave it out")
    root = os.environ.get(_VARIABLE)
    if limit is None and data is None:
        limit = DEFAULT_LIMIT
    texts = Data(
        path=data,
        train=train,
        alignments=alignments,
        root=Path(root) if root else None,
        names=tuple(set_ or ()),
        choice=Choice(languages=None if languages is None else _listed(languages), pivot=pivot, limit=limit),
    )
    try:
        check(task, texts)
    except WrongUsage as error:
        raise typer.BadParameter(str(error)) from error
    check_outputs(markdown=markdown, png=png)
    session = open_session(adapter, artifact, uses_tags=not no_tags, seed=seed, template=template)
    found = evaluate(session, task, texts)
    _warn([warning for result in found.tasks for warning in result.warnings])
    # Figures are shown before files are written: a full disk does not cost them.
    if as_json:
        print_json(found.to_json())
    else:
        _print(found, by_language=by_language)
    if markdown is not None:
        write(markdown, found.to_markdown())
    if png is not None:
        from alignstream.export.evaluate.chart import write_png

        write_png(found, png)


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
        str, typer.Option("--poolings", help="mean, cls, or both with a comma between them.")
    ] = "mean,cls",
    pivot: Annotated[
        str | None, typer.Option("--pivot", help="Language to go to and from. Default: the first column.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=2, help="Lines of each language at most.")
    ] = _LAYER_LINES,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a Markdown page.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a picture.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare hidden layers and poolings of an encoder before it is exported. Needs the export extra."""
    from alignstream.export.evaluate.formats import few, limited, read_parallel, shown
    from alignstream.export.evaluate.layer_report import POOLINGS

    chosen = _listed(poolings)
    if unknown := [name for name in chosen if name not in POOLINGS]:
        raise typer.BadParameter(
            f"unknown pooling {shown(unknown[0])}; layers are compared by {few(POOLINGS)}",
            param_hint="--poolings",
        )
    if not chosen:
        raise typer.BadParameter(f"no pooling is named; take {few(POOLINGS)}", param_hint="--poolings")
    check_outputs(markdown=markdown, png=png)
    texts = limited(read_parallel(data, pivot=pivot), limit)
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
    _warn(report.warnings)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        _print_layers(report)
    if markdown is not None:
        write(markdown, report.to_markdown())
    if png is not None:
        from alignstream.export.evaluate.chart import write_layers_png

        write_layers_png(report, png)


def check_outputs(*, markdown: Path | None = None, png: Path | None = None) -> None:
    """Refuse files that cannot be written, before any work is done.

    Raises
    ------
    AlignstreamError
        A folder is not there or not writable, a folder has the file's name, or matplotlib is not installed.
    """
    for path in (markdown, png):
        if path is None:
            continue
        try:
            is_folder, has_parent = path.is_dir(), path.parent.is_dir()
        except OSError as error:
            raise AlignstreamError(f"cannot write {path}: {error.strerror or error}") from error
        if is_folder:
            raise AlignstreamError(f"cannot write {path}: it is a folder; name a file in it")
        if not has_parent:
            raise AlignstreamError(f"cannot write {path}: there is no folder {path.parent}; make it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise AlignstreamError(f"cannot write {path}: no permission; choose another place")
    if png is not None:
        from alignstream.export.evaluate.chart import check_matplotlib

        check_matplotlib()


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _warn(messages: Sequence[str]) -> None:
    from rich.markup import escape

    for message in messages:
        errors.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


def open_session(
    adapter: str, artifact: Path | None, *, uses_tags: bool, seed: int, template: str | None
) -> "Session":
    """Return the encoder behind its cache, with the adapter that is judged."""
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.data.public_vectors import TEMPLATE
    from alignstream.export.encoders.embedded import cached_artifact
    from alignstream.export.evaluate.session import Session
    from alignstream.models.encoder.onnx import OnnxEncoder
    from alignstream.ops.cli.fit_pairs import open_start
    from alignstream.streams import settings

    values = settings.load()
    with errors.status("loading the encoder"):
        folder = artifact or values.artifact or cached_artifact(values.cache_dir)
        encoder = OnnxEncoder(folder, threads=values.threads, max_batch_tokens=values.max_batch_tokens)
    return Session(
        cache=EmbeddingCache(
            values.cache_dir, fingerprint=encoder.fingerprint, dim=encoder.dim, encode=encoder.encode_texts
        ),
        adapter=open_start(adapter, encoder=encoder.fingerprint, dim=encoder.dim),
        adapter_name=Path(adapter).name,
        uses_tags=uses_tags,
        seed=seed,
        template=template or TEMPLATE,
        encode_tokens=encoder.encode_tokens,
        is_mean=encoder.manifest.pooling == "mean" and encoder.manifest.dense is None,
    )


def _print(found: "Evaluation", *, by_language: bool) -> None:
    from rich.markup import escape

    from alignstream.export.evaluate.report import KINDS, LEGEND, facts, heading, notes

    console.print(escape(found.headline()), highlight=False, soft_wrap=True)
    for task in found.tasks:
        console.print(f"\n[bold]{escape(heading(task))}[/]", highlight=False)
        for line in (facts(task), *notes(task)):
            console.print(escape(line), highlight=False, soft_wrap=True)
        for measure in task.measures:
            _print_measure(measure, by_language=by_language)
    console.print()
    for kind in KINDS:
        console.print(f"{kind}: {LEGEND[kind]}", highlight=False, soft_wrap=True)


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
    from rich.markup import escape
    from rich.table import Table

    from alignstream.export.evaluate.layer_report import LAYER_HEADINGS

    for line in (report.headline(), *report.all_notes()):
        console.print(escape(line), highlight=False, soft_wrap=True)
    table = Table()
    for position, name in enumerate(LAYER_HEADINGS):
        is_narrow = position in {0, len(LAYER_HEADINGS) - 1}
        table.add_column(name, justify="right" if position else "left", no_wrap=is_narrow)
    best = [report.best.pooling, str(report.best.layer)]
    for row in report.rows():
        table.add_row(*row, style="bold" if row[:2] == best else None)
    console.print(table, highlight=False)
    console.print(escape(report.advice()), highlight=False, soft_wrap=True)


def write(path: Path, text: str) -> None:
    """Write a page.

    Raises
    ------
    AlignstreamError
        It cannot be written.
    """
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise AlignstreamError(f"cannot write {path}: {error.strerror or error}") from error


def register(root: typer.Typer) -> None:
    """Add the commands of this module, and what ``--causal`` asks for."""
    app.callback(invoke_without_command=True)(causal.causal)
    for name, (purpose, file) in _TASKS.items():
        app.command(name, help=f"{purpose}\n\nDATA: {file}")(_evaluate)
    app.command("layers")(layers)
    root.add_typer(app, name="evaluate")
