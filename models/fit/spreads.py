"""Fit how far each language's texts lie from its prototype, because encoders spread languages differently."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from alignstream.models.adapter.steps.prototypes import MAX_SPREAD, MIN_SPREAD, PrototypeAttention
from alignstream.models.adapter.steps.step import Tuning
from alignstream.models.arrays import Matrix


def fit_spreads(attention: PrototypeAttention, texts: Mapping[str, Matrix]) -> dict[str, float]:
    """Measure how far each language's texts lie from the prototype that attention finds for them.

    Parameters
    ----------
    attention : PrototypeAttention
        Its own spreads and common share are ignored.
    texts : mapping of str to ndarray of shape (n, dim), float32
        Encoded vectors by tag, at least one per tag.

    Returns
    -------
    dict of str to float
        By tag: the mean length of what is left of a text, clipped to the bounds of a spread.

    Notes
    -----
    O(n_languages · dim) per text. Spreads differ most between languages, but also between kinds of text: compare
    languages on texts of one kind.

    Examples
    --------
    >>> attention = PrototypeAttention(
    ...     means=np.eye(2, dtype=np.float32), languages=("de-Latn", "fr-Latn"), counts=(9, 9),
    ...     spreads=np.ones(2, dtype=np.float32), temperature=0.01, tag_evidence=0.0,
    ... )
    >>> spreads = fit_spreads(attention, {"de": np.array([[1.5, -0.5]], dtype=np.float32)})
    >>> round(spreads["de"], 3)
    0.707
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
