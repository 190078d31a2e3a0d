"""The trained refiners on the texts that every method is compared on. Needs torch (the ``export`` extra).

They start where the closed form ends and are judged like it; a map that does not beat its start on lines
held back from the fitting part is not kept, and its row says so.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.figures.shipped_bank import PrototypeBank
from alignstream.export.train.adversarial import AdversarialConfig, refine_unpaired
from alignstream.export.train.refine import PairConfig, PairLoss, refine
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.errors import AdapterError

#: One in this many fitting lines is held back, to choose the pass and to judge it.
_HELD_BACK: Final = 6
_LOSSES: Final[Mapping[PairLoss, str]] = {
    "contrastive": "symmetric InfoNCE",
    "ranking": "translation ranking, margin 0.3, hard negatives",
}


@dataclasses.dataclass(frozen=True)
class RefinedAdapter:
    """A trained map, and what became of it."""

    name: str
    adapter: Adapter


def refined_maps(shipped: Adapter, bank: PrototypeBank) -> Iterator[RefinedAdapter]:
    """Refine the pooled map of the shipped adapter by each pair loss, on the news pairs of all languages."""
    placed = shipped.find(LinearMap)
    if placed is None:
        raise AdapterError("the shipped adapter has no map to refine")
    position, pooled = placed
    before = Adapter(encoder=shipped.encoder, dim=shipped.dim, steps=shipped.steps[:position])
    languages = [language for language in bank.news if language != bank.news_pivot]
    X, Y, dev_X, dev_Y = _pairs(before, bank, languages)
    for loss, name in _LOSSES.items():
        refined = refine(
            X, Y, dev_X, dev_Y, start=pooled.matrix, loss=loss, config=PairConfig(passes=8, both_sides=True)
        )
        kept = f"pass {refined.best_pass} kept" if refined.accepted else "not kept"
        adapter = shipped.replace_step(position, LinearMap(matrix=refined.matrix))
        yield RefinedAdapter(f"shipped, {name} ({kept})", adapter)


def adversarial_maps(
    base: Adapter, bank: PrototypeBank, languages: Sequence[str]
) -> tuple[dict[str, Array64], int]:
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
        refined = refine_unpaired(X[:half], Y[half:], dev_X, dev_Y, config=AdversarialConfig(passes=10))
        maps[language] = refined.matrix.astype(np.float64)
        n_kept += refined.accepted
    return maps, n_kept


def _pairs(
    before: Adapter, bank: PrototypeBank, languages: Sequence[str]
) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Return aligned news pairs with English: to train on, and to judge on, whose lines are held back.

    Every line that is held back comes once, in one of the languages in turn: each text has one translation.
    """
    target = before.transform_many(bank.news[bank.news_pivot], Context(language=bank.news_pivot))
    is_dev = np.arange(len(target)) % _HELD_BACK == 0
    aligned = [before.transform_many(bank.news[name], Context(language=name)) for name in languages]
    dev_X = np.stack([aligned[turn % len(aligned)][line] for turn, line in enumerate(np.flatnonzero(is_dev))])
    X = np.concatenate([side[~is_dev] for side in aligned])
    return X, np.tile(target[~is_dev], (len(aligned), 1)), dev_X, target[is_dev]
