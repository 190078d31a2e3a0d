"""``epochs.v1``: the learner's decisions and its state, as records of one compacted topic.

Keys: ``claim`` (who may write), ``progress`` (what was read), ``state/{encoder}/{tenant}``,
``epoch/{encoder}/{tenant}``, ``part/{sha256}``, and ``look`` (written to find the end of the log; readers ignore it).
Parts are content-addressed. A manifest names its parts, and is written after them.

A learner that lost its claim may still write. Such a record follows its successor's claim but names an older term, so
readers ignore it: it is fenced. Compaction would keep it as the latest record of its key, so the successor writes the
valid record again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from alignstream.streams.wire.records import Name
from alignstream.streams.wire.topics import HEADER_CONTENT_TYPE, HEADER_SCHEMA, Headers, header

SCHEMA: Final = b"epochs/1"
HEADERS: Final[Headers] = ((HEADER_SCHEMA, SCHEMA), (HEADER_CONTENT_TYPE, b"application/json"))
PART_HEADERS: Final[Headers] = ((HEADER_SCHEMA, SCHEMA), (HEADER_CONTENT_TYPE, b"application/octet-stream"))
#: On every record: the term of its writer. The tombstone of a part has no value to hold it.
HEADER_TERM: Final = "alignstream.term"
#: Largest part: with key and headers, far below what a broker refuses.
PART_BYTES: Final = 700_000
#: Former epochs of a tenant that are kept for rollback.
HISTORY: Final = 5

CLAIM_KEY: Final = b"claim"
PROGRESS_KEY: Final = b"progress"
#: Written to find the end of the log: the end offset that a broker reports may fall short.
LOOK_KEY: Final = b"look"
PART_PREFIX: Final = b"part/"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class TenantKey(NamedTuple):
    """One tenant under one encoder; the learner keeps a state and epochs for each."""

    encoder: str
    tenant: str


class SourcePartition(NamedTuple):
    """One partition read by the workers of one encoder; the learner keeps a mark for each."""

    encoder: str
    topic: str
    partition: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The exclusive right to write from here on, or its renewal or release (key ``claim``)."""

    term: int
    owner: str
    is_released: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far ``observations.v1`` was read, and the highest offset seen in each source partition, by encoder."""

    term: int
    position: int
    #: Highest timestamp read, in milliseconds since 1970. It reveals a recreated topic, which restarts at offset 0.
    timestamp: int = 0
    marks: dict[str, dict[str, dict[str, int]]] = {}


class Refusal(msgspec.Struct, frozen=True):
    """An epoch that was not published: its number and the reason."""

    number: int
    reason: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of a tenant's state, for people."""

    n_seen: int = 0
    n_texts: int = 0
    next_at: int = 0
    n_capped: int = 0
    n_doubtful: int = 0
    n_languages: int = 0
    n_bank: int = 0
    n_pairs: int = 0
    n_examples: int = 0
    n_drifts: int = 0
    suspended: str | None = None
    is_frozen: bool = False
    frozen_languages: list[str] = []
    drift: float | None = None
    drift_threshold: float | None = None
    refusal: Refusal | None = None
    maps: list[str] = []


class StateV1(msgspec.Struct, frozen=True, kw_only=True):
    """The learner's state of one tenant (key ``state/{encoder}/{tenant}``)."""

    term: int
    encoder: str
    tenant: Name
    dim: int
    #: Observations below this offset are included.
    position: int
    #: Parts of each section, in order.
    sections: dict[str, list[Sha256]]
    summary: Summary

    @property
    def tenant_key(self) -> TenantKey:
        """The tenant and encoder of this state."""
        return TenantKey(self.encoder, self.tenant)


class EpochVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch and the parts that hold its bytes."""

    number: int
    reason: str
    position: int
    sha256: Sha256
    size_bytes: int
    parts: list[Sha256]
    #: Version of the tenant's map, fitted on its pairs; it is part of ``space``.
    tenant_map: str | None = None


class EpochV1(msgspec.Struct, frozen=True, kw_only=True):
    """The current epoch of a tenant, written before it goes live (key ``epoch/{encoder}/{tenant}``)."""

    term: int
    encoder: str
    tenant: Name
    current: EpochVersion
    is_frozen: bool = False
    #: Position in the observations of the latest decision: highest timestamp up to there, and next offset.
    decided_at: tuple[int, int] = (0, 0)
    #: Former epochs, newest first, without the current one.
    history: list[EpochVersion] = []

    @property
    def tenant_key(self) -> TenantKey:
        """The tenant and encoder of this epoch."""
        return TenantKey(self.encoder, self.tenant)

    @property
    def versions(self) -> list[EpochVersion]:
        """The current epoch and those kept for rollback."""
        return [self.current, *self.history]


Manifest = Claim | Progress | StateV1 | EpochV1


def state_key(encoder: str, tenant: str) -> bytes:
    """Return the key of a tenant's state."""
    return f"state/{encoder}/{tenant}".encode()


def epoch_key(encoder: str, tenant: str) -> bytes:
    """Return the key of a tenant's epoch."""
    return f"epoch/{encoder}/{tenant}".encode()


def part_key(sha256: str) -> bytes:
    """Return the key under which a part of an epoch lies in the topic, by its hash."""
    return PART_PREFIX + sha256.encode()


def encode(record: Manifest) -> bytes:
    """Encode a manifest as JSON in UTF-8."""
    return msgspec.json.encode(record)


def split(blob: bytes) -> dict[str, bytes]:
    """Split bytes into parts, in order; the keys are their sha256."""
    parts = [blob[start : start + PART_BYTES] for start in range(0, len(blob), PART_BYTES)] or [b""]
    return {hashlib.sha256(part).hexdigest(): part for part in parts}


class EpochLog:
    """The state that the records of ``epochs.v1`` add up to, applied one by one in the order of the log.

    Parameters
    ----------
    keeps_parts : bool
        Keep the bytes of parts; otherwise only manifests.
    """

    def __init__(self, *, keeps_parts: bool = True) -> None:
        self._keeps_parts = keeps_parts
        self.claim: Claim | None = None
        self.progress: Progress | None = None
        self.states: dict[TenantKey, StateV1] = {}
        self.epochs: dict[TenantKey, EpochV1] = {}
        self.parts: dict[str, bytes] = {}
        #: Highest term of a valid record. Any record of a term proves its claim, which compaction may have removed.
        self.highest_term = 0
        #: Keys whose latest record is fenced: compaction would keep it and remove the valid one.
        self.spoiled: set[bytes] = set()
        #: Records that are not in this format, and records of learners that had lost their claim.
        self.n_unreadable = 0
        self.n_fenced = 0

    def apply(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> Manifest | None:
        """Apply one record; return its manifest if it is valid, else None."""
        if key is None:
            self.n_unreadable += 1
            return None
        if key.startswith(PART_PREFIX):
            self._apply_part(key, value, headers)
            return None
        kind = _kind(key)
        if kind is None:
            self.n_unreadable += key != LOOK_KEY
            return None
        if value is None:
            # A tombstone that replaced a fenced record whose key has no valid record.
            if _term_of(headers) >= self.highest_term:
                self.spoiled.discard(key)
            return None
        try:
            record: Manifest = msgspec.json.decode(value, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.n_unreadable += 1
            return None
        if not self._accept(record):
            self.n_fenced += 1
            self.spoiled.add(key)
            return None
        self.highest_term = record.term
        self.spoiled.discard(key)
        return record

    def _accept(self, record: Manifest) -> bool:
        """Apply a manifest if it is not fenced; return whether it was applied."""
        if record.term < self.highest_term:
            return False
        if isinstance(record, Claim):
            # Of two claims to the same term, the first is valid; its owner may renew and release it.
            current = self.claim
            if current is not None and record.term == current.term and record.owner != current.owner:
                return False
            self.claim = record
        elif isinstance(record, Progress):
            self.progress = record
        elif isinstance(record, StateV1):
            self.states[record.tenant_key] = record
        else:
            self.epochs[record.tenant_key] = record
        return True

    def _apply_part(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        sha256 = key.removeprefix(PART_PREFIX).decode("ascii", "replace")
        if value is not None:
            if self._keeps_parts:
                self.parts[sha256] = value
        elif _term_of(headers) < self.highest_term:
            # Removed by a fenced learner, which did not know what its successor needs.
            self.n_fenced += 1
            self.spoiled.add(key)
            return
        else:
            self.parts.pop(sha256, None)
        self.spoiled.discard(key)

    def repaired(self, key: bytes, *, term: int) -> bytes | None:
        """Return the value to write over a spoiled key, under the current term; None: a tombstone."""
        if key.startswith(PART_PREFIX):
            sha256 = key.removeprefix(PART_PREFIX).decode("ascii", "replace")
            return self.parts.get(sha256) if sha256 in self.referenced else None
        valid: Sequence[tuple[bytes, Manifest | None]] = (
            (CLAIM_KEY, self.claim),
            (PROGRESS_KEY, self.progress),
            *((state_key(*tenant_key), state) for tenant_key, state in self.states.items()),
            *((epoch_key(*tenant_key), epoch) for tenant_key, epoch in self.epochs.items()),
        )
        record = next((record for name, record in valid if name == key), None)
        return None if record is None else encode(msgspec.structs.replace(record, term=term))

    def reassembled(self, names: Iterable[str]) -> bytes | None:
        """Return the bytes of parts, reassembled, or None if one is missing or damaged."""
        parts = []
        for name in names:
            part = self.parts.get(name)
            if part is None or hashlib.sha256(part).hexdigest() != name:
                return None
            parts.append(part)
        return b"".join(parts)

    @property
    def referenced(self) -> set[str]:
        """The parts that any manifest names."""
        return {
            *(name for state in self.states.values() for names in state.sections.values() for name in names),
            *(name for epoch in self.epochs.values() for version in epoch.versions for name in version.parts),
        }


def term_header(term: int) -> Headers:
    """Return the header that names the term of a record's writer."""
    return ((HEADER_TERM, str(term).encode()),)


def _term_of(headers: Headers) -> int:
    value = header(headers, HEADER_TERM) or b""
    return int(value) if value.isdigit() else 0


def _kind(key: bytes) -> Any:  # noqa: ANN401 (a type of record, or None)
    if key == CLAIM_KEY:
        return Claim
    if key == PROGRESS_KEY:
        return Progress
    kinds: Mapping[bytes, Any] = {b"state/": StateV1, b"epoch/": EpochV1}
    return next((kind for prefix, kind in kinds.items() if key.startswith(prefix)), None)


def marks_of(progress: Progress | None) -> dict[SourcePartition, int]:
    """Return the highest offset seen in each source partition."""
    if progress is None:
        return {}
    return {
        SourcePartition(encoder, topic, int(partition)): offset
        for encoder, topics in progress.marks.items()
        for topic, partitions in topics.items()
        for partition, offset in partitions.items()
    }


def marks_to_store(marks: Mapping[SourcePartition, int]) -> dict[str, dict[str, dict[str, int]]]:
    """Return marks in the layout of ``Progress``."""
    stored: dict[str, dict[str, dict[str, int]]] = {}
    for (encoder, topic, partition), offset in sorted(marks.items()):
        stored.setdefault(encoder, {}).setdefault(topic, {})[str(partition)] = offset
    return stored


def with_version(epoch: EpochV1 | None, version: EpochVersion) -> Sequence[EpochVersion]:
    """Return the history once ``version`` replaces the current epoch: newest first, at most ``HISTORY``."""
    if epoch is None:
        return []
    return [old for old in epoch.versions if old.number != version.number][:HISTORY]
