"""From pairs to an adapter: a refiner starts where the closed form ends, and is kept only if it is better."""

import dataclasses
from pathlib import Path
from typing import Any, Final

import numpy as np

from alignstream.export.data.pair_checks import PairVectors, check_dev, check_pairs
from alignstream.export.fit.pair_adapter import centred, checked_key, with_correction
from alignstream.export.train import judge
from alignstream.export.train.adversarial import AdversarialConfig, refine_unpaired
from alignstream.export.train.loop import OnPass, Refined
from alignstream.export.train.refine import PairConfig, PairLoss, refine
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError
from alignstream.models.fit.closed_form import PairSums, ridge

#: λ of the ridge that the pair losses start from.
START_STRENGTH: Final = 1.0


@dataclasses.dataclass(frozen=True)
class TrainedAdapter:
    """An adapter and how it came about.

    Parameters
    ----------
    adapter : Adapter
        The best on development pairs of three: the start, the closed form behind it, the refined map behind it.
    refined : Refined
        The training run.
    figures : dict of str to dict of str to float
        ``accuracy`` (points) and ``margin`` on development pairs, by ``start``, ``closed form`` (pair losses only) and
        ``trained``.
    kept : str
        Which of them the adapter is.
    """

    adapter: Adapter
    refined: Refined
    figures: dict[str, dict[str, float]]
    kept: str


def train_on_pairs(
    loss: PairLoss,
    start: Adapter,
    fit: PairVectors,
    dev: PairVectors,
    *,
    config: PairConfig,
    device: str | None = None,
    checkpoint: Path | None = None,
    on_pass: OnPass = lambda _: None,
) -> TrainedAdapter:
    """Refine a map of the source language on pairs.

    Parameters
    ----------
    loss : {"contrastive", "ranking"}
    start : Adapter
        What comes before the map; the identity is given the means of both languages.
    fit, dev : PairVectors

    Raises
    ------
    AdapterError
        The pairs of ``fit`` or ``dev`` cannot be used (``pair_checks``).
    """
    check_pairs(fit, start)
    check_dev(fit, dev, start)
    start = start if start.steps else centred(start, fit)
    X, Y = fit.aligned(start)
    first = ridge(PairSums.of(X, Y), strength=START_STRENGTH).astype(np.float32)
    refined = refine(
        X, Y, *dev.aligned(start), start=first, loss=loss, config=config, device=device,
        checkpoint=checkpoint, on_pass=on_pass,
    )  # fmt: skip
    return _settle(start, refined, dev, config.fixed(loss), before="closed form")


def train_without_pairs(
    start: Adapter,
    source: Matrix,
    target: Matrix,
    dev: PairVectors,
    *,
    config: AdversarialConfig,
    device: str | None = None,
    checkpoint: Path | None = None,
    on_pass: OnPass = lambda _: None,
) -> TrainedAdapter:
    """Refine a map of the source language against a discriminator; ``dev`` only judges the result.

    Parameters
    ----------
    source, target : ndarray of shape (n, dim) and (m, dim), float32
        Raw vectors of texts in the two languages of ``dev``.

    Raises
    ------
    AdapterError
        The development pairs cannot be used, or both of their sides are of one language.
    """
    check_pairs(dev, start)
    languages = (dev.pairs.source_language, dev.pairs.target_language)
    if checked_key(languages[0]) == checked_key(languages[1]):
        raise AdapterError(f"{dev.pairs.name}: both sides are {languages[0]}; two languages are needed")
    start = start if start.steps else centred(start, dev)
    X, Y = (
        start.transform_many(V, Context(language=tag))
        for V, tag in zip((source, target), languages, strict=True)
    )
    refined = refine_unpaired(
        X, Y, *dev.aligned(start), config=config, device=device, checkpoint=checkpoint, on_pass=on_pass
    )
    return _settle(start, refined, dev, config.fixed(), before="start")


def _settle(
    start: Adapter, refined: Refined, dev: PairVectors, config: dict[str, Any], *, before: str
) -> TrainedAdapter:
    """Take the best on development pairs; where two are as good, the simpler one."""
    figures = {
        "start": judge.figures(*dev.aligned(start)),
        before: dict(refined.curves[0].figures),
        "trained": dict(refined.curves[refined.best_pass].figures),
    }
    kept = "trained" if refined.accepted else before
    if judge.dev_rank(figures["start"]) >= judge.dev_rank(figures[kept]):
        kept = "start"
    adapter = start
    if kept != "start":
        key = checked_key(dev.pairs.source_language)
        adapter = with_correction(start, key, refined.matrix.astype(np.float64), rank=start.dim)
    report = {
        "method": "trained",
        "start": start.version,
        "config": config,
        "languages": [dev.pairs.source_language, dev.pairs.target_language],
        "kept": kept,
        "reason": refined.reason,
        "best_pass": refined.best_pass,
        "dev": {
            name: {measure: round(value, 4) for measure, value in judged.items()}
            for name, judged in figures.items()
        },
    }
    return TrainedAdapter(dataclasses.replace(adapter, report=report), refined, figures, kept)
