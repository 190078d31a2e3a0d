"""How tests are started and shared out among processes, whoever runs them."""

import re
import signal
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

#: A test that runs on Apache Kafka says so in its parameters.
ON_KAFKA: Final = re.compile(r"\[(.*-)?kafka(-.*)?\]$")
#: What runs in one process each.
KAFKA, ENCODER, ENCODERS = "kafka", "encoder", "encoders"
#: Tests that load the embedded encoder, or torch: here, or in a process that they start.
IN_PROCESS: Final = re.compile(r"tests/integration/(figures|export)/")
IN_CHILDREN: Final = re.compile(
    r"tests/integration/(demo|docs)/|tests/integration/worker/test_(service|following_served)"
    r"|tests/integration/cli/(test_label_fit|test_operations\.py::test_an_adapter_that_loses)"
)


def pytest_configure(config: pytest.Config) -> None:
    """Give children the signals of a program that a person starts; keep the order of what is shared out.

    A background shell ignores SIGINT, and children inherit that. A handler is not inherited: with one in its place,
    which goes on ignoring SIGINT here, every child starts with the default.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    config.option.loadscopereorder = False


class ByServer(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process the tests of one file, so that what a file sets up is set up once.

    All tests on Apache Kafka go to one process, and those with the real encoder to two others, one that loads it and
    one that starts what loads it: each process has the servers of its own session, and another JVM or another encoder
    takes memory that one after the other need not.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the name of what runs in one process, in its order."""
    for name, pattern in ((ENCODER, IN_PROCESS), (ENCODERS, IN_CHILDREN)):
        if pattern.match(nodeid):
            return name
    return KAFKA if ON_KAFKA.search(nodeid) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Return what shares tests out among the processes of ``pytest -n``."""
    return ByServer(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest where several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[int, bool]:
    group = group_of(item.nodeid)
    in_order = 0 if group in {KAFKA, ENCODER, ENCODERS} else 1 if "integration/" in group else 2
    return in_order, not ON_KAFKA.search(item.nodeid)
