"""Dead letters: the original bytes, untouched, with headers that say why."""

import datetime as dt
import hashlib
import importlib.metadata
import json
from typing import Final

from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.topics import (
    DEAD_LETTER_EXTRA_BYTES,
    HEADER_ERROR_PREFIX,
    HEADER_REPLACED,
    MAX_ERROR_MESSAGE_BYTES,
    Headers,
)

#: Bytes for our headers, out of the 64 KiB that the dead-letter topic accepts beyond the input topic.
_OWN_HEADER_BYTES: Final = 4 * 1024
_VERSION: Final = importlib.metadata.version("alignstream").encode()


def dead_letter_headers(record: SourceRecord, rejected: Rejected, *, now: float) -> Headers:
    """Return the headers of a dead letter: the original ones, then ours.

    Parameters
    ----------
    record : SourceRecord
        The rejected record.
    rejected : Rejected
        Why it was rejected.
    now : float
        Seconds since 1970.
    """
    message = rejected.message.encode("utf-8", errors="replace")[:MAX_ERROR_MESSAGE_BYTES]
    fields = {
        "reason": rejected.reason.encode(),
        "stage": rejected.stage.encode(),
        # The cut may have split a character.
        "message": message.decode("utf-8", errors="ignore").encode(),
        "topic": record.topic.encode(),
        "partition": str(record.partition).encode(),
        "offset": str(record.offset).encode(),
        "attempts": str(rejected.attempts).encode(),
        "version": _VERSION,
        "time": dt.datetime.fromtimestamp(now, tz=dt.UTC).isoformat(timespec="milliseconds").encode(),
    }
    error_headers = tuple((HEADER_ERROR_PREFIX + name, value) for name, value in fields.items())
    size_bytes = sum(len(name) + len(value or b"") + 10 for name, value in record.headers)
    kept = record.headers if size_bytes <= DEAD_LETTER_EXTRA_BYTES - _OWN_HEADER_BYTES else ()
    return (
        tuple((name, value) for name, value in kept if not name.startswith(HEADER_ERROR_PREFIX))
        + error_headers
    )


def replacement(record: SourceRecord) -> tuple[bytes, tuple[str, bytes]]:
    """Return the value and extra header that replace a value too large even for the dead-letter topic.

    The new value is JSON with the sha256, the length and the position of the original.
    """
    value = record.value or b""
    body = {
        "sha256": hashlib.sha256(value).hexdigest(),
        "length_bytes": len(value),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }
    return json.dumps(body).encode(), (HEADER_REPLACED, b"true")
