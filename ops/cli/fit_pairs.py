"""``alignstream fit ridge | procrustes | memory | self-learning``: make adapters from translations, or without."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignstream.ops.cli.console import AsJson, console, warn
from alignstream.ops.cli.inputs import Artifact, open_adapter, open_cache
from alignstream.ops.cli.outputs import print_fit

if TYPE_CHECKING:
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.data.pair_checks import PairVectors
    from alignstream.export.data.pairs import Pairs
    from alignstream.export.fit.pair_adapter import FittedPairs, PairMethod

PAIRS_HELP = (
    "Translations: .tsv with a header of two language tags, .jsonl with source, target, source_language and "
    "target_language, .tmx, or the common prefix of two plain files (Moses)."
)
PairsFile = Annotated[Path, typer.Option("--pairs", "-p", help=PAIRS_HELP)]
DevFile = Annotated[
    Path | None,
    typer.Option("--dev", help="Pairs to choose settings on and to report on, in the format of --pairs."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Adapter file to write (.safetensors).")]
Start = Annotated[
    str,
    typer.Option("--start", help="Adapter to start from: 'shipped', 'identity', or a file."),
]
Target = Annotated[str | None, typer.Option("--target", help="Which of the two languages is the target.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing adapter file.")]


def embed_pairs(cache: "EmbeddingCache", pairs: "Pairs") -> "PairVectors":
    """Return pairs with their vectors."""
    from alignstream.export.data.pair_checks import PairVectors

    # A set of its own for each file and language: one set for all would grow, and be read whole, for ever.
    source, target = (
        f"pairs.{side}.{language}.{pairs.name}"
        for side, language in (("source", pairs.source_language), ("target", pairs.target_language))
    )
    vectors = cache.embed_with_progress(
        {source: pairs.source, target: pairs.target}, title=f"encoding {Path(pairs.name).name}"
    )
    return PairVectors(pairs, vectors[source], vectors[target])


def _fit(
    method: "PairMethod",
    *,
    pairs: Path,
    output: Path,
    start: str,
    dev: Path | None,
    target: str | None,
    artifact: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 (strength or blend)
) -> None:
    from alignstream.export.data.pairs import check_overlap, read_pairs
    from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
    from alignstream.export.fit.pair_adapter import fit_pairs

    check_adapter_output(output, overwrite=overwrite)
    fit = read_pairs(pairs, target=target)
    held_out = read_pairs(dev, target=fit.target_language) if dev is not None else None
    if held_out is not None:
        check_overlap(fit, held_out)
    cache, encoder, dim = open_cache(artifact)
    if method == "memory":
        _check_memory(len(fit), dim)
    fitted = fit_pairs(
        method,
        open_adapter(start, encoder=encoder, dim=dim),
        embed_pairs(cache, fit),
        dev=None if held_out is None else embed_pairs(cache, held_out),
        warn=warn,
        **options,
    )
    write_adapter(fitted.adapter, output, overwrite=overwrite)
    _show(fitted, output, as_json=as_json)


def _check_memory(n_pairs: int, dim: int) -> None:
    """Refuse a memory that no adapter file could hold, before anything is encoded."""
    from alignstream.models.adapter.adapter_file import MAX_ADAPTER_BYTES
    from alignstream.models.errors import AdapterError

    # Keys and values, float32; a quarter is left for what comes before.
    most = MAX_ADAPTER_BYTES * 3 // 4 // (8 * dim)
    if n_pairs > most:
        raise AdapterError(
            f"{n_pairs} pairs are more than the {most} that a memory of {dim} dimensions holds within an adapter's "
            f"{MAX_ADAPTER_BYTES // 2**20} MiB; take the most important ones, or 'fit ridge'"
        )


def _show(fitted: "FittedPairs", output: Path, *, as_json: bool) -> None:
    adapter = fitted.adapter
    if as_json:
        print_fit(adapter, output)
        return
    report = adapter.report
    console.print(
        f"[bold]{output}[/]  version {adapter.version}, {len(adapter.blob) / 1000:.0f} kB; {report['pairs']} pairs "
        f"of {' and '.join(report['languages'])}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if "strength" in report:
        console.print(f"strength {report['strength']:g} ({report['strength_from']})", highlight=False)
    for name, (to_target, from_target) in fitted.figures.items():
        console.print(
            f"  {name:8} to target {to_target:5.1f}  from target {from_target:5.1f}", highlight=False
        )
    if not fitted.figures:
        console.print("no development pairs, so nothing was measured: give --dev", highlight=False)
    elif sum(fitted.figures["adapter"]) < sum(fitted.figures["start"]):
        warn("on the development pairs it is worse than what it started from; keep the start")


def ridge(
    *,
    pairs: PairsFile,
    output: Output,
    start: Start = "shipped",
    dev: DevFile = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", help="λ of the ridge. Default: chosen on --dev, or else 3.", min=1e-6, max=1e6
        ),
    ] = None,
    target: Target = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit a map to translations, shrunk toward the adapter that it starts from: few pairs change little."""
    _fit(
        "ridge", pairs=pairs, output=output, start=start, dev=dev, target=target, artifact=artifact,
        overwrite=overwrite, as_json=as_json, strength=strength,
    )  # fmt: skip


def procrustes(
    *,
    pairs: PairsFile,
    output: Output,
    start: Start = "shipped",
    dev: DevFile = None,
    blend: Annotated[
        float,
        typer.Option(
            "--blend", help="Share of the orthogonal map; the rest is the identity.", min=0.0, max=1.0
        ),
    ] = 0.5,
    target: Target = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit an orthogonal map to translations, blended with the identity; it needs thousands of pairs."""
    _fit(
        "procrustes", pairs=pairs, output=output, start=start, dev=dev, target=target, artifact=artifact,
        overwrite=overwrite, as_json=as_json, blend=blend,
    )  # fmt: skip


def memory(
    *,
    pairs: PairsFile,
    output: Output,
    start: Start = "shipped",
    dev: DevFile = None,
    target: Target = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Put translations into a memory that vectors attend to: nothing is fitted, each pair counts at once."""
    _fit(
        "memory", pairs=pairs, output=output, start=start, dev=dev, target=target, artifact=artifact,
        overwrite=overwrite, as_json=as_json,
    )  # fmt: skip


def self_learning(
    *,
    text: Annotated[
        list[Path],
        typer.Option("--text", "-t", help="Texts of exactly two languages, laid out as for 'fit default'."),
    ],
    output: Output,
    target: Annotated[str, typer.Option("--target", help="Which of the two languages is the target.")] = "en",
    start: Start = "shipped",
    strength: Annotated[float, typer.Option("--strength", help="λ of the ridge.", min=1e-6, max=1e6)] = 1.0,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit a map without pairs: mutual nearest neighbours of comparable texts stand in for translations.

    It first estimates whether the texts are comparable at all, and refuses when they are not.
    """
    from alignstream.export.data.texts import read_texts
    from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
    from alignstream.export.fit.pair_adapter import fit_unpaired
    from alignstream.models.adapter.languages import same_language
    from alignstream.models.errors import TextError

    check_adapter_output(output, overwrite=overwrite)
    texts = read_texts(text).by_language
    targets = [language for language in texts if same_language(language, target)]
    if len(texts) != 2 or len(targets) != 1:
        raise TextError(
            f"texts of two languages are needed, one of them {target!r}, but there are: {', '.join(texts)}"
        )
    target = targets[0]
    source = next(language for language in texts if language != target)
    if len(same := set(texts[source]) & set(texts[target])) > min(map(len, texts.values())) // 2:
        raise TextError(f"{len(same)} texts are on both sides; is one file a copy of the other?")
    cache, encoder, dim = open_cache(artifact)
    vectors = cache.embed_with_progress(
        {f"fit.{name}": lines for name, lines in texts.items()}, title="encoding"
    )
    adapter = fit_unpaired(
        open_adapter(start, encoder=encoder, dim=dim),
        vectors[f"fit.{source}"],
        vectors[f"fit.{target}"],
        (source, target),
        strength=strength,
    )
    write_adapter(adapter, output, overwrite=overwrite)
    if as_json:
        print_fit(adapter, output)
        return
    report = adapter.report
    console.print(
        f"[bold]{output}[/]  version {adapter.version}; {report['comparable']:.0%} of the texts have a translation on "
        f"the other side; pairs found in each round: {', '.join(map(str, report['pairs_by_round']))}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``alignstream fit``."""
    app.command("ridge")(ridge)
    app.command("procrustes")(procrustes)
    app.command("memory")(memory)
    app.command("self-learning")(self_learning)
