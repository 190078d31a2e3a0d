"""The outcome of one source record: the records to publish, and what the learner may see of it."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, Final

from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.dead_letter import dead_letter_headers
from alignstream.streams.wire.observations import Observed
from alignstream.streams.wire.topics import (
    DEAD_LETTERS,
    HEADER_CONTENT_TYPE,
    HEADER_SCHEMA,
    HEADER_SOURCE_OFFSET,
    HEADER_SOURCE_PARTITION,
    HEADER_SOURCE_TOPIC,
    Headers,
)

#: Starts one delivery of (topic, key, value, headers), and returns a future of its confirmation.
Send = Callable[[str, bytes | None, bytes | None, Headers], Awaitable[Awaitable[Any]]]

#: Headers of other systems that are copied from the input to every output.
PASSED_HEADERS: Final = ("traceparent", "tracestate")
CLOUD_EVENT_PREFIX: Final = "ce_"
#: A generous bound on the bytes that Kafka and the record batch add to one record.
RECORD_OVERHEAD_BYTES: Final = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """A record to publish: ``topic`` without prefix."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one source record: what to publish, what to count, and what was observed."""

    source: SourceRecord
    outputs: tuple[Output, ...]
    rejected: Rejected | None = None
    truncated: bool = False
    tombstone: bool = False
    observed: Observed | None = None


def refused(record: SourceRecord, rejected: Rejected, *, now: float) -> Outcome:
    """Return the outcome of a rejected record: a dead letter with its original bytes; ``now`` as Unix time."""
    headers = dead_letter_headers(record, rejected, now=now)
    return Outcome(
        source=record,
        outputs=(Output(DEAD_LETTERS, record.key, record.value, headers),),
        rejected=rejected,
    )


def published(
    record: SourceRecord,
    values: list[tuple[str, bytes, bytes]],
    *,
    max_output_bytes: int,
    now: float,
    truncated: bool = False,
    observed: Observed | None = None,
) -> Outcome:
    """Return the outcome of a record with outputs, or a dead letter if one of them is too large.

    Parameters
    ----------
    record : SourceRecord
    values : list of (topic, value, schema)
        In the order in which they are sent.
    max_output_bytes : int
        Largest record, key and headers included.
    now : float
        Seconds since 1970.
    truncated, observed
        See ``Outcome``.
    """
    outputs = []
    for topic, value, schema in values:
        headers = output_headers(record, schema)
        if record_bytes(record.key, value, headers) > max_output_bytes:
            message = (
                f"the value for {topic} has {len(value)} bytes; with key and headers the limit is "
                f"{max_output_bytes}"
            )
            return refused(record, Rejected("output-too-large", "publish", message), now=now)
        outputs.append(Output(topic, record.key, value, headers))
    return Outcome(source=record, outputs=tuple(outputs), truncated=truncated, observed=observed)


def output_headers(source: SourceRecord, schema: bytes) -> Headers:
    """Return the headers of an output: those passed on, then the source position, schema and content type."""
    passed = tuple(
        (name, value)
        for name, value in source.headers
        if name in PASSED_HEADERS or name.lower().startswith(CLOUD_EVENT_PREFIX)
    )
    return (
        *passed,
        (HEADER_SOURCE_TOPIC, source.topic.encode()),
        (HEADER_SOURCE_PARTITION, str(source.partition).encode()),
        (HEADER_SOURCE_OFFSET, str(source.offset).encode()),
        (HEADER_SCHEMA, schema),
        (HEADER_CONTENT_TYPE, b"application/json"),
    )


def record_bytes(key: bytes | None, value: bytes, headers: Headers) -> int:
    """Return an upper bound on the uncompressed size of a record on the wire, in bytes."""
    header_bytes = sum(len(name) + len(content or b"") + 10 for name, content in headers)
    return len(key or b"") + len(value) + header_bytes + RECORD_OVERHEAD_BYTES
