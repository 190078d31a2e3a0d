"""Label sets and what was fitted to them: stored as they were, refused where they cannot be, used where they belong."""

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest

from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.errors import LabelsError
from alignstream.models.labels import label_set as label_sets
from alignstream.models.labels.fitted_labels import FittedLabels, encode_prototypes
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.labels.zero_shot import predict_one

DIM = 8
TEMPLATE = "It is {label}."
#: float16 has eleven bits.
FLOAT16 = 1e-3


def rows(n: int, seed: int = 0) -> Matrix:
    X = np.random.default_rng(seed).standard_normal((n, DIM))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def centred() -> Adapter:
    return Adapter("e" * 64, DIM, (Centre(np.full(DIM, 0.1, dtype=np.float32)),))


def fitted(**changes: Any) -> FittedLabels:
    values: dict[str, Any] = {
        "encoder": "e" * 64, "adapter_version": centred().version, "template": TEMPLATE, "dim": DIM,
        "prototypes": encode_prototypes(rows(3)), "bias": (0.1, 0.0, -0.1), "temperature": 0.05,
        "abstain_margin": 0.2, "report": {"texts": 300},
    }  # fmt: skip
    return FittedLabels(**(values | changes))


def test_sets_from_before_keep_their_bytes_and_their_version() -> None:
    old = b'{"labels":["sports","science"],"template":null,"multi_label":false}'
    found = label_sets.from_bytes(old)
    assert found.blob == old
    assert found.version == "5e1155315ba3"
    assert found == LabelSet(("sports", "science"))
    assert label_sets.from_bytes(old[:-1] + b',"steady_mix":false,"fitted":null}').blob == old


def test_what_was_fitted_and_that_the_mix_is_steady_survive_storing() -> None:
    labels = LabelSet(("a", "b", "c"), steady_mix=True, fitted=fitted())
    again = label_sets.from_bytes(labels.blob)
    assert again == labels
    assert again.version == labels.version != LabelSet(("a", "b", "c")).version
    assert again.fitted is not None
    assert np.abs(again.fitted.matrix - rows(3)).max() < FLOAT16
    assert np.linalg.norm(again.fitted.matrix, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_the_largest_set_fits_into_what_is_read() -> None:
    prototypes = np.eye(64, 1024, dtype=np.float32)
    labels = LabelSet(
        tuple(f"{'x' * 190}{i}" for i in range(64)),
        fitted=fitted(dim=1024, prototypes=encode_prototypes(prototypes), bias=(0.123456,) * 64),
    )
    assert label_sets.from_bytes(labels.blob) == labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prototypes": encode_prototypes(rows(2))}, "2 fitted prototypes for 3 labels"),
        ({"prototypes": encode_prototypes(rows(3) * 2)}, "does not have length 1"),
        ({"prototypes": encode_prototypes(np.full((3, DIM), np.nan))}, "not finite"),
        ({"prototypes": "!"}, "not base64"),
        ({"prototypes": base64.b64encode(b"123").decode()}, "not whole rows of 8 float16 numbers"),
        ({"prototypes": ""}, "not whole rows of 8 float16 numbers"),
        ({"dim": 0}, "prototypes have dimension 0"),
        ({"bias": (0.0, 0.0)}, "fitted bias must be 3 finite numbers"),
        ({"bias": (0.0, 0.0, float("inf"))}, "fitted bias must be 3 finite numbers"),
        ({"thresholds": (0.0, 0.0, 0.0)}, "multi-label set needs"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": float("nan")}, "above 0"),
        ({"abstain_margin": 1.5}, "between 0 and 1"),
    ],
)
def test_what_cannot_have_been_fitted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        LabelSet(("a", "b", "c"), fitted=fitted(**changes))


def test_stored_values_are_checked_as_well() -> None:
    stored = json.loads(LabelSet(("a", "b", "c"), fitted=fitted()).blob)
    stored["labels"] = ["a", "b"]
    with pytest.raises(LabelsError, match="for 2 labels"):
        label_sets.from_bytes(msgspec.json.encode(stored))
    stored["fitted"]["surprise"] = 1
    with pytest.raises(LabelsError, match="surprise"):
        label_sets.from_bytes(msgspec.json.encode(stored))


def test_it_serves_its_own_adapter_and_template_and_no_other() -> None:
    found = fitted()
    assert found.serves(centred(), TEMPLATE)
    assert found.serves(centred(), TEMPLATE, Context(language="de", strength=1.0))
    assert not found.serves(centred(), "{label}")
    assert not found.serves(identity("e" * 64, DIM), TEMPLATE)
    assert not found.serves(Adapter("f" * 64, DIM, centred().steps), TEMPLATE)
    for override in ({"strength": 0.5}, {"shrinkage": 0.0}, {"temperature": 1.0}):
        assert not found.serves(centred(), TEMPLATE, Context(**override))


def test_scores_are_a_softmax_of_cosines_less_their_bias() -> None:
    found, y = fitted(abstain_margin=0.0), rows(1, seed=5)[0]
    logits = (found.matrix.astype(np.float64) @ y - np.array(found.bias)) / found.temperature
    expected = np.exp(logits) / np.exp(logits).sum()
    got = predict_one(y, found.matrix, "abc", multi_label=False, fitted=found)
    assert dict(zip(got.labels, got.scores, strict=True)) == pytest.approx(
        dict(zip("abc", expected, strict=True)), abs=1e-6
    )


def test_it_abstains_below_the_margin_and_says_the_scores_all_the_same() -> None:
    y = rows(1, seed=5)[0]
    free = predict_one(y, fitted().matrix, "abc", multi_label=False, fitted=fitted(abstain_margin=0.0))
    margin = free.scores[0] - free.scores[1]
    for step, label in ((-1e-5, free.label), (1e-5, None)):
        found = fitted(abstain_margin=margin + step)
        held = predict_one(y, found.matrix, "abc", multi_label=False, fitted=found)
        assert held.label == label
        assert held.scores == free.scores


def test_each_label_of_a_multi_label_set_has_its_own_threshold() -> None:
    y = rows(1, seed=5)[0]
    found = fitted(bias=(0.0, 0.0, 0.0), thresholds=(0.0, 0.0, 0.0), abstain_margin=0.0)
    cosines = found.matrix.astype(np.float64) @ y
    for offset, applies in ((0.01, False), (-0.01, True)):
        own = fitted(bias=(0.0, 0.0, 0.0), thresholds=tuple(cosines + offset), abstain_margin=0.0)
        got = predict_one(y, own.matrix, "abc", multi_label=True, fitted=own)
        assert (got.label is not None) == applies
        assert all((score >= 0.5) == applies for score in got.scores)


def test_one_label_alone_is_never_near_a_second() -> None:
    found = fitted(prototypes=encode_prototypes(rows(1)), bias=(0.0,), abstain_margin=1.0)
    assert predict_one(rows(1, 3)[0], found.matrix, "a", multi_label=False, fitted=found).label == "a"
