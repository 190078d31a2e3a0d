"""``alignstream onboard``: bring a language into an adapter, from no example to thousands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from alignstream.ops.cli.console import AsJson, console, print_json
from alignstream.ops.cli.fit_pairs import PAIRS_HELP, Artifact, Overwrite, embed_pairs, open_cache, open_start

if TYPE_CHECKING:
    from alignstream.export.embedding_cache import EmbeddingCache
    from alignstream.export.onboard import Examples
    from alignstream.export.pairs import Pairs
    from alignstream.models.alignment.adapter import Adapter
    from alignstream.models.alignment.members import Matrix


def onboard(
    language: Annotated[str, typer.Argument(help="Tag of the language, such as 'yo' or 'zh-Hant'.")],
    *,
    text: Annotated[
        Path | None, typer.Option("--text", "-t", help="Texts of the language, a text a line.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option("--pairs", "-p", help=PAIRS_HELP)] = None,
    base: Annotated[
        str,
        typer.Option(
            "--base", help="The adapter that it joins: 'shipped', a file, or a name in the registry."
        ),
    ] = "shipped",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Adapter file to write.")] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="Publish it under this name in the registry.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Take every step, whatever the gate says.")] = False,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Bring a language into an adapter; each step passes the gate or falls back, and says why.

    Without text and pairs it borrows from related languages. Text gives it a prototype, pairs a correction of the
    map. Nothing is written or published where no step helps.
    """
    from alignstream.export.fit import check_output, write_adapter
    from alignstream.export.onboard import onboard as run

    if output is not None:
        check_output(output, overwrite=overwrite)
    translations = _translations(pairs, language)
    lines = _lines(text)
    cache, encoder, dim = open_cache(artifact)
    adapter = _base(base, encoder=encoder, dim=dim)
    examples = _examples(language, lines, translations, cache, dim)
    found = run(adapter, examples, force=force)
    changed = found.adapter.version != adapter.version
    pushed = None
    if changed and output is not None:
        write_adapter(found.adapter, output, overwrite=overwrite)
    if changed and push is not None:
        from alignstream.ops.adapters import push_adapter
        from alignstream.streams.settings import load

        note = f"onboarded {language}" + (" (forced past the gate)" if force else "")
        pushed = push_adapter(load(), push, found.adapter.blob, note=note)
    if as_json:
        print_json(
            {
                "language": language,
                "changed": changed,
                "version": found.adapter.version,
                "base": adapter.version,
                "steps": [
                    {"name": step.name, "taken": step.is_taken, "reason": step.reason} for step in found.steps
                ],
                "figures": found.figures,
                "revision": None if pushed is None else pushed.revision,
            }
        )
        return
    _show(examples, adapter.version, found.adapter.version)
    for step in found.steps:
        mark = "[green]taken[/]  " if step.is_taken else "[yellow]not taken[/]"
        console.print(f"  {step.name:10} {mark} {escape(step.reason)}", highlight=False, soft_wrap=True)
    for name, (before, after) in found.figures.items():
        console.print(f"  {name:12} {before:5.1f} -> {after:5.1f} on its own pairs", highlight=False)
    if not changed:
        console.print("the adapter stays as it is: nothing was written", highlight=False)
    elif output is not None:
        console.print(f"[bold]{output}[/] written", highlight=False, soft_wrap=True)
    if pushed is not None:
        console.print(f"[bold]{pushed.name}[/] is at revision {pushed.revision}", highlight=False)


def _translations(path: Path | None, language: str) -> "Pairs | None":
    """Read pairs with the language as their source, whichever way round they stand."""
    from alignstream.export.datasets import TextError
    from alignstream.export.pairs import read_pairs
    from alignstream.models.alignment.languages import language_key

    if path is None:
        return None
    pairs = read_pairs(path)
    if language_key(pairs.source_language) != language_key(language):
        pairs = read_pairs(path, target=pairs.source_language)
    if language_key(pairs.source_language) != language_key(language):
        raise TextError(
            f"{pairs.name}: pairs of {pairs.target_language} and {pairs.source_language}, but {language} is to be "
            "onboarded"
        )
    return pairs


def _lines(path: Path | None) -> list[str]:
    from alignstream.export.datasets import TextError, read_lines

    if path is None:
        return []
    lines = [line.strip() for _, line in read_lines(path) if line.strip()]
    if not lines:
        raise TextError(f"{path} holds no text")
    return lines


def _examples(
    language: str, lines: list[str], pairs: "Pairs | None", cache: "EmbeddingCache", dim: int
) -> "Examples":
    import numpy as np

    from alignstream.export.onboard import Examples

    empty = np.empty((0, dim), dtype=np.float32)
    unique = list(dict.fromkeys([*lines, *([] if pairs is None else pairs.source)]))
    texts = (
        cache.embed_with_progress({"onboard": unique}, title="encoding texts")["onboard"] if unique else empty
    )
    if pairs is None:
        return Examples(language, texts, empty, empty, "en", empty)
    vectors = embed_pairs(cache, pairs, "pairs")
    distractors = _distractors(cache, pairs.target_language, vectors.target)
    return Examples(language, texts, vectors.source, vectors.target, pairs.target_language, distractors)


def _base(base: str, *, encoder: str, dim: int) -> "Adapter":
    if base in {"shipped", "identity"} or Path(base).suffix == ".safetensors" or "/" in base:
        return open_start(base, encoder=encoder, dim=dim)
    from alignstream.models.alignment.adapter import from_bytes
    from alignstream.ops.adapters import fetch
    from alignstream.streams.settings import load

    return from_bytes(fetch(load(), "adapter", base)[1], encoder=encoder)


def _distractors(cache: "EmbeddingCache", language: str, targets: "Matrix") -> "Matrix":
    """Return vectors of unrelated texts in a language: those of the demonstration, else the pairs' own targets."""
    from alignstream.models.alignment.languages import language_key
    from alignstream.ops.demo.sample import load_sample

    key = language_key(language)
    for tag in load_sample().languages:
        if language_key(tag) == key:
            texts = [item.text[tag] for item in load_sample().texts]
            return cache.embed_with_progress({f"distractors.{tag}": texts}, title="encoding")[
                f"distractors.{tag}"
            ]
    return targets


def _show(examples: "Examples", before: str, after: str) -> None:
    console.print(
        f"[bold]{examples.language}[/]: {len(examples.texts)} texts, {len(examples.source)} pairs; adapter {before} -> "
        f"{after}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("onboard")(onboard)
