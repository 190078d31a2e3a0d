"""Documents from the lines of a file: JSON lines as they are, or one plain text a line."""

import codecs
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from alignstream.ops.client.producer import DOCUMENT_HEADERS, KeyValueHeaders

LineFormat = Literal["jsonl", "text"]


@dataclasses.dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that is not sent; ``line`` counts from 1."""

    line: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class LineReader:
    """Turns lines into records for ``documents.v1``.

    Parameters
    ----------
    format
        ``jsonl``: each line is a record, sent byte for byte unless a field is filled in. ``text``: each line is the
        text of a document.
    fill
        Fields for lines that lack them. ``labels`` and ``label_set`` count as one: a line that has either keeps its
        own.
    key, key_field
        The key of every record, or the field of a JSON line whose value becomes the key.
    is_raw
        Send every JSON line without looking at it: nothing is filled in, and what is not JSON is sent too.
    """

    format: LineFormat
    fill: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    key: bytes | None = None
    key_field: str | None = None
    is_raw: bool = False

    def read(
        self, lines: Iterable[bytes], reject: Callable[[RejectedLine], None]
    ) -> Iterator[KeyValueHeaders]:
        """Yield key, value and headers of each line; skip blank lines, and call ``reject`` with bad ones.

        A JSON line must be JSON, and nothing more is checked: what else is wrong with a document, the service says in
        its dead letters.
        """
        for number, line in enumerate(lines, 1):
            content = line.rstrip(b"\r\n")
            if number == 1:
                content = content.removeprefix(codecs.BOM_UTF8)
            if not content.strip():
                continue
            try:
                if self.format == "text":
                    document = {"text": content.decode("utf-8"), **self.fill}
                    yield self.key, msgspec.json.encode(document), DOCUMENT_HEADERS
                else:
                    yield self._record(content)
            except UnicodeDecodeError:
                reject(RejectedLine(number, "not UTF-8"))
            except RecursionError:
                reject(RejectedLine(number, "nested too deep; --raw sends it as it is"))
            except msgspec.DecodeError as error:
                reject(RejectedLine(number, f"not JSON: {error}; --raw sends it as it is"))
            except LookupError as error:
                reject(RejectedLine(number, str(error.args[0])))

    def _record(self, line: bytes) -> KeyValueHeaders:
        if self.is_raw:
            return self.key, line, ()
        decoded = msgspec.json.decode(line)
        if not isinstance(decoded, dict):
            return self.key, line, ()
        key = self.key
        if self.key_field is not None:
            if self.key_field not in decoded:
                raise LookupError(f"there is no field {self.key_field!r} to take the key from")
            value = decoded[self.key_field]
            key = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        missing = dict(self.fill)
        if {"labels", "label_set"} & decoded.keys():
            missing.pop("labels", None)
            missing.pop("label_set", None)
        missing = {name: value for name, value in missing.items() if name not in decoded}
        if missing:
            # The fields of the line stay the bytes that they were.
            fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            line = msgspec.json.encode({**fields, **missing})
        return key, line, ()


def detect_format(name: str, first_line: bytes) -> LineFormat:
    """Tell JSON lines from plain text: by the file's extension, else by its first line that is not blank."""
    suffix = PurePath(name).suffix.lower()
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return "jsonl"
    if suffix in {".txt", ".text"}:
        return "text"
    try:
        return "jsonl" if isinstance(msgspec.json.decode(first_line), dict) else "text"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "text"
