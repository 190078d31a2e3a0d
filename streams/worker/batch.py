"""The way of a batch that all kinds of message share: decode, admit, process; what fails stands alone."""

import abc
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from alignstream.models.registry.follower import Catalogue
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.outcome import Outcome, Output, output_headers, refused
from alignstream.streams.worker.encoding import Encoding

Admitted = TypeVar("Admitted")


class BatchPipeline(abc.ABC, Generic[Admitted]):
    """From source records to outcomes, without I/O. Used from one thread at a time.

    Parameters
    ----------
    encoding : Encoding
        Texts to unit vectors.
    now : callable
        Seconds since 1970, for dead letters.
    """

    #: Topic and schema of what a tombstone is passed on to.
    tombstones: tuple[tuple[str, bytes], ...] = ()

    def __init__(self, encoding: Encoding, *, now: Callable[[], float]) -> None:
        self._encoding = encoding
        self._now = now

    @abc.abstractmethod
    def _admit(self, record: SourceRecord, catalogue: Catalogue) -> Admitted | Rejected:
        """Decode a record and resolve what it asks for."""

    @abc.abstractmethod
    def _process(self, admitted: Sequence[Admitted], catalogue: Catalogue) -> list[Outcome]:
        """Encode and finish what was admitted: one outcome each, in order."""

    def run(self, records: Sequence[SourceRecord], catalogue: Catalogue) -> list[Outcome]:
        """Process one batch under one catalogue: no batch mixes versions.

        Returns
        -------
        list of Outcome
            One a record, in order. A tombstone without a key has no output: it names nothing, and no client can
            send one.

        Raises
        ------
        EncoderFailed
            The encoder fails on everything: the caller must not dead-letter good records for it.
        """
        clock, start = self._encoding.clock, self._encoding.clock()
        outcomes: list[Outcome | None] = [None] * len(records)
        admitted: list[tuple[int, Admitted]] = []
        for position, record in enumerate(records):
            if record.value is None:
                outcomes[position] = self._tombstone(record)
                continue
            decoded = self._admit(record, catalogue)
            if isinstance(decoded, Rejected):
                outcomes[position] = self.reject(record, decoded)
            else:
                admitted.append((position, decoded))
        self._encoding.observer.stage("decode", clock() - start)
        if admitted:
            results = self._process([document for _, document in admitted], catalogue)
            for (position, _), outcome in zip(admitted, results, strict=True):
                outcomes[position] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def reject(self, record: SourceRecord, rejected: Rejected) -> Outcome:
        """Return the outcome of a record that is refused: its original bytes as a dead letter."""
        return refused(record, rejected, now=self._now())

    def _tombstone(self, record: SourceRecord) -> Outcome:
        outputs = tuple(
            Output(topic, record.key, None, output_headers(record, schema))
            for topic, schema in self.tombstones
            if record.key is not None
        )
        return Outcome(source=record, outputs=outputs, tombstone=True)
