"""Closed forms: sums add up, priors hold, few pairs do no harm, and updates pair by pair equal the batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recursive_ridge import RecursiveRidge

from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError
from alignstream.models.fit.closed_form import (
    PairSums,
    is_too_few,
    procrustes,
    ridge,
    shrunk_by_pairs,
)

DIM = 8
seeds = st.integers(0, 2**32 - 1)


def unit(n: int, seed: int, dim: int = DIM) -> Matrix:
    X = np.random.default_rng(seed).normal(size=(n, dim))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def rotated(X: Matrix, seed: int) -> Matrix:
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(X.shape[1], X.shape[1])))
    return (X @ Q).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, cut=st.integers(0, 30))
def test_sums_of_parts_are_the_sums_of_the_whole(seed: int, cut: int) -> None:
    X, Y = unit(30, seed), unit(30, seed + 1)
    whole = PairSums.of(X, Y)
    parts = PairSums.of(X[:cut], Y[:cut]) + PairSums.of(X[cut:], Y[cut:])
    np.testing.assert_allclose(parts.xx, whole.xx, atol=1e-9)
    np.testing.assert_allclose(parts.xy, whole.xy, atol=1e-9)
    assert (parts.n, parts.yy) == (30, pytest.approx(whole.yy))


def test_a_ridge_without_pairs_is_its_prior_and_with_many_it_is_the_map() -> None:
    prior = np.random.default_rng(3).normal(size=(DIM, DIM))
    np.testing.assert_array_equal(ridge(PairSums.zero(DIM), strength=1.0, prior=prior), prior)
    np.testing.assert_array_equal(ridge(PairSums.zero(DIM), strength=1.0), np.eye(DIM))
    X = unit(2000, 1)
    W = ridge(PairSums.of(X, rotated(X, 2)), strength=1e-6)
    np.testing.assert_allclose(X @ W, rotated(X, 2), atol=1e-4)


def test_the_stronger_the_ridge_the_nearer_the_prior() -> None:
    X = unit(50, 1)
    sums, prior = PairSums.of(X, rotated(X, 2)), np.eye(DIM)
    distances = [
        float(np.linalg.norm(ridge(sums, strength=strength, prior=prior) - prior))
        for strength in (0.01, 0.1, 1.0, 10.0, 100.0)
    ]
    assert distances == sorted(distances, reverse=True)


def test_trust_in_pairs_grows_with_their_number() -> None:
    prior = np.eye(DIM)
    distances = []
    for n in (2, 10, 100, 1000):
        X = unit(n, 1)
        W = shrunk_by_pairs(PairSums.of(X, rotated(X, 2)), strength=1.0, pairs=50, prior=prior)
        distances.append(float(np.linalg.norm(W - prior)))
    assert distances == sorted(distances)


def test_procrustes_finds_a_rotation_and_says_when_pairs_are_too_few() -> None:
    X = unit(200, 1)
    W = procrustes(PairSums.of(X, rotated(X, 7)), blend=1.0)
    np.testing.assert_allclose(W @ W.T, np.eye(DIM), atol=1e-9)
    np.testing.assert_allclose(X @ W, rotated(X, 7), atol=1e-5)
    half = procrustes(PairSums.of(X, rotated(X, 7)), blend=0.5)
    np.testing.assert_allclose(half, (np.eye(DIM) + W) / 2)
    assert is_too_few(5 * DIM - 1, DIM)
    assert not is_too_few(5 * DIM, DIM)
    with pytest.raises(AdapterError, match="between 0 and 1"):
        procrustes(PairSums.of(X, X), blend=1.5)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, n=st.integers(0, 40))
def test_pair_by_pair_in_any_order_is_the_batch(seed: int, n: int) -> None:
    X, Y = unit(n, seed).astype(np.float64), unit(n, seed + 1).astype(np.float64)
    prior = np.random.default_rng(seed).normal(size=(DIM, DIM))
    online = RecursiveRidge(prior, weight=0.7)
    for position in np.random.default_rng(seed).permutation(n):
        online.update(X[position], Y[position])
    batch = np.linalg.solve(X.T @ X + 0.7 * np.eye(DIM), X.T @ Y + 0.7 * prior)
    np.testing.assert_allclose(online.matrix, batch, atol=1e-6)
    assert online.n_pairs == n


def test_forgetting_follows_a_change() -> None:
    X, prior = unit(600, 1).astype(np.float64), np.eye(DIM)
    keeps, forgets = RecursiveRidge(prior, weight=1.0), RecursiveRidge(prior, weight=1.0, forgetting=0.98)
    before, after = (rotated(X.astype(np.float32), seed).astype(np.float64) for seed in (2, 3))
    for position, x in enumerate(X):
        y = before[position] if position < 400 else after[position]
        keeps.update(x, y)
        forgets.update(x, y)
    errors = [float(np.linalg.norm(X @ item.matrix - after)) for item in (keeps, forgets)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_a_strength_that_is_not_positive_is_refused(strength: float) -> None:
    with pytest.raises(AdapterError, match="must be positive"):
        ridge(PairSums.zero(DIM), strength=strength)


def test_vectors_that_do_not_fit_or_are_not_finite_are_refused() -> None:
    X = unit(4, 1)
    with pytest.raises(AdapterError, match="vectors of the same shape"):
        PairSums.of(X, X[:3])
    broken = X.copy()
    broken[1, 2] = np.nan
    with pytest.raises(AdapterError, match="not finite"):
        PairSums.of(X, broken)
    with pytest.raises(AdapterError, match="not finite"):
        RecursiveRidge(np.eye(DIM), weight=1.0).update(X[0].astype(np.float64), broken[1].astype(np.float64))
