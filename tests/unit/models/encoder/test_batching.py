"""Micro-batches: every text once, near its own length, within the budget."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignstream.models.encoder.batching import micro_batches

BUDGET = 100


def groups(lengths: list[int], budget: int = BUDGET) -> list[list[int]]:
    return list(micro_batches(lengths, max_batch_tokens=budget))


@given(lengths=st.lists(st.integers(1, 150), max_size=60))
def test_every_text_is_in_exactly_one_group(lengths: list[int]) -> None:
    assert sorted(position for group in groups(lengths) for position in group) == list(range(len(lengths)))


@given(lengths=st.lists(st.integers(1, 150), max_size=60))
def test_a_group_is_within_the_budget_or_one_text_alone(lengths: list[int]) -> None:
    for group in groups(lengths):
        width = max(lengths[position] for position in group)
        assert len(group) == 1 or len(group) * width <= BUDGET


@given(lengths=st.lists(st.integers(1, 150), max_size=60))
def test_groups_are_sorted_by_length_so_that_the_last_of_each_is_its_width(lengths: list[int]) -> None:
    order = [lengths[position] for group in groups(lengths) for position in group]
    assert order == sorted(order)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_no_group_ends_before_it_is_full(lengths: list[int]) -> None:
    found = groups(lengths)
    for group, following in itertools.pairwise(found):
        assert (len(group) + 1) * lengths[following[0]] > BUDGET


def test_texts_of_equal_length_stay_in_order() -> None:
    assert groups([5] * 45) == [list(range(20)), list(range(20, 40)), list(range(40, 45))]


@pytest.mark.parametrize(
    ("lengths", "expected"), [([], []), ([150], [[0]]), ([150, 1, 150], [[1], [0], [2]])]
)
def test_edges(lengths: list[int], expected: list[list[int]]) -> None:
    assert groups(lengths) == expected
