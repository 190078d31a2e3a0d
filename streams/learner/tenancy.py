"""The learner's view of one tenant under one encoder, and its bytes in the epoch log."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.errors import AdapterCorrupt, PackedCorrupt
from alignstream.models.learner.state_bytes import MAX_SECTION_BYTES, from_sections, to_sections
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.packed import pack, unpack
from alignstream.models.serving import epoch as epochs
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.streams.wire.epoch_log import EpochLog, Refusal, StateV1, Summary, TenantKey

logger = logging.getLogger(__name__)

_MAP_SECTION: Final = "map"
_STANDING_SECTION: Final = "standing"


@dataclasses.dataclass(slots=True)
class Tenancy:
    """One tenant under one encoder: its state, and its position in the logs."""

    state: TenantState
    #: Observations below this offset are in the state.
    position: int = 0
    is_dirty: bool = False
    is_active: bool = True
    #: Where it was last seen: offset of the observations record, and index in it.
    seen: tuple[int, int] = (0, 0)
    #: The last epoch opened, baseline of the regression checks; None if not in memory, or rolled back.
    last: Epoch | None = None
    refusal: Refusal | None = None
    #: The map fitted on the current pairs, and the version of the adapter that it was fitted for.
    tenant_map: TenantMap | None = None
    map_of: str | None = None
    #: For each language, the outcome of fitting a map on its pairs, in words.
    judged: tuple[str, ...] = ()


def summary_of(tenancy: Tenancy) -> Summary:
    """Return a summary of a tenant's state."""
    state, finding = tenancy.state, tenancy.state.last_finding
    return Summary(
        n_seen=state.n_seen,
        n_texts=state.n_texts,
        next_at=state.next_at,
        n_capped=state.n_capped,
        n_doubtful=sum(state.doubtful.values()),
        n_languages=len(state.means),
        n_bank=len(state.bank),
        n_pairs=len(state.pairs),
        n_examples=len(state.examples),
        n_drifts=state.n_drifts,
        suspended=state.suspended,
        is_frozen=state.is_frozen,
        frozen_languages=state.frozen_languages,
        drift=None if finding is None else round(finding.statistic, 3),
        drift_threshold=None
        if finding is None or not np.isfinite(finding.threshold)
        else round(finding.threshold, 3),
        refusal=tenancy.refusal,
        maps=list(tenancy.judged),
    )


def sections_of(tenancy: Tenancy) -> dict[str, bytes]:
    """Return a tenant's state as bytes by section, including the map fitted on its pairs."""
    sections = to_sections(tenancy.state)
    values: dict[str, Any] = {"map_of": tenancy.map_of, "judged": tenancy.judged}
    arrays = {}
    if tenancy.tenant_map is not None:
        maps = tenancy.tenant_map.maps
        values |= {"languages": maps.languages, "adapter_version": tenancy.tenant_map.adapter_version}
        arrays = {"left": maps.left, "right": maps.right}
    standing = {
        "seen": tenancy.seen,
        "is_active": tenancy.is_active,
        "last": None if tenancy.last is None else tenancy.last.number,
    }
    return sections | {_MAP_SECTION: pack(values, arrays), _STANDING_SECTION: pack(standing, {})}


def restored(tenant_key: TenantKey, stored: StateV1, log: EpochLog) -> Tenancy:
    """Restore a tenant from an epoch log. A damaged state starts empty; its epoch numbering continues."""
    serving = log.epochs.get(tenant_key)
    versions = [] if serving is None else serving.versions
    blobs = {name: log.reassembled(parts) for name, parts in stored.sections.items()}
    sections = {name: blob for name, blob in blobs.items() if blob is not None}
    try:
        tenancy = Tenancy(from_sections(sections), stored.position, refusal=stored.summary.refusal)
        _restore_map(tenancy, sections)
        number = _restore_standing(tenancy, sections)
    except PackedCorrupt as error:
        logger.warning("the state of a tenant cannot be read and starts empty: %s", error)
        tenancy = Tenancy(TenantState(stored.dim), stored.position, is_dirty=True)
        # Workers and the log identify epochs by number, so no number is used twice.
        tenancy.state.number = max((version.number for version in versions), default=0)
        tenancy.state.is_frozen = serving is not None and serving.is_frozen
        return tenancy
    # Not the current epoch: it may come from observations after this state, which are processed again.
    version = next((version for version in versions if version.number == number), None)
    blob = None if version is None else log.reassembled(version.parts)
    if blob is not None:
        try:
            tenancy.last = dataclasses.replace(epochs.from_bytes(blob, encoder=tenant_key[0]))
        except PackedCorrupt as error:
            logger.warning("an epoch cannot be read; the next regression check has no baseline: %s", error)
    return tenancy


def _restore_standing(tenancy: Tenancy, sections: Mapping[str, bytes]) -> int | None:
    """Restore a tenant's standing; return the number of the epoch that its regression checks compare with."""
    values, _ = _section(sections, _STANDING_SECTION)
    try:
        offset, index = values["seen"]
        tenancy.seen, tenancy.is_active = (int(offset), int(index)), bool(values["is_active"])
        return None if values["last"] is None else int(values["last"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PackedCorrupt(f"a tenant's standing is damaged: {error}") from error


def _section(sections: Mapping[str, bytes], name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if name not in sections:
        raise PackedCorrupt(f"a tenant's state lacks its section {name!r}")
    return unpack(
        sections[name], what=f"the section {name!r} of a tenant's state", max_bytes=MAX_SECTION_BYTES
    )


def _restore_map(tenancy: Tenancy, sections: Mapping[str, bytes]) -> None:
    values, arrays = _section(sections, _MAP_SECTION)
    try:
        tenancy.map_of, tenancy.judged = values["map_of"], tuple(values["judged"])
        if "languages" in values:
            maps = LanguageMaps(arrays["left"], arrays["right"], tuple(values["languages"]))
            tenancy.tenant_map = TenantMap(maps, values["adapter_version"])
    except (KeyError, TypeError, AdapterCorrupt) as error:
        raise PackedCorrupt(f"the map in a tenant's state is damaged: {error}") from error
