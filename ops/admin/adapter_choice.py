"""Which adapter a command uses: the one that workers serve, a file, or none."""

import contextlib
from pathlib import Path

from alignstream.models.adapter import adapter as adapters
from alignstream.models.adapter.adapter import IDENTITY, Adapter
from alignstream.models.errors import AdapterError, AdapterNotFound
from alignstream.models.registry.follower import Catalogue, Follower, Served
from alignstream.models.registry.last_good import LastGoodCopies
from alignstream.models.registry.layout import Kind
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings


class _NoListener:
    """Ignores what the follower reports; its ``problems`` say what was refused."""

    def looked(self, *, registry_is_up: bool) -> None:
        del registry_is_up

    def swapped(self, kind: Kind, name: str, served: Served) -> None:
        del kind, name, served

    def rejected(self, kind: Kind, name: str, reason: str, message: str) -> None:
        del kind, name, reason, message


def catalogue(settings: Settings, *, encoder: str, dim: int) -> tuple[Catalogue, Follower]:
    """Return what a worker with these settings would serve now, and the follower that looked it up."""
    with contextlib.closing(open_store(settings)) as store:
        follower = Follower(
            store,
            LastGoodCopies(settings.cache_dir / "registry", settings.redis_url),
            encoder=encoder,
            dim=dim,
            listener=_NoListener(),
        )
        follower.refresh()
    return follower.catalogue, follower


def file_label(path: Path) -> str:
    """Return the name that records give to an adapter which was read from a file.

    >>> file_label(Path("build/my map.safetensors"))
    'my-map'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return kept.strip("._-")[:64] or "file"


def read_adapter(path: Path, *, encoder: str | None = None) -> Adapter:
    """Read an adapter file.

    Raises
    ------
    AdapterError
        It cannot be read, or is not an adapter (of this encoder).
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise AdapterError(f"cannot read the adapter {path}: {error.strerror}") from error
    return adapters.from_bytes(blob, encoder=encoder)


def with_adapter(
    served: Catalogue, chosen: str | None, settings: Settings, *, encoder: str
) -> tuple[Catalogue, Settings]:
    """Make the adapter that ``--adapter`` names the default: a name, a file, or ``none``.

    Raises
    ------
    AdapterNotFound
        No adapter of that name is served, and there is no such file.
    AdapterError
        The file is not an adapter of this encoder.
    """
    name = settings.adapter if chosen is None else chosen
    if name == "none":
        name = IDENTITY
    path = Path(name)
    if path.suffix == ".safetensors" or "/" in name:
        adapter = read_adapter(path, encoder=encoder)
        label = file_label(path)
        from_file = Served(adapter, "file", path.stat().st_mtime)
        catalogue_with_file = Catalogue(
            adapters={**served.adapters, label: from_file}, label_sets=served.label_sets
        )
        return catalogue_with_file, settings.model_copy(update={"adapter": label})
    if served.adapter(name) is None:
        known = ", ".join(sorted(served.adapters))
        raise AdapterNotFound(
            f"no adapter {name!r} for this encoder in Redis, on disk or in the package; there are: {known}"
        )
    return served, settings.model_copy(update={"adapter": name})
