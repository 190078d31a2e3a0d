"""``alignstream train``: refine a map on translations, or without, where a loss is wanted. Needs torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from alignstream.models.errors import ExtraMissing
from alignstream.ops.cli.console import AsJson, console, errors, print_json
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
    from alignstream.export.train.curves import Point
    from alignstream.export.train.trained_adapter import Trained

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
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1)] = 0,
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
    """Refine a map of one language by a loss; of start, closed form and refined map the best on --dev is written."""
    try:
        import torch  # noqa: F401 (the extra is there)
    except ImportError as error:
        raise ExtraMissing(
            "training needs torch: install the export extra, pip install 'alignstream[export]'"
        ) from error
    from alignstream.export.data.pairs import read_pairs
    from alignstream.export.fit.default_adapter import check_output, write_adapter
    from alignstream.export.train.curves import check_curves, write_curves
    from alignstream.export.train.unpaired_checks import check_texts

    is_paired = loss != "adversarial"
    has_texts = source is not None or target_text is not None
    if is_paired != (pairs is not None) or is_paired == has_texts:
        needed = "--pairs" if is_paired else "--source and --target-text"
        raise typer.BadParameter(f"{loss} needs {needed}, and no other texts to train on")
    check_output(output, overwrite=overwrite)
    if curves is not None:
        check_curves(curves)
    held_out = read_pairs(dev, target=target)
    cache, encoder, dim = open_cache(artifact)
    judged = embed_pairs(cache, held_out)
    base = open_start(start, encoder=encoder, dim=dim)
    found: Trained
    if pairs is not None and loss != "adversarial":
        from alignstream.export.data.pairs import check_overlap
        from alignstream.export.train.refine import PairConfig
        from alignstream.export.train.trained_adapter import train_on_pairs

        fit = read_pairs(pairs, target=held_out.target_language)
        check_overlap(fit, held_out)
        found = train_on_pairs(
            loss, base, embed_pairs(cache, fit), judged, config=PairConfig(epochs=epochs, seed=seed),
            device=device, checkpoint=checkpoint, on_epoch=_tell,
        )  # fmt: skip
    else:
        from alignstream.export.train.adversarial import AdversarialConfig
        from alignstream.export.train.trained_adapter import train_without_pairs

        named = {"train.source": _lines(source), "train.target": _lines(target_text)}
        check_texts(named["train.source"], named["train.target"], held_out)
        vectors = cache.embed_with_progress(named, title="encoding texts")
        found = train_without_pairs(
            base, vectors["train.source"], vectors["train.target"], judged,
            config=AdversarialConfig(epochs=epochs, seed=seed), device=device, checkpoint=checkpoint, on_epoch=_tell,
        )  # fmt: skip
    write_adapter(found.adapter, output, overwrite=overwrite)
    if curves is not None:
        write_curves(found.refined.curves, curves, title=loss, best_epoch=found.refined.best_epoch)
    _show(found, output, as_json=as_json)


def _show(found: "Trained", output: Path, *, as_json: bool) -> None:
    adapter = found.adapter
    if as_json:
        print_json(
            {"adapter": str(output), "version": adapter.version, "encoder": adapter.encoder, **adapter.report}
        )
        return
    console.print(
        f"[bold]{output}[/]  version {adapter.version}; on the development pairs the best is the "
        f"[bold]{found.kept}[/], and the file holds it",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for name, figures in found.figures.items():
        console.print(
            f"  {name:12} accuracy {figures['accuracy']:5.1f}  margin {figures['margin']:.4f}",
            highlight=False,
        )
    console.print(escape(found.refined.reason), highlight=False, soft_wrap=True)


def _tell(point: "Point") -> None:
    """Say on standard error how an epoch went: a run may take minutes, and may be stopped."""
    figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(point.figures.items()))
    errors.print(f"epoch {point.epoch:3}  {figures}", highlight=False, soft_wrap=True)


def _lines(path: Path | None) -> list[str]:
    from alignstream.export.data.texts import read_lines
    from alignstream.models.errors import TextError

    if path is None:
        raise typer.BadParameter("adversarial needs --source and --target-text")
    lines = list(dict.fromkeys(line.strip() for _, line in read_lines(path) if line.strip()))
    if not lines:
        raise TextError(f"{path} holds no text")
    return lines


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("train")(train)
