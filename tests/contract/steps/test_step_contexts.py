"""A space is named by what a message fixes; a translation memory moves what it knows and nothing else."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from step_examples import DIM, ENCODER, contexts, rows, seeds, unit_rows, untimed

from alignstream.models.adapter.adapter import Adapter, space
from alignstream.models.adapter.context import Context, KnownLanguage, choose
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.adapter.steps.step import UNTUNED


def empty(**parameters: float) -> TranslationMemory:
    nothing = np.zeros((0, DIM), dtype=np.float32)
    return TranslationMemory(nothing, nothing, **parameters)


@given(seed=seeds)
@untimed
def test_an_empty_memory_changes_nothing(seed: int) -> None:
    x = unit_rows(seed, 1)[0]
    x64 = x.astype(np.float64)
    assert empty().transform_one(x64, UNTUNED).tobytes() == x64.tobytes()
    centre = Centre(rows(seed + 1, 1)[0])
    with_memory, without = (
        Adapter(ENCODER, DIM, steps).transform_one(x) for steps in ((centre, empty()), (centre,))
    )
    assert with_memory.tobytes() == without.tobytes()


def test_a_known_source_moves_to_its_translation() -> None:
    keys, values = unit_rows(1, 3), unit_rows(2, 3)
    adapter = Adapter(ENCODER, DIM, (TranslationMemory(keys, values, 1e-3, 1.0),))
    np.testing.assert_allclose(adapter.transform_many(keys), values, atol=1e-5)


@given(context=contexts(), other=contexts())
@untimed
def test_spaces_differ_by_what_a_message_fixes_and_not_by_its_language(
    context: Context, other: Context
) -> None:
    def fixed(item: Context) -> dict[str, float]:
        return {name: value for name, value in item.overrides.items() if (name, value) != ("strength", 1.0)}

    spaces = [space(ENCODER, "v1", item) for item in (context, other)]
    # 0.0 and -0.0 are written apart; that is another name, not a wrong one.
    assume(
        not any(
            value == 0.0 and np.signbit(value) for item in (context, other) for value in fixed(item).values()
        )
    )
    assert (spaces[0] == spaces[1]) == (fixed(context) == fixed(other))
    assert space(ENCODER, "v1", dataclasses.replace(context, language="de")) == spaces[0]


@pytest.mark.parametrize("name", ["strength", "shrinkage", "temperature"])
def test_each_override_names_a_space_of_its_own(name: str) -> None:
    fixed: list[dict[str, Any]] = [{}, {name: 0.25}, {name: 0.5}]
    names = {space(ENCODER, "v1", Context(**item)) for item in fixed}
    assert len(names) == 3
    assert names.isdisjoint({space(ENCODER, "v2"), space("f" * 64, "v1")})


states = st.builds(
    KnownLanguage,
    language=st.sampled_from([None, "pt-Latn"]),
    n_texts=st.integers(0, 10**6),
    temperature=st.floats(0.01, 1.0),
)


@given(context=contexts(), state=states)
@untimed
def test_choosing_is_pure_and_gives_reasons(context: Context, state: KnownLanguage) -> None:
    found = choose(context, state)
    assert choose(dataclasses.replace(context), dataclasses.replace(state)) == found
    for name in ("strength", "shrinkage", "temperature"):
        choice = getattr(found, name)
        own = context.overrides.get(name)
        assert choice.reason
        assert (choice.reason == "set by the message") == (own is not None)
        if own is not None:
            assert choice.value == own
    if context.strength is None:
        assert found.strength.value == 1.0
    if context.temperature is None:
        assert found.temperature.value == state.temperature
    if context.shrinkage is None:
        assert 0.0 <= found.shrinkage.value < 1.0
        if context.language is None or state.language is None:
            assert found.shrinkage.value == 0.0


def test_more_texts_behind_a_prototype_make_its_tag_count_more() -> None:
    values = [choose(Context("pt"), KnownLanguage("pt-Latn", n)).shrinkage.value for n in (0, 1, 20, 500)]
    assert values == sorted(values)
    assert (values[0], values[2]) == (0.0, 0.5)
