"""``epochs.v1``: what the learner decided and what it needs to go on, as records of one compacted topic.

Keys: ``claim`` (who may write), ``progress`` (what was read), ``state/{encoder}/{tenant}``,
``epoch/{encoder}/{tenant}`` and ``part/{sha256}``. A manifest is written after its parts, and names them; parts are
content-addressed. A record of a learner that lost its claim stands behind the claim of its successor, names an older
term, and counts for nothing; but compaction would keep it, as the last of its key, so that the successor writes what
counts again.
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
#: On every record: the term of its writer. The removal of a part has no value that could say it.
HEADER_TERM: Final = "alignstream.term"
#: Bytes of one part: with key and headers far below what a broker refuses.
PART_BYTES: Final = 700_000
#: Former epochs of a tenant that can be gone back to.
HISTORY: Final = 5

CLAIM_KEY: Final = b"claim"
PROGRESS_KEY: Final = b"progress"
#: Written to learn where the log ends: an end that a broker tells may fall short.
LOOK_KEY: Final = b"look"
PART_PREFIX: Final = b"part/"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class TenantKey(NamedTuple):
    """One tenant under one encoder: what the learner keeps a state and epochs of."""

    encoder: str
    tenant: str


class SourcePartition(NamedTuple):
    """One partition of what an encoder's workers read: what the learner keeps a mark of."""

    encoder: str
    topic: str
    partition: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who may write from here on, and that it still does (key ``claim``)."""

    term: int
    owner: str
    is_released: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far ``observations.v1`` was read, and the highest offset seen of each source partition, by encoder."""

    term: int
    position: int
    #: Of the last record read, milliseconds since 1970: a topic that was made anew starts at offset 0, later.
    timestamp: int = 0
    marks: dict[str, dict[str, dict[str, int]]] = {}


class Refusal(msgspec.Struct, frozen=True):
    """An epoch that was not published: its number and why."""

    number: int
    reason: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's state in numbers, for people."""

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
    """What the learner knows of one tenant (key ``state/{encoder}/{tenant}``)."""

    term: int
    encoder: str
    tenant: Name
    dim: int
    #: Observations below this offset are in it.
    position: int
    #: Parts of each section, in order.
    sections: dict[str, list[Sha256]]
    summary: Summary

    @property
    def tenant_key(self) -> TenantKey:
        """Whose it is."""
        return TenantKey(self.encoder, self.tenant)


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch and where its bytes are."""

    number: int
    reason: str
    position: int
    sha256: Sha256
    size_bytes: int
    parts: list[Sha256]
    #: Version of the tenant's map from pairs, a part of ``space``.
    tenant_map: str | None = None


class EpochV1(msgspec.Struct, frozen=True, kw_only=True):
    """The epoch that serves a tenant, announced before it does (key ``epoch/{encoder}/{tenant}``)."""

    term: int
    encoder: str
    tenant: Name
    current: Version
    is_frozen: bool = False
    #: What was decided on last: highest timestamp of the observations up to there, and their next offset.
    moment: tuple[int, int] = (0, 0)
    #: Newest first, the current one not among them.
    history: list[Version] = []

    @property
    def tenant_key(self) -> TenantKey:
        """Whose it is."""
        return TenantKey(self.encoder, self.tenant)

    @property
    def versions(self) -> list[Version]:
        """The current epoch and those that can be gone back to."""
        return [self.current, *self.history]


Manifest = Claim | Progress | StateV1 | EpochV1


def state_key(encoder: str, tenant: str) -> bytes:
    """Return the key of a tenant's state."""
    return f"state/{encoder}/{tenant}".encode()


def epoch_key(encoder: str, tenant: str) -> bytes:
    """Return the key of a tenant's epoch."""
    return f"epoch/{encoder}/{tenant}".encode()


def part_key(sha256: str) -> bytes:
    """Return the key of a part."""
    return PART_PREFIX + sha256.encode()


def encode(record: Manifest) -> bytes:
    """Write a manifest as JSON, UTF-8."""
    return msgspec.json.encode(record)


def split(blob: bytes) -> dict[str, bytes]:
    """Cut bytes into parts by their sha256, in order."""
    parts = [blob[start : start + PART_BYTES] for start in range(0, len(blob), PART_BYTES)] or [b""]
    return {hashlib.sha256(part).hexdigest(): part for part in parts}


class EpochLog:
    """What the records of ``epochs.v1`` say together, applied one by one in the order of the log.

    Parameters
    ----------
    keeps_parts : bool
        Hold the bytes of parts; else only manifests.
    """

    def __init__(self, *, keeps_parts: bool = True) -> None:
        self._keeps_parts = keeps_parts
        self.claim: Claim | None = None
        self.progress: Progress | None = None
        self.states: dict[TenantKey, StateV1] = {}
        self.epochs: dict[TenantKey, EpochV1] = {}
        self.parts: dict[str, bytes] = {}
        #: The highest of all that counts: a record of it was written after its claim, wherever that claim stands now.
        self.highest_term = 0
        #: Keys whose last record is one that does not count: compaction would keep it, and remove what counts.
        self.spoiled: set[bytes] = set()
        #: Records that are none of this format, and records of learners that had lost their claim.
        self.n_unreadable = 0
        self.n_fenced = 0

    def apply(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> Manifest | None:
        """Take in one record; return the manifest that counts from here on, or None."""
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
            # What was put in the place of a record that does not count, where none does.
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
        """Take in a manifest if it counts."""
        if record.term < self.highest_term:
            return False
        if isinstance(record, Claim):
            # Of two claims to one term the first counts; its owner may renew and release it.
            known = self.claim
            if known is not None and record.term == known.term and record.owner != known.owner:
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
            # Removed by a learner that did not know what its successor needs.
            self.n_fenced += 1
            self.spoiled.add(key)
            return
        else:
            self.parts.pop(sha256, None)
        self.spoiled.discard(key)

    def mended(self, key: bytes, *, term: int) -> bytes | None:
        """Return what a spoiled key should hold, under a term that counts; None: nothing."""
        if key.startswith(PART_PREFIX):
            sha256 = key.removeprefix(PART_PREFIX).decode("ascii", "replace")
            return self.parts.get(sha256) if sha256 in self.referenced else None
        known: Sequence[tuple[bytes, Manifest | None]] = (
            (CLAIM_KEY, self.claim),
            (PROGRESS_KEY, self.progress),
            *((state_key(*tenant_key), state) for tenant_key, state in self.states.items()),
            *((epoch_key(*tenant_key), epoch) for tenant_key, epoch in self.epochs.items()),
        )
        record = next((record for name, record in known if name == key), None)
        return None if record is None else encode(msgspec.structs.replace(record, term=term))

    def joined(self, names: Iterable[str]) -> bytes | None:
        """Return the bytes that parts make together; None where one is missing or damaged."""
        parts = []
        for name in names:
            part = self.parts.get(name)
            if part is None or hashlib.sha256(part).hexdigest() != name:
                return None
            parts.append(part)
        return b"".join(parts)

    @property
    def referenced(self) -> set[str]:
        """The parts that some manifest names."""
        return {
            *(name for state in self.states.values() for names in state.sections.values() for name in names),
            *(name for epoch in self.epochs.values() for version in epoch.versions for name in version.parts),
        }


def term_header(term: int) -> Headers:
    """Return what says under which term a record was written."""
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
    """Return the highest offset seen by encoder, source topic and partition."""
    if progress is None:
        return {}
    return {
        SourcePartition(encoder, topic, int(partition)): offset
        for encoder, topics in progress.marks.items()
        for topic, partitions in topics.items()
        for partition, offset in partitions.items()
    }


def marks_to_store(marks: Mapping[SourcePartition, int]) -> dict[str, dict[str, dict[str, int]]]:
    """Return marks as ``Progress`` holds them."""
    stored: dict[str, dict[str, dict[str, int]]] = {}
    for (encoder, topic, partition), offset in sorted(marks.items()):
        stored.setdefault(encoder, {}).setdefault(topic, {})[str(partition)] = offset
    return stored


def with_version(epoch: EpochV1 | None, version: Version) -> Sequence[Version]:
    """Return the history of an epoch that is followed by another: newest first, bounded."""
    if epoch is None:
        return []
    return [old for old in epoch.versions if old.number != version.number][:HISTORY]
