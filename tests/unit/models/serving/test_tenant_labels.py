"""Labels as one tenant has them: feedback moves them, a steady mix refines them, and guards say why not."""

import dataclasses

import numpy as np
import pytest

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import NEUTRAL
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.serving.epoch import Epoch, LabelExamples, Memory, TaggedVectors
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.models.serving.tenant_labels import TenantLabels, TenantLabelsCache

DIM = 16
LABELS = ("red", "green", "blue")
TEMPLATE = "{label}"


def unit(X: np.ndarray) -> Matrix:
    X = X / np.linalg.norm(X, axis=-1, keepdims=True)
    return X.astype(np.float32)


PROTOTYPES = unit(np.eye(DIM)[:3])


def texts(counts: tuple[int, int, int], seed: int = 0) -> Matrix:
    """Texts of three topics that lie beside their labels, not on them."""
    rng = np.random.default_rng(seed)
    places = np.eye(DIM)[:3] + np.eye(DIM)[3:6]
    return unit(np.repeat(places, counts, axis=0) + 0.1 * rng.normal(size=(sum(counts), DIM)))


def epoch(
    bank: Matrix, *, n_keys: int = 50, is_steady: bool = True, examples: LabelExamples | None = None
) -> Epoch:
    nothing = TaggedVectors(np.zeros((0, DIM), dtype=np.float16), ())
    return Epoch(
        encoder="e", tenant="t", number=3, dim=DIM, reason="doubling", languages=(),
        means=np.zeros((0, DIM), dtype=np.float32), weights=(), dependence=1.0, n_keys=n_keys, is_steady=is_steady,
        bank=TaggedVectors(bank.astype(np.float16), ("",) * len(bank)), memory=Memory(nothing, nothing, (), ()),
        examples=examples or LabelExamples(nothing, (), ()),
    )  # fmt: skip


def labels_of(of: Epoch) -> TenantLabels:
    return TenantLabels(QueryAdaptation(Adapter("e", DIM, (Centre(np.zeros(DIM, dtype=np.float32)),)), of))


def ask(labels: TenantLabels, *, steady_mix: bool) -> Matrix | None:
    return labels.prototypes(
        "colours",
        LABELS,
        PROTOTYPES,
        template=TEMPLATE,
        context=NEUTRAL,
        is_fitted=False,
        steady_mix=steady_mix,
    )


def test_without_feedback_or_a_steady_mix_labels_are_those_that_everybody_has() -> None:
    assert ask(labels_of(epoch(texts((80, 80, 80)))), steady_mix=False) is None


def test_a_steady_mix_moves_labels_toward_the_texts_that_they_attract() -> None:
    refined = ask(labels_of(epoch(texts((80, 80, 80)))), steady_mix=True)
    assert refined is not None
    assert all(refined[topic, 3 + topic] > 0.1 for topic in range(3)), (
        "what the texts have and the labels had not"
    )
    assert (PROTOTYPES[:, 3:6] == 0).all()
    gold = np.repeat([0, 1, 2], 20)
    assert ((texts((20, 20, 20), seed=1) @ refined.T).argmax(axis=1) == gold).all()


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (epoch(texts((80, 80, 80)), is_steady=False), "changing"),
        (epoch(texts((80, 80, 80)), n_keys=3), "3 keys"),
        (epoch(texts((50, 50, 50))), "too few; 200 are needed"),
        (epoch(texts((240, 0, 0))), "one-sided"),
    ],
)
def test_a_stream_that_is_not_steady_leaves_labels_alone_whatever_its_owner_says(of: Epoch, why: str) -> None:
    labels = labels_of(of)
    assert why in (labels.why_not(LABELS, PROTOTYPES, NEUTRAL) or "")
    assert ask(labels, steady_mix=True) is None


def test_feedback_moves_its_label_alone_and_only_in_its_set() -> None:
    example = unit(np.eye(DIM)[7] + np.eye(DIM)[0])
    rows = TaggedVectors(np.stack([example] * 4).astype(np.float16), ("",) * 4)
    of = epoch(texts((5, 5, 5)), examples=LabelExamples(rows, ("colours",) * 3 + ("other",), ("red",) * 4))
    moved = ask(labels_of(of), steady_mix=False)
    assert moved is not None
    assert moved[0] @ example > PROTOTYPES[0] @ example
    np.testing.assert_allclose(moved[1:], PROTOTYPES[1:], atol=1e-6)
    other = dataclasses.replace(of, examples=LabelExamples(rows, ("other",) * 4, ("red",) * 4))
    assert ask(labels_of(other), steady_mix=False) is None


def test_the_labels_of_an_epoch_are_made_once() -> None:
    following = labels_of(epoch(texts((80, 80, 80))))._adaptation
    cache = TenantLabelsCache()
    assert cache.find(following) is cache.find(following)
    assert ask(cache.find(following), steady_mix=True) is ask(cache.find(following), steady_mix=True)
