"""A running worker as the tests see it: its metrics, its journal, what was sent to it, and what it published."""

import atexit
import contextlib
import dataclasses
import functools
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fork_server import ForkServer
from oracle import Header, Outputs, Place
from prometheus_client.parser import text_string_to_metric_families

from alignstream.ops.local.brokers import Broker
from alignstream.ops.local.redis import RedisServer
from alignstream.ops.local.supervised import Worker
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DOCUMENTS

#: The least that brokers allow: a killed worker's partitions are free again after this long.
SESSION_TIMEOUT_SECONDS = 6.0


def scrape(worker: Worker) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the worker's metrics by name and labels."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.metrics_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric(worker: Worker, what: str, /, **labels: str) -> float:
    """Return the sum of a metric's values over all series that have these labels."""
    return sum(
        value
        for (found, pairs), value in scrape(worker).items()
        if found == f"alignstream_{what}" and labels.items() <= dict(pairs).items()
    )


def ready(worker: Worker) -> tuple[int, dict[str, Any]]:
    """Return status and body of ``/readyz``."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.metrics_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def notes(state_dir: Path) -> dict[int, dict[str, Any]]:
    """Return what the crash journal in a worker's state folder holds, by partition."""
    found = {}
    for path in (state_dir / "in-flight").glob("*/*.json"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # the batch was finished meanwhile
            found[int(path.stem.rpartition("-")[2])] = json.loads(path.read_bytes())
    return found


def state_dir(worker: Worker) -> Path:
    """Return the state folder of a worker that ``start_worker`` started."""
    return worker.folder.parent / f"state-{worker.name.rpartition('-')[2]}"


def wait_for_batch(state_dir: Path) -> None:
    """Wait until a worker has records in hand."""
    deadline = time.monotonic() + 30.0
    while not notes(state_dir):
        assert time.monotonic() < deadline, "no batch was taken within 30 s"
        time.sleep(0.001)


@dataclasses.dataclass
class Service:
    """A worker with topics and a Redis of its own, what was sent to it, and what it published."""

    settings: Settings
    redis: RedisServer
    worker: Worker
    outputs: Outputs
    producer: Any

    def send(
        self,
        value: Mapping[str, Any] | bytes | None,
        *,
        key: bytes | None = None,
        headers: Iterable[Header] = (),
    ) -> Place:
        """Produce one document and return its place once it is confirmed."""
        raw = json.dumps(value).encode() if isinstance(value, Mapping) else value
        topic = self.settings.topic_prefix + DOCUMENTS
        sent = self.producer.send(topic, raw, key=key, headers=list(headers)).get(timeout=30)
        return sent.partition, sent.offset

    def vector(self, value: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Produce one document and return the value of its vector record."""
        place = self.send(value, **options)
        self.outputs.wait_for([place])
        result: dict[str, Any] = self.outputs.vector(place).json
        return result


class StartWorker(Protocol):
    """Starts a worker process that the test's end stops."""

    def __call__(self, settings: Settings | None = None, **overrides: Any) -> Worker: ...


class OpenService(Protocol):
    """Starts a worker on topics of its own, with a Redis of its own; both end with the block."""

    def __call__(
        self,
        artifact: Path,
        *,
        prepare: Callable[[Settings], object] = lambda _: None,
        **overrides: Any,
    ) -> contextlib.AbstractContextManager[Service]: ...


class RunKafka(Protocol):
    """Runs an Apache Kafka; skips where there is none."""

    def __call__(
        self, folder: Path, overrides: Mapping[str, str] | None = None
    ) -> contextlib.AbstractContextManager[Broker]: ...


# -- the command line --------------------------------------------------------------------------------

#: The script that the installation made.
ALIGNSTREAM = str(Path(sys.executable).with_name("alignstream"))
DONE, FAILED, MISUSED, IN_PART = 0, 1, 2, 3
#: Closed when the tests are over.
_at_exit = contextlib.ExitStack()
atexit.register(_at_exit.close)


#: For one command; those that load an encoder take some.
COMMAND_SECONDS = 120.0


@functools.cache
def command_server() -> ForkServer:
    """Return what runs commands for the tests of this process."""
    folder = _at_exit.enter_context(tempfile.TemporaryDirectory(prefix="alignstream-"))
    return _at_exit.enter_context(ForkServer(Path(folder)))


class Shell:
    """Runs commands with some settings in the environment, and expects an exit code."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment, "NO_COLOR": "1", "COLUMNS": "200"}

    def __call__(
        self,
        *arguments: str | Path,
        expect: int = DONE,
        stdin: bytes = b"",
        **settings: Any,
    ) -> tuple[str, str]:
        """Return standard output and standard error."""
        changes = {f"ALIGNSTREAM_{name.upper()}": value for name, value in settings.items()}
        done = command_server().run(
            [str(argument) for argument in arguments],
            environment=self.environment | changes,
            stdin=stdin,
            timeout=COMMAND_SECONDS,
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == expect, (arguments, done.returncode, out, err)
        assert "Traceback" not in err, err
        return out, err

    def json(self, *arguments: str | Path, **options: Any) -> Any:
        """Return what a command prints with ``--json``."""
        out, _ = self(*arguments, "--json", **options)
        return json.loads(out)

    def json_lines(self, *arguments: str | Path, **options: Any) -> list[Any]:
        """Return what a command prints with ``--json``, a line a value."""
        out, _ = self(*arguments, "--json", **options)
        return [json.loads(line) for line in out.splitlines()]
