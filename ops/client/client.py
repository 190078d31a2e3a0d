"""A small typed client: produce documents, await their results, read aligned vectors as arrays.

::

    with Client() as client:
        id = client.produce("Ein Text", language="de", labels=["sports", "politics"])
        result = client.await_result(id)
        result.vector.array, result.labels.label

Not safe to share between threads: give each its own.
"""

import collections
import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self, TypeVar

import kafka.errors as kafka_errors
import msgspec

from alignstream.models.errors import BrokerError, DeadLettered, DocumentInvalid, RecordError, ResultTimeout
from alignstream.ops.client.connection import close_producer, explain, open_producer, probe, topic_name
from alignstream.ops.client.dead_letters import DeadLetter
from alignstream.ops.client.producer import DOCUMENT_HEADERS
from alignstream.ops.client.reader import Reader, Record, Vector, json_value, raw_vector_array, vector_array
from alignstream.ops.client.topics import require_topics
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.codec import read_half_vector
from alignstream.streams.wire.records import Align, DocumentV1, LabelsZeroShotV1, VectorAlignedV1
from alignstream.streams.wire.topics import (
    DEAD_LETTERS,
    DEFAULT_MAX_MESSAGE_BYTES,
    DOCUMENTS,
    HEADER_SOURCE_OFFSET,
    HEADER_SOURCE_PARTITION,
    HEADER_SOURCE_TOPIC,
    LABELS,
    VECTORS,
    RecordId,
)

#: Results kept for ids that were produced and not yet awaited; the oldest are forgotten first.
MAX_PENDING: Final = 100_000

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AlignedVector:
    """A record of ``vectors.aligned.v1`` with its vector as an array of shape (dim,), float32.

    ``fields`` is the record as it was sent; ``metadata`` is what the document brought, decoded.
    """

    array: Vector
    fields: VectorAlignedV1
    record: Record

    @property
    def id(self) -> str:
        """The document's id."""
        return self.fields.id

    @property
    def tenant(self) -> str:
        """The document's tenant."""
        return self.fields.tenant

    @property
    def language(self) -> str | None:
        """The document's language tag, or None."""
        language = self.fields.language
        return language if isinstance(language, str) else None

    @property
    def query(self) -> Vector:
        """With which to look up stored vectors: what follows the stream, or the vector itself where nothing does.

        Shape (dim,), float32.
        """
        field = self.fields.query_vector
        return read_half_vector(field, self.fields.dim) if isinstance(field, str) else self.array

    @property
    def hubness(self) -> float | None:
        """Of the stored vector: rank hits by cosine less half of it; None where it is not known."""
        return self.fields.hubness if isinstance(self.fields.hubness, float) else None

    @property
    def space(self) -> str:
        """What made the vector: equal space means exactly comparable vectors."""
        return self.fields.space

    @property
    def raw_array(self) -> Vector | None:
        """The vector before any adapter, shape (dim,), float32; None unless ``ALIGNSTREAM_RAW_VECTOR`` was on.

        Raises
        ------
        RecordError
            It is damaged.
        """
        return raw_vector_array(self.fields.raw_vector, self.fields.dim)

    @property
    def metadata(self) -> Any:  # noqa: ANN401 (any JSON value)
        """The document's metadata, decoded; None where there is none."""
        raw = self.fields.metadata
        return None if raw is msgspec.UNSET else msgspec.json.decode(raw)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What the service made of one document; ``labels`` is None where none were asked for."""

    id: str
    vector: AlignedVector
    labels: LabelsZeroShotV1 | None


@dataclasses.dataclass(slots=True)
class _Pending:
    """What has come so far for one id."""

    wants_labels: bool = False
    #: The id was made here, so no other document has it.
    is_unique: bool = False
    #: The producer's future; None for a document that another client produced.
    delivery: Any = None
    vector: AlignedVector | None = None
    labels: LabelsZeroShotV1 | None = None
    dead: DeadLetter | None = None

    def is_of(self, record_id: RecordId | None) -> bool:
        """Say whether an output made from the record at ``place`` belongs to this document."""
        if self.delivery is None or self.is_unique or record_id is None or not self.delivery.succeeded():
            return True
        landed = self.delivery.value
        return record_id == (landed.topic, landed.partition, landed.offset)


class Client:
    """Produces documents and reads what the service makes of them; a context manager.

    Parameters
    ----------
    settings
        Where the broker is. Default: as the worker, from the environment and ``alignstream.toml``.
    **overrides
        Single settings on top, such as ``broker="127.0.0.1:9092"``.

    Raises
    ------
    BrokerError
        The broker is away or refuses.
    SettingsError
        A setting is unknown or malformed.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:  # noqa: ANN401 (any setting)
        if settings is None:
            settings = load(**overrides)
        elif overrides:
            settings = load(**{**dict(settings), **overrides})
        self.settings = settings
        self._producer: Any = None
        self._results: Reader | None = None
        self._pending: collections.OrderedDict[str, _Pending] = collections.OrderedDict()
        self._undelivered: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._readers: list[Reader] = []
        probe(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Close every connection; call :meth:`flush` before, or what is under way may be lost."""
        for reader in [*self._readers, *([] if self._results is None else [self._results])]:
            reader.close()
        self._readers.clear()
        self._results = None
        if self._producer is not None:
            close_producer(self._producer)
            self._producer = None

    # -- producing -------------------------------------------------------------------------------

    def produce(
        self,
        text: str,
        *,
        language: str | None = None,
        id: str | None = None,  # noqa: A002 (the record's own word)
        labels: Sequence[str] | None = None,
        label_set: str | None = None,
        template: str | None = None,
        multi_label: bool | None = None,
        tenant: str | None = None,
        adapter: str | None = None,
        strength: float | None = None,
        shrinkage: float | None = None,
        temperature: float | None = None,
        explain: bool = False,
        metadata: Any = None,  # noqa: ANN401 (any JSON value)
        key: bytes | str | None = None,
    ) -> str:
        """Send one document and return its id; delivery is confirmed by :meth:`flush` or the result.

        The fields are those of ``documents.v1``. The id is a new UUID where none is given, and the key is
        the id where none is given. Before the first document is sent the output topics are opened at their
        ends, so that no result is missed.

        Raises
        ------
        DocumentInvalid
            The document does not fit ``documents.v1``.
        TopicMissing
            A topic of the service does not exist.
        BrokerError
            The broker is away or refuses.
        """
        is_unique = id is None
        id = str(uuid.uuid4()) if id is None else id  # noqa: A001 (the record's own word)
        asked = Align(adapter=adapter, strength=strength, shrinkage=shrinkage, temperature=temperature)
        align = None if asked == Align() else asked
        try:
            value = msgspec.json.encode(
                DocumentV1(
                    text=text,
                    id=id,
                    language=language,
                    tenant="default" if tenant is None else tenant,
                    labels=None if labels is None else list(labels),
                    label_set=label_set,
                    template=template,
                    multi_label=multi_label,
                    align=align,
                    explain=explain,
                    metadata=msgspec.UNSET
                    if metadata is None
                    else msgspec.Raw(msgspec.json.encode(metadata)),
                )
            )
            msgspec.json.decode(value, type=DocumentV1)  # encoding does not check what decoding does
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise DocumentInvalid(f"document {id} cannot be sent: {error}") from error
        if len(value) > DEFAULT_MAX_MESSAGE_BYTES:
            raise DocumentInvalid(
                f"document {id} cannot be sent: {len(value)} bytes; no topic accepts that much"
            )
        self._open()
        topic = topic_name(self.settings, DOCUMENTS)
        raw_key = id.encode() if key is None else key.encode() if isinstance(key, str) else key
        try:
            future = self._producer.send(topic, key=raw_key, value=value, headers=list(DOCUMENT_HEADERS))
        except kafka_errors.KafkaError as error:
            raise self._failed(id, error) from error
        self._delivered(id)  # an earlier document of the same id
        self._pending.pop(id, None)
        self._pending[id] = _Pending(
            wants_labels=bool(labels) or label_set is not None, is_unique=is_unique, delivery=future
        )
        self._undelivered[id] = future
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
        while self._undelivered:
            first, oldest = next(iter(self._undelivered.items()))
            if not oldest.is_done or oldest.failed():
                break
            self._delivered(first)
        return id

    def flush(self) -> None:
        """Wait until the broker has confirmed every document sent so far.

        Raises
        ------
        BrokerError
            One was not confirmed; the message names it.
        """
        for id in list(self._undelivered):  # noqa: A001 (the record's own word)
            self._delivered(id)

    def _open(self) -> None:
        if self._results is None:
            self._results = Reader(self.settings, [VECTORS, LABELS, DEAD_LETTERS])
        if self._producer is None:
            require_topics(self.settings, [topic_name(self.settings, DOCUMENTS)])
            self._producer = open_producer(self.settings)

    def _delivered(self, id: str) -> None:  # noqa: A002 (the record's own word)
        """Wait until one document is confirmed."""
        future = self._undelivered.pop(id, None)
        if future is None:
            return
        try:
            future.get(timeout=self.settings.produce_timeout_seconds + 5)
        except kafka_errors.KafkaError as error:
            self._pending.pop(id, None)
            raise self._failed(id, error) from error

    def _failed(self, id: str, error: kafka_errors.KafkaError) -> BrokerError:  # noqa: A002 (likewise)
        # An idempotent producer may be of no use after an error; what else it had under way fails too.
        if self._producer is not None:
            close_producer(self._producer)
            self._producer = None
        return BrokerError(f"document {id} was not confirmed: {explain(error, self.settings)}")

    # -- results ---------------------------------------------------------------------------------

    def await_result(self, id: str, timeout_seconds: float = 30.0) -> Result:  # noqa: A002 (likewise)
        """Wait for the result of a document and return it, once.

        For a document that this client produced nothing is missed. For another one only what comes after
        this client first produced or waited is seen.

        Raises
        ------
        DeadLettered
            The service refused the document.
        ResultTimeout
            Nothing came in time; waiting again is allowed.
        BrokerError
            The document was not delivered, or the broker went away.
        """
        deadline = time.monotonic() + timeout_seconds
        if self._results is None:
            self._results = Reader(self.settings, [VECTORS, LABELS, DEAD_LETTERS])
        self._delivered(id)
        pending = self._pending.setdefault(id, _Pending())
        while True:
            if pending.dead is not None:
                del self._pending[id]
                raise DeadLettered(id, pending.dead.reason, pending.dead.message or "")
            if pending.vector is not None and (pending.labels is not None or not pending.wants_labels):
                del self._pending[id]
                return Result(id, pending.vector, pending.labels)
            left = deadline - time.monotonic()
            if left <= 0:
                missing = "its vector" if pending.vector is None else "its labels"
                raise ResultTimeout(
                    f"document {id}: {missing} did not come within {timeout_seconds:g} s; is a worker running? "
                    "('alignstream doctor')"
                )
            for record in self._results.poll(min(left, 1.0)):
                self._take(record)

    def _take(self, record: Record) -> None:
        """Keep what a record of an output topic says about a document that is waited for."""
        if record.topic == topic_name(self.settings, DEAD_LETTERS):
            letter = DeadLetter.of(record)
            pending = self._find_dead(letter)
            if pending is not None:
                pending.dead = letter
        elif record.value is not None and record.topic == topic_name(self.settings, VECTORS):
            vector = aligned_vector(record)
            pending = self._find(vector.id, _source(record))
            if pending is not None and pending.vector is None:
                pending.vector = vector
        elif record.value is not None:
            labels = _decode(record, LabelsZeroShotV1)
            pending = self._find(labels.id, _source(record))
            if pending is not None and pending.labels is None:
                pending.labels = labels

    def _find(self, id: str, record_id: RecordId | None) -> _Pending | None:  # noqa: A002 (the record's own word)
        pending = self._pending.get(id)
        if pending is None:
            return None
        self._delivered(id)  # else where it landed is not known yet
        return pending if pending.is_of(record_id) else None

    def _find_dead(self, letter: DeadLetter) -> _Pending | None:
        if letter.topic is None or letter.partition is None or letter.offset is None:
            return None
        record_id = RecordId(letter.topic, letter.partition, letter.offset)
        value = json_value(letter.record.value)
        if isinstance(value, dict) and isinstance(value.get("id"), str):
            return self._find(value["id"], record_id)
        # The value was replaced: only where it stood is left to know it by.
        self.flush()
        for pending in self._pending.values():
            if pending.delivery is not None:
                landed = pending.delivery.value
                if record_id == (landed.topic, landed.partition, landed.offset):
                    return pending
        return None

    # -- streams ---------------------------------------------------------------------------------

    def vectors(self, *, from_beginning: bool = False, follow: bool = True) -> Iterator[AlignedVector]:
        """Yield aligned vectors; tombstones are left out.

        The start is fixed by this call: what is written after it is yielded, however late the first
        vector is taken. Unless following, it ends where the topic does.

        Raises
        ------
        TopicMissing
            There is no such topic.
        RecordError
            A record is not what the topic promises.
        BrokerError
            The broker is away or refuses.
        """
        return (aligned_vector(record) for record in self._stream(VECTORS, from_beginning, follow))

    def labels(self, *, from_beginning: bool = False, follow: bool = True) -> Iterator[LabelsZeroShotV1]:
        """Yield zero-shot labels; see :meth:`vectors`."""
        return (_decode(record, LabelsZeroShotV1) for record in self._stream(LABELS, from_beginning, follow))

    def _stream(self, topic: str, from_beginning: bool, follow: bool) -> Iterator[Record]:
        reader = Reader(self.settings, [topic], from_beginning=from_beginning)
        self._readers.append(reader)

        def run() -> Iterator[Record]:
            with contextlib.closing(reader):
                for record in reader.records(follow=follow):
                    if record.value is not None:
                        yield record

        return run()


def aligned_vector(record: Record) -> AlignedVector:
    """Decode a record of ``vectors.aligned.v1``.

    Raises
    ------
    RecordError
        It is not one.
    """
    fields = _decode(record, VectorAlignedV1)
    return AlignedVector(vector_array(fields.vector, fields.encoding, fields.dim), fields, record)


def _decode(record: Record, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{record.topic} {record.partition} {record.offset} is no {kind.__name__}: {error}"
        ) from error


def _source(record: Record) -> RecordId | None:
    """Return where the document stands that an output was made of, where its headers say so."""
    topic = record.header(HEADER_SOURCE_TOPIC)
    partition = record.header(HEADER_SOURCE_PARTITION)
    offset = record.header(HEADER_SOURCE_OFFSET)
    if topic is None or partition is None or offset is None:
        return None
    if not (partition.isdecimal() and offset.isdecimal()):
        return None
    return RecordId(topic, int(partition), int(offset))
