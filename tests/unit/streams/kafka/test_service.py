"""A service that cannot leave is ended, after a crash sooner than when it was told to stop."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import NoReturn

import pytest

from alignstream.streams.kafka import service
from alignstream.streams.kafka.service import CRASH_SECONDS, END_SECONDS, FaustService
from alignstream.streams.kafka.watchdog import EXIT_STALLED


class Ended(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("is_crashed", "seconds"), [(True, CRASH_SECONDS), (False, END_SECONDS)])
def test_a_service_that_does_not_leave_is_ended(
    monkeypatch: pytest.MonkeyPatch, *, is_crashed: bool, seconds: float
) -> None:
    app = SimpleNamespace(should_stop=False, crashed=is_crashed)
    slept: list[float] = []

    def sleep(wanted: float) -> None:
        slept.append(wanted)
        app.should_stop = len(slept) > 2

    def end(code: int) -> NoReturn:
        raise Ended(code)

    monkeypatch.setattr(service, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(os, "_exit", end)
    watch: Callable[..., None] = FaustService._watch_the_end
    with pytest.raises(Ended) as ended:
        watch(SimpleNamespace(), app)
    assert ended.value.args == (EXIT_STALLED,)
    assert slept[-1] == seconds
    assert sum(slept[:-1]) >= 2 * slept[0]  # it looks once a second while the service runs
