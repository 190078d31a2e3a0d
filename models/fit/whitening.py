"""Fit whitening within translations: the directions along which translations of one text differ."""

import numpy as np

from alignstream.models.adapter.steps.whitening import Whitening
from alignstream.models.arrays import Array64
from alignstream.models.errors import AdapterError


def fit_whitening(translations: Array64, *, power: float = 0.5) -> Whitening:
    """Fit whitening to vectors of translations.

    Parameters
    ----------
    translations : ndarray of shape (n_languages, n_texts, dim), float64
        Text j is the same in every language. Vectors are in the space of the preceding steps.
    power : float
        p of ``Whitening``.

    Raises
    ------
    AdapterError
        There are fewer than two languages, no texts, or a number is not finite.

    Notes
    -----
    One eigendecomposition of the covariance of texts minus the mean of their translations: O(n · dim² + dim³). Pure.

    Examples
    --------
    >>> fit_whitening(np.array([[[1.0, 0.5]], [[-1.0, 0.5]]])).variances
    array([0., 1.], dtype=float32)
    """
    if translations.ndim != 3 or translations.shape[0] < 2 or translations.size == 0:
        raise AdapterError(
            f"whitening needs the same texts in at least two languages, not vectors of shape {translations.shape}"
        )
    if not np.isfinite(translations).all():
        raise AdapterError("a vector of a translation is not finite")
    dim = translations.shape[2]
    differences = (translations - translations.mean(axis=0)).reshape(-1, dim)
    variances, vectors = np.linalg.eigh(differences.T @ differences / len(differences))
    return Whitening(
        basis=np.ascontiguousarray(vectors.T, dtype=np.float32),
        variances=np.maximum(variances, 0.0).astype(np.float32),
        power=power,
    )
