"""Run the service's pipeline over a file, without a broker.

For backfills and checks: the values that come out are, byte for byte, those that a worker publishes.
"""

import codecs
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

import msgspec
import numpy as np

from alignstream.models.arrays import Vector32
from alignstream.models.encoder.artifact import decode_vector
from alignstream.models.errors import AlignstreamError, EncoderFailed
from alignstream.ops.admin.adapter_choice import catalogue, with_adapter
from alignstream.ops.admin.encoder_choice import open_encoder
from alignstream.ops.admin.output_file import open_output
from alignstream.streams.observe.stages import StageName
from alignstream.streams.settings import Settings
from alignstream.streams.wire.codec import SourceRecord
from alignstream.streams.wire.outcome import Outcome
from alignstream.streams.wire.records import VectorAlignedV1
from alignstream.streams.wire.topics import LABELS
from alignstream.streams.worker.admission import policy_of
from alignstream.streams.worker.pipeline import DocumentsPipeline

InputFormat = Literal["auto", "jsonl", "text"]
OutputFormat = Literal["jsonl", "npz"]

#: Lines processed together: enough to sort them by length, few enough to need little memory.
CHUNK_LINES: Final = 256


class BackfillReport(NamedTuple):
    """What a file became."""

    n_vectors: int
    n_labels: int
    n_labels_dropped: int
    n_rejected: int
    seconds: float


class BackfillRejection(NamedTuple):
    """A record that was refused: its line (from 1), the reason, and a message without payload."""

    line: int
    reason: str
    message: str


class _NoObserver:
    """Ignores what the pipeline reports."""

    def stage(self, name: StageName, seconds: float) -> None:
        del name, seconds

    def tokens(self, count: int) -> None:
        del count


def open_pipeline(settings: Settings, adapter: str | None) -> Callable[[list[SourceRecord]], list[Outcome]]:
    """Load encoder and adapter, and return a function from records to outcomes.

    Parameters
    ----------
    settings : Settings
        As for a worker.
    adapter : str, optional
        A name, a file, or ``none``. Default: the setting.

    Raises
    ------
    AlignstreamError
        The encoder or the adapter cannot be used.
    """
    encoder = open_encoder(settings)
    served, _ = catalogue(settings, encoder=encoder.fingerprint, dim=encoder.dim)
    served, settings = with_adapter(served, adapter, settings, encoder=encoder.fingerprint)
    if settings.label_set is not None and served.label_set(settings.label_set) is None:
        raise AlignstreamError(
            f"no label set {settings.label_set!r} in the registry; see 'alignstream labels list'"
        )
    pipeline = DocumentsPipeline(
        encoder,
        policy_of(settings, max_output_bytes=settings.max_output_bytes),
        clock=time.monotonic,
        now=time.time,
        observer=_NoObserver(),
    )

    def run(records: list[SourceRecord]) -> list[Outcome]:
        try:
            return pipeline.run(records, served)
        except EncoderFailed as error:
            raise AlignstreamError(f"{error}; check the artifact with 'alignstream doctor'") from error

    return run


def encode_file(
    run: Callable[[list[SourceRecord]], list[Outcome]],
    source: Path | None,
    output: Path | None,
    *,
    labels_output: Path | None = None,
    input_format: InputFormat = "auto",
    output_format: OutputFormat = "jsonl",
    language: str | None = None,
    on_rejected: Callable[[BackfillRejection], None],
    on_progress: Callable[[int], None] = lambda _: None,
) -> BackfillReport:
    """Encode the lines of a file, in order.

    Parameters
    ----------
    run : callable
        From ``open_pipeline``.
    source : Path, optional
        JSON lines (``documents.v1`` values) or plain text, one text a line. Default: standard input.
    output, labels_output : Path, optional
        Where vectors and labels go. Vectors go to standard output by default, labels nowhere. A file appears when it
        is complete.
    language : str, optional
        For plain text: the language tag of every line.
    on_rejected, on_progress : callable
        Called with every refused record, and with the number of records just done.

    Raises
    ------
    AlignstreamError
        A file cannot be read or written.
    """
    started = time.monotonic()
    n_rejected = 0
    name = "stdin" if source is None else source.stem
    with contextlib.ExitStack() as stack:
        lines = _open_input(stack, source)
        records = _records(lines, name, input_format, language)
        vectors: _JsonLines | _Arrays = (_Arrays if output_format == "npz" else _JsonLines)(
            stack.enter_context(open_output(output))
        )
        labels = _JsonLines(
            None if labels_output is None else stack.enter_context(open_output(labels_output))
        )
        while chunk := list(itertools.islice(records, CHUNK_LINES)):
            for outcome in run(chunk):
                if outcome.rejected is not None:
                    n_rejected += 1
                    rejected = outcome.rejected
                    line = outcome.source.offset + 1
                    on_rejected(BackfillRejection(line, rejected.reason, rejected.message))
                    continue
                for output_record in outcome.outputs:
                    if output_record.value is not None:
                        (labels if output_record.topic == LABELS else vectors).add(output_record.value)
            on_progress(len(chunk))
        vectors.finish()
    return BackfillReport(
        n_vectors=vectors.count,
        n_labels=0 if labels_output is None else labels.count,
        n_labels_dropped=labels.count if labels_output is None else 0,
        n_rejected=n_rejected,
        seconds=time.monotonic() - started,
    )


class _JsonLines:
    """Writes values as JSON lines, or only counts them if there is no file."""

    def __init__(self, sink: BinaryIO | None) -> None:
        self._sink = sink
        self.count = 0

    def add(self, value: bytes) -> None:
        self.count += 1
        if self._sink is not None:
            self._sink.write(value + b"\n")

    def finish(self) -> None:
        """Do nothing: every line is written already."""


class _Arrays:
    """Collects vectors and writes them at the end: ``ids``, and ``vectors`` of shape (n, dim), float32."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._ids: list[str] = []
        self._vectors: list[Vector32] = []

    @property
    def count(self) -> int:
        return len(self._ids)

    def add(self, value: bytes) -> None:
        record = msgspec.json.decode(value, type=VectorAlignedV1)
        self._ids.append(record.id)
        self._vectors.append(
            decode_vector(record.vector)
            if isinstance(record.vector, str)
            else np.array(record.vector, dtype=np.float32)
        )

    def finish(self) -> None:
        stacked = np.stack(self._vectors) if self._vectors else np.zeros((0, 0), dtype=np.float32)
        np.savez(self._sink, ids=np.array(self._ids, dtype=np.str_), vectors=stacked)


def _open_input(stack: contextlib.ExitStack, source: Path | None) -> Iterable[bytes]:
    if source is None:
        return sys.stdin.buffer
    try:
        return stack.enter_context(source.open("rb"))
    except OSError as error:
        raise AlignstreamError(f"cannot read {source}: {error.strerror}") from error


def _records(
    lines: Iterable[bytes], name: str, input_format: InputFormat, language: str | None
) -> Iterator[SourceRecord]:
    """Turn every line into a source record; the first line that is not blank decides between JSON lines and text."""
    is_json = None if input_format == "auto" else input_format == "jsonl"
    for number, line in enumerate(lines):
        text = line.rstrip(b"\r\n")
        if number == 0:
            text = text.removeprefix(codecs.BOM_UTF8)
        if not text.strip():
            continue  # as in 'alignstream produce'
        if is_json is None:
            is_json = text.lstrip().startswith(b"{")
        value = text if is_json else _document(text, language)
        yield SourceRecord(topic=name, partition=0, offset=number, timestamp=None, key=None, value=value)


def _document(text: bytes, language: str | None) -> bytes:
    """Wrap a line of plain text; if it is not UTF-8 it stays as it is, and is refused for that reason."""
    try:
        body = {"text": text.decode("utf-8")}
    except UnicodeDecodeError:
        return text
    if language is not None:
        body["language"] = language
    return msgspec.json.encode(body)
