"""How far the texts of languages lie from their prototypes: fitted, because encoders spread languages differently."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from alignstream.models.adapter.steps.prototypes import MAX_SPREAD, MIN_SPREAD, PrototypeAttention
from alignstream.models.adapter.steps.step import Tuning
from alignstream.models.arrays import Matrix


def fit_spreads(attention: PrototypeAttention, texts: Mapping[str, Matrix]) -> dict[str, float]:
    """Measure how far the texts of languages lie from what attention finds of their languages in them.

    Parameters
    ----------
    attention : PrototypeAttention
        Its own spreads and common share do not count.
    texts : mapping of str to ndarray of shape (n, dim), float32
        Raw vectors by tag, at least one of each.

    Returns
    -------
    dict of str to float
        By tag, the mean length of what is left of a text, within the bounds of a spread.

    Notes
    -----
    O(n_languages · dim) a text. Texts of one kind differ less in it than languages do, but kinds differ too:
    compare languages on texts of one kind.
    """
    plain = dataclasses.replace(
        attention, common=0.0, spreads=np.ones(len(attention.means), dtype=np.float32)
    )
    spreads = {}
    for language, X in texts.items():
        tuning = Tuning(language=language, shrinkage=1.0)
        lengths = [np.linalg.norm(plain.transform_one(x.astype(np.float64), tuning)) for x in X]
        spreads[language] = float(np.clip(np.mean(lengths), MIN_SPREAD, MAX_SPREAD))
    return spreads
