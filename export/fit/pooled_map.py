"""Fit one map for all languages to translations in many, behind attention over prototypes.

What a text is mapped to is neither its English translation nor the mean of all of them, but halfway: the mean has
less noise of any one language, English is what most texts are searched from.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.fit.closed_form import PairSums, ridge
from alignstream.models.unit_vectors import MIN_NORM, unit_rows

#: Share of the mean over languages in the target of the map: chosen on development texts among 0, 0.5, 0.75 and 1.
CONSENSUS: Final = 0.5


def pair_sums(
    attention: PrototypeAttention, vectors: Mapping[str, Matrix], pivot: str
) -> dict[str, PairSums]:
    """Sum up the translations of every language, the pivot among them, as attention leaves them.

    Parameters
    ----------
    attention : PrototypeAttention
        Its common share and its spreads have no effect: the residual of a text is scaled to length 1.
    vectors : mapping of str to ndarray of shape (n, dim), float32
        Raw vectors by tag, row by row translations.
    pivot : str
        The language that half of the target comes from.
    """
    plain = dataclasses.replace(attention, common=0.0)
    before = Adapter(encoder="", dim=plain.dim, steps=(plain,))
    aligned = {
        language: before.transform_many(X, Context(language=language)) for language, X in vectors.items()
    }
    mean = unit_rows(np.mean([X.astype(np.float64) for X in aligned.values()], axis=0))
    target = unit_rows((1.0 - CONSENSUS) * aligned[pivot] + CONSENSUS * mean)
    return {language: PairSums.of(X, target) for language, X in aligned.items()}


def pooled_map(
    attention: PrototypeAttention,
    sets: Iterable[tuple[Mapping[str, PairSums], float]],
    *,
    strength: float,
) -> LinearMap:
    """Fit the map: each language counts the same within its set, the sets by their weight.

    Parameters
    ----------
    attention : PrototypeAttention
        What comes before the map.
    sets : iterable of (mapping of str to PairSums, float)
        Sums of each set of translations by language, and its weight.
    strength : float
        λ of the ridge toward the identity.

    Returns
    -------
    LinearMap
        ``(I - g gᵀ) W + g gᵀ`` with g the direction that all texts have in common: how much of it stays in a vector
        is not for the map to say.
    """
    none = PairSums.zero(attention.dim)
    parts = [
        sum((pairs.scaled(1.0 / pairs.n) for pairs in sums.values()), none).scaled(weight / len(sums))
        for sums, weight in sets
    ]
    W = ridge(sum(parts, none), strength=strength)
    return LinearMap(matrix=keep_direction(W, attention.centre).astype(np.float32))


def keep_direction(W: Array64, direction: Array64) -> Array64:
    """Return a map that leaves a direction of shape (dim,) as it is, and maps the rest by W."""
    unit = direction / max(float(np.linalg.norm(direction)), MIN_NORM)
    kept: Array64 = W - np.outer(unit, unit @ W) + np.outer(unit, unit)
    return kept
