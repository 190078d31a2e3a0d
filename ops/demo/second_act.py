"""The second act: a stream changes its domain, a language appears, and queries follow.

First everything is stored, and nothing is learned from it. Then the same texts come as a stream of one tenant, a few at
a time. Each looks up its translations among what was stored, once by its stored vector and once by the query vector
that was published with it: nothing is measured with an epoch that came later.
"""

import bisect
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from alignstream.models.errors import DemoFailed
from alignstream.ops.client.producer import produce_documents
from alignstream.ops.client.reader import Reader, Record, vector_array
from alignstream.ops.demo import picture
from alignstream.ops.demo.sample import (
    CLINIC,
    EVERYDAY,
    STORED,
    STREAMED,
    Clinic,
    Message,
    Produced,
    document_id,
    stream_documents,
)
from alignstream.ops.demo.search import Index, Judged, figures
from alignstream.streams.settings import Settings
from alignstream.streams.wire import observations
from alignstream.streams.wire.codec import read_half_vector
from alignstream.streams.wire.epoch_log import EpochLog, EpochV1, StateV1
from alignstream.streams.wire.records import VectorAlignedV1
from alignstream.streams.wire.topics import EPOCHS, OBSERVATIONS, VECTORS

#: Texts that come at once; the next come when these are answered.
CHUNK_TEXTS: Final = 32
#: Without a new result for so long, something is wrong; and so long the first epoch is waited for.
PATIENCE_SECONDS: Final = 60.0
#: Texts after which the first epoch has to be there; it is due after 32.
FIRST_EPOCH_TEXTS: Final = 96

_POLL_SECONDS: Final = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class EpochSeen:
    """An epoch as the learner announced it; ``position`` is an offset of ``observations.v1``."""

    number: int
    reason: str
    position: int


class Act:
    """One run of the second act: what was stored, what came, and what it found.

    Parameters
    ----------
    settings : Settings
    messages : sequence of Message
        The stream, in its order.
    clinic : Clinic
        Says which language is new in it.
    """

    def __init__(self, settings: Settings, messages: Sequence[Message], clinic: Clinic) -> None:
        self._settings = settings
        self._messages = messages
        self._on_change: Callable[[], None] = lambda: None
        self.newcomer = clinic.newcomer
        self.newcomer_name = clinic.languages[clinic.newcomer].name
        self.run = f"demo-{secrets.token_hex(4)}"
        #: Of this run alone: nothing that another run taught is in its epochs.
        self.tenant = self.run
        self.n_stored = 0
        self.n_moved = 0
        self.epochs: dict[int, EpochSeen] = {}
        self.refused: dict[int, str] = {}
        self.suspended: str | None = None
        self._log = EpochLog(keeps_parts=False)
        self._judged: dict[int, Judged] = {}
        self._stored: dict[str, NDArray[np.float32]] = {}
        self._rows = {self._id(STORED, message): row for row, message in enumerate(messages)}
        self._streamed = {self._id(STREAMED, message): row for row, message in enumerate(messages)}
        self._index: Index
        self._observed: list[tuple[int, int]] = []
        self._moved_at = time.monotonic()

    @property
    def n_texts(self) -> int:
        """Texts on stage: all that are stored, and all that come."""
        return len(self._messages)

    @property
    def judged(self) -> list[Judged]:
        """What came so far, in the order of the stream."""
        return [self._judged[position] for position in sorted(self._judged)]

    def learned_before(self, position: int) -> int:
        """Return how many texts of the tenant were observed before an offset of ``observations.v1``."""
        place = bisect.bisect_left(self._observed, (position, 0))
        return sum(n_texts for _, n_texts in self._observed[:place])

    def play(self, on_change: Callable[[], None]) -> None:
        """Store everything, then let the stream come.

        Parameters
        ----------
        on_change : callable
            Called whenever there is something new to show.

        Raises
        ------
        DemoFailed
            Results are missing after a minute without a new one, or no epoch opens.
        """
        if self._settings.follow == "off":
            raise DemoFailed(
                "ALIGNSTREAM_FOLLOW is off: queries follow no stream, and there is nothing to show"
            )
        self._on_change = on_change
        with Reader(self._settings, [VECTORS, OBSERVATIONS, EPOCHS]) as reader:
            self._produce(self._documents(STORED, self._messages))
            self._await(reader, lambda: len(self._stored) == self.n_texts)
            rows = [self._stored[self._id(STORED, message)] for message in self._messages]
            self._index = Index(
                np.stack(rows),
                [f"{message.domain} {message.key}" for message in self._messages],
                [message.language for message in self._messages],
            )
            self._produce(self._paced(reader))
        if not any(item.epoch for item in self._judged.values()):
            raise DemoFailed(
                f"epochs opened ({sorted(self.epochs)}), but no worker used one; "
                "look at the worker's log and 'alignstream doctor'"
            )

    def _paced(self, reader: Reader) -> Iterator[Produced]:
        """Yield the stream a few texts at a time, and take in the answers in between."""
        for start in range(0, self.n_texts, CHUNK_TEXTS):
            stop = min(start + CHUNK_TEXTS, self.n_texts)
            yield from self._documents(STREAMED, self._messages[start:stop])
            self._await(reader, lambda stop=stop: len(self._judged) >= stop)  # type: ignore[misc]
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
                    f"no epoch opened within {PATIENCE_SECONDS:.0f} s after {len(self._judged)} texts"
                    f"{'; ' + refused if refused else ''}: is a learner running? See its log and 'alignstream doctor'"
                )

    def _produce(self, records: Sequence[Produced] | Iterator[Produced]) -> None:
        report = produce_documents(self._settings, records)
        if report.failed:
            raise DemoFailed(f"the broker refused {len(report.failed)} records: {report.failed[0].reason}")

    def _documents(self, kind: str, messages: Sequence[Message]) -> list[Produced]:
        return stream_documents(messages, run=self.run, kind=kind, tenant=self.tenant)

    def _id(self, kind: str, message: Message) -> str:
        return document_id(self.run, kind, message.key, message.language)

    def _await(self, reader: Reader, is_done: Callable[[], bool]) -> None:
        self._moved_at = time.monotonic()
        while not is_done():
            self._take(reader)
            if time.monotonic() - self._moved_at > PATIENCE_SECONDS:
                raise DemoFailed(
                    f"of {self.n_texts} texts {len(self._stored)} were stored and {len(self._judged)} came, then none "
                    f"for {PATIENCE_SECONDS:.0f} s; look at the worker's log and 'alignstream doctor'"
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
            self.n_stored = len(self._stored)
            self._moved_at = time.monotonic()
        elif vector.id in self._streamed and self._streamed[vector.id] not in self._judged:
            self._judge(self._streamed[vector.id], vector)
            self._moved_at = time.monotonic()

    def _judge(self, row: int, vector: VectorAlignedV1) -> None:
        message = self._messages[row]
        y = vector_array(vector.vector, vector.encoding, vector.dim)
        self.n_moved += not np.array_equal(y, self._index.Y[row])
        static = self._index.find(row, y)
        following = static
        if vector.query_vector is not UNSET:
            following = self._index.find(row, read_half_vector(vector.query_vector, vector.dim))
        self._judged[row] = Judged(row, message.domain, message.language, vector.epoch, static, following)

    def _take_observations(self, record: Record) -> None:
        found = observations.decode(record.value)
        if isinstance(found, str):
            return
        n_texts = sum(text.tenant == self.tenant for text in found.texts)
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

    # -- what it says ----------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return search quality by domain and epoch, in the order of the stream."""
        parts: dict[tuple[str, int], list[Judged]] = {}
        for item in self.judged:
            parts.setdefault((item.domain, item.epoch), []).append(item)
        found = []
        for (domain, number), items in sorted(
            parts.items(), key=lambda part: (part[0][0] != EVERYDAY, part[0][1])
        ):
            epoch = self.epochs.get(number)
            found.append(
                {
                    "domain": domain,
                    "epoch": number,
                    "reason": None if epoch is None else epoch.reason,
                    "n_learned": None if epoch is None else self.learned_before(epoch.position),
                    "n_queries": len(items),
                    "all": figures(items),
                    "newcomer": figures(items, self.newcomer),
                }
            )
        return found

    def report(self, png: Path) -> dict[str, Any]:
        """Return everything as JSON values, once it was played; draw the picture."""
        judged = self.judged
        domains = {name: [item for item in judged if item.domain == name] for name in (EVERYDAY, CLINIC)}
        picture.draw_stream(
            png, judged, self.epochs_served(), newcomer=self.newcomer, name=self.newcomer_name
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
            "by_domain": {name: figures(items) for name, items in domains.items()},
            "by_newcomer": figures(domains[CLINIC], self.newcomer),
            "picture": str(png),
        }

    def epochs_served(self) -> list[tuple[int, str]]:
        """Return where in the stream each epoch was first used, and why it was opened."""
        first: dict[int, int] = {}
        for item in self.judged:
            first.setdefault(item.epoch, item.position)
        return [
            (position, self.epochs[number].reason)
            for number, position in first.items()
            if number in self.epochs
        ]


def play(
    settings: Settings,
    messages: Sequence[Message],
    clinic: Clinic,
    output: Path,
    showing: Callable[[Act], contextlib.AbstractContextManager[Callable[[], None]]],
) -> dict[str, Any]:
    """Play the second act on a running stack; draw the picture and return the report.

    Parameters
    ----------
    showing : callable
        Given the act, a context in which it is shown; what that returns is called whenever there is something new.

    Raises
    ------
    DemoFailed
        It did not come to its end.
    """
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    act = Act(settings, messages, clinic)
    with showing(act) as on_change:
        act.play(on_change)
    return act.report(output / "following.png") | {"seconds": time.monotonic() - started}
