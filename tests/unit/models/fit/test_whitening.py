"""Whitening within translations shrinks what differs between them, and nothing else more than that."""

import numpy as np
import pytest

from alignstream.models.errors import AdapterError
from alignstream.models.fit.whitening import fit_whitening

DIM = 6


def translations(seed: int = 0, *, n_languages: int = 5, n_texts: int = 200) -> np.ndarray:
    """Return texts that differ between languages along the first two axes alone."""
    rng = np.random.default_rng(seed)
    texts = rng.standard_normal((1, n_texts, DIM))
    noise = np.zeros((n_languages, n_texts, DIM))
    noise[:, :, :2] = rng.standard_normal((n_languages, n_texts, 2))
    return texts + noise


def test_directions_in_which_translations_differ_shrink_and_others_do_not() -> None:
    step = fit_whitening(translations())
    lengths = [float(np.linalg.norm(step.transform_one(axis))) for axis in np.eye(DIM)]
    assert max(lengths[:2]) < 0.7 * min(lengths[2:])


def test_translations_come_nearer_beside_other_texts() -> None:
    X = translations(1)
    step = fit_whitening(translations(0))
    Y = np.array([[step.transform_one(x) for x in language] for language in X])

    def ratio(vectors: np.ndarray) -> float:
        own = np.linalg.norm(vectors[0] - vectors[1], axis=1).mean()
        others = np.linalg.norm(vectors[0] - np.roll(vectors[1], 1, axis=0), axis=1).mean()
        return float(own / others)

    assert ratio(Y) < 0.85 * ratio(X)


def test_without_power_nothing_changes() -> None:
    step = fit_whitening(translations(), power=0.0)
    x = np.arange(DIM, dtype=np.float64)
    np.testing.assert_allclose(step.transform_one(x), x, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 3, DIM)), np.zeros((2, 0, DIM)), np.zeros((3, DIM)), np.full((2, 3, DIM), np.nan)],
    ids=["one language", "no text", "no languages", "not finite"],
)
def test_what_cannot_be_fitted_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(AdapterError):
        fit_whitening(wrong)
