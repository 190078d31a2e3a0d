"""Steps, chains and contexts of every kind, for the laws of steps."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.kinds import KINDS
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import EXAMPLE_LANGUAGES, Step
from alignstream.models.arrays import Matrix

ENCODER = "e" * 64
DIM = 6
#: float32 rows that were normalised in float64.
MAX_NORM_ERROR = 1e-6
LANGUAGES = EXAMPLE_LANGUAGES

seeds = st.integers(0, 2**32 - 1)
#: A shared machine may pause any example; laws are about results, not time.
untimed = settings(deadline=None, max_examples=40)
overrides = st.one_of(st.none(), st.floats(0.0, 1.0))
tags = st.sampled_from([None, "pt-BR", "zh_TW", "no", "prs", "sr-Latn", "ja", "qaa-nothing-of-the-sort", "!"])


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    temperature = draw(st.one_of(st.none(), st.floats(0.001, 10.0)))
    return Context(draw(tags), draw(overrides), draw(overrides), temperature)


def rows(seed: int, n: int, dim: int = DIM) -> Matrix:
    X: Matrix = np.random.default_rng([seed, n, dim]).standard_normal((n, dim)).astype(np.float32)
    return X


def unit_rows(seed: int, n: int, dim: int = DIM) -> Matrix:
    X = rows(seed, n, dim).astype(np.float64)
    unit: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return unit


def attention_step(seed: int, **changes: Any) -> PrototypeAttention:
    return dataclasses.replace(PrototypeAttention.example(DIM, seed), **changes)


def example_of(kind: str, seed: int = 3) -> Step:
    return KINDS[kind].example(DIM, seed)


#: Laws run on whatever is registered: a new kind of step has them all with its line in ``kinds``.
NAMES = sorted(KINDS)
every_kind = pytest.mark.parametrize("kind", NAMES)


def alone(kind: str, seed: int = 3) -> Adapter:
    return Adapter(ENCODER, DIM, (example_of(kind, seed),))


@st.composite
def chains(draw: st.DrawFn) -> Adapter:
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4))
    return Adapter(ENCODER, DIM, tuple(example_of(name, draw(seeds)) for name in names), {"steps": names})
