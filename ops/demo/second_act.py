"""The second act: a stream changes its domain, a new language appears, and query vectors adapt.

First all texts are stored, and nothing is learned from them. Then the same texts come as a stream of one tenant, a few
at a time. Each one searches for its translations among the stored texts twice: by its stored vector, and by the query
vector that was published with it. So nothing is measured with an epoch that came later.
"""

import bisect
import contextlib
import dataclasses
import functools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import UNSET

from alignstream.models.arrays import Vector32
from alignstream.models.errors import DemoFailed
from alignstream.ops.client.producer import KeyValueHeaders, produce_documents
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record
from alignstream.ops.client.vector_fields import vector_array
from alignstream.ops.demo import picture
from alignstream.ops.demo.demo_documents import (
    CLINIC,
    EVERYDAY,
    STORED,
    STREAMED,
    ClinicTexts,
    StreamMessage,
    document_id,
    stream_documents,
)
from alignstream.ops.demo.translation_search import StoredIndex, StreamQuery, figures
from alignstream.streams.settings import Settings
from alignstream.streams.wire import observations
from alignstream.streams.wire.codec import read_float16
from alignstream.streams.wire.epoch_log import EpochLog, EpochV1, StateV1
from alignstream.streams.wire.records import VectorAlignedV1
from alignstream.streams.wire.topics import EPOCHS, OBSERVATIONS, VECTORS

#: Texts that are sent at once; the next are sent when these are answered.
CHUNK_TEXTS: Final = 32
#: If no new result arrives within this time, something is wrong; the first epoch is also awaited that long.
PATIENCE_SECONDS: Final = 60.0
#: Texts after which there must be an epoch; the first one is due after 32.
FIRST_EPOCH_TEXTS: Final = 96

_POLL_SECONDS: Final = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class EpochSeen:
    """An epoch as the learner announced it; ``position`` is an offset of ``observations.v1``."""

    number: int
    reason: str
    position: int


class SecondAct:
    """One run of the second act: what was stored, what has been streamed, and what it found.

    Parameters
    ----------
    settings : Settings
    messages : sequence of StreamMessage
        The stream, in its order.
    clinic : ClinicTexts
        Says which language is new in it.
    """

    def __init__(self, settings: Settings, messages: Sequence[StreamMessage], clinic: ClinicTexts) -> None:
        self._settings = settings
        self._messages = messages
        self._on_change: Callable[[], None] = lambda: None
        self.newcomer = clinic.newcomer
        self.newcomer_name = clinic.languages[clinic.newcomer].name
        self.run = f"demo-{secrets.token_hex(4)}"
        #: A tenant of its own: its epochs hold nothing that another run has taught.
        self.tenant = self.run
        self.n_moved = 0
        self.epochs: dict[int, EpochSeen] = {}
        self.refused: dict[int, str] = {}
        self.suspended: str | None = None
        self._log = EpochLog(keeps_parts=False)
        self._queries: dict[int, StreamQuery] = {}
        self._stored: dict[str, Vector32] = {}
        self._rows = {self._id(STORED, message): row for row, message in enumerate(messages)}
        self._streamed = {self._id(STREAMED, message): row for row, message in enumerate(messages)}
        self._observed: list[tuple[int, int]] = []
        self._arrived_at = time.monotonic()

    @property
    def n_texts(self) -> int:
        """The number of texts: each is stored once and streamed once."""
        return len(self._messages)

    @property
    def n_stored(self) -> int:
        """The number of texts whose stored vectors have arrived."""
        return len(self._stored)

    @property
    def queries(self) -> list[StreamQuery]:
        """The queries so far, in the order of the stream."""
        return [self._queries[position] for position in sorted(self._queries)]

    @functools.cached_property
    def _index(self) -> StoredIndex:
        """The stored vectors; only to be used when all have arrived."""
        return StoredIndex(
            np.stack([self._stored[self._id(STORED, message)] for message in self._messages]),
            [f"{message.domain} {message.key}" for message in self._messages],
            [message.language for message in self._messages],
        )

    def learned_before(self, position: int) -> int:
        """Return how many texts of the tenant were observed before an offset of ``observations.v1``."""
        n_records = bisect.bisect_left(self._observed, (position, 0))
        return sum(n_texts for _, n_texts in self._observed[:n_records])

    def play(self, on_change: Callable[[], None]) -> None:
        """Store all texts, then stream them.

        Parameters
        ----------
        on_change : callable
            Called whenever there is something new to show.

        Raises
        ------
        DemoFailed
            Results are missing and no new one has arrived for a minute, or no epoch opens.
        """
        if self._settings.follow == "off":
            raise DemoFailed("ALIGNSTREAM_FOLLOW is off: queries do not adapt, so there is nothing to show")
        self._on_change = on_change
        with Reader(self._settings, [VECTORS, OBSERVATIONS, EPOCHS]) as reader:
            self._produce(self._documents(STORED, self._messages))
            self._await(reader, lambda: self.n_stored == self.n_texts)
            self._produce(self._paced(reader))
        if not any(query.epoch for query in self._queries.values()):
            raise DemoFailed(
                f"epochs opened ({sorted(self.epochs)}), but no worker used one; "
                "see the worker's log and 'alignstream doctor'"
            )

    def _paced(self, reader: Reader) -> Iterator[KeyValueHeaders]:
        """Yield the stream a few texts at a time, and take in the answers in between."""
        for start in range(0, self.n_texts, CHUNK_TEXTS):
            stop = min(start + CHUNK_TEXTS, self.n_texts)
            yield from self._documents(STREAMED, self._messages[start:stop])
            self._await(reader, lambda stop=stop: len(self._queries) >= stop)  # type: ignore[misc]
            if stop >= FIRST_EPOCH_TEXTS and not self.epochs:
                self._await_first_epoch(reader)

    def _await_first_epoch(self, reader: Reader) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.epochs:
            self._take(reader)
            if time.monotonic() > deadline:
                refused = "; ".join(
                    f"epoch {number} was refused: {why}" for number, why in self.refused.items()
                )
                raise DemoFailed(
                    f"no epoch opened within {PATIENCE_SECONDS:.0f} s after {len(self._queries)} texts"
                    f"{'; ' + refused if refused else ''}: is a learner running? See its log and 'alignstream doctor'"
                )

    def _produce(self, records: Iterable[KeyValueHeaders]) -> None:
        report = produce_documents(self._settings, records)
        if report.failed:
            raise DemoFailed(f"the broker refused {len(report.failed)} records: {report.failed[0].reason}")

    def _documents(self, kind: str, messages: Sequence[StreamMessage]) -> list[KeyValueHeaders]:
        return stream_documents(messages, run=self.run, kind=kind, tenant=self.tenant)

    def _id(self, kind: str, message: StreamMessage) -> str:
        return document_id(self.run, kind, message.key, message.language)

    def _await(self, reader: Reader, is_done: Callable[[], bool]) -> None:
        self._arrived_at = time.monotonic()
        while not is_done():
            self._take(reader)
            if time.monotonic() - self._arrived_at > PATIENCE_SECONDS:
                raise DemoFailed(
                    f"of {self.n_texts} texts {self.n_stored} were stored and {len(self._queries)} streamed, then no "
                    f"result arrived for {PATIENCE_SECONDS:.0f} s; see the worker's log and 'alignstream doctor'"
                )

    # -- what comes out --------------------------------------------------------------------------------

    def _take(self, reader: Reader) -> None:
        records = reader.poll(_POLL_SECONDS)
        for record in records:
            if record.topic.endswith(VECTORS):
                self._take_vector(record)
            elif record.topic.endswith(OBSERVATIONS):
                self._take_observations(record)
            else:
                self._take_manifest(record)
        if records:
            self._on_change()

    def _take_vector(self, record: Record) -> None:
        if record.value is None:
            return
        vector = msgspec.json.decode(record.value, type=VectorAlignedV1)
        if vector.id in self._rows:
            self._stored[vector.id] = vector_array(vector.vector, vector.encoding, vector.dim)
            self._arrived_at = time.monotonic()
        elif vector.id in self._streamed and self._streamed[vector.id] not in self._queries:
            self._search(self._streamed[vector.id], vector)
            self._arrived_at = time.monotonic()

    def _search(self, row: int, vector: VectorAlignedV1) -> None:
        message = self._messages[row]
        y = vector_array(vector.vector, vector.encoding, vector.dim)
        self.n_moved += not np.array_equal(y, self._index.Y[row])
        static = self._index.find(row, y)
        adapted = static
        if vector.query_vector is not UNSET:
            adapted = self._index.find(row, read_float16(vector.query_vector, vector.dim))
        self._queries[row] = StreamQuery(row, message.domain, message.language, vector.epoch, static, adapted)

    def _take_observations(self, record: Record) -> None:
        observed = observations.decode(record.value)
        if isinstance(observed, str):
            return
        n_texts = sum(text.tenant == self.tenant for text in observed.texts)
        if n_texts:
            self._observed.append((record.offset, n_texts))

    def _take_manifest(self, record: Record) -> None:
        manifest = self._log.apply(record.key, record.value)
        if isinstance(manifest, EpochV1) and manifest.tenant == self.tenant:
            version = manifest.current
            self.epochs[version.number] = EpochSeen(version.number, version.reason, version.position)
        elif isinstance(manifest, StateV1) and manifest.tenant == self.tenant:
            self.suspended = manifest.summary.suspended
            refusal = manifest.summary.refusal
            if refusal is not None:
                self.refused[refusal.number] = refusal.reason

    # -- what it reports --------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return search quality by domain and epoch, in the order of the stream."""
        parts: dict[tuple[str, int], list[StreamQuery]] = {}
        for query in self.queries:
            parts.setdefault((query.domain, query.epoch), []).append(query)
        rows = []
        for (domain, number), queries in sorted(
            parts.items(), key=lambda part: (part[0][0] != EVERYDAY, part[0][1])
        ):
            epoch = self.epochs.get(number)
            rows.append(
                {
                    "domain": domain,
                    "epoch": number,
                    "reason": None if epoch is None else epoch.reason,
                    "n_learned": None if epoch is None else self.learned_before(epoch.position),
                    "n_queries": len(queries),
                    "all": figures(queries),
                    "newcomer": figures(queries, self.newcomer),
                }
            )
        return rows

    def report(self, png: Path) -> dict[str, Any]:
        """Draw the picture, and return everything as JSON values, when the act is over."""
        queries = self.queries
        domains = {name: [query for query in queries if query.domain == name] for name in (EVERYDAY, CLINIC)}
        picture.draw_stream(
            png, queries, self.epochs_served(), newcomer=self.newcomer, name=self.newcomer_name
        )
        return {
            "tenant": self.tenant,
            "n_texts": self.n_texts,
            "n_stored_vectors_moved": self.n_moved,
            "newcomer": {"language": self.newcomer, "name": self.newcomer_name},
            "epochs": [
                {
                    "number": epoch.number,
                    "reason": epoch.reason,
                    "n_learned": self.learned_before(epoch.position),
                }
                for _, epoch in sorted(self.epochs.items())
            ],
            "n_drifts": sum(epoch.reason == "drift" for epoch in self.epochs.values()),
            "refused": {str(number): reason for number, reason in self.refused.items()},
            "suspended": self.suspended,
            "by_epoch": self.rows(),
            "by_domain": {name: figures(queries) for name, queries in domains.items()},
            "by_newcomer": figures(domains[CLINIC], self.newcomer),
            "picture": str(png),
        }

    def epochs_served(self) -> list[tuple[int, str]]:
        """Return where in the stream each epoch was first used, and why it was opened."""
        first: dict[int, int] = {}
        for query in self.queries:
            first.setdefault(query.epoch, query.position)
        return [
            (position, self.epochs[number].reason)
            for number, position in first.items()
            if number in self.epochs
        ]


def play(
    settings: Settings,
    messages: Sequence[StreamMessage],
    clinic: ClinicTexts,
    output: Path,
    showing: Callable[[SecondAct], contextlib.AbstractContextManager[Callable[[], None]]],
) -> dict[str, Any]:
    """Play the second act on a running stack; draw the picture and return the report.

    Parameters
    ----------
    showing : callable
        Given the act, it returns the context in which the act is shown; what the context yields is called whenever
        there is something new.

    Raises
    ------
    DemoFailed
        Results are missing, or no epoch opened.
    """
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    act = SecondAct(settings, messages, clinic)
    with showing(act) as on_change:
        act.play(on_change)
    return act.report(output / "following.png") | {"seconds": time.monotonic() - started}
