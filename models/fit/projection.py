"""Fit the language-free default: a global centre, then removal of the subspace in which languages differ.

Fitting needs monolingual text by language, but no pairs; serving needs no language tags.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.subspace import RemoveSubspace
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError


def language_means(embeddings: Mapping[str, Matrix]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the sorted languages and their means.

    Parameters
    ----------
    embeddings : mapping of str to ndarray of shape (n, dim), float32
        Unit vectors of texts, by language.

    Returns
    -------
    languages : list of str
    means : ndarray of shape (n_languages, dim), float64

    Raises
    ------
    AdapterError
        A language has no texts, or a number is not finite.
    """
    languages = sorted(embeddings)
    for language in languages:
        if len(embeddings[language]) == 0:
            raise AdapterError(f"language {language!r} has no text to fit on")
        if not np.all(np.isfinite(embeddings[language])):
            raise AdapterError(f"a vector of language {language!r} is not finite")
    return languages, np.stack(
        [embeddings[language].mean(axis=0, dtype=np.float64) for language in languages]
    )


def fit_default(means: NDArray[np.float64], *, rank: int) -> tuple[Centre, RemoveSubspace] | tuple[Centre]:
    """Fit centre and subspace to language means.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float64
        One mean per language, so that every language counts the same.
    rank : int
        Directions to remove, from 0 (centre only) to n_languages - 1; chosen on development texts.

    Raises
    ------
    AdapterError
        The rank is out of range.

    Notes
    -----
    One singular value decomposition: O(n_languages² · dim). Pure. The sign of each basis row is fixed
    (largest coordinate positive), so that the same means give the same file.

    Examples
    --------
    >>> centre, subspace = fit_default(np.array([[0.0, 1.0], [1.0, 1.0]]), rank=1)
    >>> centre.mean, subspace.basis
    (array([0.5, 1. ], dtype=float32), array([[1., 0.]], dtype=float32))
    """
    if not 0 <= rank < max(len(means), 1):
        raise AdapterError(
            f"rank must be between 0 and {len(means) - 1} for {len(means)} languages, not {rank}"
        )
    centre = means.mean(axis=0)
    first = Centre(mean=centre.astype(np.float32))
    if rank == 0:
        return (first,)
    _, _, basis = np.linalg.svd(means - centre, full_matrices=False)
    basis = basis[:rank]
    signs = np.sign(basis[np.arange(rank), np.abs(basis).argmax(axis=1)])
    return first, RemoveSubspace(basis=(basis * signs[:, None]).astype(np.float32))
