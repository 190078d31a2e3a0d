"""``alignstream train``: refine a map on translations, or without, where a loss is wanted. Needs torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from alignstream.ops.cli.console import AsJson, console, errors, print_json
from alignstream.ops.cli.export import ExtraMissing
from alignstream.ops.cli.fit_pairs import (
    PAIRS_HELP,
    Artifact,
    Output,
    Overwrite,
    Start,
    Target,
    embed_pairs,
    open_cache,
    open_start,
)

if TYPE_CHECKING:
    from alignstream.export.training.curves import Point
    from alignstream.export.training.loop import Refined
    from alignstream.models.alignment.adapter import Adapter

Loss = Literal["contrastive", "ranking", "adversarial"]


def train(
    loss: Annotated[Loss, typer.Argument(help="Symmetric InfoNCE, translation ranking, or a discriminator.")],
    *,
    dev: Annotated[
        Path, typer.Option("--dev", help="Pairs that the result is judged on, laid out as --pairs.")
    ],
    output: Output,
    pairs: Annotated[Path | None, typer.Option("--pairs", "-p", help=PAIRS_HELP)] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="adversarial: texts in the source language, a text a line."),
    ] = None,
    target_text: Annotated[
        Path | None, typer.Option("--target-text", help="adversarial: texts in the target language.")
    ] = None,
    start: Start = "shipped",
    target: Target = None,
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="At most.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: Annotated[str | None, typer.Option("--device", help="Default: a GPU where there is one.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Folder that the run is kept in, and goes on from.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option("--curves", help="Folder for curves.json and curves.png.")
    ] = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Refine a map of one language by a loss, from the closed form on; it is kept only if --dev improves."""
    try:
        import torch  # noqa: F401 (the extra is there)
    except ImportError as error:
        raise ExtraMissing(
            "training needs torch: install the export extra, pip install 'alignstream[export]'"
        ) from error
    from alignstream.export.fit import check_output, write_adapter
    from alignstream.export.pairs import read_pairs
    from alignstream.export.training.curves import write_curves

    is_paired = loss != "adversarial"
    has_texts = source is not None or target_text is not None
    if is_paired != (pairs is not None) or is_paired == has_texts:
        needed = "--pairs" if is_paired else "--source and --target-text"
        raise typer.BadParameter(f"{loss} needs {needed}, and no other texts to train on")
    check_output(output, overwrite=overwrite)
    held_out = read_pairs(dev, target=target)
    cache, encoder, dim = open_cache(artifact)
    judged = embed_pairs(cache, held_out, "dev-pairs")
    base = open_start(start, encoder=encoder, dim=dim)
    adapter: Adapter
    refined: Refined
    if pairs is not None and loss != "adversarial":
        from alignstream.export.pairs import check_overlap
        from alignstream.export.training.adapters import train_on_pairs
        from alignstream.export.training.refine import PairConfig

        fit = read_pairs(pairs, target=held_out.target_language)
        check_overlap(fit, held_out)
        adapter, refined = train_on_pairs(
            loss, base, embed_pairs(cache, fit, "pairs"), judged, config=PairConfig(epochs=epochs, seed=seed),
            device=device, checkpoint=checkpoint, on_epoch=_tell,
        )  # fmt: skip
    else:
        from alignstream.export.training.adapters import train_without_pairs
        from alignstream.export.training.adversarial import AdversarialConfig

        named = {"train.source": _lines(source), "train.target": _lines(target_text)}
        vectors = cache.embed_with_progress(named, title="encoding texts")
        adapter, refined = train_without_pairs(
            base, vectors["train.source"], vectors["train.target"], judged,
            config=AdversarialConfig(epochs=epochs, seed=seed), device=device, checkpoint=checkpoint, on_epoch=_tell,
        )  # fmt: skip
    write_adapter(adapter, output, overwrite=overwrite)
    if curves is not None:
        write_curves(refined.curves, curves, title=loss, best_epoch=refined.best_epoch)
    if as_json:
        print_json(
            {"adapter": str(output), "version": adapter.version, "encoder": adapter.encoder, **adapter.report}
        )
        return
    verdict = (
        "[green]kept[/]" if refined.accepted else "[yellow]not kept: the map is that of the closed form[/]"
    )
    console.print(
        f"[bold]{output}[/]  version {adapter.version}; {verdict}; {escape(refined.reason)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _tell(point: "Point") -> None:
    """Say on standard error how an epoch went: a run may take minutes, and may be stopped."""
    figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(point.figures.items()))
    errors.print(f"epoch {point.epoch:3}  {figures}", highlight=False, soft_wrap=True)


def _lines(path: Path | None) -> list[str]:
    from alignstream.export.datasets import TextError, read_lines

    if path is None:
        raise typer.BadParameter("adversarial needs --source and --target-text")
    lines = list(dict.fromkeys(line.strip() for _, line in read_lines(path) if line.strip()))
    if not lines:
        raise TextError(f"{path} holds no text")
    return lines


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("train")(train)
