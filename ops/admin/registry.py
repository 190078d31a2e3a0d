"""Adapters and label sets between files, the package and the registry."""

import contextlib
from pathlib import Path
from typing import Final

from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.models.adapter import adapter as adapters
from alignstream.models.adapter.adapter import IDENTITY, Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.errors import AdapterNotFound, AlignstreamError, LabelsError, RegistryError
from alignstream.models.labels import label_set as label_sets
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.registry.layout import Kind, Pointer
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings

_NOUNS: Final[dict[Kind, str]] = {"adapter": "adapter", "labels": "label set"}
_COMMANDS: Final[dict[Kind, str]] = {"adapter": "adapters", "labels": "labels"}


def push_adapter(
    settings: Settings, name: str, blob: bytes, *, note: str = "", expected_revision: int | None = None
) -> Pointer:
    """Verify an adapter file and publish it.

    Raises
    ------
    AdapterError
        The bytes are not an adapter.
    RegistryError
        The registry refused or did not answer.
    """
    if name == IDENTITY:
        raise AlignstreamError(f"{IDENTITY!r} is built in and cannot be replaced; choose another name")
    adapter = adapters.from_bytes(blob)
    with contextlib.closing(open_store(settings)) as store:
        return store.publish(
            "adapter", name, blob,
            dim=adapter.dim, encoder=adapter.encoder, note=note, expected_revision=expected_revision,
        )  # fmt: skip


def push_packaged(settings: Settings, *, encoder: str | None = None) -> Pointer | None:
    """Publish the shipped adapter as ``default``, unless something is published under that name.

    Parameters
    ----------
    encoder : str, optional
        Fingerprint of the encoder. Default: that of the settings, else the embedded encoder's.

    Returns
    -------
    Pointer or None
        What ``default`` points at now; None if the package ships no adapter for this encoder.
    """
    if encoder is None and settings.artifact is not None:
        encoder = read_manifest(settings.artifact).fingerprint
    adapter = shipped_adapter(encoder)
    if adapter is None:
        return None
    with contextlib.closing(open_store(settings)) as store:
        current = store.pointer("adapter", "default")
        if current is not None:
            return current
        return store.publish(
            "adapter", "default", adapter.blob,
            dim=adapter.dim, encoder=adapter.encoder, note="shipped with the package", expected_revision=0,
        )  # fmt: skip


def prepare_registry(settings: Settings) -> Pointer | None:
    """Make sure that a worker with these settings finds its adapter, even in an empty registry.

    Raises
    ------
    AdapterNotFound
        The settings want an adapter, and the package ships none for this encoder.
    """
    pointer = push_packaged(settings)
    if pointer is None and settings.adapter != IDENTITY:
        raise AdapterNotFound(
            "the package ships no adapter for this encoder; set ALIGNSTREAM_ADAPTER=identity, or start with "
            "'alignstream up --no-worker' and push one"
        )
    return pointer


def shipped_adapter(encoder: str | None = None) -> Adapter | None:
    """Return the adapter that the package ships for an encoder. Default: for the embedded one."""
    return packaged_adapter(embedded_fingerprint() if encoder is None else encoder)


def push_label_set(
    settings: Settings, name: str, labels: LabelSet, *, note: str = "", expected_revision: int | None = None
) -> Pointer:
    """Publish a label set; if the same one is published already, change nothing.

    Raises
    ------
    LabelsError
        It is larger than what a worker reads.
    RegistryConflict
        The name is at another revision than expected.
    """
    if len(labels.blob) > label_sets.MAX_LABEL_SET_BYTES:
        raise LabelsError(
            f"label set {name!r} takes {len(labels.blob)} bytes, and {label_sets.MAX_LABEL_SET_BYTES} are allowed; "
            "give it fewer labels"
        )
    with contextlib.closing(open_store(settings)) as store:
        current = store.pointer("labels", name)
        if current is not None and current.version == labels.version and not current.frozen:
            return current
        return store.publish("labels", name, labels.blob, note=note, expected_revision=expected_revision)


def read_label_set(path: Path) -> LabelSet:
    """Read a label set from a JSON file, or from a text file with one label a line.

    Raises
    ------
    AlignstreamError
        The file cannot be read, or is not a label set.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AlignstreamError(f"cannot read {path}: {error.strerror}") from error
    if content.lstrip()[:1] == b"{":
        return label_sets.from_bytes(content)
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise AlignstreamError(f"{path} is not UTF-8: {error}") from error
    return LabelSet(labels=tuple(line.strip() for line in lines if line.strip()))


def current_pointer(settings: Settings, kind: Kind, name: str) -> Pointer | None:
    """Return what a name points at, or None if nothing is published under it."""
    with contextlib.closing(open_store(settings)) as store:
        return store.pointer(kind, name)


def history(settings: Settings, kind: Kind, name: str) -> list[Pointer]:
    """Return the revisions of a name, the newest first."""
    with contextlib.closing(open_store(settings)) as store:
        return store.history(kind, name)


def fetch(settings: Settings, kind: Kind, name: str, version: str | None = None) -> tuple[Pointer, bytes]:
    """Return a value of the registry, verified: the current version, or an older one.

    Raises
    ------
    RegistryError
        There is no such name or version, or it is damaged.
    """
    with contextlib.closing(open_store(settings)) as store:
        pointer = store.pointer(kind, name)
        if pointer is None:
            published = ", ".join(sorted(store.pointers(kind))) or "none"
            raise RegistryError(
                f"there is no {_NOUNS[kind]} {name!r} in the registry; there are: {published}"
            )
        if version is not None and version != pointer.version:
            older = [past for past in store.history(kind, name) if past.version == version]
            if not older:
                command = f"alignstream {_COMMANDS[kind]} show {name}"
                raise RegistryError(f"{_NOUNS[kind]} {name!r} has no version {version!r}; see '{command}'")
            pointer = older[0]
        return pointer, store.blob(kind, name, pointer.sha256)


def roll_back(settings: Settings, kind: Kind, name: str, version: str | None = None) -> Pointer:
    """Move a name to an older version, under a new revision. Default: the version before the current one.

    Raises
    ------
    RegistryError
        There is no such name or version.
    """
    with contextlib.closing(open_store(settings)) as store:
        if version is None:
            revisions = store.history(kind, name)
            older = [past.version for past in revisions if past.version != revisions[0].version]
            if not older:
                raise RegistryError(f"{_NOUNS[kind]} {name!r} has no older version to go back to")
            version = older[0]
        return store.move(kind, name, version)
