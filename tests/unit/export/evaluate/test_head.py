"""The head: it carries classes from one language to others, and is fitted without the text that it is judged on."""

import numpy as np
import pytest
from toy_languages import unit

from alignstream.export.evaluate.head import _left_out, fit_head, head_accuracy
from alignstream.models.errors import TaskError


def test_a_head_learns_classes_of_the_pivot_and_carries_them_to_other_languages() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 12))
    gold = np.arange(90) % 3
    X = unit(centres[gold] + 0.5 * rng.standard_normal((90, 12)))
    other = unit(centres[gold] + 0.5 * rng.standard_normal((90, 12)))
    found = head_accuracy({"de": other}, {"de": gold}, train=X, train_gold=gold)
    assert found.figures["de"] > 90.0
    shuffled = head_accuracy({"de": other}, {"de": gold}, train=X, train_gold=rng.permutation(gold))
    assert shuffled.figures["de"] < 70.0
    with pytest.raises(TaskError, match="two labels"):
        fit_head(X, np.zeros(90, dtype=np.int64))


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_leaving_a_text_out_of_the_head_is_fitting_without_it(strength: float) -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((20, 30)), np.eye(3)[np.arange(20) % 3]
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    found = _left_out(U, s, Y, strength)
    for row in (0, 7, 19):
        rest, gold = np.delete(X, row, axis=0), np.delete(Y, row, axis=0)
        Z = rest - rest.mean(axis=0)
        weights = np.linalg.solve(Z.T @ Z + strength * np.eye(30), Z.T @ (gold - gold.mean(axis=0)))
        expected = (X[row] - rest.mean(axis=0)) @ weights + gold.mean(axis=0)
        np.testing.assert_allclose(found[row], expected, atol=1e-8)
