"""The prototype of a language that is new, or that more texts are known of: shrunk toward its relatives."""

import dataclasses
from typing import Final, NamedTuple

import numpy as np

from alignstream.models.adapter.language_groups import relatives
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.fit.spreads import fit_spreads

#: Texts that the mean of the relatives is worth.
FAMILY_TEXTS: Final = 10.0


class Anchor(NamedTuple):
    """Where a language's prototype starts.

    Parameters
    ----------
    mean : ndarray of shape (dim,), float64
    weight : float
        Its weight, in texts.
    source : str or None
        Its origin, for people; None if nothing related is known.
    """

    mean: Vector64
    weight: float
    source: str | None


def anchor_of(attention: PrototypeAttention, key: str) -> Anchor:
    """Return where the prototype of a language starts: its own so far, its relatives' mean, or that of all."""
    means = attention.means.astype(np.float64)
    if key in attention.languages:
        index = attention.languages.index(key)
        return Anchor(means[index], max(FAMILY_TEXTS, attention.counts[index]), "its prototype so far")
    group, related = relatives(key, attention.languages)
    if related:
        rows = [attention.languages.index(name) for name in related]
        source = f"the mean of {len(related)} related languages (CLDR group {group})"
        return Anchor(means[rows].mean(axis=0), FAMILY_TEXTS, source)
    return Anchor(means.mean(axis=0), FAMILY_TEXTS, None)


def add_prototype(attention: PrototypeAttention, key: str, texts: Matrix) -> PrototypeAttention:
    """Return an attention that knows a language, or knows it better.

    Parameters
    ----------
    attention : PrototypeAttention
        Not changed.
    key : str
        The language.
    texts : ndarray of shape (n, dim), float32
        Raw vectors of its texts; none makes it like its relatives.

    Notes
    -----
    Prototype and spread are shrunk toward their former values, or toward those of related languages.
    """
    n = len(texts)
    anchor = anchor_of(attention, key)
    total = texts.sum(axis=0, dtype=np.float64)
    row = ((total + anchor.weight * anchor.mean) / (n + anchor.weight)).astype(np.float32)
    if key in attention.languages:
        index = attention.languages.index(key)
        means, counts = attention.means.copy(), list(attention.counts)
        means[index] = row
        counts[index] += n
        return dataclasses.replace(attention, means=means, counts=tuple(counts))
    _, related = relatives(key, attention.languages)
    rows = [attention.languages.index(name) for name in related] or list(range(len(attention.languages)))
    spread = float(attention.spreads[rows].mean())

    def grown(spread: float) -> PrototypeAttention:
        return dataclasses.replace(
            attention,
            means=np.vstack([attention.means, row]),
            languages=(*attention.languages, key),
            counts=(*attention.counts, n),
            spreads=np.append(attention.spreads, np.float32(spread)),
        )

    if n:
        own = fit_spreads(grown(spread), {key: texts})[key]
        spread = (n * own + FAMILY_TEXTS * spread) / (n + FAMILY_TEXTS)
    return grown(spread)
