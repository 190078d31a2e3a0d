"""What may be committed: never past a record in hand, whatever was fetched, sought, repeated or skipped."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.streams.kafka.transport import LowWater


def handed_out(*offsets: int) -> LowWater:
    low_water = LowWater()
    for offset in offsets:
        low_water.handed_out(offset)
    return low_water


def test_nothing_is_known_before_the_first_acknowledgement() -> None:
    low_water = handed_out(5, 6)
    assert low_water.offset is None
    assert (low_water.first_pending, low_water.n_pending) == (5, 2)


def test_the_mark_follows_acknowledgements_in_order() -> None:
    low_water = handed_out(5, 6, 7)
    low_water.acked(5)
    assert low_water.offset == 6
    low_water.acked(6)
    low_water.acked(7)
    assert (low_water.offset, low_water.first_pending, low_water.n_pending) == (8, None, 0)


def test_the_mark_waits_for_a_record_that_is_still_in_hand() -> None:
    low_water = handed_out(5, 6, 7)
    low_water.acked(7)
    low_water.acked(6)
    assert low_water.offset is None
    low_water.acked(5)
    assert low_water.offset == 8


def test_the_first_record_of_a_partition_is_waited_for_too() -> None:
    low_water = handed_out(0, 1)
    low_water.acked(1)
    assert low_water.offset is None


def test_offsets_that_do_not_exist_are_no_obstacle() -> None:
    low_water = handed_out(5, 9, 100)
    low_water.acked(5)
    assert low_water.offset == 6
    low_water.acked(9)
    low_water.acked(100)
    assert low_water.offset == 101


def test_a_record_delivered_again_by_a_seek_counts_once() -> None:
    low_water = handed_out(5, 6, 7)
    low_water.acked(5)
    for offset in (5, 6, 7, 8):
        low_water.handed_out(offset)
    assert low_water.n_pending == 3
    low_water.acked(5)
    low_water.acked(6)
    assert low_water.offset == 7
    low_water.acked(6)
    low_water.acked(7)
    low_water.acked(8)
    assert low_water.offset == 9


def test_a_repeated_or_unknown_acknowledgement_moves_nothing_and_is_not_remembered() -> None:
    low_water = handed_out(5, 6)
    low_water.acked(5)
    low_water.acked(5)
    low_water.acked(3)
    assert low_water.offset == 6
    low_water.acked(6)
    low_water.acked(6)
    assert low_water.offset == 7
    assert low_water._acked == set()


def test_an_acknowledgement_of_a_former_owner_does_not_count_for_what_was_never_handed_out() -> None:
    low_water = LowWater()
    low_water.acked(8)
    assert low_water.offset is None
    low_water.handed_out(7)
    low_water.handed_out(8)
    low_water.acked(8)
    assert low_water.offset is None
    low_water.acked(7)
    assert low_water.offset == 9


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.integers(1, 3), min_size=1, max_size=30),
    start=st.integers(0, 5),
    seed=st.integers(0, 2**16),
)
def test_the_mark_is_always_one_above_the_longest_finished_run(
    steps: list[int], start: int, seed: int
) -> None:
    draw = random.Random(seed)
    offsets, offset = [], start
    for step in steps:
        offsets.append(offset)
        offset += step
    low_water, done, sent = LowWater(), set[int](), 0
    while len(done) < len(offsets):
        choice = draw.random()
        if sent < len(offsets) and choice < 0.5:
            low_water.handed_out(offsets[sent])
            sent += 1
        elif sent and choice < 0.6:
            for again in offsets[draw.randrange(sent) : sent]:
                low_water.handed_out(again)
        elif sent:
            finished = draw.choice(offsets[:sent])
            low_water.acked(finished)
            done.add(finished)
        run = [offset for position, offset in enumerate(offsets) if done.issuperset(offsets[: position + 1])]
        assert low_water.offset == (run[-1] + 1 if run else None)
        assert low_water.n_pending == sent - len(run)


@pytest.mark.parametrize("n_records", [100_000])
def test_a_long_run_costs_no_more_than_its_length(n_records: int) -> None:
    low_water = handed_out(*range(n_records))
    for offset in reversed(range(n_records)):
        low_water.acked(offset)
    assert low_water.offset == n_records
