"""Adapters and label sets between files, the package and the registry; and which adapter a tool should use."""

from pathlib import Path
from typing import Final

from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.models.adapter import adapter as adapters
from alignstream.models.adapter.adapter import IDENTITY, Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.errors import (
    AdapterError,
    AdapterNotFound,
    AlignstreamError,
    LabelsError,
    RegistryError,
)
from alignstream.models.labels import label_set as label_sets
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.registry.follower import Catalogue, Follower, Served
from alignstream.models.registry.last_good import LastGoodCopies
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
    store = open_store(settings)
    try:
        return store.publish(
            "adapter", name, blob,
            dim=adapter.dim, encoder=adapter.encoder, note=note, expected_revision=expected_revision,
        )  # fmt: skip
    finally:
        store.close()


def push_packaged(settings: Settings, *, encoder: str | None = None) -> Pointer | None:
    """Publish the shipped adapter as ``default``, unless that name points somewhere already.

    Parameters
    ----------
    encoder : str, optional
        Fingerprint of the encoder; None takes that of the settings, else the embedded one's.

    Returns
    -------
    Pointer or None
        What ``default`` points at now; None where the package ships none for this encoder.
    """
    if encoder is None and settings.artifact is not None:
        encoder = read_manifest(settings.artifact).fingerprint
    adapter = shipped_adapter(encoder)
    if adapter is None:
        return None
    store = open_store(settings)
    try:
        current = store.pointer("adapter", "default")
        if current is not None:
            return current
        return store.publish(
            "adapter", "default", adapter.blob,
            dim=adapter.dim, encoder=adapter.encoder, note="shipped with the package", expected_revision=0,
        )  # fmt: skip
    finally:
        store.close()


def prepare_registry(settings: Settings) -> Pointer | None:
    """Make sure that a worker with these settings, on an empty registry, will find its adapter.

    Raises
    ------
    AdapterNotFound
        The package ships none for this encoder, and the settings want one.
    """
    pointer = push_packaged(settings)
    if pointer is None and settings.adapter != IDENTITY:
        raise AdapterNotFound(
            "the package ships no adapter for this encoder; set ALIGNSTREAM_ADAPTER=identity, or start with "
            "'alignstream up --no-worker' and push one"
        )
    return pointer


def shipped_adapter(encoder: str | None = None) -> Adapter | None:
    """Return the adapter that the package ships, for an encoder or for the embedded one."""
    return packaged_adapter(embedded_fingerprint() if encoder is None else encoder)


def push_label_set(
    settings: Settings, name: str, labels: LabelSet, *, note: str = "", expected_revision: int | None = None
) -> Pointer:
    """Publish a label set; what is there already is left as it is.

    Raises
    ------
    LabelsError
        It is larger than what a worker reads.
    RegistryConflict
        The name is at another revision than expected.
    """
    if len(labels.blob) > label_sets.MAX_LABEL_SET_BYTES:
        raise LabelsError(
            f"label set {name!r} takes {len(labels.blob)} bytes, {label_sets.MAX_LABEL_SET_BYTES} are allowed; give it "
            "fewer labels"
        )
    store = open_store(settings)
    try:
        current = store.pointer("labels", name)
        if current is not None and current.version == labels.version and not current.frozen:
            return current
        return store.publish("labels", name, labels.blob, note=note, expected_revision=expected_revision)
    finally:
        store.close()


def fetch(settings: Settings, kind: Kind, name: str, version: str | None = None) -> tuple[Pointer, bytes]:
    """Return a value of the registry, verified: the current version, or one of its history.

    Raises
    ------
    RegistryError
        There is no such name or version, or it is damaged.
    """
    store = open_store(settings)
    try:
        current = store.pointer(kind, name)
        if current is None:
            known = ", ".join(sorted(store.pointers(kind))) or "none"
            raise RegistryError(f"there is no {_NOUNS[kind]} {name!r} in the registry; there are: {known}")
        pointer = current
        if version is not None and version != current.version:
            past = [item for item in store.history(kind, name) if item.version == version]
            if not past:
                command = f"alignstream {_COMMANDS[kind]} show {name}"
                raise RegistryError(f"{_NOUNS[kind]} {name!r} has no version {version!r}; see '{command}'")
            pointer = past[0]
        return pointer, store.blob(kind, name, pointer.sha256)
    finally:
        store.close()


class _NoListener:
    def looked(self, *, registry_is_up: bool) -> None:
        del registry_is_up

    def swapped(self, kind: Kind, name: str, served: Served) -> None:
        del kind, name, served

    def rejected(self, kind: Kind, name: str, reason: str, message: str) -> None:
        del kind, name, reason, message


def catalogue(settings: Settings, *, encoder: str, dim: int) -> tuple[Catalogue, Follower]:
    """Return what a worker with these settings would serve now, and the follower that found it."""
    store = open_store(settings)
    try:
        follower = Follower(
            store,
            LastGoodCopies(settings.cache_dir / "registry", settings.redis_url),
            encoder=encoder,
            dim=dim,
            listener=_NoListener(),
        )
        follower.refresh()
    finally:
        store.close()
    return follower.catalogue, follower


def file_label(path: Path) -> str:
    """Return the name under which records know an adapter that was read from a file.

    >>> file_label(Path("build/my map.safetensors"))
    'my-map'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return kept.strip("._-")[:64] or "file"


def with_adapter(
    found: Catalogue, chosen: str | None, settings: Settings, *, encoder: str
) -> tuple[Catalogue, Settings]:
    """Make the adapter that ``--adapter`` names the default: a name, a file, or ``none``.

    Raises
    ------
    AdapterNotFound
        Nothing of that name is served, and no such file exists.
    AdapterError
        The file is not an adapter of this encoder.
    """
    name = settings.adapter if chosen is None else chosen
    if name == "none":
        name = IDENTITY
    path = Path(name)
    if path.suffix == ".safetensors" or "/" in name:
        try:
            value = adapters.from_bytes(path.read_bytes(), encoder=encoder)
        except OSError as error:
            raise AdapterError(f"cannot read the adapter {path}: {error.strerror}") from error
        served = Served(value, "file", path.stat().st_mtime)
        label = file_label(path)
        found = Catalogue(adapters={**found.adapters, label: served}, label_sets=found.label_sets)
        return found, settings.model_copy(update={"adapter": label})
    if found.adapter(name) is None:
        known = ", ".join(sorted(found.adapters))
        raise AdapterNotFound(
            f"no adapter {name!r} for this encoder in Redis, on disk or in the package; there are: {known}"
        )
    return found, settings.model_copy(update={"adapter": name})


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
