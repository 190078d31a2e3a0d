"""Zero-shot labels: scores that add up, an order that does not depend on the question's order."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.labels import zero_shot
from alignstream.models.labels.zero_shot import PrototypeCache, predict_one

DIM = 16
#: Scores are rounded to six decimals, each by at most half of the last one.
ROUNDING = 0.5e-6
TEMPLATE = "This text is about {label}."

#: A shared machine may pause any example; laws are about results, not time.
untimed = settings(deadline=None)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 12)


def unit_rows(n: int, seed: int) -> Matrix:
    X = np.random.default_rng(seed).standard_normal((n, DIM))
    rows: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return rows


def names(n: int) -> list[str]:
    return [f"label {i}" for i in range(n)]


@given(seed=seeds, n=counts)
@untimed
def test_scores_of_one_label_a_text_sum_to_one_and_fall(seed: int, n: int) -> None:
    *prototypes, y = unit_rows(n + 1, seed)
    found = predict_one(y, np.stack(prototypes), names(n), multi_label=False)
    assert sum(found.scores) == pytest.approx(1.0, abs=n * ROUNDING)
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert sorted(found.labels) == sorted(names(n))
    assert found.label == found.labels[0]


@given(seed=seeds, n=counts)
@untimed
def test_the_nearest_label_comes_first(seed: int, n: int) -> None:
    P = unit_rows(n, seed)
    wanted = seed % n
    found = predict_one(P[wanted], P, names(n), multi_label=False)
    assert found.label == f"label {wanted}"


@given(seed=seeds, order=st.permutations(range(6)), multi_label=st.booleans())
@untimed
def test_asking_in_another_order_gives_each_label_the_same_score(
    seed: int, order: Sequence[int], multi_label: bool
) -> None:
    *rows, y = unit_rows(7, seed)
    P, labels = np.stack(rows), names(6)
    first = predict_one(y, P, labels, multi_label=multi_label)
    second = predict_one(y, P[list(order)], [labels[i] for i in order], multi_label=multi_label)
    expected = dict(zip(first.labels, first.scores, strict=True))
    # The sum of the softmax is taken in another order: the last decimal may move.
    assert dict(zip(second.labels, second.scores, strict=True)) == pytest.approx(expected, abs=2 * ROUNDING)


@pytest.mark.parametrize("multi_label", [False, True])
def test_equal_scores_stay_in_the_order_asked(multi_label: bool) -> None:
    (x,) = unit_rows(1, 0)
    P = np.stack([x] * 5)
    for order in itertools.islice(itertools.permutations(names(5)), 20):
        assert predict_one(x, P, order, multi_label=multi_label).labels == order


@given(seed=seeds, n=st.integers(2, 8))
@untimed
def test_a_multi_label_score_does_not_depend_on_the_other_labels(seed: int, n: int) -> None:
    *rows, y = unit_rows(n + 1, seed)
    P = np.stack(rows)
    together = predict_one(y, P, names(n), multi_label=True)
    scores = dict(zip(together.labels, together.scores, strict=True))
    for i, label in enumerate(names(n)):
        (alone,) = predict_one(y, P[i : i + 1], [label], multi_label=True).scores
        assert scores[label] == pytest.approx(alone, abs=2 * ROUNDING)


def text_at_cosine(cosine: float, prototype: Matrix) -> Matrix:
    """A unit vector at a given cosine to the first axis."""
    y = np.zeros(DIM)
    y[0], y[1] = cosine, np.sqrt(1.0 - cosine**2)
    assert prototype[0] == 1.0
    text: Matrix = y.astype(np.float32)
    return text


@pytest.mark.parametrize(("offset", "applies"), [(0.02, True), (-0.02, False)])
def test_no_label_applies_below_the_midpoint(offset: float, applies: bool) -> None:
    prototype = np.zeros(DIM, dtype=np.float32)
    prototype[0] = 1.0
    y = text_at_cosine(zero_shot.MULTI_LABEL_MIDPOINT + offset, prototype)
    found = predict_one(y, prototype[None], ["only"], multi_label=True)
    assert found.label == ("only" if applies else None)
    assert found.labels == ("only",)
    assert (found.scores[0] >= zero_shot.MULTI_LABEL_ACCEPT) == applies


class CountingEncoder:
    """Gives each text its own vector and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Matrix:
        self.asked.append(list(texts))
        return np.concatenate([unit_rows(1, sum(text.encode())) for text in texts])


def centred(seed: int) -> Adapter:
    return Adapter(encoder="e", dim=DIM, steps=(Centre(mean=unit_rows(1, seed)[0] * np.float32(0.3)),))


def test_labels_are_encoded_once_whatever_the_adapter() -> None:
    encode = CountingEncoder()
    cache = PrototypeCache(encode)
    for adapter in (identity("e", DIM), centred(1), centred(2), centred(1)):
        P = cache.prototypes(("sport", "{braces}"), TEMPLATE, adapter)
        raw = encode(["This text is about sport.", "This text is about {braces}."])
        assert P.tobytes() == adapter.transform_many(raw).tobytes()
    assert encode.asked[0] == ["This text is about sport.", "This text is about {braces}."]
    assert len(encode.asked) == 1 + 4  # the four are this test's own


def test_another_template_strength_or_order_is_another_set() -> None:
    encode = CountingEncoder()
    cache = PrototypeCache(encode)
    first = cache.prototypes(("a", "b"), TEMPLATE, centred(1))
    assert cache.prototypes(("b", "a"), TEMPLATE, centred(1)).tobytes() == first[::-1].tobytes()
    assert cache.prototypes(("a", "b"), "{label}", centred(1)).tobytes() != first.tobytes()
    assert (
        cache.prototypes(("a", "b"), TEMPLATE, centred(1), Context(strength=0.5)).tobytes() != first.tobytes()
    )
    assert cache.prototypes(("a", "b"), TEMPLATE, centred(1)).tobytes() == first.tobytes()
    assert len(encode.asked) == 3


def test_the_cache_keeps_no_more_sets_than_it_says_and_forgets_no_answer() -> None:
    encode = CountingEncoder()
    cache = PrototypeCache(encode)
    adapter = centred(1)
    first = cache.prototypes(("label 0",), TEMPLATE, adapter)
    for i in range(zero_shot.CACHE_SETS + 5):
        cache.prototypes((f"label {i}",), TEMPLATE, adapter)
    assert len(cache._raw) == len(cache._aligned) == zero_shot.CACHE_SETS
    n_asked = len(encode.asked)
    assert cache.prototypes(("label 0",), TEMPLATE, adapter).tobytes() == first.tobytes()
    assert len(encode.asked) == n_asked + 1
