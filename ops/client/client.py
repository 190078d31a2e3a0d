"""A small typed client: produce documents, await their results, read aligned vectors as arrays.

::

    with Client() as client:
        id = client.produce("Ein Text", language="de", labels=["sports", "politics"])
        result = client.await_result(id)
        result.vector.array, result.labels.label

Not safe to share between threads: give each its own.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec

from alignstream.models.errors import DocumentInvalid
from alignstream.ops.client.awaited_results import AwaitedResults, PendingResult
from alignstream.ops.client.connection import probe, topic_name
from alignstream.ops.client.deliveries import Deliveries
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record
from alignstream.ops.client.results import AlignedVector, Result, aligned_vector, zero_shot_labels
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.records import Align, DocumentV1, LabelsZeroShotV1
from alignstream.streams.wire.topics import DEFAULT_MAX_MESSAGE_BYTES, DOCUMENTS, LABELS, VECTORS


class Client:
    """Produces documents and reads what the service makes of them; a context manager.

    Parameters
    ----------
    settings
        Where the broker is. Default: the worker's settings, from the environment and ``alignstream.toml``.
    **overrides
        Single settings that replace those, such as ``broker="127.0.0.1:9092"``.

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
        self._deliveries = Deliveries(settings, on_failed=self._forget)
        self._results = AwaitedResults(settings, self._deliveries)
        self._readers: list[Reader] = []
        probe(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Close every connection; call ``flush`` first, or documents in flight may be lost."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        self._results.close()
        self._deliveries.close()

    # -- producing -------------------------------------------------------------------------------

    def produce(
        self,
        text: str,
        *,
        language: str | None = None,
        id: str | None = None,  # noqa: A002 (the record's word)
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
        """Send one document and return its id; ``flush`` or the result confirms delivery.

        The fields are those of ``documents.v1``. The id defaults to a new UUID and the key to the id. The output
        topics are opened at their ends before the first document is sent, so that no result is missed.

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
        id = str(uuid.uuid4()) if id is None else id  # noqa: A001 (the record's word)
        options = Align(adapter=adapter, strength=strength, shrinkage=shrinkage, temperature=temperature)
        align = None if options == Align() else options
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
                f"document {id} cannot be sent: it takes {len(value)} bytes, more than any topic accepts"
            )
        topic = topic_name(self.settings, DOCUMENTS)
        raw_key = id.encode() if key is None else key.encode() if isinstance(key, str) else key
        self._results.open()
        delivery = self._deliveries.send(id, topic, raw_key, value)
        wants_labels = bool(labels) or label_set is not None
        self._results.add(
            id, PendingResult(wants_labels=wants_labels, is_unique=is_unique, delivery=delivery)
        )
        self._deliveries.drop_confirmed()
        return id

    def flush(self) -> None:
        """Wait until the broker has confirmed every document sent so far.

        Raises
        ------
        BrokerError
            One was not confirmed; the message names it.
        """
        self._deliveries.confirm_all()

    def _forget(self, id: str) -> None:  # noqa: A002 (the record's word)
        self._results.forget(id)

    # -- results ---------------------------------------------------------------------------------

    def await_result(self, id: str, timeout_seconds: float = 30.0) -> Result:  # noqa: A002 (the record's word)
        """Wait for the result of a document and return it, once.

        For a document that this client produced, nothing is missed. For any other, only outputs that arrive after
        this client first produced or waited are seen.

        Raises
        ------
        DeadLettered
            The service refused the document.
        ResultTimeout
            No result arrived in time; you may wait again.
        BrokerError
            The document was not delivered, or the broker went away.
        """
        return self._results.wait(id, timeout_seconds)

    # -- streams ---------------------------------------------------------------------------------

    def vectors(self, *, from_beginning: bool = False, follow: bool = True) -> Iterator[AlignedVector]:
        """Yield aligned vectors; tombstones are left out.

        This call fixes the start: everything written after it is yielded, however late the first vector is taken.
        Without ``follow`` the stream ends where the topic does.

        Raises
        ------
        TopicMissing
            There is no such topic.
        RecordError
            A record does not fit its topic.
        BrokerError
            The broker is away or refuses.
        """
        return (aligned_vector(record) for record in self._stream(VECTORS, from_beginning, follow))

    def labels(self, *, from_beginning: bool = False, follow: bool = True) -> Iterator[LabelsZeroShotV1]:
        """Yield zero-shot labels; see ``vectors``."""
        return (zero_shot_labels(record) for record in self._stream(LABELS, from_beginning, follow))

    def _stream(self, topic: str, from_beginning: bool, follow: bool) -> Iterator[Record]:
        reader = Reader(self.settings, [topic], from_beginning=from_beginning)
        self._readers.append(reader)

        def run() -> Iterator[Record]:
            with contextlib.closing(reader):
                for record in reader.records(follow=follow):
                    if record.value is not None:
                        yield record

        return run()
