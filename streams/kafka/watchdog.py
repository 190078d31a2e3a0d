"""End a stalled process, in which records wait and nothing moves but nothing fails. The supervisor restarts it."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from alignstream.streams.observe.health import Health
from alignstream.streams.observe.sensors import Metrics

logger = logging.getLogger(__name__)

#: EX_SOFTWARE. A supervisor restarts on any code; this one says that the watchdog ended the process.
EXIT_STALLED: Final = 70
LOOK_SECONDS: Final = 1.0


class Position(NamedTuple):
    """Progress in a partition: the next offset to finish and the end offset; None where unknown."""

    done: int | None
    end: int | None


class Watchdog:
    """A watchdog that ends the process when records wait and nothing progresses.

    Parameters
    ----------
    positions : callable
        Returns the Position of each assigned (topic, partition); None before the first assignment.
    n_progress : callable
        Returns a count that rises while work is done, so that a long batch counts as progress.
    metrics, health
        Updated by every check.
    stall_timeout_seconds : float
        Seconds without progress, while records wait, after which the process ends.
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
        stall_timeout_seconds: float,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._positions = positions
        self._n_progress = n_progress
        self._metrics = metrics
        self._health = health
        self._stall_seconds = stall_timeout_seconds
        self._end = end
        self._mark: object = None
        self._moved_at = time.monotonic()
        self._shown: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Check every ``LOOK_SECONDS`` until cancelled."""
        while True:
            expected = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._metrics.loop_lag.set(max(time.monotonic() - expected, 0.0))
            self._health.loop_turned()
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Check once; ``now`` is in monotonic seconds."""
        positions = self._positions()
        waiting = {
            tp: position.end - (position.done or 0)
            for tp, position in (positions or {}).items()
            if position.end is not None and position.end > (position.done or 0)
        }
        self._show(positions or {}, waiting)
        # End offsets are left out: newly arriving records are not progress.
        done = None if positions is None else {tp: position.done for tp, position in positions.items()}
        mark = (done, self._n_progress())
        if mark != self._mark or (positions is not None and not waiting):
            self._mark = mark
            self._moved_at = now
            return
        still_seconds = now - self._moved_at
        if still_seconds < self._stall_seconds:
            return
        problem = (
            f"{sum(waiting.values())} records wait"
            if positions is not None
            else "no partitions were assigned"
        )
        self._health.stalled = f"{problem} and nothing moved for {still_seconds:.0f} s"
        logger.critical("stalled: %s; ending the process. Positions: %s", self._health.stalled, positions)
        logging.shutdown()
        self._end(EXIT_STALLED)

    def _show(
        self, positions: Mapping[tuple[str, int], Position], waiting: Mapping[tuple[str, int], int]
    ) -> None:
        for tp in self._shown - set(positions):
            self._metrics.forget_lag(tp)
        self._shown = set(positions)
        self._metrics.show_lag({tp: waiting.get(tp, 0) for tp in positions}, now=time.time())
