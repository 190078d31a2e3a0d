"""Publish an adapter that the gate accepts, or that somebody forces past it."""

import dataclasses
from pathlib import Path
from typing import Final

from alignstream.models.adapter.adapter import from_bytes
from alignstream.models.errors import AdapterError, RegistryError
from alignstream.models.registry.layout import Pointer
from alignstream.ops.admin import push_gate as gate
from alignstream.ops.admin.registry import fetch, push_adapter
from alignstream.streams.settings import Settings

#: Characters of the gate's reasons that a note keeps: the pointer that holds the note is small.
MAX_NOTE: Final = 120


@dataclasses.dataclass(frozen=True)
class PublishedAdapter:
    """Where the name points now, and the languages that fell back to the pooled map, each with the reason."""

    pointer: Pointer
    fell_back: dict[str, str]


def publish(
    settings: Settings,
    name: str,
    blob: bytes,
    *,
    note: str = "",
    scored: Path | None = None,
    force: bool = False,
    expected_revision: int | None = None,
) -> PublishedAdapter:
    """Judge an adapter against what is published under the name, and publish what passes.

    Parameters
    ----------
    blob : bytes
        The adapter's file.
    note : str
        A few words; what the gate took away, or what was forced, is added.
    scored : Path, optional
        Pairs with people's scores, to judge similarity within languages as well.
    force : bool
        Publish it as it is, even if the gate refuses it.
    expected_revision : int, optional
        Publish only if the pointer is at this revision.

    Raises
    ------
    AdapterError
        The gate refuses it or cannot judge it, and it is not forced.
    RegistryError
        The registry refused or did not answer.
    """
    accepted, fell_back, remark = _judged(settings, name, blob, scored=scored, force=force)
    note = f"{note} ({remark[:MAX_NOTE]})".strip() if remark else note
    pointer = push_adapter(settings, name, accepted, note=note, expected_revision=expected_revision)
    return PublishedAdapter(pointer, fell_back)


def _judged(
    settings: Settings, name: str, blob: bytes, *, scored: Path | None, force: bool
) -> tuple[bytes, dict[str, str], str]:
    """Return the bytes that may be published, the languages that fell back, and a remark for the note."""
    candidate = from_bytes(blob)
    incumbent = None
    try:
        published = from_bytes(fetch(settings, "adapter", name)[1])
        incumbent = published if published.encoder == candidate.encoder else None
    except (RegistryError, AdapterError):
        pass  # nothing is published under the name, or nothing to compare with
    try:
        report = gate.judge(candidate, incumbent, gate.gather(settings, candidate.encoder, scored=scored))
    except AdapterError as error:
        if force:
            return blob, {}, f"forced past the gate: {error}"
        raise
    if report.is_accepted and not report.fell_back:
        return blob, {}, ""
    if force:
        return blob, {}, f"forced past the gate: {'; '.join(report.reasons)}"
    if report.is_accepted:
        return (
            report.adapter.blob,
            report.fell_back,
            f"without their own maps: {', '.join(report.fell_back)}",
        )
    raise AdapterError(
        f"the gate refuses it: {'; '.join(report.reasons)}. Nothing was published; --force publishes it anyway"
    )
