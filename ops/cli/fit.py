"""``alignstream fit``: make adapters from texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignstream.ops.cli import fit_pairs
from alignstream.ops.cli.console import AsJson, console, warn
from alignstream.ops.cli.fit_pairs import Output, Overwrite
from alignstream.ops.cli.inputs import Artifact, open_cache
from alignstream.ops.cli.outputs import print_fit, print_line

if TYPE_CHECKING:
    from alignstream.export.data.parallel import Parallel
    from alignstream.export.data.texts import Texts
    from alignstream.export.evaluate.set_report import SetReport
    from alignstream.models.arrays import Matrix

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _fit() -> None:
    """Make adapters from texts."""


@app.command()
def default(
    *,
    text: Annotated[
        list[Path],
        typer.Option(
            "--text",
            "-t",
            help="Texts by language; may be given several times. A folder of <language>.txt, "
            "a .jsonl with language and text, or lines of language<TAB>text.",
        ),
    ],
    output: Output,
    artifact: Artifact = None,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank",
            help="Directions to remove. Default: chosen on --dev, or else 15, at most half the languages.",
        ),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(
            "--dev",
            help="Parallel texts to choose the rank on: a header of language tags, then a tab-separated row "
            "a line. Retrieval is measured to and from the first language.",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Parallel texts to report on only, laid out as for --dev."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit the default adapter (centre and low-rank projection) on monolingual texts; needs no pairs, no torch.

    A hundred texts of each language are plenty. Translations of the same texts are best: otherwise differences in
    topic count as differences between languages.
    """
    if rank is not None and dev is not None:
        raise typer.BadParameter("give --rank or --dev, not both: --dev is there to choose the rank")
    from alignstream.export.data.parallel import check_no_overlap, read_parallel
    from alignstream.export.data.texts import read_texts
    from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
    from alignstream.export.fit.default_adapter import fit_from_texts

    check_adapter_output(output, overwrite=overwrite)
    texts = read_texts(text)
    _warn_repeated(texts)
    dev_texts: Parallel | None = read_parallel(dev) if dev else None
    test_texts: Parallel | None = read_parallel(test) if test else None
    if dev_texts is not None and test_texts is not None:
        check_no_overlap(dev_texts, test_texts)
    cache, encoder, _ = open_cache(artifact)
    adapter, reports = fit_from_texts(
        texts, cache, encoder=encoder, rank=rank, dev=dev_texts, test=test_texts
    )
    write_adapter(adapter, output, overwrite=overwrite)
    if as_json:
        print_fit(adapter, output)
        return
    report: dict[str, Any] = dict(adapter.report)
    sizes = report["texts"].values()
    console.print(
        f"[bold]{output}[/]  version {adapter.version}, {len(adapter.blob) / 1000:.0f} kB\n"
        f"{len(sizes)} languages, {min(sizes)} to {max(sizes)} texts each; "
        f"rank {report['rank']} ({report['rank_from']})",
        highlight=False,
        soft_wrap=True,
    )
    if report["trials"]:
        tried = ", ".join(f"{rank}: {score:.1f}" for rank, score in report["trials"])
        print_line(f"score by rank: {tried}")
    _print_sets(reports)


@app.command()
def attention(
    *,
    text: Annotated[
        list[Path],
        typer.Option("--text", "-t", help="Texts by language, laid out as for 'fit default'."),
    ],
    output: Output,
    parallel: Annotated[
        Path | None,
        typer.Option(
            "--parallel",
            help="Translations for the pooled map: a header of language tags, then a tab-separated row a line. "
            "The first language is the one that the others are mapped to.",
        ),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option("--dev", help="Parallel texts to choose settings on, laid out as --parallel."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Parallel texts to report on only, laid out as --parallel.")
    ] = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit attention over language prototypes, and a map pooled over translations: the method of the shipped adapter.

    Text alone gives the prototypes; translations, in any of the languages, give a map that serves all of them.
    """
    from alignstream.export.data.parallel import MAX_POOL_TEXTS, check_no_overlap, check_rows, read_parallel
    from alignstream.export.data.texts import read_texts
    from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
    from alignstream.export.fit.attention_adapter import ParallelVectors, fit_attention

    check_adapter_output(output, overwrite=overwrite)
    texts = read_texts(text)
    _warn_repeated(texts)
    # All rows are fitted on; those that are judged are compared all with all, and thinned where they are many.
    read = [
        read_parallel(path, limit=limit) if path is not None else None
        for path, limit in ((parallel, None), (dev, MAX_POOL_TEXTS), (test, MAX_POOL_TEXTS))
    ]
    given = [texts_of_file for texts_of_file in read if texts_of_file is not None]
    for position, texts_of_file in enumerate(given):
        check_rows(texts_of_file)
        for earlier in given[:position]:
            check_no_overlap(earlier, texts_of_file)
    cache, encoder, _ = open_cache(artifact)

    def embed(part: str, by_language: dict[str, list[str]]) -> "dict[str, Matrix]":
        named = {f"{part}.{tag}": lines for tag, lines in by_language.items()}
        vectors = cache.embed_with_progress(named, title=f"encoding {part} texts")
        return {tag: vectors[f"{part}.{tag}"] for tag in by_language}

    def embed_parallel(lines: "Parallel") -> ParallelVectors:
        vectors = embed(f"parallel.{lines.name}", lines.by_language)
        return ParallelVectors(lines.name, lines.pivot, vectors, lines.lines)

    sets = [None if lines is None else embed_parallel(lines) for lines in read]
    adapter, reports = fit_attention(
        embed("fit", texts.by_language), encoder=encoder, parallel=sets[0], dev=sets[1], test=sets[2]
    )
    write_adapter(adapter, output, overwrite=overwrite)
    if as_json:
        print_fit(adapter, output)
        return
    report: dict[str, Any] = dict(adapter.report)
    console.print(
        f"[bold]{output}[/]  version {adapter.version}, {len(adapter.blob) / 1000:.0f} kB; {len(report['texts'])} "
        f"languages, {report['parallel_lines']} parallel lines; common {report['common']:g}"
        + (f", strength {report['strength']:g}" if report["strength"] is not None else "")
        + f" ({report['settings_from']})",
        highlight=False,
        soft_wrap=True,
    )
    _print_sets(reports)


def _warn_repeated(texts: "Texts") -> None:
    if texts.n_repeated:
        total = sum(texts.n_repeated.values())
        where = ", ".join(f"{language} {count}" for language, count in sorted(texts.n_repeated.items()))
        warn(f"{total} repeated texts counted once ({where})")


def _print_sets(reports: "list[SetReport]") -> None:
    for report in reports:
        _print_set(report)
    if not reports:
        console.print("no parallel texts, so nothing was measured: give --dev or --test", highlight=False)


def _print_set(report: "SetReport") -> None:
    from rich.table import Table

    table = Table(title=f"{report.name}: raw to adapter ({report.use})", title_justify="left")
    table.add_column("language")
    for name in report.measures:
        table.add_column(name, justify="right")
    table.add_column("neighbours kept", justify="right")
    for language in sorted(report.kept):
        cells = [
            f"{by_language[language].raw:.1f} → {by_language[language].adapter:.1f}"
            if language in by_language
            else ""
            for by_language in report.measures.values()
        ]
        table.add_row(language, *cells, f"{report.kept[language]:.1f}")
    table.add_section()
    means = [report.mean(name) for name in report.measures]
    mean_cells = [f"{mean.raw:.1f} → {mean.adapter:.1f}" for mean in means]
    table.add_row("mean", *mean_cells, f"{report.mean_kept:.1f}", style="bold")
    counts = [f"{len(report.wins(name))} / {len(report.losses(name))}" for name in report.measures]
    table.add_row("wins / losses", *counts, "")
    console.print(table)


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    fit_pairs.add_to(app)
    root.add_typer(app, name="fit", help="Make adapters from texts.")
