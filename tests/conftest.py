"""How tests are started and shared out among processes, whoever runs them."""

import re
import signal
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

#: A test that runs on Apache Kafka says so in its parameters.
ON_KAFKA: Final = re.compile(r"\[(.*-)?kafka(-.*)?\]$")


def pytest_configure(config: pytest.Config) -> None:
    """Give children the signals of a program that a person starts; keep the order of what is shared out.

    A background shell ignores SIGINT, and children inherit that. A handler is not inherited: with one in its place,
    which goes on ignoring SIGINT here, every child starts with the default.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    config.option.loadscopereorder = False


class ByServer(LoadScopeScheduling):
    """Gives a process the tests of one file, so that what a file sets up is set up once.

    All tests on Apache Kafka go to one process: each process has the servers of its own session, and a broker on the
    JVM takes memory that two of them need not take.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "kafka" if ON_KAFKA.search(nodeid) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Return what shares tests out among the processes of ``pytest -n``."""
    return ByServer(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest where several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not ON_KAFKA.search(item.nodeid), "/integration/" not in item.nodeid))
