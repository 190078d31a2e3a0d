"""The registry within one process, for laws and for running without Redis."""

import threading
import time
from collections.abc import Mapping, Sequence

from alignstream.models.errors import RegistryCorrupt
from alignstream.models.registry import layout
from alignstream.models.registry.layout import Kind
from alignstream.models.registry.store import StoreRules


class MemoryStore(StoreRules):
    """A registry within this process, for tests and for running without Redis.

    Safe to use from several threads. It keeps the same bytes under the same keys as Redis.

    Examples
    --------
    >>> store = MemoryStore()
    >>> pointer = store.publish("labels", "topics", b'{"labels": ["sports", "politics"]}')
    >>> store.blob("labels", "topics", pointer.sha256)
    b'{"labels": ["sports", "politics"]}'
    """

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._histories: dict[str, list[bytes]] = {}
        self._names: dict[str, set[str]] = {}
        self._changed = threading.Condition()
        self._n_published = 0
        self._n_hinted: int | None = None
        self._is_closed = False

    def _read_pointer(self, kind: Kind, name: str) -> bytes | None:
        with self._changed:
            return self._values.get(layout.current_key(kind, name))

    def _read_pointers(self, kind: Kind) -> Mapping[str, bytes | RegistryCorrupt | None]:
        with self._changed:
            names = self._names.get(layout.names_key(kind), set())
            return {name: self._values.get(layout.current_key(kind, name)) for name in names}

    def _read_history(self, kind: Kind, name: str, limit: int) -> list[bytes]:
        with self._changed:
            return self._histories.get(layout.history_key(kind, name), [])[:limit]

    def _read_blob(self, kind: Kind, name: str, sha256: str) -> bytes | None:
        with self._changed:
            return self._values.get(layout.blob_key(kind, name, sha256))

    def _write_blob(self, kind: Kind, name: str, sha256: str, blob: bytes) -> None:
        with self._changed:
            self._values[layout.blob_key(kind, name, sha256)] = blob

    def _delete_blobs(self, kind: Kind, name: str, sha256s: Sequence[str]) -> None:
        with self._changed:
            for sha256 in sha256s:
                self._values.pop(layout.blob_key(kind, name, sha256), None)

    def _milliseconds(self) -> int:
        return int(time.time() * 1000)

    def _swap(self, kind: Kind, name: str, expected: bytes | None, pointer: bytes) -> bool:
        with self._changed:
            key = layout.current_key(kind, name)
            if self._values.get(key) != expected:
                return False
            history = self._histories.setdefault(layout.history_key(kind, name), [])
            history.insert(0, pointer)
            del history[layout.HISTORY_MAX :]
            self._names.setdefault(layout.names_key(kind), set()).add(name)
            self._values[key] = pointer
            self._n_published += 1
            self._changed.notify_all()
            return True

    def wait_for_hint(self, timeout_seconds: float) -> bool:
        """Wait until something is published; see `Store.wait_for_hint`."""
        with self._changed:
            seen = self._n_published if self._n_hinted is None else self._n_hinted
            self._changed.wait_for(lambda: self._is_closed or self._n_published > seen, timeout_seconds)
            self._n_hinted = self._n_published
            return self._n_published > seen and not self._is_closed

    def close(self) -> None:
        """Wake the waiting thread; see `Store.close`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
