"""Move stored vectors to another space: from a file or a topic to a file or a topic, one record after the other.

``streams.wire.realign`` decides what becomes of one record; ``stored_vectors`` knows files and topics.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from alignstream.models.adapter.adapter import IDENTITY, Adapter, from_bytes
from alignstream.models.errors import AdapterError, AlignstreamError, NothingRealigned
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.ops.admin.adapter_choice import catalogue, file_label, read_adapter
from alignstream.ops.admin.output_file import open_output
from alignstream.ops.admin.realign import AdapterSpace, Destination, Refused, Unchanged, realign
from alignstream.ops.admin.registry import fetch
from alignstream.ops.admin.stored_vectors import (
    SCHEMA,
    RealignRefusal,
    StoredVector,
    VectorSource,
    read_stored,
)
from alignstream.ops.client.broker_topics import require_topics
from alignstream.ops.client.connection import resolve_topic
from alignstream.ops.client.producer import RefusedRecord, produce
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import HEADER_SCHEMA, header

#: A file, the name of a topic, or None for standard output.
VectorOutput = Path | str | None


@dataclasses.dataclass(slots=True)
class RealignReport:
    """What became of the records; ``refused`` counts by reason, ``not_written`` is what a broker refused."""

    realigned: int = 0
    unchanged: int = 0
    tombstones: int = 0
    refused: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    not_written: tuple[RefusedRecord, ...] = ()
    seconds: float = 0.0

    @property
    def reasons(self) -> str:
        """The reasons with their counts, for people."""
        return ", ".join(f"{reason} {count}" for reason, count in sorted(self.refused.items()))

    @property
    def is_whole(self) -> bool:
        """Whether every record is in the output."""
        return not self.refused and not self.not_written


def open_destination(
    settings: Settings, *, name: str | None = None, version: str | None = None, file: Path | None = None
) -> AdapterSpace:
    """Return the space of an adapter, from a file or from the registry with the tenants' own maps that serve now.

    Parameters
    ----------
    name : str, optional
        Name in the registry. Default: the worker's adapter (``ALIGNSTREAM_ADAPTER``).
    version : str, optional
        An older version. Default: the current one.
    file : Path, optional
        An adapter file instead.

    Raises
    ------
    AdapterError
        The file cannot be read or is not an adapter, or the identity is asked for.
    RegistryError
        There is no such name or version, or the registry does not answer.
    """
    if file is not None:
        return AdapterSpace(file_label(file), read_adapter(file))
    name = settings.adapter if name is None else name
    if name == IDENTITY:
        raise AdapterError(
            f"{IDENTITY!r} leaves vectors as encoded, which is what raw_vector holds already: there is nothing to do"
        )
    _, blob = fetch(settings, "adapter", name, version)
    adapter = from_bytes(blob)
    return AdapterSpace(name, adapter, _tenant_maps(settings, adapter))


def _tenant_maps(settings: Settings, adapter: Adapter) -> dict[str, TenantMap]:
    """Return the maps that workers apply after an adapter, by tenant."""
    served, _ = catalogue(settings, encoder=adapter.encoder, dim=adapter.dim)
    epochs = {tenant: served.epoch(tenant) for tenant in served.epochs}
    return {
        tenant: epoch.tenant_map
        for tenant, epoch in epochs.items()
        if epoch is not None and epoch.tenant_map is not None
    }


def realign_records(
    settings: Settings,
    source: VectorSource,
    output: VectorOutput,
    destination: Destination,
    *,
    on_refused: Callable[[RealignRefusal], None],
    on_progress: Callable[[], None] = lambda: None,
) -> RealignReport:
    """Move stored vectors, in order; only one line, or what the broker has not confirmed, is held at a time.

    A topic is read without a group, from its oldest record to where it ends when this is called. Keys and headers
    stay; a bare value gets its ``id`` as key. Tombstones pass through, and so do records that are in the space
    already.

    Parameters
    ----------
    settings : Settings
        Where the broker is, if one is needed.
    source, output : Path, str, or None
        A path is a file, a text the name of a topic (with or without the prefix), None standard input or output.
        A file appears when it is complete.
    destination : Destination
        The space to move them to.
    on_refused, on_progress : callable
        Called with every refused record, and after every record.

    Raises
    ------
    NothingRealigned
        There is no record, or every one was refused.
    TopicMissing
        A topic does not exist; none is created.
    AlignstreamError
        Input and output are the same, a file cannot be read or written, or the broker fails.
    """
    started = time.monotonic()
    _check_apart(settings, source, output)
    run = _Run(
        destination, on_refused=on_refused, on_progress=on_progress, needs_keys=isinstance(output, str)
    )
    records = run.moved(read_stored(settings, source))
    if isinstance(output, str):
        topic = resolve_topic(settings, output)
        require_topics(settings, [topic])
        outgoing = (stored.to_topic(topic, value) for stored, value in records)
        run.report.not_written = produce(settings, outgoing).failed
        run.check(source)
    else:
        with open_output(output) as sink:
            for stored, value in records:
                sink.write(stored.to_line(value) + b"\n")
            run.check(source)  # before the file takes its name
    run.report.seconds = time.monotonic() - started
    return run.report


class _Run:
    """Moves records one by one and keeps count."""

    def __init__(
        self,
        destination: Destination,
        *,
        on_refused: Callable[[RealignRefusal], None],
        on_progress: Callable[[], None],
        needs_keys: bool,
    ) -> None:
        self.report = RealignReport()
        self._destination = destination
        self._on_refused = on_refused
        self._on_progress = on_progress
        self._needs_keys = needs_keys
        self._first_refusal: RealignRefusal | None = None

    def moved(
        self, records: Iterable[StoredVector | RealignRefusal]
    ) -> Iterator[tuple[StoredVector, bytes | None]]:
        """Yield what is to be written: each record with its new value, None for a tombstone."""
        for stored in records:
            self._on_progress()
            result = stored if isinstance(stored, RealignRefusal) else self._move(stored)
            if isinstance(result, RealignRefusal):
                self._first_refusal = self._first_refusal or result
                self.report.refused[result.reason] += 1
                self._on_refused(result)
            elif isinstance(stored, StoredVector):
                yield stored, result

    def _move(self, stored: StoredVector) -> bytes | RealignRefusal | None:
        if self._needs_keys and not stored.is_key_whole:
            message = "its key was not UTF-8, so its line does not hold it: realign from the topic itself"
            return RealignRefusal(stored.place, "unreadable-key", message)
        if stored.value is None:
            self.report.tombstones += 1
            return None
        schema = header(stored.headers, HEADER_SCHEMA)
        if schema not in {None, SCHEMA}:
            shown = (schema or b"")[:40].decode("ascii", errors="replace")
            message = f"its header {HEADER_SCHEMA} says {shown!r}, not {SCHEMA.decode()!r}"
            return RealignRefusal(stored.place, "not-a-vector", message)
        result = realign(stored.value, self._destination)
        if isinstance(result, Refused):
            return RealignRefusal(stored.place, result.reason, result.message)
        if isinstance(result, Unchanged):
            self.report.unchanged += 1
        else:
            self.report.realigned += 1
        return result.value

    def check(self, source: VectorSource) -> None:
        """Raise if no record reached the output."""
        report = self.report
        if report.realigned + report.unchanged + report.tombstones > len(report.not_written):
            return
        if self._first_refusal is not None:
            raise NothingRealigned(
                f"nothing could be realigned: refused {report.reasons}; "
                f"{self._first_refusal.place}: {self._first_refusal.message}"
            )
        if report.not_written:
            raise NothingRealigned(f"nothing could be written: {report.not_written[0].reason}")
        raise NothingRealigned(f"{_shown(source)} holds no record")


def _shown(source: VectorSource) -> str:
    return "standard input" if source is None else str(source)


def _check_apart(settings: Settings, source: VectorSource, output: VectorOutput) -> None:
    """Refuse to write over the input: refused records would be lost, and a topic would grow while it is read."""
    is_same = (
        resolve_topic(settings, source) == resolve_topic(settings, output)
        if isinstance(source, str) and isinstance(output, str)
        else isinstance(source, Path) and isinstance(output, Path) and source.resolve() == output.resolve()
    )
    if is_same:
        raise AlignstreamError(f"{_shown(source)} is both input and output: choose another output")
