"""The registry as a protocol, and the rules that every store shares.

A store implements a few primitives (read, write, swap one pointer). `StoreRules` builds the protocol on them, so
that revisions, conflicts and checks are the same everywhere. This module must never import a client library.
"""

import abc
import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from alignstream.models.errors import RegistryConflict, RegistryCorrupt, RegistryError
from alignstream.models.registry import layout
from alignstream.models.registry.layout import Kind, Pointer

#: Attempts to move a pointer if the writer named no revision; in every round, one writer gets through.
SWAP_ATTEMPTS = 16
#: Longest pause after the first lost round, in seconds; it grows with every round, so that writers spread out.
SWAP_PAUSE_SECONDS = 0.01


@runtime_checkable
class Store(Protocol):
    """Where adapters, label sets and epochs are published and fetched.

    The poller thread of a worker calls the readers (`pointer`, `pointers`, `blob`, `wait_for_hint`), never in
    the path of a batch: after a failure, the last good value keeps serving. The command line calls the writers
    (`publish`, `move`) and `history` in its main thread: a failure is shown to the person. The learner publishes
    epochs. Several threads may call at once, except `wait_for_hint`, which only one thread calls.

    Every call is bounded in time. All raise `RegistryUnavailable` if there is no answer, and
    `RegistryError` for an invalid kind or name, except where noted.
    """

    def publish(
        self,
        kind: Kind,
        name: str,
        blob: bytes,
        *,
        dim: int | None = None,
        encoder: str | None = None,
        note: str = "",
        expected_revision: int | None = None,
    ) -> Pointer:
        """Store a blob and move the name's pointer to it, under a higher revision.

        Called by ``adapters push``, ``labels push`` and the learner. The blob is stored before the pointer moves,
        so a reader never finds a pointer to nothing. Publishing again repairs bytes that were damaged in the
        registry; a damaged pointer is never overwritten. After `RegistryUnavailable` the pointer may or may not
        have moved: read it, or publish again.

        Parameters
        ----------
        kind, name
            Where to publish; see `layout.check_name`.
        blob : bytes
            1 byte to 8 MiB.
        dim, encoder, note
            Kept in the pointer.
        expected_revision : int or None
            Move only if the pointer has this revision now; 0 means that there is no pointer yet. None: move it
            whatever its revision, with a bounded number of retries if another writer comes first.

        Raises
        ------
        RegistryConflict
            The pointer has another revision, or other writers came first every time.
        RegistryCorrupt
            The key of the pointer, its history or the list of names holds something else.
        RegistryError
            The blob is empty or too large, or the registry refused.
        """
        ...

    def pointer(self, kind: Kind, name: str) -> Pointer | None:
        """Return the pointer of a name; None if there is none (never published, or flushed).

        Raises
        ------
        RegistryCorrupt
            What is stored is not a pointer of this name.
        """
        ...

    def pointers(self, kind: Kind) -> Mapping[str, Pointer | RegistryCorrupt]:
        """Return all names of a kind, in order, each with its pointer or with the error that it has.

        An error is returned, not raised, so that a damaged entry does not hide the others.

        Raises
        ------
        RegistryCorrupt
            The list of names itself is damaged.
        """
        ...

    def history(self, kind: Kind, name: str) -> list[Pointer]:
        """Return up to 100 pointers that this name has had, newest first, the current one included.

        Raises
        ------
        RegistryCorrupt
            An entry is not a pointer of this name.
        """
        ...

    def blob(self, kind: Kind, name: str, sha256: str) -> bytes:
        """Return a blob after checking its size and sha256.

        Raises
        ------
        RegistryCorrupt
            The stored bytes are not those that were published, or are too many to fetch.
        RegistryError
            There is no such blob.
        """
        ...

    def move(self, kind: Kind, name: str, version: str, *, expected_revision: int | None = None) -> Pointer:
        """Roll back: move the pointer to a version in its history, under a higher revision, and freeze it.

        The blob of that version is fetched and checked first.

        Raises
        ------
        RegistryConflict
            As in `publish`.
        RegistryCorrupt
            As in `publish`, or the blob of that version is damaged.
        RegistryError
            The history has no such version, or its blob is gone.
        """
        ...

    def prune(self, kind: Kind, name: str, *, keep: int) -> int:
        """Remove the blobs of all but the newest pointers of a name; return how many were to be removed.

        Called by the learner, whose epochs are many and soon of no use. The pointers stay in the history; a move
        to one whose blob is gone is refused.

        Parameters
        ----------
        kind, name
        keep : int
            Number of newest pointers whose blobs stay, the current one included; at least 1.
        """
        ...

    def wait_for_hint(self, timeout_seconds: float) -> bool:
        """Wait until something is published; return False on timeout.

        True means "look now": something was published since the last call, or may have been while the
        connection was lost. Hints before the first call are not reported, so call it once with 0 before the
        first look. Only the poller thread calls it. It never raises while the registry is unavailable: it waits,
        and reconnects at a bounded rate, for `timeout_seconds` plus at most one attempt to connect. `close` ends
        the wait with False.
        """
        ...

    def close(self) -> None:
        """Close connections, from any thread; the store must not be used afterwards. Raises nothing."""
        ...


class StoreRules(abc.ABC):
    """The protocol `Store`, built on primitives that know nothing about revisions and checks.

    A primitive raises `RegistryUnavailable` if there is no answer, and `RegistryCorrupt` if a key holds an
    unexpected type.
    """

    @abc.abstractmethod
    def _read_pointer(self, kind: Kind, name: str) -> bytes | None:
        """Return the stored pointer, or None."""

    @abc.abstractmethod
    def _read_pointers(self, kind: Kind) -> Mapping[str, bytes | RegistryCorrupt | None]:
        """Return every listed name with its stored pointer, None, or the reason why it cannot be read."""

    @abc.abstractmethod
    def _read_history(self, kind: Kind, name: str, limit: int) -> list[bytes]:
        """Return up to `limit` stored pointers, newest first."""

    @abc.abstractmethod
    def _read_blob(self, kind: Kind, name: str, sha256: str) -> bytes | None:
        """Return the stored blob unchecked, or None; raise RegistryCorrupt instead of fetching too much."""

    @abc.abstractmethod
    def _write_blob(self, kind: Kind, name: str, sha256: str, blob: bytes) -> None:
        """Store a blob, replacing what was there."""

    @abc.abstractmethod
    def _delete_blobs(self, kind: Kind, name: str, sha256s: Sequence[str]) -> None:
        """Remove blobs; missing ones are ignored."""

    @abc.abstractmethod
    def _milliseconds(self) -> int:
        """Return the registry's own clock, in milliseconds since 1970."""

    @abc.abstractmethod
    def _swap(self, kind: Kind, name: str, expected: bytes | None, pointer: bytes) -> bool:
        """Replace exactly `expected` by `pointer`, record history and name, send the hint: all or nothing."""

    def publish(
        self,
        kind: Kind,
        name: str,
        blob: bytes,
        *,
        dim: int | None = None,
        encoder: str | None = None,
        note: str = "",
        expected_revision: int | None = None,
    ) -> Pointer:
        """Store a blob and move the pointer to it; see `Store.publish`."""
        layout.check_kind(kind)
        layout.check_name(name)
        if not 1 <= len(blob) <= layout.BLOB_BYTES_MAX:
            raise RegistryError(
                f"{kind} {name}: {len(blob)} bytes cannot be published, only 1 to {layout.BLOB_BYTES_MAX}"
            )
        sha256 = hashlib.sha256(blob).hexdigest()

        def build(revision: int) -> Pointer:
            return Pointer(
                name=name,
                revision=revision,
                version=sha256[: layout.VERSION_CHARACTERS],
                sha256=sha256,
                size_bytes=len(blob),
                created=layout.now_utc(),
                dim=dim,
                encoder=encoder,
                note=note,
            )

        # Refuse what no reader would accept, and an outdated revision, before sending megabytes.
        layout.decode_pointer(layout.encode_pointer(build(1)), name=name, where="the new pointer")
        self._expect(kind, name, expected_revision)
        self._write_blob(kind, name, sha256, bytes(blob))
        return self._advance(kind, name, build, expected_revision)

    def pointer(self, kind: Kind, name: str) -> Pointer | None:
        """Return the pointer of a name, or None; see `Store.pointer`."""
        layout.check_kind(kind)
        layout.check_name(name)
        return self._decoded(kind, name, self._read_pointer(kind, name))

    def pointers(self, kind: Kind) -> Mapping[str, Pointer | RegistryCorrupt]:
        """Return all names with their pointers or errors; see `Store.pointers`."""
        layout.check_kind(kind)
        pointers: dict[str, Pointer | RegistryCorrupt] = {}
        for name, raw in sorted(self._read_pointers(kind).items()):
            if isinstance(raw, RegistryCorrupt):
                pointers[name] = raw
                continue
            try:
                pointers[name] = self._decoded(kind, name, raw) or RegistryCorrupt(
                    f"{layout.current_key(kind, name)} is missing, but {layout.names_key(kind)} lists it; "
                    f"publish it again"
                )
            except RegistryCorrupt as error:
                pointers[name] = error
        return pointers

    def history(self, kind: Kind, name: str) -> list[Pointer]:
        """Return the pointers that a name has had, newest first; see `Store.history`."""
        layout.check_kind(kind)
        layout.check_name(name)
        where = layout.history_key(kind, name)
        return [
            layout.decode_pointer(raw, name=name, where=where)
            for raw in self._read_history(kind, name, layout.HISTORY_MAX)
        ]

    def blob(self, kind: Kind, name: str, sha256: str) -> bytes:
        """Return a blob after checking it; see `Store.blob`."""
        layout.check_kind(kind)
        layout.check_name(name)
        layout.check_sha256(sha256)
        blob = self._read_blob(kind, name, sha256)
        where = layout.blob_key(kind, name, sha256)
        if blob is None:
            raise RegistryError(
                f"{where} does not exist; publish {name} again, or roll back to another version"
            )
        layout.check_blob(blob, sha256=sha256, where=where)
        return blob

    def move(self, kind: Kind, name: str, version: str, *, expected_revision: int | None = None) -> Pointer:
        """Move the pointer back to a version of its history; see `Store.move`."""
        past = self.history(kind, name)
        target = next((pointer for pointer in past if pointer.version == version), None)
        if target is None:
            known = ", ".join(dict.fromkeys(pointer.version for pointer in past)) or "none"
            raise RegistryError(
                f"{kind} {name}: version {version[:80]!r} is not in its history; newest first: {known}"
            )
        self._expect(kind, name, expected_revision)
        self.blob(kind, name, target.sha256)

        def build(revision: int) -> Pointer:
            return Pointer(
                name=name,
                revision=revision,
                version=target.version,
                sha256=target.sha256,
                size_bytes=target.size_bytes,
                created=layout.now_utc(),
                dim=target.dim,
                encoder=target.encoder,
                frozen=True,
                note=target.note,
            )

        return self._advance(kind, name, build, expected_revision)

    def prune(self, kind: Kind, name: str, *, keep: int) -> int:
        """Remove the blobs of all but the newest pointers of a name; see `Store.prune`."""
        if keep < 1:
            raise RegistryError(
                f"{kind} {name}: the current blob must stay, so keep must be at least 1, not {keep}"
            )
        pointers = self.history(kind, name)
        kept = {pointer.sha256 for pointer in pointers[:keep]}
        gone = sorted({pointer.sha256 for pointer in pointers[keep:]} - kept)
        if gone:
            self._delete_blobs(kind, name, gone)
        return len(gone)

    def _decoded(self, kind: Kind, name: str, raw: bytes | None) -> Pointer | None:
        if raw is None:
            return None
        return layout.decode_pointer(raw, name=name, where=layout.current_key(kind, name))

    def _expect(self, kind: Kind, name: str, expected_revision: int | None) -> None:
        """Raise RegistryConflict if a revision was named and the pointer has another one."""
        if expected_revision is not None:
            current = self.pointer(kind, name)
            self._compare(kind, name, current, expected_revision)

    def _compare(self, kind: Kind, name: str, current: Pointer | None, expected_revision: int) -> None:
        revision = 0 if current is None else current.revision
        if revision != expected_revision:
            raise RegistryConflict(
                f"{kind} {name} is at revision {revision}, not {expected_revision}: someone moved it; "
                f"check what is there now, then try again"
            )

    def _advance(
        self, kind: Kind, name: str, build: Callable[[int], Pointer], expected_revision: int | None
    ) -> Pointer:
        """Build a pointer with the next revision, and move to it."""
        for attempt in range(1, SWAP_ATTEMPTS + 1):
            raw = self._read_pointer(kind, name)
            current = self._decoded(kind, name, raw)
            if expected_revision is not None:
                self._compare(kind, name, current, expected_revision)
            pointer = build(self._next_revision(kind, name, current))
            if self._swap(kind, name, raw, layout.encode_pointer(pointer)):
                return pointer
            if expected_revision is None:
                time.sleep(random.uniform(0, SWAP_PAUSE_SECONDS * attempt))  # noqa: S311 (spreads writers)
        raise RegistryConflict(
            f"{kind} {name}: other writers came first {SWAP_ATTEMPTS} times; try again when they are done"
        )

    def _next_revision(self, kind: Kind, name: str, current: Pointer | None) -> int:
        """Return the current revision plus one; without a pointer, a number above all that were ever used.

        The first revision comes from the clock, so that revisions keep rising after a flush, which leaves nothing
        to count from: a worker that holds an older copy must see the new one as newer.
        """
        if current is not None:
            return current.revision + 1
        where = layout.history_key(kind, name)
        past = [
            layout.decode_pointer(raw, name=name, where=where).revision
            for raw in self._read_history(kind, name, 1)
        ]
        return max(self._milliseconds(), *(revision + 1 for revision in past), 1)
