"""Steps, alone and in chains, are pure functions that give unit vectors. No encoder, no network."""

import inspect
import threading

import numpy as np
from bounded import join
from hypothesis import given
from hypothesis import strategies as st
from step_examples import (
    DIM,
    ENCODER,
    MAX_NORM_ERROR,
    NAMES,
    alone,
    chains,
    contexts,
    every_kind,
    example_of,
    seeds,
    tags,
    unit_rows,
    untimed,
)

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.kinds import KINDS
from alignstream.models.adapter.steps.step import Step, Tuning
from alignstream.models.arrays import Matrix, Vector64


def test_every_class_of_step_is_registered_under_its_own_name() -> None:
    assert {step for step in Step.__subclasses__() if not inspect.isabstract(step)} == set(KINDS.values())
    assert all(KINDS[kind].kind == kind for kind in KINDS)


def check_pure(adapter: Adapter, X: Matrix, context: Context) -> None:
    before = X.tobytes()
    first, again = adapter.transform_many(X, context), adapter.transform_many(X, context)
    assert X.tobytes() == before
    assert first.tobytes() == again.tobytes()
    singles = [adapter.transform_one(x, context) for x in X]
    assert first.tobytes() == b"".join(y.tobytes() for y in singles)
    reverse = adapter.transform_many(np.asfortranarray(X[::-1]), context)
    assert reverse[::-1].tobytes() == first.tobytes()
    assert X.tobytes() == before
    for Y in (first, *singles):
        assert Y.dtype == np.float32
        assert not np.shares_memory(X, Y)
    norms = np.linalg.norm(first.astype(np.float64), axis=1)
    assert np.abs(norms - 1.0).max(initial=0.0) <= MAX_NORM_ERROR


@every_kind
@given(seed=seeds, n=st.integers(0, 5), context=contexts())
@untimed
def test_a_member_alone_is_pure_and_gives_unit_vectors(
    kind: str, seed: int, n: int, context: Context
) -> None:
    check_pure(alone(kind, seed), unit_rows(seed, n), context)


@given(adapter=chains(), seed=seeds, n=st.integers(0, 5), context=contexts())
@untimed
def test_a_chain_is_pure_and_gives_unit_vectors(
    adapter: Adapter, seed: int, n: int, context: Context
) -> None:
    check_pure(adapter, unit_rows(seed, n), context)


@every_kind
@given(seed=seeds, tag=tags, shrinkage=st.floats(0.0, 1.0))
@untimed
def test_a_member_leaves_its_input_and_itself_as_they_are(
    kind: str, seed: int, tag: str | None, shrinkage: float
) -> None:
    step = example_of(kind, seed)
    stored = {name: tensor.tobytes() for name, tensor in step.tensors().items()}
    x: Vector64 = unit_rows(seed, 1)[0].astype(np.float64)
    before, tuning = x.tobytes(), Tuning(tag, shrinkage)
    y = step.transform_one(x, tuning)
    assert y.shape == (step.dim,)
    assert y.dtype == np.float64
    assert step.transform_one(x, tuning).tobytes() == y.tobytes()
    assert x.tobytes() == before
    assert {name: tensor.tobytes() for name, tensor in step.tensors().items()} == stored
    assert step.describe()


def test_threads_share_a_chain() -> None:
    adapter = Adapter(ENCODER, DIM, tuple(example_of(kind, 5) for kind in NAMES))
    X, expected = unit_rows(1, 40), []
    contexts_ = [Context(language=tag) for tag in (None, "pt", "zh-TW")]
    expected = [adapter.transform_many(X, context).tobytes() for context in contexts_]
    found: list[list[bytes]] = []

    def work() -> None:
        found.append([adapter.transform_many(X, context).tobytes() for context in contexts_])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    join(threads, "four threads transform 40 rows three times")
    assert found == [expected] * 4
