"""Match the outputs of the service with the documents whose results are awaited."""

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Any, Final

from alignstream.models.errors import DeadLettered, ResultTimeout
from alignstream.ops.client.connection import topic_name
from alignstream.ops.client.dead_letters import DeadLetter
from alignstream.ops.client.deliveries import Deliveries
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record, json_value
from alignstream.ops.client.results import AlignedVector, Result, aligned_vector, source_of, zero_shot_labels
from alignstream.streams.settings import Settings
from alignstream.streams.wire.records import LabelsZeroShotV1
from alignstream.streams.wire.topics import DEAD_LETTERS, LABELS, VECTORS, RecordId

#: Documents that were produced and not yet awaited; beyond this the oldest are forgotten.
MAX_PENDING: Final = 100_000


@dataclasses.dataclass(slots=True)
class PendingResult:
    """What has arrived so far for one id."""

    wants_labels: bool = False
    #: The id was made here, so no other document has it.
    is_unique: bool = False
    #: The producer's future; None for a document that another client produced.
    delivery: Any = None
    vector: AlignedVector | None = None
    labels: LabelsZeroShotV1 | None = None
    dead_letter: DeadLetter | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for has arrived."""
        return self.vector is not None and (self.labels is not None or not self.wants_labels)

    def is_of(self, source: RecordId | None) -> bool:
        """Say whether an output made from the record at ``source`` belongs to this document."""
        if self.delivery is None or self.is_unique or source is None or not self.delivery.succeeded():
            return True
        sent = self.delivery.value
        return source == (sent.topic, sent.partition, sent.offset)


class AwaitedResults:
    """Reads the output topics and keeps what belongs to awaited documents.

    Parameters
    ----------
    settings : Settings
    deliveries : Deliveries
        Says where a document was written, which tells documents of the same id apart.
    """

    def __init__(self, settings: Settings, deliveries: Deliveries) -> None:
        self._settings = settings
        self._deliveries = deliveries
        self._pending: collections.OrderedDict[str, PendingResult] = collections.OrderedDict()
        self._reader: Reader | None = None
        self._takers: dict[str, Callable[[Record], None]] = {
            topic_name(settings, VECTORS): self._take_vector,
            topic_name(settings, LABELS): self._take_labels,
            topic_name(settings, DEAD_LETTERS): self._take_dead_letter,
        }

    def open(self) -> Reader:
        """Open the output topics at their ends, unless they are open; from now on no result is missed.

        Raises
        ------
        TopicMissing
            One does not exist.
        BrokerError
            The broker is away or refuses.
        """
        if self._reader is None:
            self._reader = Reader(self._settings, [VECTORS, LABELS, DEAD_LETTERS])
        return self._reader

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def add(self, id: str, pending: PendingResult) -> None:  # noqa: A002 (the record's word)
        """Await a document, in place of an earlier one of the same id."""
        self._pending.pop(id, None)
        self._pending[id] = pending
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)

    def forget(self, id: str) -> None:  # noqa: A002 (the record's word)
        """Await a document no longer."""
        self._pending.pop(id, None)

    def wait(self, id: str, timeout_seconds: float) -> Result:  # noqa: A002 (the record's word)
        """Wait for the result of a document and return it, once; see ``Client.await_result``."""
        deadline = time.monotonic() + timeout_seconds
        reader = self.open()
        self._deliveries.confirm(id)
        pending = self._pending.setdefault(id, PendingResult())
        while True:
            if pending.dead_letter is not None:
                self.forget(id)
                raise DeadLettered(id, pending.dead_letter.reason, pending.dead_letter.message or "")
            if pending.vector is not None and pending.is_complete:
                self.forget(id)
                return Result(id, pending.vector, pending.labels)
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                missing = "its vector" if pending.vector is None else "its labels"
                raise ResultTimeout(
                    f"document {id}: {missing} did not arrive within {timeout_seconds:g} s; is a worker running? "
                    "See 'alignstream doctor'"
                )
            for record in reader.poll(min(left_seconds, 1.0)):
                self._takers[record.topic](record)

    def _take_vector(self, record: Record) -> None:
        if record.value is None:
            return
        vector = aligned_vector(record)
        pending = self._find(vector.id, source_of(record))
        if pending is not None and pending.vector is None:
            pending.vector = vector

    def _take_labels(self, record: Record) -> None:
        if record.value is None:
            return
        labels = zero_shot_labels(record)
        pending = self._find(labels.id, source_of(record))
        if pending is not None and pending.labels is None:
            pending.labels = labels

    def _take_dead_letter(self, record: Record) -> None:
        letter = DeadLetter.of(record)
        pending = self._find_dead(letter)
        if pending is not None:
            pending.dead_letter = letter

    def _find(self, id: str, source: RecordId | None) -> PendingResult | None:  # noqa: A002 (the record's word)
        pending = self._pending.get(id)
        if pending is None:
            return None
        self._deliveries.confirm(id)  # where it was written is known only then
        return pending if pending.is_of(source) else None

    def _find_dead(self, letter: DeadLetter) -> PendingResult | None:
        if letter.topic is None or letter.partition is None or letter.offset is None:
            return None
        source = RecordId(letter.topic, letter.partition, letter.offset)
        value = json_value(letter.record.value)
        if isinstance(value, dict) and isinstance(value.get("id"), str):
            return self._find(value["id"], source)
        # The value was replaced: only its place is left to know it by.
        self._deliveries.confirm_all()
        for pending in self._pending.values():
            if pending.delivery is not None:
                sent = pending.delivery.value
                if source == (sent.topic, sent.partition, sent.offset):
                    return pending
        return None
