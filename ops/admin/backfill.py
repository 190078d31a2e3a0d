"""The service's pipeline over a file, without a broker: the same records in, the same records out.

For backfills and for checks: what comes out here is, byte for byte, what a worker publishes as values.
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
from numpy.typing import NDArray

from alignstream.models.encoder.artifact import decode_vector
from alignstream.models.errors import AlignstreamError, EncoderFailed
from alignstream.models.files import replacing
from alignstream.ops.admin import adapters
from alignstream.ops.admin.encoder_choice import open_encoder
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

#: Lines processed together: enough to sort by length, few enough to stay small in memory.
CHUNK_LINES: Final = 256


class BackfillReport(NamedTuple):
    """What became of a file."""

    n_vectors: int
    n_labels: int
    n_labels_dropped: int
    n_rejected: int
    seconds: float


class Rejection(NamedTuple):
    """A record that was refused: its line (from 1), the reason, and a message without payload."""

    line: int
    reason: str
    message: str


class _NoObserver:
    """Takes the pipeline's measurements and drops them."""

    def stage(self, name: StageName, seconds: float) -> None:
        """Take note of nothing."""
        del name, seconds

    def tokens(self, count: int) -> None:
        """Take note of nothing."""
        del count


def open_pipeline(settings: Settings, adapter: str | None) -> Callable[[list[SourceRecord]], list[Outcome]]:
    """Load encoder and adapter; return a function from records to outcomes.

    Parameters
    ----------
    settings : Settings
        As for a worker.
    adapter : str, optional
        A name, a file, or ``none``; None takes the setting.

    Raises
    ------
    AlignstreamError
        Encoder or adapter cannot be used.
    """
    encoder = open_encoder(settings)
    found, _ = adapters.catalogue(settings, encoder=encoder.fingerprint, dim=encoder.dim)
    found, settings = adapters.with_adapter(found, adapter, settings, encoder=encoder.fingerprint)
    if settings.label_set is not None and found.label_set(settings.label_set) is None:
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
            return pipeline.run(records, found)
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
    on_rejected: Callable[[Rejection], None],
    on_progress: Callable[[int], None] = lambda _: None,
) -> BackfillReport:
    """Encode the lines of a file, in order.

    Parameters
    ----------
    run : callable
        From ``open_pipeline``.
    source : Path, optional
        JSON lines (``documents.v1`` values) or plain text, a line a text; None reads standard input.
    output, labels_output : Path, optional
        Where vectors and labels go; ``output`` None writes to standard output. Files appear when complete.
    language : str, optional
        For plain text: the language tag of every line.
    on_rejected, on_progress : callable
        Told about every refused record, and how many records were done.

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
        vectors: _Lines | _Arrays = (_Arrays if output_format == "npz" else _Lines)(
            stack.enter_context(written(output))
        )
        labels = _Lines(None if labels_output is None else stack.enter_context(written(labels_output)))
        while chunk := list(itertools.islice(records, CHUNK_LINES)):
            for outcome in run(chunk):
                if outcome.rejected is not None:
                    n_rejected += 1
                    rejected = outcome.rejected
                    on_rejected(Rejection(outcome.source.offset + 1, rejected.reason, rejected.message))
                    continue
                for item in outcome.outputs:
                    if item.value is not None:
                        (labels if item.topic == LABELS else vectors).add(item.value)
            on_progress(len(chunk))
        vectors.finish()
    return BackfillReport(
        n_vectors=vectors.count,
        n_labels=0 if labels_output is None else labels.count,
        n_labels_dropped=labels.count if labels_output is None else 0,
        n_rejected=n_rejected,
        seconds=time.monotonic() - started,
    )


class _Lines:
    """Writes values as JSON lines; without a file it only counts them."""

    def __init__(self, sink: BinaryIO | None) -> None:
        self._sink = sink
        self.count = 0

    def add(self, value: bytes) -> None:
        self.count += 1
        if self._sink is not None:
            self._sink.write(value + b"\n")

    def finish(self) -> None:
        """Do nothing: every line was written."""


class _Arrays:
    """Gathers vectors and writes them at the end: ``ids``, and ``vectors`` of shape (n, dim), float32."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._ids: list[str] = []
        self._vectors: list[NDArray[np.float32]] = []

    @property
    def count(self) -> int:
        return len(self._ids)

    def add(self, value: bytes) -> None:
        identifier, vector = _vector(value)
        self._ids.append(identifier)
        self._vectors.append(vector)

    def finish(self) -> None:
        stacked = np.stack(self._vectors) if self._vectors else np.zeros((0, 0), dtype=np.float32)
        np.savez(self._sink, ids=np.array(self._ids, dtype=np.str_), vectors=stacked)


def _vector(value: bytes) -> tuple[str, NDArray[np.float32]]:
    record = msgspec.json.decode(value, type=VectorAlignedV1)
    if isinstance(record.vector, str):
        return record.id, decode_vector(record.vector)
    return record.id, np.array(record.vector, dtype=np.float32)


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
    """Make a source record of every line; decide between JSON lines and text by the first one with anything."""
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
    """Wrap a line of plain text; what is not UTF-8 stays as it is, to be refused for that reason."""
    try:
        body = {"text": text.decode("utf-8")}
    except UnicodeDecodeError:
        return text
    if language is not None:
        body["language"] = language
    return msgspec.json.encode(body)


@contextlib.contextmanager
def written(path: Path | None) -> Iterator[BinaryIO]:
    """Give a file to write that takes its name only when complete; None gives standard output.

    Raises
    ------
    AlignstreamError
        It cannot be written; what stood there before is left as it was.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            yield file
    except OSError as error:
        raise AlignstreamError(f"cannot write {path}: {error.strerror or error}") from error
