"""The registry as a protocol, and the rules that every store shares.

A store keeps a few primitives (read, write, swap one pointer); `StoreRules` makes the protocol of them, so
that revisions, conflicts and checks are the same everywhere. It must never import a client library.
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

#: Tries to move a pointer for a writer who named no revision; in every round one writer does get through.
SWAP_ATTEMPTS = 16
#: Upper bound of the pause after the first lost round, seconds; grows with each one, so that writers part.
SWAP_PAUSE_SECONDS = 0.01


@runtime_checkable
class Store(Protocol):
    """Where adapters and label sets are published, and fetched from.

    Readers (`pointer`, `pointers`, `blob`, `wait_for_hint`) are called by the poller thread of a worker,
    never in the path of a batch: a failure means that the last good value goes on serving. Writers
    (`publish`, `move`) and `history` are called by the command line, in its main thread: a failure is shown
    to the person. Calls may come from several threads at once, except `wait_for_hint`: one thread waits.

    Every call is bounded in time. All raise `RegistryUnavailable` when there is no answer, and
    `RegistryError` for a kind or a name that cannot be, except where noted.
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

        Called by ``adapters push`` and ``labels push``. The blob is stored before the pointer moves, so a
        reader never finds a pointer to nothing. Bytes that were damaged in the registry are healed by
        publishing them again; a damaged pointer is never overwritten. After `RegistryUnavailable` the
        pointer may or may not have moved: read it, or publish again.

        Parameters
        ----------
        kind, name
            What it is; see `layout.check_name`.
        blob : bytes
            1 byte to 8 MiB.
        dim, encoder, note
            Kept in the pointer.
        expected_revision : int or None
            Move only if the pointer has this revision now; 0 means that there is none yet. None: move
            whatever is there, trying again a bounded number of times when another writer comes first.

        Raises
        ------
        RegistryConflict
            The pointer has another revision, or other writers came first every time.
        RegistryCorrupt
            What lies in the place of the pointer, its history or the list of names is something else.
        RegistryError
            The blob is empty or too large, or the registry refused.
        """
        ...

    def pointer(self, kind: Kind, name: str) -> Pointer | None:
        """Return the pointer of a name, or None where there is none (never published, or flushed).

        Raises
        ------
        RegistryCorrupt
            What is stored is not a pointer of this name.
        """
        ...

    def pointers(self, kind: Kind) -> Mapping[str, Pointer | RegistryCorrupt]:
        """Return all names of a kind, in order, each with its pointer or with what is wrong with it.

        A damaged entry is returned as the error, not raised: it must not hide the others.

        Raises
        ------
        RegistryCorrupt
            The list of names itself is damaged.
        """
        ...

    def history(self, kind: Kind, name: str) -> list[Pointer]:
        """Return the pointers that this name has had, newest first, the current one included, at most 100.

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
            The stored bytes are not those that were published, or are too many (they are not fetched then).
        RegistryError
            There is no such blob.
        """
        ...

    def move(self, kind: Kind, name: str, version: str, *, expected_revision: int | None = None) -> Pointer:
        """Roll back: move the pointer to a version of its history, under a higher revision, frozen.

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
        """Remove the blobs of all but the newest pointers of a name; return how many were named for removal.

        Called by the learner: epochs are many, and soon of no use. The pointers stay in the history; a move to one
        whose blob is gone is refused.

        Parameters
        ----------
        kind, name
        keep : int
            Pointers whose blobs stay, the current one included; at least 1.
        """
        ...

    def wait_for_hint(self, timeout_seconds: float) -> bool:
        """Wait until something is published; return False when the time is up.

        True means "look now": something was published since the last call, or may have been while the
        connection was lost. What came before the first call is not told, so call it once with 0 before the
        first look. Called by the poller thread alone. It never raises while the registry is away: it waits,
        and tries to connect again at a bounded rate; the whole takes `timeout_seconds` plus at most one
        attempt to connect. `close` ends the wait with False.
        """
        ...

    def close(self) -> None:
        """Let go of connections, from any thread; the store is not used afterwards. Raises nothing."""
        ...


class StoreRules(abc.ABC):
    """The protocol `Store` on top of primitives that know nothing of revisions and checks.

    A primitive raises `RegistryUnavailable` when there is no answer and `RegistryCorrupt` when a key holds
    another type than expected.
    """

    @abc.abstractmethod
    def _read_pointer(self, kind: Kind, name: str) -> bytes | None:
        """Return the stored pointer, or None."""

    @abc.abstractmethod
    def _read_pointers(self, kind: Kind) -> Mapping[str, bytes | RegistryCorrupt | None]:
        """Return every name of the index with its stored pointer, None, or why it cannot be read."""

    @abc.abstractmethod
    def _read_history(self, kind: Kind, name: str, limit: int) -> list[bytes]:
        """Return up to `limit` stored pointers, newest first."""

    @abc.abstractmethod
    def _read_blob(self, kind: Kind, name: str, sha256: str) -> bytes | None:
        """Return the stored blob unchecked, or None; raise RegistryCorrupt instead of fetching too much."""

    @abc.abstractmethod
    def _write_blob(self, kind: Kind, name: str, sha256: str, blob: bytes) -> None:
        """Store a blob, whatever lay there."""

    @abc.abstractmethod
    def _delete_blobs(self, kind: Kind, name: str, sha256s: Sequence[str]) -> None:
        """Remove blobs; those that are not there do no harm."""

    @abc.abstractmethod
    def _milliseconds(self) -> int:
        """Return the registry's own clock, milliseconds since 1970."""

    @abc.abstractmethod
    def _swap(self, kind: Kind, name: str, expected: bytes | None, pointer: bytes) -> bool:
        """Replace exactly `expected` by `pointer`, note history and name, send the hint: all or nothing."""

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
                f"{kind} {name}: {len(blob)} bytes cannot be published, 1 to {layout.BLOB_BYTES_MAX} can"
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
        layout.decode_pointer(layout.encode_pointer(build(1)), name=name, where="what was to be published")
        self._expect(kind, name, expected_revision)
        self._write_blob(kind, name, sha256, bytes(blob))
        return self._advance(kind, name, build, expected_revision)

    def pointer(self, kind: Kind, name: str) -> Pointer | None:
        """Return the pointer of a name, or None; see `Store.pointer`."""
        layout.check_kind(kind)
        layout.check_name(name)
        return self._decoded(kind, name, self._read_pointer(kind, name))

    def pointers(self, kind: Kind) -> Mapping[str, Pointer | RegistryCorrupt]:
        """Return all names with their pointers or what is wrong with them; see `Store.pointers`."""
        layout.check_kind(kind)
        pointers: dict[str, Pointer | RegistryCorrupt] = {}
        for name, raw in sorted(self._read_pointers(kind).items()):
            if isinstance(raw, RegistryCorrupt):
                pointers[name] = raw
                continue
            try:
                pointers[name] = self._decoded(kind, name, raw) or RegistryCorrupt(
                    f"{layout.current_key(kind, name)} is gone, although {layout.names_key(kind)} lists it; "
                    f"publish it again"
                )
            except RegistryCorrupt as error:
                pointers[name] = error
        return pointers

    def history(self, kind: Kind, name: str) -> list[Pointer]:
        """Return former pointers, newest first; see `Store.history`."""
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
            raise RegistryError(f"at least the current blob of {kind} {name} must stay, not {keep}")
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
        """Raise RegistryConflict when a revision was named and the pointer has another one."""
        if expected_revision is not None:
            current = self.pointer(kind, name)
            self._compare(kind, name, current, expected_revision)

    def _compare(self, kind: Kind, name: str, current: Pointer | None, expected_revision: int) -> None:
        revision = 0 if current is None else current.revision
        if revision != expected_revision:
            raise RegistryConflict(
                f"{kind} {name} is at revision {revision}, not {expected_revision}: someone moved it; "
                f"look at what is there now, then try again"
            )

    def _advance(
        self, kind: Kind, name: str, build: Callable[[int], Pointer], expected_revision: int | None
    ) -> Pointer:
        """Move the pointer to what `build` makes of the next revision."""
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
        """Return one more than now; without a pointer a number above all that were ever used.

        Revisions count from the clock, so that they go on rising after a flush, which leaves nothing to
        count on: a worker that holds an older copy must see the new one as newer.
        """
        if current is not None:
            return current.revision + 1
        where = layout.history_key(kind, name)
        past = [
            layout.decode_pointer(raw, name=name, where=where).revision
            for raw in self._read_history(kind, name, 1)
        ]
        return max(self._milliseconds(), *(revision + 1 for revision in past), 1)
