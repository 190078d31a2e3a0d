"""From pairs to an adapter: a refiner starts where the closed form ends, and is kept only if it is better."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from alignstream.export.fit_pairs import (
    PairVectors,
    aligned_pairs,
    centred,
    check_pairs,
    key_of,
    with_correction,
)
from alignstream.export.training.adversarial import AdversarialConfig, refine_unpaired
from alignstream.export.training.loop import OnEpoch, Refined
from alignstream.export.training.refine import PairConfig, PairLoss, refine
from alignstream.models.alignment.adapter import Adapter
from alignstream.models.alignment.closed_form import PairSums, ridge
from alignstream.models.alignment.context import Context
from alignstream.models.alignment.members import Matrix

#: λ of the ridge that the pair losses start from.
START_STRENGTH: Final = 1.0


def train_on_pairs(
    loss: PairLoss,
    start: Adapter,
    fit: PairVectors,
    dev: PairVectors,
    *,
    config: PairConfig,
    device: str | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda _: None,
) -> tuple[Adapter, Refined]:
    """Refine a map of the source language on pairs.

    Parameters
    ----------
    loss : {"contrastive", "ranking"}
    start : Adapter
        What comes before the map; the identity is given the means of both languages.
    fit, dev : PairVectors

    Returns
    -------
    adapter : Adapter
        With the refined map, or the closed form's where it was not better.
    refined : Refined
    """
    check_pairs(fit, start)
    start = start if start.members else centred(start, fit)
    X, Y = aligned_pairs(start, fit)
    first = ridge(PairSums.of(X, Y), strength=START_STRENGTH).astype(np.float32)
    refined = refine(
        X, Y, *aligned_pairs(start, dev), start=first, loss=loss, config=config, device=device,
        checkpoint=checkpoint, on_epoch=on_epoch,
    )  # fmt: skip
    languages = (fit.pairs.source_language, fit.pairs.target_language)
    return _adapter(start, refined, config.fixed(loss), languages), refined


def train_without_pairs(
    start: Adapter,
    source: Matrix,
    target: Matrix,
    dev: PairVectors,
    *,
    config: AdversarialConfig,
    device: str | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda _: None,
) -> tuple[Adapter, Refined]:
    """Refine a map of the source language against a discriminator; ``dev`` only judges the result.

    Parameters
    ----------
    source, target : ndarray of shape (n, dim) and (m, dim), float32
        Raw vectors of texts in the two languages of ``dev``.
    """
    check_pairs(dev, start)
    start = start if start.members else centred(start, dev)
    languages = (dev.pairs.source_language, dev.pairs.target_language)
    X, Y = (
        start.transform_many(V, Context(language=tag))
        for V, tag in zip((source, target), languages, strict=True)
    )
    refined = refine_unpaired(
        X,
        Y,
        *aligned_pairs(start, dev),
        config=config,
        device=device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    return _adapter(start, refined, config.fixed(), languages), refined


def _adapter(start: Adapter, refined: Refined, config: dict[str, Any], languages: Sequence[str]) -> Adapter:
    report = {
        "method": "trained",
        "start": start.version,
        "config": config,
        "languages": list(languages),
        "accepted": refined.accepted,
        "reason": refined.reason,
        "best_epoch": refined.best_epoch,
        "dev": {
            "before": dict(refined.curves[0].figures),
            "after": dict(refined.curves[refined.best_epoch].figures),
        },
    }
    adapter = with_correction(start, key_of(languages[0]), refined.matrix.astype(np.float64), rank=start.dim)
    return dataclasses.replace(adapter, report=report)
