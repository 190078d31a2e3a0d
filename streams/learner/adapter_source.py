"""The adapter that the learner judges epochs with, by encoder: the one that workers use."""

import logging
import time
from typing import Final

from alignstream.models.adapter import adapter as adapters
from alignstream.models.adapter.adapter import IDENTITY, Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.errors import AdapterError, RegistryError
from alignstream.models.registry.layout import Pointer
from alignstream.models.registry.store import Store

logger = logging.getLogger(__name__)

#: Seconds between look-ups of the adapter in the registry.
ADAPTER_SECONDS: Final = 5.0


class AdapterSource:
    """The adapter for regression checks and maps from pairs, by encoder. Used from one thread.

    Parameters
    ----------
    store : Store
    name : str
        Name in the registry.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._adapters: dict[str, Adapter | None] = {}
        self._pointers: dict[str, Pointer] = {}
        self._looked_at: dict[str, float] = {}

    def find(self, encoder: str, dim: int) -> Adapter | None:
        """Return the adapter of an encoder, or None if there is none."""
        now = time.monotonic()
        if now - self._looked_at.get(encoder, -ADAPTER_SECONDS) >= ADAPTER_SECONDS:
            self._looked_at[encoder] = now
            try:
                self._look(encoder, dim)
            except (RegistryError, AdapterError) as error:
                logger.warning(
                    "adapter %r cannot be looked up; the last one stays in use: %s", self._name, error
                )
        if encoder not in self._adapters and self._name == "default":
            self._adapters[encoder] = packaged_adapter(encoder)
        return self._adapters.get(encoder)

    def _look(self, encoder: str, dim: int) -> None:
        if self._name == IDENTITY:
            self._adapters[encoder] = adapters.identity(encoder, dim)
            return
        pointer = self._store.pointer("adapter", self._name)
        if (
            pointer is None
            or pointer.encoder not in {None, encoder}
            or self._pointers.get(encoder) == pointer
        ):
            return
        blob = self._store.blob("adapter", self._name, pointer.sha256)
        self._adapters[encoder] = adapters.from_bytes(blob, encoder=encoder)
        self._pointers[encoder] = pointer
