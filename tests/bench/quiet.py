"""How much of the machine others took meanwhile: a comparison of speeds is void while they take a core."""

import os
import time
from typing import Self

import psutil


class Others:
    """Measures, for one block of code, the share of the cores that other processes took.

    ``share`` is 0 on a machine of one's own and 1 where nothing was left. Processes that this one started
    are not others, if they live through the block; time that a hypervisor took away is.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._before = (0.0, 0.0)

    def __enter__(self) -> Self:
        self._before = (time.monotonic(), _foreign_seconds())
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.monotonic() - self._before[0]
        self.share = max(_foreign_seconds() - self._before[1], 0.0) / (wall * (os.cpu_count() or 1))


def _foreign_seconds() -> float:
    """Return processor seconds spent on everything but this process and its children, since boot."""
    times = psutil.cpu_times()
    # Guests' time is part of the user time already.
    busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
    own = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        spent = process.cpu_times()
        own += spent.user + spent.system
    return float(busy - own)
