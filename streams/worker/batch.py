"""The steps that batches of all kinds of message share: decode, admit, process. A bad record fails alone."""

import abc
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from alignstream.models.registry.follower import Catalogue
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.outcome import Outcome, Output, output_headers, refused
from alignstream.streams.worker.encoding import Encoding

Admitted = TypeVar("Admitted")


class BatchPipeline(abc.ABC, Generic[Admitted]):
    """A pipeline from source records to outcomes, without I/O. Used from one thread at a time.

    Parameters
    ----------
    encoding : Encoding
        Encodes texts.
    now : callable
        Returns the seconds since 1970, for dead letters.
    """

    #: Topics that a tombstone is passed on to, with their schemas.
    tombstones: tuple[tuple[str, bytes], ...] = ()

    def __init__(self, encoding: Encoding, *, now: Callable[[], float]) -> None:
        self._encoding = encoding
        self._now = now

    @abc.abstractmethod
    def _admit(self, record: SourceRecord, catalogue: Catalogue) -> Admitted | Rejected:
        """Decode a record and resolve what it asks for."""

    @abc.abstractmethod
    def _process(self, admitted: Sequence[Admitted], catalogue: Catalogue) -> list[Outcome]:
        """Encode and finish admitted messages: one outcome each, in order."""

    def run(self, records: Sequence[SourceRecord], catalogue: Catalogue) -> list[Outcome]:
        """Process one batch under one catalogue, so that no batch mixes versions.

        Returns
        -------
        list of Outcome
            One per record, in order. A tombstone with a null key has no output: it names no record, and no client
            can send one.

        Raises
        ------
        EncoderFailed
            The encoder fails on every text; the caller must not dead-letter the records.
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
        """Return the outcome of a rejected record: a dead letter with its original bytes."""
        return refused(record, rejected, now=self._now())

    def _tombstone(self, record: SourceRecord) -> Outcome:
        outputs = tuple(
            Output(topic, record.key, None, output_headers(record, schema))
            for topic, schema in self.tombstones
            if record.key is not None
        )
        return Outcome(source=record, outputs=outputs, tombstone=True)
