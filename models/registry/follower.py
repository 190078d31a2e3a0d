"""What a worker serves: an immutable catalogue that follows the registry, and changes between batches.

The poller thread looks at the pointers, fetches what changed, verifies it, and replaces the catalogue by
assigning one attribute. A reader takes ``Follower.catalogue`` once per batch and never sees a mix of
versions. A value that cannot be verified is refused, and the last good one keeps serving.
"""

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, Protocol

from alignstream.models.adapter import adapter as adapters
from alignstream.models.adapter.adapter import IDENTITY, Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.errors import (
    AdapterError,
    AlignstreamError,
    LabelsError,
    PackedCorrupt,
    RegistryCorrupt,
    RegistryError,
    RegistryUnavailable,
)
from alignstream.models.labels import label_set as label_sets
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.registry.last_good import LastGoodCopies
from alignstream.models.registry.layout import KINDS, Kind, Pointer
from alignstream.models.registry.store import Store
from alignstream.models.serving import epoch as epochs
from alignstream.models.serving.epoch import Epoch

#: Poll intervals vary by this share, so that workers that start together do not poll together.
POLL_JITTER: Final = 0.2
#: Most names served per kind: limits memory, and is far above what one service needs.
MAX_NAMES: Final = 256

Value = Adapter | LabelSet | Epoch

Source = Literal["built-in", "package", "disk", "registry", "file"]


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A value that serves: what it is, where it came from, and since when (seconds since 1970)."""

    value: Value
    source: Source
    since: float
    pointer: Pointer | None = None


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Everything that one batch may use; immutable."""

    adapters: Mapping[str, Served]
    label_sets: Mapping[str, Served]
    #: By tenant.
    epochs: Mapping[str, Served] = dataclasses.field(default_factory=dict)

    def adapter(self, name: str) -> Adapter | None:
        """Return an adapter by name, or None."""
        served = self.adapters.get(name)
        return served.value if served is not None and isinstance(served.value, Adapter) else None

    def label_set(self, name: str) -> LabelSet | None:
        """Return a label set by name, or None."""
        served = self.label_sets.get(name)
        return served.value if served is not None and isinstance(served.value, LabelSet) else None

    def epoch(self, tenant: str) -> Epoch | None:
        """Return a tenant's epoch, or None."""
        served = self.epochs.get(tenant)
        return served.value if served is not None and isinstance(served.value, Epoch) else None


class Listener(Protocol):
    """Receives events. Called from the poller thread; must return at once and raise nothing."""

    def looked(self, *, registry_is_up: bool) -> None:
        """Note one look at the registry."""

    def swapped(self, kind: Kind, name: str, served: Served) -> None:
        """Note a value that serves from now on."""

    def rejected(self, kind: Kind, name: str, reason: str, message: str) -> None:
        """Note a value that was refused."""


class Follower:
    """Keeps a catalogue up to date with a store.

    Parameters
    ----------
    store : Store
        The registry.
    copies : LastGoodCopies
        Last good values on disk, which a worker starts with if the registry is unavailable.
    encoder, dim
        Fingerprint and dimension of the encoder in use; adapters of other encoders are refused.
    listener : Listener
        Receives looks, swaps and refusals.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        copies: LastGoodCopies,
        *,
        encoder: str,
        dim: int,
        listener: Listener,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._copies = copies
        self._encoder = encoder
        self._listener = listener
        self._clock = clock
        self._held: dict[Kind, dict[str, Served]] = {kind: {} for kind in KINDS}
        #: Refused pointers, so that each is reported once and not at every look.
        self._refused: dict[tuple[Kind, str], Pointer | str] = {}
        #: Pointers whose value was fetched and found bad; it is not fetched again.
        self._bad: dict[tuple[Kind, str], Pointer] = {}
        self.problems: dict[tuple[Kind, str], str] = {}
        self.registry_is_up = False
        #: When every served value was last seen to be the one that the registry points to; seconds since 1970.
        self.fresh_at: float | None = None
        self._held["adapter"][IDENTITY] = Served(adapters.identity(encoder, dim), "built-in", clock())
        self._start_from_package_and_disk()
        self.catalogue = self._snapshot()

    def _snapshot(self) -> Catalogue:
        return Catalogue(
            adapters=MappingProxyType(dict(self._held["adapter"])),
            label_sets=MappingProxyType(dict(self._held["labels"])),
            epochs=MappingProxyType(
                {
                    held.value.tenant: held
                    for held in self._held["epoch"].values()
                    if isinstance(held.value, Epoch)
                }
            ),
        )

    def _start_from_package_and_disk(self) -> None:
        shipped = packaged_adapter(self._encoder)
        if shipped is not None:
            self._held["adapter"]["default"] = Served(shipped, "package", self._clock())
        for kind in KINDS:
            try:
                names = self._copies.names(kind)
            except RegistryError as error:
                self._reject(kind, "*", "disk", str(error))
                continue
            for name in names[:MAX_NAMES]:
                if (kind, name) == ("adapter", IDENTITY):
                    continue
                try:
                    copy = self._copies.load(kind, name)
                    if copy is not None:
                        pointer, blob = copy
                        value = self._parse(kind, blob)
                        self._held[kind][name] = Served(value, "disk", self._clock(), pointer)
                except (RegistryError, AdapterError, LabelsError, PackedCorrupt) as error:
                    self._reject(kind, name, "disk", str(error))

    def _parse(self, kind: Kind, blob: bytes) -> Value:
        if kind == "adapter":
            return adapters.from_bytes(blob, encoder=self._encoder)
        if kind == "epoch":
            return epochs.from_bytes(blob, encoder=self._encoder)
        return label_sets.from_bytes(blob)

    def _reject(self, kind: Kind, name: str, reason: str, message: str) -> None:
        self.problems[kind, name] = message
        self._listener.rejected(kind, name, reason, message)

    def refresh(self) -> bool:
        """Look at the registry once, and swap in good changes. Does not raise the registry's errors.

        Returns
        -------
        bool
            Whether the registry answered.
        """
        changed, agrees = False, True
        try:
            for kind in KINDS:
                pointers = self._store.pointers(kind)
                # A flushed registry lists nothing: its values keep serving, but are no longer confirmed.
                agrees &= all(name in pointers for name, held in self._held[kind].items() if held.pointer)
                if len(pointers) > MAX_NAMES:
                    message = f"{len(pointers)} names exceed the limit of {MAX_NAMES}; those in use are followed first"
                    self._refuse_once(kind, "*names", message, "too-many-names", message)
                followed = sorted(pointers, key=lambda name: (name not in self._held[kind], name))
                for name, pointer in ((name, pointers[name]) for name in followed[:MAX_NAMES]):
                    if (kind, name) == ("adapter", IDENTITY):
                        continue
                    swapped, good = self._follow(kind, name, pointer)
                    changed |= swapped
                    agrees &= good
        except RegistryError as error:
            self.registry_is_up = not isinstance(error, RegistryUnavailable)
            agrees = False
            self.problems["adapter", "*"] = str(error)
        else:
            self.registry_is_up = True
            self.problems.pop(("adapter", "*"), None)
        if changed:
            self.catalogue = self._snapshot()
        if agrees:
            self.fresh_at = self._clock()
        self._listener.looked(registry_is_up=self.registry_is_up)
        return self.registry_is_up

    def _follow(self, kind: Kind, name: str, pointer: Pointer | RegistryCorrupt) -> tuple[bool, bool]:
        """Return whether a value was swapped, and whether the served one is the registry's."""
        if isinstance(pointer, RegistryCorrupt):
            self._refuse_once(kind, name, str(pointer), "corrupt-pointer", str(pointer))
            return False, False
        held = self._held[kind].get(name)
        if held is not None and held.pointer is not None:
            if held.pointer == pointer:
                if held.source == "disk":
                    self._held[kind][name] = dataclasses.replace(held, source="registry")
                self.problems.pop((kind, name), None)
                self._refused.pop((kind, name), None)
                return held.source == "disk", True
            if pointer.revision < held.pointer.revision:
                message = (
                    f"{kind} {name}: the registry shows revision {pointer.revision}, older than "
                    f"{held.pointer.revision} in use (an old replica or backup?); push it again"
                )
                self._refuse_once(kind, name, pointer, "stale-pointer", message)
                return False, False
        if held is None and pointer.encoder is not None and pointer.encoder != self._encoder:
            return (
                False,
                True,
            )  # it belongs to another encoder, and its name does not serve here
        fetched = self._fetch(kind, name, pointer)
        if fetched is None:
            return False, False
        value, blob = fetched
        served = Served(value, "registry", self._clock(), pointer)
        self._held[kind][name] = served
        self._refused.pop((kind, name), None)
        self.problems.pop((kind, name), None)
        self._listener.swapped(kind, name, served)
        try:
            self._copies.save(kind, pointer, blob)
        except AlignstreamError as error:  # a full disk matters at the next start, not now
            self._reject(kind, name, "disk", str(error))
        return True, True

    def _fetch(self, kind: Kind, name: str, pointer: Pointer) -> tuple[Value, bytes] | None:
        """Fetch and verify the value that a pointer names; return it with its bytes, or None if it is refused."""
        if self._bad.get((kind, name)) == pointer:
            return None
        try:
            blob = self._store.blob(kind, name, pointer.sha256)
            return self._parse(kind, blob), blob
        except RegistryUnavailable:
            raise
        except (RegistryError, AdapterError, LabelsError, PackedCorrupt) as error:
            # A blob that the registry lacks or refuses to give may be there at the next look.
            if isinstance(error, RegistryCorrupt) or not isinstance(error, RegistryError):
                self._bad[kind, name] = pointer
            self._refuse_once(kind, name, pointer, type(error).__name__, str(error))
            return None

    def _refuse_once(self, kind: Kind, name: str, pointer: Pointer | str, reason: str, message: str) -> None:
        if self._refused.get((kind, name)) != pointer:
            self._refused[kind, name] = pointer
            self._reject(kind, name, reason, message)

    def run(self, stop: threading.Event, *, poll_seconds: float) -> None:
        """Follow until told to stop: look, then wait for a hint or for the poll interval ± 20 %.

        Run it in a thread of its own.
        """
        self._store.wait_for_hint(0)
        while not stop.is_set():
            self.refresh()
            jitter = 1.0 + POLL_JITTER * (2.0 * random.random() - 1.0)  # noqa: S311 (spreads workers out)
            deadline = time.monotonic() + poll_seconds * jitter
            while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
                # Short waits, so that a stop takes effect at once.
                if self._store.wait_for_hint(min(left, 0.5)):
                    break
