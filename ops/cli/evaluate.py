"""``alignstream evaluate``: judge an adapter against raw cosine, task by task."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alignstream.models.errors import AlignstreamError
from alignstream.ops.cli.console import AsJson, console, errors, print_json
from alignstream.ops.cli.export import ExtraMissing

if TYPE_CHECKING:
    from alignstream.export.evaluation.layers import LayerReport
    from alignstream.export.evaluation.report import Evaluation, MeasureResult
    from alignstream.export.evaluation.session import Session

#: Top-level packages of the export extra: one of them missing means that the extra is not installed.
_EXTRA: Final = frozenset({"huggingface_hub", "optimum", "torch", "transformers"})
#: Lines of each language that layers are compared on, unless told otherwise.
_LAYER_LINES: Final = 100
_VARIABLE: Final = "ALIGNSTREAM_DATA"

_PARALLEL_HELP: Final = "Parallel text: TSV with a header of language tags, then a row a line."
_LABELLED_HELP: Final = "Labelled text: JSON lines with text, language and label."
#: Each task with what it measures and the file that it reads.
_TASKS: Final = {
    "retrieval": ("Find translations by the nearest vector, to the pivot and back.", _PARALLEL_HELP),
    "pool": ("Find all translations of a text in one pool of all languages.", _PARALLEL_HELP),
    "labels": ("Zero-shot labels: the nearest label text.", _LABELLED_HELP),
    "head": ("A classifier trained on one language, applied to all.", _LABELLED_HELP),
    "terms": ("Find a term's translation in the other list, both ways.", f"Terms as p{_PARALLEL_HELP[1:]}"),
    "words": (
        "Word alignment by token vectors, F1 against gold links.",
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
    from alignstream.export.evaluation.run import DEFAULT_LIMIT, check, evaluate
    from alignstream.export.evaluation.session import Data
    from alignstream.export.evaluation.sets import Choice

    task = context.command.name or ""
    root = os.environ.get(_VARIABLE)
    if limit is None and data is None:
        limit = DEFAULT_LIMIT
    wanted = None if languages is None else [tag.strip() for tag in languages.split(",") if tag.strip()]
    texts = Data(
        path=data,
        train=train,
        alignments=alignments,
        root=Path(root) if root else None,
        names=tuple(set_ or ()),
        choice=Choice(languages=wanted, pivot=pivot, limit=limit),
    )
    check(task, texts)
    session = _session(adapter, artifact, uses_tags=not no_tags, seed=seed, template=template)
    found = evaluate(session, task, texts)
    if markdown is not None:
        _write(markdown, found.to_markdown())
    if png is not None:
        from alignstream.export.evaluation.chart import write_png

        write_png(found, png)
    if as_json:
        print_json(found.to_json())
        return
    _print(found, by_language=by_language)


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
    as_json: AsJson = False,
) -> None:
    """Compare hidden layers and poolings of an encoder before it is exported. Needs the export extra."""
    from alignstream.export.evaluation.formats import limited, read_parallel

    texts = limited(read_parallel(data, pivot=pivot), limit)
    try:
        from alignstream.export.evaluation.layers import compare_layers
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise ExtraMissing(
            f"'evaluate layers' needs {error.name}, which is not installed: pip install 'alignstream[export]'"
        ) from error
    with errors.status(f"comparing the layers of {model}"):
        report = compare_layers(
            model, texts, poolings=[item.strip() for item in poolings.split(",") if item.strip()]
        )
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
        return
    _print_layers(report)


def _session(
    adapter: str, artifact: Path | None, *, uses_tags: bool, seed: int, template: str | None
) -> "Session":
    from alignstream.export.embedded import cached_artifact
    from alignstream.export.embedding_cache import EmbeddingCache
    from alignstream.export.evaluation.session import Session
    from alignstream.export.sources import TEMPLATE
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
    )


def _print(found: "Evaluation", *, by_language: bool) -> None:
    from rich.markup import escape

    from alignstream.export.evaluation.report import KINDS, LEGEND, facts, heading

    console.print(escape(found.headline()), highlight=False, soft_wrap=True)
    for task in found.tasks:
        console.print(f"\n[bold]{escape(heading(task))}[/]", highlight=False)
        console.print(escape(facts(task)), highlight=False, soft_wrap=True)
        for measure in task.measures:
            _print_measure(measure, by_language=by_language)
    console.print()
    for kind in KINDS:
        console.print(f"{kind}: {LEGEND[kind]}", highlight=False, soft_wrap=True)


def _print_measure(measure: "MeasureResult", *, by_language: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from alignstream.export.evaluation.report import HEADINGS, language_rows, summary_rows

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

    table = Table(
        title=f"{escape(report.model)} on {escape(report.set)}: {len(report.languages)} languages, {report.n_lines} "
        f"lines each, pivot {report.pivot}; raw cosine, means over languages in points",
        title_justify="left",
    )
    table.add_column("pooling")
    for name in ("layer", "to pivot", "from pivot", "mixed pool", "score"):
        table.add_column(name, justify="right")
    for item in sorted(report.results, key=lambda item: item.pooling):
        figures = (item.to_pivot, item.from_pivot, item.mixed_pool, item.score)
        style = "bold" if item == report.best else None
        table.add_row(item.pooling, str(item.layer), *(f"{figure:.1f}" for figure in figures), style=style)
    console.print(table, highlight=False)
    console.print(
        f"best: layer {report.best.layer} with {report.best.pooling} pooling (half retrieval, half mixed pool)\n"
        f"{escape(report.command)}",
        highlight=False,
        soft_wrap=True,
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AlignstreamError(f"cannot write {path}: {error.strerror or error}") from error


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, (purpose, file) in _TASKS.items():
        app.command(name, help=f"{purpose}\n\nDATA: {file}")(_evaluate)
    app.command("layers")(layers)
    root.add_typer(app, name="evaluate", help="Judge an adapter against raw cosine, task by task.")
