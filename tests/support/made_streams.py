"""Streams, records and adapters that tests of following make up: small, seeded, and written as workers write them."""

import base64
import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.learner.observed import Text
from alignstream.streams.learner.learning import Decision, Learning, Opened
from alignstream.streams.learner.tenancy import sections_of, summary_of
from alignstream.streams.wire import epoch_log, observations
from alignstream.streams.wire.codec import float16_field
from alignstream.streams.wire.epoch_log import Claim, EpochLog, EpochV1, EpochVersion, Progress, StateV1
from alignstream.streams.wire.observations import (
    Control,
    ObservationsV1,
    ObservedExample,
    ObservedPair,
    ObservedSide,
    ObservedText,
    Origin,
)

ENCODER: Final = "e" * 64
DIM: Final = 16
LANGUAGES: Final = ("de-Latn", "en-Latn", "fr-Latn", "ru-Cyrl")
TAGS: Final = ("de", "en", "fr", "ru")
#: How far texts of one place lie from each other, and how far languages do.
SPREAD: Final = 0.4


def unit(x: Any) -> Any:
    """Divide rows by their length."""
    wide = np.asarray(x, dtype=np.float64)
    return (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(np.float32)


@functools.cache
def centres(dim: int = DIM, seed: int = 5) -> Matrix:
    """Return a mean for each language, shape (4, dim)."""
    rng = np.random.default_rng(seed)
    common = unit(rng.standard_normal(dim))
    found: Matrix = (0.8 * common + 0.3 * unit(rng.standard_normal((len(LANGUAGES), dim)))).astype(np.float32)
    return found


@functools.cache
def adapter(dim: int = DIM, seed: int = 5, encoder: str = ENCODER) -> Adapter:
    """Return an adapter that expects each language at its centre."""
    step = LanguageCentre(centres(dim, seed), LANGUAGES, (100,) * len(LANGUAGES))
    return Adapter(encoder, dim, (step,))


def texts(
    rng: np.random.Generator, n: int, *, language: int = 0, dim: int = DIM, spread: float = SPREAD,
    shift: Any = 0.0,
) -> list[Vector32]:  # fmt: skip
    """Return n unit vectors around a language's centre, moved by a shift."""
    X = centres(dim)[language] + shift + spread * rng.standard_normal((n, dim)) / np.sqrt(dim)
    return list(unit(X))


def text(x: Vector32, tag: str | None = "de-Latn", key: int | None = 1, **fields: Any) -> Text:
    """Return a text as a state takes it."""
    return Text(x, tag, key=key, **fields)


def observed_text(
    x: Vector32, offset: int, *, tenant: str = "a", language: str | None = "de", partition: int = 0,
    key: int | None = None, topic: str = "documents.v1", **fields: Any,
) -> ObservedText:  # fmt: skip
    """Return a text as a worker writes it."""
    name = None if key is None else f"{key:016x}"
    origin = Origin(topic, partition, offset)
    return ObservedText(origin, tenant, float16_field(x), language, key=name, **fields)


def observed_pair(
    x: Vector32, y: Vector32, offset: int, *, tenant: str = "a", name: str = "p",
    languages: Sequence[str] = ("de", "en"),
) -> ObservedPair:  # fmt: skip
    """Return a pair as a worker writes it."""
    one, other = (
        ObservedSide(float16_field(side), tag, f"text of {name}")
        for side, tag in zip((x, y), languages, strict=True)
    )
    return ObservedPair(Origin("pairs.v1", 0, offset), tenant, name, one, other)


def observed_example(
    x: Vector32, offset: int, *, tenant: str = "a", name: str = "e", label: str = "sports"
) -> ObservedExample:  # fmt: skip
    """Return a labelled text as a worker writes it."""
    origin = Origin("label-feedback.v1", 0, offset)
    return ObservedExample(origin, tenant, name, "topics", label, float16_field(x), "de")


def record(*items: Any, encoder: str = ENCODER, dim: int = DIM) -> bytes:
    """Return a record of observations."""
    return observations.encode(
        ObservationsV1(
            encoder=encoder,
            dim=dim,
            texts=tuple(item for item in items if isinstance(item, ObservedText)),
            pairs=tuple(item for item in items if isinstance(item, ObservedPair)),
            examples=tuple(item for item in items if isinstance(item, ObservedExample)),
        )
    )


def control(action: Any, **fields: Any) -> bytes:
    """Return a record that asks for something."""
    return observations.encode(ObservationsV1(control=Control(id="c", action=action, **fields)))


def damaged_vector(dim: int = DIM) -> str:
    """Return a vector with a number that is none."""
    return base64.b64encode(np.full(dim, np.nan, dtype="<f2").tobytes()).decode()


def learner(known: Adapter | None = None, *, max_tenants: int = 10_000) -> Learning:
    """Return a learner that judges with one adapter."""
    return Learning(lambda _encoder, _dim: known, max_tenants=max_tenants)


def feed(learning: Learning, values: Iterable[bytes | None], start: int = 0) -> list[Decision]:
    """Let a learner take records, the first at an offset; a second passes between two."""
    return [
        decision
        for offset, value in enumerate(values, start)
        for decision in learning.take(offset, 1_000_000 + 1000 * offset, value)
    ]


def opened(decisions: Iterable[Decision]) -> list[bytes]:
    """Return the epochs among decisions, as bytes."""
    return [decision.epoch.blob for decision in decisions if isinstance(decision, Opened)]


def states(learning: Learning) -> dict[tuple[str, str], dict[str, bytes]]:
    """Return all states as bytes."""
    return {tenant_key: sections_of(tenancy) for tenant_key, tenancy in learning.tenancies.items()}


class Ledger:
    """The epoch log without a broker: the records that the learner writes, in its order."""

    def __init__(self) -> None:
        self.log = EpochLog()
        self.log.apply(epoch_log.CLAIM_KEY, epoch_log.encode(Claim(term=1, owner="test")))

    def carry_out(self, decisions: Iterable[Decision]) -> None:
        """Announce epochs that are new."""
        for decision in decisions:
            if not isinstance(decision, Opened):
                continue
            epoch = decision.epoch
            before = self.log.epochs.get((epoch.encoder, epoch.tenant))
            if before is not None and any(version.number >= epoch.number for version in before.versions):
                continue
            version = EpochVersion(
                number=epoch.number,
                reason=epoch.reason,
                position=decision.decided_at[1],
                sha256=epoch.sha256,
                size_bytes=len(epoch.blob),
                parts=self._write(epoch.blob),
            )
            history = list(epoch_log.with_version(before, version))
            self._put(
                epoch_log.epoch_key(epoch.encoder, epoch.tenant),
                EpochV1(term=1, encoder=epoch.encoder, tenant=epoch.tenant, current=version, history=history),
            )

    def checkpoint(self, learning: Learning, *, n_states: int | None = None) -> None:
        """Write what changed, then the progress; with a number only so many states, as if the learner died then."""
        for (encoder, tenant), tenancy in learning.dirty()[:n_states]:
            sections = {name: self._write(blob) for name, blob in sections_of(tenancy).items()}
            tenancy.is_dirty = False
            stored = StateV1(
                term=1,
                encoder=encoder,
                tenant=tenant,
                dim=tenancy.state.dim,
                position=max(tenancy.position, learning.position),
                sections=sections,
                summary=summary_of(tenancy),
            )
            self._put(epoch_log.state_key(encoder, tenant), stored)
        if n_states is None:
            marks = epoch_log.marks_to_store(learning.marks)
            progress = Progress(term=1, position=learning.position, timestamp=learning.timestamp, marks=marks)
            self._put(epoch_log.PROGRESS_KEY, progress)

    def _write(self, blob: bytes) -> list[str]:
        parts = epoch_log.split(blob)
        for name, part in parts.items():
            self.log.apply(epoch_log.part_key(name), part)
        return list(parts)

    def _put(self, key: bytes, manifest: Any) -> None:
        assert self.log.apply(key, epoch_log.encode(manifest)) is not None
