"""Sees that records wait and nothing moves, which no error says: then the process ends, and is started anew."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from alignstream.streams.observe.health import Health
from alignstream.streams.observe.sensors import Metrics

logger = logging.getLogger(__name__)

#: EX_SOFTWARE: the supervisor restarts on any code; this one says who ended it.
EXIT_STALLED: Final = 70
LOOK_SECONDS: Final = 1.0


class Position(NamedTuple):
    """Where a partition stands: next offset to finish, next offset to be written; None where unknown."""

    done: int | None
    end: int | None


class Watchdog:
    """Compares progress with what waits.

    Parameters
    ----------
    positions : callable
        Returns (topic, partition) → Position of what is assigned; None before the first assignment.
    n_progress : callable
        A number that rises with every group of texts encoded, so that a long batch counts as progress.
    metrics, health
        Told what is seen.
    stall_seconds : float
        Without progress for so long, while records wait: the end.
    end : callable
        Ends the process; it does not return.
    """

    def __init__(
        self,
        *,
        positions: Callable[[], Mapping[tuple[str, int], Position] | None],
        n_progress: Callable[[], int],
        metrics: Metrics,
        health: Health,
        stall_seconds: float,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._positions = positions
        self._n_progress = n_progress
        self._metrics = metrics
        self._health = health
        self._stall_seconds = stall_seconds
        self._end = end
        self._mark: object = None
        self._moved_at = time.monotonic()
        self._shown: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            expected = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._metrics.loop_lag.set(max(time.monotonic() - expected, 0.0))
            self._health.loop_turned()
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Take one look; ``now`` in monotonic seconds."""
        positions = self._positions()
        waiting = {
            place: position.end - (position.done or 0)
            for place, position in (positions or {}).items()
            if position.end is not None and position.end > (position.done or 0)
        }
        self._show(positions or {}, waiting)
        # Not the ends: records that go on arriving are no progress.
        done = None if positions is None else {place: position.done for place, position in positions.items()}
        mark = (done, self._n_progress())
        if mark != self._mark or (positions is not None and not waiting):
            self._mark = mark
            self._moved_at = now
            return
        still_seconds = now - self._moved_at
        if still_seconds < self._stall_seconds:
            return
        what = (
            f"{sum(waiting.values())} records wait"
            if positions is not None
            else "no partitions were assigned"
        )
        self._health.stalled = f"{what} and nothing moved for {still_seconds:.0f} s"
        logger.critical("stalled: %s; ending the process. Positions: %s", self._health.stalled, positions)
        logging.shutdown()
        self._end(EXIT_STALLED)

    def _show(
        self, positions: Mapping[tuple[str, int], Position], waiting: Mapping[tuple[str, int], int]
    ) -> None:
        for place in self._shown - set(positions):
            self._metrics.forget_lag(place)
        self._shown = set(positions)
        self._metrics.show_lag({place: waiting.get(place, 0) for place in positions}, now=time.time())
