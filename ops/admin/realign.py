"""Stored vectors to another space: a file or a topic in, a file or a topic out, one record after the other.

What becomes of one record is decided in ``streams.realign``; this is where records come from and go to. Two kinds
of lines are read: the bare values that ``alignstream encode`` writes, and the lines of ``alignstream tail --json``,
which also hold key and headers. What comes from a topic is written to a file in the second form.
"""

import codecs
import collections
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from alignstream.models.adapter.adapter import IDENTITY, Adapter, from_bytes
from alignstream.models.errors import AdapterError, AlignstreamError, NothingRealigned
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.ops.admin import adapters
from alignstream.ops.admin.backfill import written
from alignstream.ops.client.connection import resolve_topic
from alignstream.ops.client.producer import Failure, Outgoing, produce
from alignstream.ops.client.reader import Reader, Record, without_value
from alignstream.ops.client.topics import require_topics
from alignstream.streams.settings import Settings
from alignstream.streams.wire.realign import AdapterSpace, Destination, Refused, Unchanged, realign
from alignstream.streams.wire.topics import HEADER_CONTENT_TYPE, HEADER_SCHEMA, VECTORS, Headers, header
from alignstream.streams.worker.pipeline import OUTPUT_SCHEMAS

#: A record is at most about 1 MiB on its topic; its line also holds the vector as decimal numbers.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
#: What tells a line of ``tail --json`` from a bare value.
_TAIL_FIELDS: Final = frozenset({"topic", "partition", "offset", "headers"})
_SCHEMA: Final = dict(OUTPUT_SCHEMAS)[VECTORS]
#: How a key that was not UTF-8 shows in a file.
_REPLACED: Final = "\ufffd"


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A record that stays behind: where it stands, and why; no payload."""

    place: str
    reason: str
    message: str


@dataclasses.dataclass(slots=True)
class RealignReport:
    """What became of the records; ``refused`` counts by reason, ``not_written`` is what a broker refused."""

    realigned: int = 0
    unchanged: int = 0
    tombstones: int = 0
    refused: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    not_written: tuple[Failure, ...] = ()
    seconds: float = 0.0

    @property
    def reasons(self) -> str:
        """The reasons with their counts, for people."""
        return ", ".join(f"{reason} {count}" for reason, count in sorted(self.refused.items()))

    @property
    def is_whole(self) -> bool:
        """Whether every record is in the output."""
        return not self.refused and not self.not_written


@dataclasses.dataclass(frozen=True, slots=True)
class _Stored:
    """A record to move. ``value`` None: a tombstone; ``around``: the other fields of its line, if it has any."""

    place: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    around: Mapping[str, Any] | None = None
    is_key_whole: bool = True


class _TailLine(msgspec.Struct):
    key: str | None
    headers: dict[str, str | None]
    value: msgspec.Raw
    tombstone: bool = False


class _Identified(msgspec.Struct):
    id: str


#: A file, the name of a topic, or None for standard input.
Input = Path | str | None
#: Likewise; None is standard output.
Output = Path | str | None


def open_destination(
    settings: Settings, *, name: str | None = None, version: str | None = None, file: Path | None = None
) -> AdapterSpace:
    """Return the space of an adapter, of a file or of the registry, with the tenants' own maps that serve now.

    Parameters
    ----------
    name : str, optional
        Name in the registry. Default: the worker's own (``ALIGNSTREAM_ADAPTER``).
    version : str, optional
        A version of its history. Default: the current one.
    file : Path, optional
        An adapter file instead.

    Raises
    ------
    AdapterError
        The file cannot be read or is no adapter; or the identity is asked for.
    RegistryError
        There is no such name or version, or the registry does not answer.
    """
    if file is not None:
        try:
            blob = file.read_bytes()
        except OSError as error:
            raise AdapterError(f"cannot read the adapter {file}: {error.strerror}") from error
        return AdapterSpace(adapters.file_label(file), from_bytes(blob))
    name = settings.adapter if name is None else name
    if name == IDENTITY:
        raise AdapterError(
            f"{IDENTITY!r} leaves vectors as encoded: that is what raw_vector holds already, so there is nothing to do"
        )
    _, blob = adapters.fetch(settings, "adapter", name, version)
    adapter = from_bytes(blob)
    return AdapterSpace(name, adapter, _tenant_maps(settings, adapter))


def _tenant_maps(settings: Settings, adapter: Adapter) -> dict[str, TenantMap]:
    """Return the maps that workers apply after an adapter, by tenant."""
    found, _ = adapters.catalogue(settings, encoder=adapter.encoder, dim=adapter.dim)
    served = {tenant: found.epoch(tenant) for tenant in found.epochs}
    return {
        tenant: epoch.tenant_map
        for tenant, epoch in served.items()
        if epoch is not None and epoch.tenant_map is not None
    }


def realign_records(
    settings: Settings,
    source: Input,
    output: Output,
    destination: Destination,
    *,
    on_refused: Callable[[Refusal], None],
    on_progress: Callable[[], None] = lambda: None,
) -> RealignReport:
    """Move stored vectors, in order, holding one line (or what the broker has not confirmed) at a time.

    A topic is read from its oldest record to where it ends when this is called, without a group. Keys and headers
    stay; a bare value gets its ``id`` as key. Tombstones pass through, records that are in the space already too.

    Parameters
    ----------
    settings : Settings
        Where the broker is, if one is needed.
    source, output : Path, str, or None
        A path is a file, a text the name of a topic (with or without the prefix), None standard input or output.
        A file appears when it is complete.
    destination : Destination
        Where to.
    on_refused, on_progress : callable
        Told about every refused record, and after every record.

    Raises
    ------
    NothingRealigned
        There is no record, or every one was refused.
    TopicMissing
        A topic does not exist; none is made.
    AlignstreamError
        Input and output are the same, a file cannot be read or written, or the broker fails.
    """
    started = time.monotonic()
    _check_apart(settings, source, output)
    run = _Run(
        destination, on_refused=on_refused, on_progress=on_progress, needs_keys=isinstance(output, str)
    )
    if isinstance(output, str):
        topic = resolve_topic(settings, output)
        require_topics(settings, [topic])
        outgoing = (_outgoing(topic, *item) for item in run.moved(_read(settings, source)))
        run.report.not_written = produce(settings, outgoing).failed
        run.check(source)
    else:
        with written(output) as sink:
            for stored, value in run.moved(_read(settings, source)):
                sink.write(_line(stored, value) + b"\n")
            run.check(source)  # before the file takes its name
    run.report.seconds = time.monotonic() - started
    return run.report


class _Run:
    """Moves records one by one and keeps count."""

    def __init__(
        self,
        destination: Destination,
        *,
        on_refused: Callable[[Refusal], None],
        on_progress: Callable[[], None],
        needs_keys: bool,
    ) -> None:
        self.report = RealignReport()
        self._destination = destination
        self._on_refused = on_refused
        self._on_progress = on_progress
        self._needs_keys = needs_keys
        self._first: Refusal | None = None

    def moved(self, source: Iterable[_Stored | Refusal]) -> Iterator[tuple[_Stored, bytes | None]]:
        """Yield what is to be written: each record with its value now, None for a tombstone."""
        for stored in source:
            self._on_progress()
            result = stored if isinstance(stored, Refusal) else self._move(stored)
            if isinstance(result, Refusal):
                self._first = self._first or result
                self.report.refused[result.reason] += 1
                self._on_refused(result)
            elif isinstance(stored, _Stored):
                yield stored, result

    def _move(self, stored: _Stored) -> bytes | Refusal | None:
        if self._needs_keys and not stored.is_key_whole:
            message = "its key was not UTF-8 and cannot be told from its line: realign from the topic itself"
            return Refusal(stored.place, "unreadable-key", message)
        if stored.value is None:
            self.report.tombstones += 1
            return None
        schema = header(stored.headers, HEADER_SCHEMA)
        if schema not in {None, _SCHEMA}:
            shown = (schema or b"")[:40].decode("ascii", errors="replace")
            message = f"its header {HEADER_SCHEMA} says {shown!r}, not {_SCHEMA.decode()!r}"
            return Refusal(stored.place, "not-a-vector", message)
        result = realign(stored.value, self._destination)
        if isinstance(result, Refused):
            return Refusal(stored.place, result.reason, result.message)
        if isinstance(result, Unchanged):
            self.report.unchanged += 1
        else:
            self.report.realigned += 1
        return result.value

    def check(self, source: Input) -> None:
        """Raise if there is nothing to show for it all."""
        report = self.report
        if report.realigned + report.unchanged + report.tombstones > len(report.not_written):
            return
        if self._first is not None:
            raise NothingRealigned(
                f"nothing could be realigned: refused {report.reasons}; "
                f"{self._first.place}: {self._first.message}"
            )
        if report.not_written:
            raise NothingRealigned(f"nothing could be written: {report.not_written[0].reason}")
        raise NothingRealigned(f"{_shown(source)} holds no record")


def _shown(source: Input) -> str:
    return "standard input" if source is None else str(source)


def _check_apart(settings: Settings, source: Input, output: Output) -> None:
    """Refuse to write over what is read: refused records would be lost, and a topic would grow as it is read."""
    is_same = (
        resolve_topic(settings, source) == resolve_topic(settings, output)
        if isinstance(source, str) and isinstance(output, str)
        else isinstance(source, Path) and isinstance(output, Path) and source.resolve() == output.resolve()
    )
    if is_same:
        raise AlignstreamError(f"{_shown(source)} is both input and output: write to another place")


# -- where records come from -------------------------------------------------------------------------


def _read(settings: Settings, source: Input) -> Iterator[_Stored | Refusal]:
    if isinstance(source, str):
        with Reader(settings, [source], from_beginning=True) as reader:
            for record in reader.records_so_far():
                yield _from_topic(record)
    elif source is None:
        yield from _from_lines(sys.stdin.buffer)
    else:
        try:
            with source.open("rb") as file:
                yield from _from_lines(file)
        except OSError as error:
            raise AlignstreamError(f"cannot read {source}: {error.strerror or error}") from error


def _from_topic(record: Record) -> _Stored:
    return _Stored(
        f"{record.topic} {record.partition}@{record.offset}",
        record.value,
        record.key,
        record.headers,
        without_value(record),
    )


def _from_lines(file: BinaryIO) -> Iterator[_Stored | Refusal]:
    for number, line in enumerate(_lines(file), 1):
        place = f"line {number}"
        if line is None:
            yield Refusal(place, "too-long", f"the line is longer than {MAX_LINE_BYTES} bytes")
            continue
        content = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip(b" \t\r\n")
        if content:
            yield _from_line(place, content)


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines; None stands for one that is too long, which is passed over without being held."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield None


def _from_line(place: str, line: bytes) -> _Stored:
    """Take a line of ``tail --json`` apart; every other line is a value, whatever it holds."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        if not fields.keys() >= _TAIL_FIELDS or "vector" in fields:
            return _Stored(place, line)
        tail = msgspec.json.decode(line, type=_TailLine)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Stored(place, line)
    return _Stored(
        place,
        None if tail.tombstone else bytes(tail.value),
        None if tail.key is None else tail.key.encode(),
        tuple((name, None if text is None else text.encode()) for name, text in tail.headers.items()),
        {name: raw for name, raw in fields.items() if name not in {"value", "tombstone"}},
        is_key_whole=_REPLACED not in (tail.key or ""),
    )


# -- where records go to -----------------------------------------------------------------------------


def _line(stored: _Stored, value: bytes | None) -> bytes:
    if value is not None:
        # Outside of strings, where they cannot stand in JSON: in metadata that was sent on several lines.
        value = value.replace(b"\r", b" ").replace(b"\n", b" ")
    if stored.around is None:
        return value or b""
    if value is None:
        return msgspec.json.encode({**stored.around, "tombstone": True, "value": None})
    return msgspec.json.encode({**stored.around, "value": msgspec.Raw(value)})


def _outgoing(topic: str, stored: _Stored, value: bytes | None) -> Outgoing:
    key, headers = stored.key, stored.headers
    if stored.around is None and value is not None:
        key = msgspec.json.decode(value, type=_Identified).id.encode()
    if header(headers, HEADER_SCHEMA) is None and value is not None:
        headers = (*headers, (HEADER_SCHEMA, _SCHEMA))
    if header(headers, HEADER_CONTENT_TYPE) is None and value is not None:
        headers = (*headers, (HEADER_CONTENT_TYPE, b"application/json"))
    return Outgoing(topic, key, value, headers)
