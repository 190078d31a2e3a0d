"""``alignstream onboard``: bring a language into an adapter, from no example to thousands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from alignstream.ops.cli.console import AsJson, console, print_json
from alignstream.ops.cli.fit_pairs import PAIRS_HELP, Overwrite, embed_pairs
from alignstream.ops.cli.inputs import Artifact, open_adapter, open_cache, read_own_texts

if TYPE_CHECKING:
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.data.pair_checks import PairVectors
    from alignstream.export.data.pairs import Pairs
    from alignstream.export.fit.language_examples import LanguageExamples
    from alignstream.export.fit.onboarding import Onboarded
    from alignstream.models.adapter.adapter import Adapter
    from alignstream.models.arrays import Matrix


def onboard(
    language: Annotated[str, typer.Argument(help="Tag of the language, such as 'yo' or 'zh-Hant'.")],
    *,
    text: Annotated[
        Path | None, typer.Option("--text", "-t", help="Texts of the language, a text a line.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option("--pairs", "-p", help=PAIRS_HELP)] = None,
    base: Annotated[
        str,
        typer.Option("--base", help="Adapter to add it to: 'shipped', a file, or a name in the registry."),
    ] = "shipped",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Adapter file to write.")] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="Publish it under this name in the registry.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take every step, even those that the gate refuses.")
    ] = False,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Bring a language into an adapter; each step passes the gate or falls back, and says why.

    Without text and pairs it borrows from related languages. Text gives it a prototype, pairs a correction of the
    map. Nothing is written or published where no step helps.
    """
    from alignstream.export.data.pair_checks import check_pairs
    from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
    from alignstream.export.fit.onboarding import onboard as bring_in
    from alignstream.models.adapter.languages import is_known_tag

    if not is_known_tag(language):
        raise typer.BadParameter(
            f"no registry knows the language {language!r}; for one without a code take qaa to qtz, which are private",
            param_hint="LANGUAGE",
        )
    if output is not None:
        check_adapter_output(output, overwrite=overwrite)
    translations = _translations(pairs, language)
    texts = [] if text is None else read_own_texts(text)
    cache, encoder, dim = open_cache(artifact)
    # Whoever published meanwhile is not overwritten.
    revision = _revision(base) if push is not None and push == base else None
    adapter = _base(base, encoder=encoder, dim=dim)
    vectors = None if translations is None else embed_pairs(cache, translations)
    if vectors is not None:
        check_pairs(vectors, adapter)
    examples = _examples(language, texts, vectors, cache, dim)
    onboarded = bring_in(adapter, examples, force=force)
    changed = onboarded.adapter.version != adapter.version
    pushed = None
    if changed and output is not None:
        write_adapter(onboarded.adapter, output, overwrite=overwrite)
    if changed and push is not None:
        from alignstream.ops.admin.publish import publish
        from alignstream.ops.cli.registry_output import show_fallen_back
        from alignstream.streams.settings import load

        published = publish(
            load(), push, onboarded.adapter.blob, note=f"onboarded {language}", force=force,
            expected_revision=revision,
        )  # fmt: skip
        show_fallen_back(published.fell_back)
        pushed = published.pointer
    if as_json:
        _print_json(onboarded, language, adapter, None if pushed is None else pushed.revision)
        return
    _print(onboarded, examples, adapter)
    if onboarded.adapter.version == adapter.version:
        console.print("the adapter stays as it is: nothing was written", highlight=False)
    elif output is not None:
        console.print(f"[bold]{output}[/] written", highlight=False, soft_wrap=True)
    if pushed is not None:
        console.print(f"[bold]{pushed.name}[/] is at revision {pushed.revision}", highlight=False)


def _print_json(onboarded: "Onboarded", language: str, base: "Adapter", revision: int | None) -> None:
    print_json(
        {
            "language": language,
            "changed": onboarded.adapter.version != base.version,
            "version": onboarded.adapter.version,
            "base": base.version,
            "steps": [
                {"name": step.name, "taken": step.is_taken, "reason": step.reason}
                for step in onboarded.attempts
            ],
            "figures": onboarded.figures,
            "attention": {"before": onboarded.attention[0], "after": onboarded.attention[1]},
            "revision": revision,
        }
    )


def _print(onboarded: "Onboarded", examples: "LanguageExamples", base: "Adapter") -> None:
    _show(examples, base.version, onboarded.adapter.version)
    for step in onboarded.attempts:
        mark = "[green]taken[/]  " if step.is_taken else "[yellow]not taken[/]"
        console.print(f"  {step.name:10} {mark} {escape(step.reason)}", highlight=False, soft_wrap=True)
    for name, (before, after) in onboarded.figures.items():
        console.print(
            f"  {name:12} {before:5.1f} -> {after:5.1f} (each pair with what the others gave)",
            highlight=False,
        )
    for name, attended in zip(("before", "after"), onboarded.attention, strict=True):
        if attended:
            weights = ", ".join(f"{tag} {weight:.0%}" for tag, weight in attended)
            console.print(f"  {name:12} its texts attend to {weights}", highlight=False, soft_wrap=True)


def _translations(path: Path | None, language: str) -> "Pairs | None":
    """Read pairs with the language as their source, whichever way round they stand."""
    from alignstream.export.data.pairs import read_pairs
    from alignstream.models.adapter.languages import same_language
    from alignstream.models.errors import TextError

    if path is None:
        return None
    pairs = read_pairs(path)
    if not same_language(pairs.source_language, language):
        pairs = read_pairs(path, target=pairs.source_language)
    if not same_language(pairs.source_language, language):
        raise TextError(
            f"{pairs.name}: pairs of {pairs.target_language} and {pairs.source_language}, but {language} is to be "
            "onboarded"
        )
    return pairs


def _examples(
    language: str, own_texts: list[str], vectors: "PairVectors | None", cache: "EmbeddingCache", dim: int
) -> "LanguageExamples":
    import numpy as np

    from alignstream.export.fit.language_examples import LanguageExamples

    empty = np.empty((0, dim), dtype=np.float32)
    unique = list(dict.fromkeys([*own_texts, *([] if vectors is None else vectors.pairs.source)]))
    part = f"onboard.{language}"
    texts = cache.embed_with_progress({part: unique}, title="encoding texts")[part] if unique else empty
    if vectors is None:
        return LanguageExamples(language, texts, empty, empty, "en", empty)
    pairs = vectors.pairs
    distractors = _distractors(cache, pairs.target_language, vectors.target)
    return LanguageExamples(
        language, texts, vectors.source, vectors.target, pairs.target_language, distractors
    )


def _revision(name: str) -> int | None:
    """Return the revision of a name in the registry, None where nothing is published under it."""
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    store = open_store(load())
    try:
        pointer = store.pointer("adapter", name)
    finally:
        store.close()
    return None if pointer is None else pointer.revision


def _base(base: str, *, encoder: str, dim: int) -> "Adapter":
    if base in {"shipped", "identity"} or Path(base).suffix == ".safetensors" or "/" in base:
        return open_adapter(base, encoder=encoder, dim=dim)
    from alignstream.models.adapter.adapter import from_bytes
    from alignstream.ops.admin.registry import fetch
    from alignstream.streams.settings import load

    return from_bytes(fetch(load(), "adapter", base)[1], encoder=encoder)


def _distractors(cache: "EmbeddingCache", language: str, targets: "Matrix") -> "Matrix":
    """Return vectors of unrelated texts in a language: those of the gate, else the pairs' own targets."""
    from alignstream.models.adapter.languages import language_key
    from alignstream.ops.admin.gate_texts import load_texts

    key = language_key(language)
    for tag in load_texts().languages:
        if language_key(tag) == key:
            texts = [translations.text[tag] for translations in load_texts().texts]
            return cache.embed_with_progress({f"distractors.{tag}": texts}, title="encoding")[
                f"distractors.{tag}"
            ]
    return targets


def _show(examples: "LanguageExamples", before: str, after: str) -> None:
    console.print(
        f"[bold]{examples.language}[/]: {len(examples.texts)} texts, {len(examples.source)} pairs; adapter {before} -> "
        f"{after}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("onboard")(onboard)
