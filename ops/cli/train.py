"""``alignstream train``: refine the map of one language by gradient descent, with or without translations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alignstream.models.errors import ExtraMissing
from alignstream.ops.cli.console import AsJson, console, errors
from alignstream.ops.cli.fit_pairs import PAIRS_HELP, Output, Overwrite, Start, Target, embed_pairs
from alignstream.ops.cli.inputs import Artifact, open_adapter, open_cache, read_own_texts
from alignstream.ops.cli.outputs import print_fit, print_line

if TYPE_CHECKING:
    from alignstream.export.train.curves import Point
    from alignstream.export.train.trained_adapter import TrainedAdapter

Loss = Literal["contrastive", "ranking", "adversarial"]


def train(
    loss: Annotated[Loss, typer.Argument(help="Symmetric InfoNCE, translation ranking, or a discriminator.")],
    *,
    dev: Annotated[
        Path, typer.Option("--dev", help="Pairs to judge the result on, in the format of --pairs.")
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
    passes: Annotated[
        int,
        typer.Option("--passes", min=0, help="At most this many passes over the texts (training epochs)."),
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1)] = 0,
    device: Annotated[str | None, typer.Option("--device", help="Default: a GPU where there is one.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Folder for checkpoints; a run resumes from what is there."),
    ] = None,
    curves: Annotated[
        Path | None, typer.Option("--curves", help="Folder for curves.json and curves.png.")
    ] = None,
    artifact: Artifact = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Refine the map of one language by gradient descent; the best of start, closed form and refined map is written.

    Needs the export extra.
    """
    try:
        import torch  # noqa: F401 (the extra is there)
    except ImportError as error:
        raise ExtraMissing(
            "training needs torch: install the export extra, pip install 'alignstream[export]'"
        ) from error
    from alignstream.export.data.pairs import read_pairs
    from alignstream.export.fit.adapter_output import check_adapter_output, write_adapter
    from alignstream.export.train.curves import check_curves, write_curves
    from alignstream.export.train.unpaired_checks import check_texts

    is_paired = loss != "adversarial"
    has_texts = source is not None or target_text is not None
    if is_paired != (pairs is not None) or is_paired == has_texts:
        needed = "--pairs" if is_paired else "--source and --target-text"
        raise typer.BadParameter(f"{loss} needs {needed}, and no other texts to train on")
    check_adapter_output(output, overwrite=overwrite)
    if curves is not None:
        check_curves(curves)
    held_out = read_pairs(dev, target=target)
    cache, encoder, dim = open_cache(artifact)
    judged = embed_pairs(cache, held_out)
    base = open_adapter(start, encoder=encoder, dim=dim)
    trained: TrainedAdapter
    if pairs is not None and loss != "adversarial":
        from alignstream.export.data.pairs import check_overlap
        from alignstream.export.train.refine import PairConfig
        from alignstream.export.train.trained_adapter import train_on_pairs

        fit = read_pairs(pairs, target=held_out.target_language)
        check_overlap(fit, held_out)
        trained = train_on_pairs(
            loss, base, embed_pairs(cache, fit), judged, config=PairConfig(passes=passes, seed=seed),
            device=device, checkpoint=checkpoint, on_pass=_tell,
        )  # fmt: skip
    else:
        from alignstream.export.train.adversarial import AdversarialConfig
        from alignstream.export.train.trained_adapter import train_without_pairs

        if source is None or target_text is None:
            raise typer.BadParameter("adversarial needs --source and --target-text")
        named = {"train.source": read_own_texts(source), "train.target": read_own_texts(target_text)}
        check_texts(named["train.source"], named["train.target"], held_out)
        vectors = cache.embed_with_progress(named, title="encoding texts")
        trained = train_without_pairs(
            base, vectors["train.source"], vectors["train.target"], judged,
            config=AdversarialConfig(passes=passes, seed=seed), device=device, checkpoint=checkpoint, on_pass=_tell,
        )  # fmt: skip
    write_adapter(trained.adapter, output, overwrite=overwrite)
    if curves is not None:
        write_curves(trained.refined.curves, curves, title=loss, best_pass=trained.refined.best_pass)
    _show(trained, output, as_json=as_json)


def _show(trained: "TrainedAdapter", output: Path, *, as_json: bool) -> None:
    adapter = trained.adapter
    if as_json:
        print_fit(adapter, output)
        return
    console.print(
        f"[bold]{output}[/]  version {adapter.version}; on the development pairs the best is the "
        f"[bold]{trained.kept}[/], and the file holds it",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for name, figures in trained.figures.items():
        console.print(
            f"  {name:12} accuracy {figures['accuracy']:5.1f}  margin {figures['margin']:.4f}",
            highlight=False,
        )
    print_line(trained.refined.reason)


def _tell(point: "Point") -> None:
    """Say on standard error how a pass went: a run may take minutes, and may be stopped."""
    figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(point.figures.items()))
    errors.print(f"pass {point.number:3}  {figures}", highlight=False, soft_wrap=True)


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("train")(train)
