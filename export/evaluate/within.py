"""Judge what happens within one language: similarity as people see it, and who is next to whom. Pure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alignstream.export.evaluate.search import BLOCK_BYTES, search
from alignstream.export.evaluate.set_report import N_NEIGHBOURS
from alignstream.export.evaluate.statistics import spearman
from alignstream.export.evaluate.tasks import (
    ADAPTER,
    NEIGHBOURS,
    RAW,
    SIMILARITY,
    Results,
    Scores,
    mean_scores,
)
from alignstream.models.arrays import Indices, Matrix


def similarity(
    raw: Mapping[str, tuple[Matrix, Matrix]],
    aligned: Mapping[str, tuple[Matrix, Matrix]],
    gold: Mapping[str, NDArray[np.float64]],
) -> Results:
    """Compare cosines of pairs within a language with people's scores, by Spearman's rank correlation.

    Parameters
    ----------
    raw, aligned : mapping of str to two ndarrays of shape (n_pairs, dim), float32
        Unit vectors of both texts of each pair, by language.
    gold : mapping of str to ndarray of shape (n_pairs,), float64
        People's scores; any increasing scale.
    """
    scored = {}
    for column, vectors in ((RAW, raw), (ADAPTER, aligned)):
        scored[column] = Scores(
            {
                language: 100.0
                * spearman(np.einsum("ij,ij->i", first.astype(np.float64), second), gold[language])
                for language, (first, second) in vectors.items()
            }
        )
    return {SIMILARITY: scored}


def neighbours(
    raw: Mapping[str, Matrix], aligned: Mapping[str, Matrix], *, block_bytes: int = BLOCK_BYTES
) -> Results:
    """Measure how much of each text's ``N_NEIGHBOURS`` nearest within its language the adapter keeps.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors by language, each text once.
    block_bytes : int
        As in ``search.search``.

    Returns
    -------
    dict
        ``NEIGHBOURS``. The raw column is 100 by definition: raw vectors are what is compared with.
    """
    return kept(
        {language: nearest_within(X, block_bytes=block_bytes) for language, X in raw.items()},
        {language: nearest_within(X, block_bytes=block_bytes) for language, X in aligned.items()},
    )


def nearest_within(X: Matrix, *, block_bytes: int = BLOCK_BYTES) -> Indices:
    """Return the ``N_NEIGHBOURS`` nearest other rows of each row, nearest first; all of them where they are fewer."""
    own = np.arange(len(X), dtype=np.int64)
    return search(X, X, min(N_NEIGHBOURS, len(X) - 1), exclude=own, block_bytes=block_bytes)[0]


def kept(before: Mapping[str, Indices], after: Mapping[str, Indices]) -> Results:
    """Return ``neighbours`` from what ``nearest_within`` found in raw and in aligned vectors, by language."""
    shares = {
        language: (found[:, :, None] == after[language][:, None, :]).any(axis=2).mean(axis=1)
        for language, found in before.items()
    }
    return {NEIGHBOURS: {RAW: Scores(dict.fromkeys(shares, 100.0)), ADAPTER: mean_scores(shares)}}
