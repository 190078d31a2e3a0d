"""``alignstream fit ridge | procrustes | memory | self-learning``: make adapters from translations, or without."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from alignstream.ops.cli.console import AsJson, console, errors, print_json

if TYPE_CHECKING:
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.data.pair_checks import PairVectors
    from alignstream.export.data.pairs import Pairs
    from alignstream.export.fit.pair_adapter import FittedPairs, PairMethod
    from alignstream.models.adapter.adapter import Adapter

PAIRS_HELP = (
    "Translations: .tsv with a header of two language tags, .jsonl with source, target, source_language and "
    "target_language, .tmx, or the common beginning of Moses' two plain files."
)
PairsFile = Annotated[Path, typer.Option("--pairs", "-p", help=PAIRS_HELP)]
DevFile = Annotated[
    Path | None, typer.Option("--dev", help="Pairs to choose and to report on, laid out as --pairs.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Adapter file to write (.safetensors).")]
Start = Annotated[
    str,
    typer.Option("--start", help="What it starts from: 'shipped', 'identity', or an adapter file."),
]
Artifact = Annotated[
    Path | None,
    typer.Option("--artifact", help="Encoder artifact. Default: as configured, else the embedded one."),
]
Target = Annotated[str | None, typer.Option("--target", help="Which of the two languages is the target.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an adapter file that is there already.")
]


def open_start(start: str, *, encoder: str, dim: int) -> "Adapter":
    """Return the adapter that a fit starts from.

    Raises
    ------
    AdapterNotFound
        The package ships none for this encoder, or there is no such file.
    """
    from alignstream.models.adapter.adapter import from_bytes, identity
    from alignstream.models.adapter.shipped import packaged_adapter
    from alignstream.models.errors import AdapterNotFound

    if start == "identity":
        return identity(encoder, dim)
    if start == "shipped":
        found = packaged_adapter(encoder)
        if found is None:
            raise AdapterNotFound(
                "the package ships no adapter for this encoder; start from 'identity' or a file"
            )
        return found
    try:
        return from_bytes(Path(start).read_bytes(), encoder=encoder)
    except OSError as error:
        raise AdapterNotFound(f"cannot read the adapter {start}: {error.strerror}") from error


def open_cache(artifact: Path | None) -> "tuple[EmbeddingCache, str, int]":
    """Return the cache of vectors in front of the encoder, its fingerprint and its dimensions."""
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.encoders.embedded import cached_artifact
    from alignstream.models.encoder.onnx import OnnxEncoder
    from alignstream.streams import settings

    values = settings.load()
    with errors.status("loading the encoder"):
        folder = artifact or values.artifact or cached_artifact(values.cache_dir)
        encoder = OnnxEncoder(folder, threads=values.threads, max_batch_tokens=values.max_batch_tokens)
    cache = EmbeddingCache(
        values.cache_dir, fingerprint=encoder.fingerprint, dim=encoder.dim, encode=encoder.encode_texts
    )
    return cache, encoder.fingerprint, encoder.dim


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


def _warn(message: str) -> None:
    errors.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


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
    from alignstream.export.fit.default_adapter import check_output, write_adapter
    from alignstream.export.fit.pair_adapter import fit_pairs

    check_output(output, overwrite=overwrite)
    fit = read_pairs(pairs, target=target)
    held_out = read_pairs(dev, target=fit.target_language) if dev is not None else None
    if held_out is not None:
        check_overlap(fit, held_out)
    cache, encoder, dim = open_cache(artifact)
    if method == "memory":
        _check_memory(len(fit), dim)
    found = fit_pairs(
        method,
        open_start(start, encoder=encoder, dim=dim),
        embed_pairs(cache, fit),
        dev=None if held_out is None else embed_pairs(cache, held_out),
        warn=_warn,
        **options,
    )
    write_adapter(found.adapter, output, overwrite=overwrite)
    _show(found, output, as_json=as_json)


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


def _show(found: "FittedPairs", output: Path, *, as_json: bool) -> None:
    adapter = found.adapter
    if as_json:
        print_json(
            {"adapter": str(output), "version": adapter.version, "encoder": adapter.encoder, **adapter.report}
        )
        return
    report = adapter.report
    console.print(
        f"[bold]{output}[/]  version {adapter.version}, {len(adapter.blob) / 1000:.0f} kB; {report['pairs']} pairs "
        f"of {' and '.join(report['languages'])}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if "strength" in report:
        console.print(f"strength {report['strength']:g} ({report['strength_from']})", highlight=False)
    for name, (to_target, from_target) in found.figures.items():
        console.print(
            f"  {name:8} to target {to_target:5.1f}  from target {from_target:5.1f}", highlight=False
        )
    if not found.figures:
        console.print("no development pairs, so nothing was measured: give --dev", highlight=False)
    elif sum(found.figures["adapter"]) < sum(found.figures["start"]):
        _warn("on the development pairs it is worse than what it started from; keep the start")


def ridge(
    *,
    pairs: PairsFile,
    output: Output,
    start: Start = "shipped",
    dev: DevFile = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="λ. Default: chosen on --dev; without it 3.", min=1e-6, max=1e6),
    ] = None,
    target: Target = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit a map to translations, shrunk toward the map that it starts from; with few pairs it stays near it."""
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
    from alignstream.export.fit.default_adapter import check_output, write_adapter
    from alignstream.export.fit.pair_adapter import fit_unpaired
    from alignstream.models.adapter.languages import same_language
    from alignstream.models.errors import TextError

    check_output(output, overwrite=overwrite)
    texts = read_texts(text).by_language
    targets = [language for language in texts if same_language(language, target)]
    if len(texts) != 2 or len(targets) != 1:
        raise TextError(
            f"texts of two languages are needed, one of them {target!r}, but there are: {', '.join(texts)}"
        )
    target = targets[0]
    source = next(language for language in texts if language != target)
    if len(same := set(texts[source]) & set(texts[target])) > min(map(len, texts.values())) // 2:
        raise TextError(f"{len(same)} texts stand on both sides; is one file a copy of the other?")
    cache, encoder, dim = open_cache(artifact)
    vectors = cache.embed_with_progress(
        {f"fit.{name}": lines for name, lines in texts.items()}, title="encoding"
    )
    adapter = fit_unpaired(
        open_start(start, encoder=encoder, dim=dim),
        vectors[f"fit.{source}"],
        vectors[f"fit.{target}"],
        (source, target),
        strength=strength,
    )
    write_adapter(adapter, output, overwrite=overwrite)
    if as_json:
        print_json(
            {"adapter": str(output), "version": adapter.version, "encoder": adapter.encoder, **adapter.report}
        )
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
