"""List, show and replay dead letters."""

import collections
import dataclasses
import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from alignstream.models.errors import SelectionError
from alignstream.ops.client.producer import Outgoing, RefusedRecord, produce
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record, as_json
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DEAD_LETTERS, HEADER_ERROR_PREFIX, HEADER_REPLACED, REASONS

#: Header of a replayed record: the dead letter that it came from, as ``topic-partition-offset``.
HEADER_REPLAYED_FROM: Final = "alignstream.replayed-from"

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_moment(text: str, *, now: dt.datetime) -> dt.datetime:
    """Read a time: RFC 3339 with a zone, or how long ago (``2h``, ``30m``).

    Raises
    ------
    SelectionError
        It is neither.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - dt.timedelta(seconds=float(ago[1]) * _UNIT_SECONDS[ago[2]])
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SelectionError(
            f"{text!r} is not a time: give RFC 3339 with a zone (2026-05-01T08:00:00Z), or how long ago "
            "(90s, 30m, 2h, 7d)"
        )
    return moment


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """Which dead letters to take; None selects all.

    ``since`` (included) and ``until`` bound the time of the dead letter. ``limit`` keeps that many of the oldest.
    """

    reasons: frozenset[str] | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse reasons that the service never gives."""
        unknown = sorted((self.reasons or frozenset()) - set(REASONS))
        if unknown:
            raise SelectionError(
                f"unknown reason {', '.join(unknown)}; the service gives: {', '.join(REASONS)}"
            )

    def holds(self, letter: "DeadLetter") -> bool:
        """Say whether a dead letter is selected; the limit is ignored."""
        moment = letter.record.timestamp
        return (
            (self.reasons is None or letter.reason in self.reasons)
            and (self.since is None or moment >= self.since)
            and (self.until is None or moment < self.until)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of the dead-letter topic; the other fields come from its headers, None where one is missing."""

    record: Record
    reason: str
    stage: str | None
    message: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    attempts: int | None
    time: str | None
    is_replaced: bool

    @classmethod
    def of(cls, record: Record) -> "DeadLetter":
        """Read the headers of a record of the dead-letter topic."""

        def text(name: str) -> str | None:
            return record.header(HEADER_ERROR_PREFIX + name)

        def number(name: str) -> int | None:
            value = text(name)
            return int(value) if value is not None and value.isdecimal() else None

        return cls(
            record,
            reason=text("reason") or "unknown",
            stage=text("stage"),
            message=text("message"),
            topic=text("topic"),
            partition=number("partition"),
            offset=number("offset"),
            attempts=number("attempts"),
            time=text("time"),
            is_replaced=record.header(HEADER_REPLACED) is not None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the dead letter as one JSON object."""
        error = {
            name: getattr(self, name)
            for name in ("reason", "stage", "message", "topic", "partition", "offset", "attempts", "time")
        }
        return as_json(self.record) | {"error": error | {"value_replaced": self.is_replaced}}


def dead_letters(settings: Settings, selection: DeadLetterSelection) -> Iterator[DeadLetter]:
    """Yield the selected dead letters, oldest first within a partition.

    Raises
    ------
    TopicMissing
        There is no dead-letter topic.
    BrokerError
        The broker is away or refused.
    """
    left = selection.limit
    with Reader(settings, [DEAD_LETTERS], from_beginning=True) as reader:
        for record in reader.records():
            letter = DeadLetter.of(record)
            if not selection.holds(letter):
                continue
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield letter


@dataclasses.dataclass(slots=True)
class ReasonCount:
    """How many dead letters have a reason, and the first and last of them."""

    reason: str
    count: int
    first: Record
    last: Record


def count_by_reason(settings: Settings, selection: DeadLetterSelection) -> list[ReasonCount]:
    """Count the selected dead letters by reason, the most frequent first; see ``dead_letters``."""
    counts: dict[str, ReasonCount] = {}
    for letter in dead_letters(settings, selection):
        record = dataclasses.replace(letter.record, value=None)  # counting keeps no payloads
        entry = counts.get(letter.reason)
        if entry is None:
            counts[letter.reason] = ReasonCount(letter.reason, 1, record, record)
            continue
        entry.count += 1
        entry.first = min(entry.first, record, key=lambda letter: letter.timestamp_ms)
        entry.last = max(entry.last, record, key=lambda letter: letter.timestamp_ms)
    return sorted(counts.values(), key=lambda entry: (-entry.count, entry.reason))


def newest(settings: Settings, selection: DeadLetterSelection, count: int) -> list[DeadLetter]:
    """Return the newest of the selected dead letters, at most ``count``, oldest first."""
    letters = collections.deque(dead_letters(settings, selection), maxlen=count)
    return sorted(letters, key=lambda letter: letter.record.timestamp_ms)


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did, in records.

    The broker confirmed ``replayed`` of them (in a dry run: they would be sent) and refused ``refused``. The original
    value of ``replaced`` is gone, and ``unaddressed`` do not say where they came from: both stay behind.
    """

    replayed: int
    replaced: int
    unaddressed: int
    refused: tuple[RefusedRecord, ...]
    reasons: dict[str, int]


def replay(
    settings: Settings,
    selection: DeadLetterSelection,
    *,
    is_dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ReplayReport:
    """Send dead letters back to the topics that they came from.

    Key and value are the original bytes; the headers are the original ones without ``alignstream.error.*`` and with
    ``alignstream.replayed-from``. The dead letters stay where they are, so a second replay sends them again. Only
    letters that are there when the replay starts are sent: one that fails again is not sent in a circle.

    Raises
    ------
    TopicMissing
        There is no dead-letter topic, or a source topic is gone.
    BrokerError
        The broker is away or refused.
    """
    ends = _ends(settings)
    replaced = unaddressed = sent = 0
    reasons: collections.Counter[str] = collections.Counter()

    def outgoing() -> Iterator[Outgoing]:
        nonlocal replaced, unaddressed, sent
        for letter in dead_letters(settings, selection):
            record = letter.record
            if record.offset >= ends.get((record.topic, record.partition), 0):
                continue
            if letter.is_replaced:
                replaced += 1
            elif letter.topic is None:
                unaddressed += 1
            else:
                sent += 1
                reasons[letter.reason] += 1
                yield _original(letter, letter.topic)

    if is_dry_run:
        for _ in outgoing():
            pass
        return ReplayReport(sent, replaced, unaddressed, (), dict(reasons))
    report = produce(settings, outgoing(), progress)
    return ReplayReport(report.confirmed, replaced, unaddressed, report.failed, dict(reasons))


def _ends(settings: Settings) -> dict[tuple[str, int], int]:
    """Return where each partition of the dead letters really ends now; see ``reader`` on short end offsets."""
    with Reader(settings, [DEAD_LETTERS]) as reader:
        for _ in reader.records():
            pass
        return reader.positions()


def _original(letter: DeadLetter, topic: str) -> Outgoing:
    record = letter.record
    kept = tuple(
        (name, value)
        for name, value in record.headers
        if not name.startswith(HEADER_ERROR_PREFIX) and name != HEADER_REPLAYED_FROM
    )
    origin = f"{record.topic}-{record.partition}-{record.offset}".encode()
    return Outgoing(topic, record.key, record.value, (*kept, (HEADER_REPLAYED_FROM, origin)))
