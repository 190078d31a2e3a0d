"""Statistics: intervals follow from the seed, chance alone is seldom called worse, ranks are those of order alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignstream.export.evaluate.statistics import (
    Interval,
    bootstrap_interval,
    is_chance,
    losses,
    significantly_worse,
    spearman,
    wins,
)
from alignstream.models.errors import StatisticsError


def test_every_language_beyond_half_a_point_is_a_win_or_a_loss_most_first() -> None:
    gains = {"a": 0.5, "b": 0.6, "c": -1.0, "d": -7.0}
    assert wins(gains) == ["b"]
    assert losses(gains) == ["d", "c"]
    assert wins({}) == losses({}) == []


def test_the_interval_is_that_of_resampled_languages_and_follows_from_the_seed() -> None:
    gains = np.random.default_rng(0).normal(1.0, 2.0, size=40)
    found = bootstrap_interval(gains, seed=5)
    assert found == bootstrap_interval(gains, seed=5)
    assert found != bootstrap_interval(gains, seed=6)
    draws = np.random.default_rng(9).choice(gains, size=(20_000, 40)).mean(axis=1)
    assert found.mean == pytest.approx(gains.mean())
    assert found.low == pytest.approx(np.quantile(draws, 0.025), abs=0.08)
    assert found.high == pytest.approx(np.quantile(draws, 0.975), abs=0.08)
    alike = bootstrap_interval(np.full(7, 1.5))
    assert (alike.mean, alike.low, alike.high) == pytest.approx((1.5, 1.5, 1.5))
    with pytest.raises(StatisticsError):
        bootstrap_interval(np.empty(0))


def test_a_single_language_has_no_interval() -> None:
    assert bootstrap_interval(np.array([1.5])) == Interval(mean=1.5, low=None, high=None)


def test_chance_is_what_random_candidates_give() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(200, 0.02, size=2000)
    # One-sided at 1 %: what chance gives is seldom called more.
    assert np.mean([not is_chance(int(n), 200, 0.02) for n in draws]) < 0.015
    assert is_chance(0, 200, 0.02)
    assert is_chance(4, 200, 0.02)
    assert not is_chance(20, 200, 0.02)
    assert not is_chance(1_000_000, 1_000_000, 1e-6)
    # Too few texts, or candidates that are nearly all right, say nothing.
    assert not is_chance(0, 9, 0.1)
    assert not is_chance(100, 100, 1.0)


def test_only_what_falls_beyond_chance_is_significantly_worse() -> None:
    rng = np.random.default_rng(0)
    raw = {f"l{i}": rng.random(300) < 0.8 for i in range(127)}
    adapter = {language: hits.copy() for language, hits in raw.items()}
    adapter["l3"][np.flatnonzero(raw["l3"])[:30]] = False  # ten points worse
    adapter["l5"][:] = True
    adapter["l9"][np.flatnonzero(raw["l9"])[:2]] = False  # two of 300 texts
    # With 127 languages Holm's first step is 0.0004, below what 2,000 draws could ever show.
    assert significantly_worse(raw, adapter) == ["l3"]
    assert significantly_worse(raw, raw) == []
    assert significantly_worse({}, {}) == []
    assert significantly_worse(raw, adapter, seed=3) == ["l3"]


def test_chance_alone_is_seldom_called_worse() -> None:
    rng = np.random.default_rng(4)
    n_wrong = 0
    for trial in range(40):
        raw = {str(i): rng.random(100) < 0.7 for i in range(10)}
        adapter = {str(i): rng.random(100) < 0.7 for i in range(10)}
        n_wrong += bool(significantly_worse(raw, adapter, seed=trial))
    assert n_wrong <= 8


def test_a_paired_test_wants_the_same_texts() -> None:
    with pytest.raises(StatisticsError, match="different languages"):
        significantly_worse({"a": np.zeros(2)}, {"b": np.zeros(2)})


def test_rank_correlation_counts_ties_at_their_mean_rank() -> None:
    a = np.array([1.0, 2.0, 2.0, 4.0])
    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: by hand 4.5 / sqrt(4.5 * 5).
    assert spearman(a, np.array([0.0, 9.0, 5.0, 10.0])) == pytest.approx(4.5 / np.sqrt(22.5))
    assert spearman(a, np.ones(4)) == 0.0
    with pytest.raises(StatisticsError):
        spearman(a, np.ones(3))


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=30))
def test_rank_correlation_is_that_of_order_alone(values: list[int]) -> None:
    a = np.array(values, dtype=np.float64)
    distinct = len(set(values)) > 1
    assert spearman(a, np.exp(a / 10)) == pytest.approx(1.0 if distinct else 0.0)
    assert spearman(a, -a) == pytest.approx(-1.0 if distinct else 0.0)
