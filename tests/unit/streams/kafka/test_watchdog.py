"""A worker that stands still while records wait is ended; one that works, or has nothing to do, is not."""

import asyncio
from collections.abc import Mapping

import pytest

from alignstream.streams.kafka.watchdog import EXIT_STALLED, Position, Watchdog
from alignstream.streams.observe.health import Health
from alignstream.streams.observe.sensors import Metrics

PLACE = ("documents.v1", 0)
OTHER = ("documents.v1", 1)
STALL_SECONDS = 120.0

Positions = Mapping[tuple[str, int], Position] | None


class Scene:
    """A watchdog on positions that a test sets; ends are noted instead of ending the tests."""

    def __init__(self) -> None:
        self.positions: Positions = None
        self.n_progress = 0
        self.metrics = Metrics()
        self.health = Health()
        self.codes: list[int] = []
        self.watchdog = Watchdog(
            positions=lambda: self.positions,
            n_progress=lambda: self.n_progress,
            metrics=self.metrics,
            health=self.health,
            stall_timeout_seconds=STALL_SECONDS,
            end=self.codes.append,
        )

    def lag(self, place: tuple[str, int]) -> float | None:
        return self.metrics.registry.get_sample_value(
            "alignstream_consumer_lag_records", {"topic": place[0], "partition": str(place[1])}
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_records_that_wait_while_nothing_moves_end_the_process(scene: Scene) -> None:
    scene.positions = {PLACE: Position(5, 9)}
    scene.watchdog.look(1000.0)
    scene.watchdog.look(1000.0 + STALL_SECONDS - 1)
    assert scene.codes == []
    scene.watchdog.look(1000.0 + STALL_SECONDS)
    assert scene.codes == [EXIT_STALLED]
    assert scene.health.death() is not None
    assert "4 records wait" in str(scene.health.death())


def test_records_that_go_on_arriving_are_no_progress(scene: Scene) -> None:
    for second in range(0, 200, 10):
        scene.positions = {PLACE: Position(5, 9 + second)}
        scene.watchdog.look(1000.0 + second)
    assert scene.codes[:1] == [EXIT_STALLED]


def test_every_finished_record_is_progress(scene: Scene) -> None:
    for second in range(0, 1000, 100):
        scene.positions = {PLACE: Position(5 + second, 99_999)}
        scene.watchdog.look(1000.0 + second)
    assert scene.codes == []


def test_one_partition_that_moves_speaks_for_the_worker(scene: Scene) -> None:
    for second in range(0, 1000, 100):
        scene.positions = {PLACE: Position(5, 9), OTHER: Position(second, 99_999)}
        scene.watchdog.look(1000.0 + second)
    assert scene.codes == []


def test_a_long_batch_is_progress_while_texts_are_encoded(scene: Scene) -> None:
    scene.positions = {PLACE: Position(5, 9)}
    for second in range(0, 1000, 100):
        scene.n_progress += 1
        scene.watchdog.look(1000.0 + second)
    assert scene.codes == []


def test_a_worker_with_nothing_to_do_is_left_alone_for_ever(scene: Scene) -> None:
    for positions in ({PLACE: Position(9, 9)}, {}, {PLACE: Position(9, None)}, {PLACE: Position(9, 8)}):
        scene.positions = positions
        for second in (0.0, STALL_SECONDS, 100 * STALL_SECONDS):
            scene.watchdog.look(1000.0 + second)
    assert scene.codes == []


def test_the_clock_starts_when_records_begin_to_wait(scene: Scene) -> None:
    scene.positions = {PLACE: Position(9, 9)}
    scene.watchdog.look(1000.0)
    scene.watchdog.look(5000.0)
    scene.positions = {PLACE: Position(9, 10)}
    scene.watchdog.look(5000.0 + STALL_SECONDS - 1)
    assert scene.codes == []
    scene.watchdog.look(5000.0 + STALL_SECONDS)
    assert scene.codes == [EXIT_STALLED]


def test_a_partition_whose_place_is_never_found_is_a_stall(scene: Scene) -> None:
    scene.positions = {PLACE: Position(None, 9)}
    scene.watchdog.look(1000.0)
    scene.watchdog.look(1000.0 + STALL_SECONDS)
    assert scene.codes == [EXIT_STALLED]


def test_a_worker_that_never_gets_partitions_is_ended(scene: Scene) -> None:
    scene.watchdog.look(1000.0)
    scene.watchdog.look(1000.0 + STALL_SECONDS)
    assert scene.codes == [EXIT_STALLED]
    assert "no partitions" in str(scene.health.death())


def test_lag_is_shown_for_what_is_assigned_and_for_nothing_else(scene: Scene) -> None:
    scene.positions = {PLACE: Position(5, 9), OTHER: Position(7, 7)}
    scene.watchdog.look(1000.0)
    assert (scene.lag(PLACE), scene.lag(OTHER)) == (4.0, 0.0)
    scene.positions = {OTHER: Position(7, 8)}
    scene.watchdog.look(1001.0)
    assert (scene.lag(PLACE), scene.lag(OTHER)) == (None, 1.0)


def test_it_tells_that_the_loop_turns_until_it_is_cancelled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignstream.streams.kafka.watchdog.LOOK_SECONDS", 0.001)
    scene.positions = {}

    async def watch() -> None:
        turned = asyncio.Event()
        monkeypatch.setattr(scene.health, "loop_turned", turned.set)
        task = asyncio.create_task(scene.watchdog.run())
        await asyncio.wait_for(turned.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(watch())
    assert scene.codes == []
