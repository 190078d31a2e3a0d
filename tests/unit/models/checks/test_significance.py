"""What counts as more than chance."""

import numpy as np
import pytest
from numpy.typing import NDArray

from alignstream.models.checks.significance import holm, worse_p_value
from alignstream.models.errors import StatisticsError


def outcomes(n: int, n_right: int) -> NDArray[np.bool_]:
    return np.arange(n) < n_right


def test_holm_is_stricter_the_more_is_tested() -> None:
    assert holm(np.array([0.04])).tolist() == [True]
    assert holm(np.array([0.04, 0.5, 0.5])).tolist() == [False, False, False]
    assert holm(np.array([0.5, 0.001, 0.02])).tolist() == [False, True, True]


def test_what_certainly_fell_has_a_small_p_value() -> None:
    assert worse_p_value(outcomes(300, 250), outcomes(300, 200)) < 0.01
    assert worse_p_value(outcomes(300, 200), outcomes(300, 250)) > 0.9
    assert worse_p_value(outcomes(300, 200), outcomes(300, 200)) == 1.0


def test_what_does_not_match_or_is_nothing_is_refused() -> None:
    with pytest.raises(StatisticsError, match="3 texts were judged before, but 2 after"):
        worse_p_value(np.zeros(3), np.zeros(2))
    with pytest.raises(StatisticsError, match="nothing to resample"):
        worse_p_value(np.zeros(0), np.zeros(0))
