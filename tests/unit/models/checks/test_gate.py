"""The gate: it lets through what helps, refuses what harms, and does not confuse few pairs with bad ones."""

import numpy as np
import pytest

from alignstream.models.checks import gate
from alignstream.models.errors import AdapterError


def outcomes(n: int, n_right: int) -> np.ndarray:
    found = np.zeros(n, dtype=bool)
    found[:n_right] = True
    return found


def test_many_pairs_are_judged_by_the_worst_plausible_case() -> None:
    same = gate.judge_many(outcomes(400, 300), outcomes(400, 300))
    assert (same.is_accepted, same.change) == (True, 0.0)
    better = gate.judge_many(outcomes(400, 300), outcomes(400, 340))
    assert better.is_accepted
    assert better.change == pytest.approx(10.0)
    assert better.low <= better.change <= better.high
    worse = gate.judge_many(outcomes(400, 300), outcomes(400, 290))
    assert not worse.is_accepted
    assert "400 held-out pairs" in worse.reason


def test_a_gain_that_chance_may_have_made_does_not_pass_with_many_pairs() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.random(250) < 0.5, generator.random(250) < 0.5
    assert not gate.judge_many(before, after).is_accepted


def test_few_pairs_are_refused_only_where_they_are_significantly_worse() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(0.2, 0.05, size=10)
    assert gate.judge_few(before, before + generator.normal(0.0, 0.02, size=10)).is_accepted
    assert gate.judge_few(before, before + 0.05).is_accepted
    assert not gate.judge_few(before, before - 0.05).is_accepted
    with pytest.raises(AdapterError, match="at least 200 pairs"):
        gate.judge_many(outcomes(10, 5), outcomes(10, 5))
    with pytest.raises(AdapterError, match="at least one pair"):
        gate.judge_few(np.empty(0), np.empty(0))


def test_what_is_found_is_refused_where_it_is_less_by_more_than_half_a_point_or_significantly() -> None:
    full, few = np.ones(10), np.ones(10)
    assert gate.judge_found(full, full).is_accepted
    few[0] = 0.5
    found = gate.judge_found(full, few)
    assert (found.change, found.is_accepted) == (pytest.approx(-5.0), False)
    assert found.high == 0.0, "significant it is not"
    many, fewer = np.ones(300), np.ones(300)
    fewer[:2] = 0.5
    assert gate.judge_found(many, fewer).is_accepted, "a third of a point"
    fewer[:3] = 0.0
    assert not gate.judge_found(many, fewer).is_accepted
    long, less = np.ones(4000), np.ones(4000)
    less[:12] = 0.0
    found = gate.judge_found(long, less)
    assert found.change > -gate.MAX_LOSS_POINTS
    assert found.high < 0.0
    assert not found.is_accepted
    with pytest.raises(AdapterError):
        gate.judge_found(np.zeros(0), np.zeros(0))


def test_a_margin_is_the_distance_to_the_nearest_other_texts() -> None:
    X = np.eye(4, dtype=np.float32)[:2]
    distractors = np.eye(4, dtype=np.float32)[2:]
    np.testing.assert_allclose(gate.margins(X, X, distractors), [1.0, 1.0])
    np.testing.assert_allclose(gate.margins(X, X[::-1], distractors), [0.0, 0.0])
    with pytest.raises(AdapterError, match="need distractors"):
        gate.margins(X, X, distractors[:0])


def test_meaning_within_a_language_is_guarded_by_neighbours_and_by_similarity() -> None:
    assert gate.judge_meaning(0.6).is_accepted
    assert not gate.judge_meaning(0.59).is_accepted
    assert gate.judge_meaning(0.9, -0.5).is_accepted
    assert not gate.judge_meaning(0.9, -0.51).is_accepted


def test_leaving_one_out_leaves_that_one_out() -> None:
    X, asked = np.eye(3), []

    def fit_without(position: int) -> np.ndarray:
        asked.append(position)
        return 2.0 * np.eye(3)

    np.testing.assert_allclose(gate.leave_one_out(3, fit_without, X), X)
    assert asked == [0, 1, 2]
