"""The trained refiners on the texts that every method is compared on. Needs torch (the ``export`` extra).

They start where the closed form ends and are judged like it; what does not beat its start on lines held back
from the fitting part is not kept, and its row says so.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.figures.shipped_bank import Bank
from alignstream.export.train.adversarial import AdversarialConfig, refine_unpaired
from alignstream.export.train.refine import PairConfig, PairLoss, refine
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.errors import AdapterError

#: Of every so many fitting lines one is held back, to choose the epoch and to judge it.
_HELD_BACK: Final = 6
_LOSSES: Final[Mapping[PairLoss, str]] = {
    "contrastive": "symmetric InfoNCE",
    "ranking": "translation ranking, margin 0.3, hard negatives",
}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained map, and what became of it."""

    name: str
    adapter: Adapter


def refined_maps(shipped: Adapter, bank: Bank) -> Iterator[Trained]:
    """Refine the pooled map of the shipped adapter by each pair loss, on the news pairs of all languages."""
    position = next(index for index, item in enumerate(shipped.steps) if isinstance(item, LinearMap))
    pooled = shipped.steps[position]
    if not isinstance(pooled, LinearMap):
        raise AdapterError("the shipped adapter has no map to refine")
    before = Adapter(encoder=shipped.encoder, dim=shipped.dim, steps=shipped.steps[:position])
    languages = [language for language in bank.news if language != bank.news_pivot]
    X, Y, dev_X, dev_Y = _pairs(before, bank, languages)
    for loss, name in _LOSSES.items():
        found = refine(
            X, Y, dev_X, dev_Y, start=pooled.matrix, loss=loss, config=PairConfig(epochs=8, both_sides=True)
        )
        steps = (
            *shipped.steps[:position],
            LinearMap(matrix=found.matrix),
            *shipped.steps[position + 1 :],
        )
        kept = f"epoch {found.best_epoch} kept" if found.accepted else "not kept"
        yield Trained(f"shipped, {name} ({kept})", dataclasses.replace(shipped, steps=steps))


def adversarial_maps(base: Adapter, bank: Bank, languages: Sequence[str]) -> tuple[dict[str, Array64], int]:
    """Train a map of each language against a discriminator, on news whose lines nothing pairs.

    Returns
    -------
    maps : dict of str to ndarray of shape (dim, dim), float64
        The start, the identity, where training was not kept.
    n_kept : int
    """
    maps, n_kept = {}, 0
    for language in languages:
        X, Y, dev_X, dev_Y = _pairs(base, bank, [language])
        half = len(X) // 2
        # The two sides share no line: nothing is paired even by chance.
        found = refine_unpaired(X[:half], Y[half:], dev_X, dev_Y, config=AdversarialConfig(epochs=10))
        maps[language] = found.matrix.astype(np.float64)
        n_kept += found.accepted
    return maps, n_kept


def _pairs(before: Adapter, bank: Bank, languages: Sequence[str]) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Return aligned news pairs with English: to train on, and to judge on, whose lines are held back.

    Every line that is held back comes once, in one of the languages in turn: each text has one translation.
    """
    target = before.transform_many(bank.news[bank.news_pivot], Context(language=bank.news_pivot))
    is_dev = np.arange(len(target)) % _HELD_BACK == 0
    aligned = [before.transform_many(bank.news[name], Context(language=name)) for name in languages]
    dev_X = np.stack([aligned[turn % len(aligned)][line] for turn, line in enumerate(np.flatnonzero(is_dev))])
    X = np.concatenate([side[~is_dev] for side in aligned])
    return X, np.tile(target[~is_dev], (len(aligned), 1)), dev_X, target[is_dev]
