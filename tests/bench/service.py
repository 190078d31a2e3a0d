"""The service under measurement: broker and Redis, a worker process, and what comes out with its time."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from alignstream.models.errors import AlignstreamError
from alignstream.ops.admin.registry import push_packaged
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.client.producer import produce_documents
from alignstream.ops.client.reader import Reader
from alignstream.ops.local.stack import Stack
from alignstream.ops.local.supervised import Worker, worker
from alignstream.streams.settings import PREFIX, Settings, load
from alignstream.streams.wire.topics import DOCUMENTS, VECTORS
from tests.bench.workload import Item, documents

#: Without a new result for so long, something is wrong.
PATIENCE_SECONDS: Final = 120.0
#: Outputs of one batch are handed to the producer within milliseconds; between batches lies its encoding.
SAME_BATCH_SECONDS: Final = 0.025


class BenchFailed(AlignstreamError):
    """A measurement could not be made; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Emitted:
    """One result: when it was handed to the producer (seconds since 1970), and for which document."""

    at: float
    identifier: str
    value: bytes


class _Identified(msgspec.Struct):
    id: str


def environment(stack: Stack, name: str) -> dict[str, str]:
    """Return the settings of a worker of its own: topics, group and state carry its name."""
    nothing = stack.folder / "alignstream.toml"
    nothing.touch()
    return {
        **stack.environment(),
        f"{PREFIX}CONFIG": str(nothing),
        f"{PREFIX}TOPIC_PREFIX": f"{name}.",
        f"{PREFIX}GROUP": name,
        f"{PREFIX}STATE_DIR": str(stack.folder / f"state-{name}"),
        f"{PREFIX}LOG_FORMAT": "json",
        f"{PREFIX}METRICS_PORT": "0",
    }


def prepare(values: dict[str, str]) -> Settings:
    """Return an environment as settings, with topics made and the shipped adapter in Redis."""
    own: dict[str, Any] = {
        key.removeprefix(PREFIX).lower(): value for key, value in values.items() if key != f"{PREFIX}CONFIG"
    }
    settings = load(**own)
    create_topics(settings)
    push_packaged(settings)
    return settings


@contextlib.contextmanager
def running(stack: Stack, name: str) -> Iterator[tuple[Settings, Worker]]:
    """Run a worker on topics of its own for one block of code."""
    values = environment(stack, name)
    settings = prepare(values)
    with worker(values, Path(stack.folder) / "workers", name=name) as process:
        yield settings, process


def send(settings: Settings, items: Sequence[Item], *, topic: str = DOCUMENTS) -> None:
    """Produce texts and wait for their confirmation.

    Raises
    ------
    BenchFailed
        The broker refuses one.
    """
    report = produce_documents(settings, documents(items), topic=topic)
    if report.failed:
        raise BenchFailed(f"the broker refused {len(report.failed)} records: {report.failed[0].reason}")


class Probe:
    """Sends texts to a topic and waits for their results; reads while nothing is measured but the service."""

    def __init__(self, settings: Settings, *, source: str = DOCUMENTS, target: str = VECTORS) -> None:
        self._settings = settings
        self._source = source
        self._reader = Reader(settings, [target])

    def send(self, items: Sequence[Item]) -> None:
        """Produce texts and wait for their confirmation."""
        send(self._settings, items, topic=self._source)

    def collect(self, items: Sequence[Item]) -> list[Emitted]:
        """Wait for the result of every text; return them in the order in which they were emitted.

        Raises
        ------
        BenchFailed
            Results are missing after two minutes without a new one.
        """
        missing = {item.identifier for item in items}
        found = []
        moved = time.monotonic()
        while missing:
            for record in self._reader.poll(0.2):
                identifier = msgspec.json.decode(record.value or b"{}", type=_Identified).id
                if identifier in missing:
                    missing.discard(identifier)
                    found.append(Emitted(record.timestamp_ms / 1000, identifier, record.value or b""))
                    moved = time.monotonic()
            if time.monotonic() - moved > PATIENCE_SECONDS:
                raise BenchFailed(f"{len(missing)} of {len(items)} results are missing")
            time.sleep(0.3)  # let the worker have the cores
        return sorted(found, key=lambda item: item.at)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def batches(emitted: Sequence[Emitted]) -> list[list[Emitted]]:
    """Split results into the batches in which they came, by the gaps between them."""
    found: list[list[Emitted]] = []
    for item in emitted:
        if not found or item.at - found[-1][-1].at > SAME_BATCH_SECONDS:
            found.append([])
        found[-1].append(item)
    return found
