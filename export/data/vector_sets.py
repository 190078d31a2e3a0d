"""Vectors of texts with their labels, people's scores, or translations."""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Matrix


class LabelledTexts(msgspec.Struct, frozen=True):
    """Raw vectors of label texts, of shape (n_labels, dim), and the position of each text's label."""

    prototypes: Matrix
    gold: NDArray[np.int64]


class ScoredVectors(msgspec.Struct, frozen=True):
    """Pairs of texts of one language and how alike people found them.

    Parameters
    ----------
    first, second : ndarray of shape (n_pairs, dim), float32
        Vectors as encoded.
    scores : ndarray of shape (n_pairs,), float64
        Any increasing scale, such as 0 (unrelated) to 5 (the same).
    """

    first: Matrix
    second: Matrix
    scores: NDArray[np.float64]


class DevTexts(msgspec.Struct, frozen=True):
    """Vectors that a rank is chosen on.

    Parameters
    ----------
    parallel : mapping of str to ndarray of shape (n_lines, dim), float32
        Raw vectors of translations, by language.
    pivot : str
        The language that retrieval goes to and from.
    topical : mapping of str to ndarray of shape (n_texts, dim), float32
        Raw vectors of texts whose labels are known; empty to choose without labels.
    labelled : LabelledTexts, optional
        Their labels.
    """

    parallel: Mapping[str, Matrix]
    pivot: str
    topical: Mapping[str, Matrix] = {}
    labelled: LabelledTexts | None = None
