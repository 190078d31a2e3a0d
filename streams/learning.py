"""From observations to epochs: the learner without its I/O and its clock.

A function of the log and of the adapter that judges: the same records in give the same epochs out, whatever batches
they came in, and a replay counts once. Tenants never see each other's state.
"""

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from alignstream.models.alignment.adapter import Adapter
from alignstream.models.alignment.linear import LanguageMaps
from alignstream.models.errors import AdapterCorrupt, PackedCorrupt
from alignstream.models.online import epoch as epochs
from alignstream.models.online.canary import judge_epoch
from alignstream.models.online.epoch import Epoch, TenantMap
from alignstream.models.online.stored import MAX_SECTION_BYTES, from_sections, to_sections
from alignstream.models.online.tenant import Reason, TenantState
from alignstream.models.online.tenant_maps import describe, fit_tenant_map
from alignstream.models.packed import pack, unpack
from alignstream.streams import observations
from alignstream.streams.epoch_log import EpochLog, Mark, Place, Refusal, Summary, marks_of
from alignstream.streams.observations import (
    Control,
    ObservationsV1,
    Observed,
    ObservedExample,
    ObservedPair,
    ObservedText,
)

logger = logging.getLogger(__name__)

#: Tenants that keep a bank of recent texts, what is usual for their keys, and a test for drift. Those that were seen
#: longest ago keep their means, pairs and examples alone.
MAX_LIVELY: Final = 256
#: A record that stands below what was read, and is so much younger, is in a topic that was made anew. Milliseconds.
ANEW_MS: Final = 60_000

_MAP_SECTION: Final = "map"


#: A place in the log of observations, also where the topic was made anew: highest timestamp so far, milliseconds since
#: 1970, and next offset.
Moment = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """An epoch to publish."""

    epoch: Epoch
    moment: Moment
    #: What became of each language's pairs, in words.
    maps: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Withheld:
    """An epoch that the gate refused."""

    place: Place
    number: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A tenant that a person froze or thawed, ``number`` the epoch to go back to, if one was named."""

    place: Place
    moment: Moment
    is_frozen: bool
    number: int | None = None


Decision = Opened | Withheld | Frozen


@dataclasses.dataclass(slots=True)
class Tenancy:
    """One tenant under one encoder, and where it stands."""

    state: TenantState
    #: Observations below this offset are in the state.
    position: int = 0
    is_dirty: bool = False
    is_lively: bool = True
    #: What serves, for the canaries; None where it is not held.
    last: Epoch | None = None
    refusal: Refusal | None = None
    #: The map of the pairs as they are now, and the adapter under which it was fitted.
    tenant_map: TenantMap | None = None
    map_of: str | None = None
    #: What became of each language's pairs, in words.
    judged: tuple[str, ...] = ()


class Learning:
    """All tenants of a log. Used from one thread.

    Parameters
    ----------
    adapter_of : callable
        Encoder fingerprint and size to the adapter that canaries and pairs are judged with; None: there is none.
    max_tenants : int
        Texts of further ones teach nothing.
    """

    def __init__(self, adapter_of: Callable[[str, int], Adapter | None], *, max_tenants: int) -> None:
        self._adapter_of = adapter_of
        self._max_tenants = max_tenants
        #: In the order in which they were seen last.
        self.tenancies: OrderedDict[Place, Tenancy] = OrderedDict()
        #: By encoder, topic and partition: another encoder's workers see the same records.
        self.marks: dict[Mark, int] = {}
        self.position = 0
        self.timestamp = 0
        self.n_learned = 0
        self.n_replayed = 0
        self.n_unreadable = 0
        self.n_crowded_out = 0

    # -- from and to the log of epochs -----------------------------------------------------------------

    @classmethod
    def restored(
        cls, log: EpochLog, adapter_of: Callable[[str, int], Adapter | None], *, max_tenants: int
    ) -> "Learning":
        """Go on from what a log says. What is damaged there begins anew, and the log of the process says so."""
        found = cls(adapter_of, max_tenants=max_tenants)
        found.marks = marks_of(log.progress)
        if log.progress is not None:
            found.position, found.timestamp = log.progress.position, log.progress.timestamp
        for place, stored in sorted(log.states.items(), key=lambda item: item[1].position):
            blobs = {name: log.joined(parts) for name, parts in stored.sections.items()}
            try:
                sections = {name: blob for name, blob in blobs.items() if blob is not None}
                tenancy = Tenancy(from_sections(sections), stored.position, refusal=stored.summary.refusal)
                _restore_map(tenancy, sections)
            except PackedCorrupt as error:
                logger.warning("the state of a tenant cannot be read, and begins anew: %s", error)
                tenancy = Tenancy(TenantState(stored.dim), stored.position, is_dirty=True)
                serving = log.epochs.get(place)
                if serving is not None:
                    # Numbers are never used twice: an epoch of a number that the log has would not be published.
                    tenancy.state.number = max(version.number for version in serving.versions)
                    tenancy.state.is_frozen = serving.is_frozen
            found.tenancies[place] = tenancy
        for place, serving in log.epochs.items():
            known = found.tenancies.get(place)
            blob = log.joined(serving.current.parts)
            if known is None or blob is None:
                continue
            try:
                known.last = epochs.from_bytes(blob, encoder=place[0])
            except PackedCorrupt as error:
                logger.warning("an epoch cannot be read, and is not compared with: %s", error)
        found._rest()
        return found

    def dirty(self) -> list[tuple[Place, Tenancy]]:
        """Return the tenants whose state was not written since it changed."""
        return [(place, tenancy) for place, tenancy in self.tenancies.items() if tenancy.is_dirty]

    def is_waiting(self, *, is_live: bool) -> bool:
        """Say whether some tenant waits for time to pass: with feedback that no epoch has, or for the next interval."""
        return any(
            (tenancy.state.is_behind or (is_live and tenancy.state.n_since > 0))
            and not tenancy.state.is_frozen
            for tenancy in self.tenancies.values()
        )

    def serve(self, place: Place, blob: bytes | None) -> None:
        """Note what serves a tenant after a person went back to it: canaries are compared with that."""
        tenancy = self.tenancies.get(place)
        if tenancy is not None and blob is not None:
            tenancy.last = epochs.from_bytes(blob, encoder=place[0])

    # -- the log of observations -----------------------------------------------------------------------

    def take(self, offset: int, timestamp: int, value: bytes | None) -> list[Decision]:
        """Take in one record of ``observations.v1``.

        Parameters
        ----------
        offset : int
        timestamp : int
            Milliseconds since 1970; 0 where there is none.
        value : bytes or None

        Returns
        -------
        list of Decision
            What to publish, in order.
        """
        if offset < self.position and timestamp > self.timestamp + ANEW_MS and self.timestamp:
            logger.warning("the topic of observations was made anew: it is read from its first record")
            self.position = 0
            for tenancy in self.tenancies.values():
                tenancy.position, tenancy.is_dirty = 0, True
        self.position = max(self.position, offset + 1)
        self.timestamp = max(self.timestamp, timestamp)
        record = observations.decode(value)
        decisions: list[Decision] = []
        if isinstance(record, str):
            self.n_unreadable += 1
            logger.error(
                "record %d of the observations cannot be read, and teaches nothing: %s", offset, record
            )
        elif record.control is not None:
            decisions = self._control(record.control, offset)
        else:
            decisions = self._observe(record, offset)
        return decisions

    def _observe(self, record: ObservationsV1, offset: int) -> list[Decision]:
        touched: dict[Place, Tenancy] = {}
        items: tuple[Observed, ...] = (*record.texts, *record.pairs, *record.examples)
        for item in items:
            source = record.encoder, item.source.topic, item.source.partition
            if item.source.offset <= self.marks.get(source, -1):
                self.n_replayed += 1
                continue
            place = record.encoder, item.tenant
            tenancy = self._tenancy(place, record.dim)
            if tenancy is None:
                self.n_crowded_out += 1
            elif offset >= tenancy.position:
                if not self._learn(tenancy.state, item, record.dim):
                    self.n_unreadable += 1
                    continue
                if not isinstance(item, ObservedText):
                    tenancy.map_of = tenancy.map_of if isinstance(item, ObservedExample) else None
                self.n_learned += 1
                touched[place] = tenancy
        # After the loop: a batch may hold several texts of one partition, and a record all of a batch.
        for item in items:
            source = record.encoder, item.source.topic, item.source.partition
            self.marks[source] = max(self.marks.get(source, -1), item.source.offset)
        return self._close(touched, offset)

    @staticmethod
    def _learn(state: TenantState, item: Observed, dim: int) -> bool:
        try:
            if isinstance(item, ObservedText):
                state.take_text(observations.text_of(item, dim))
            elif isinstance(item, ObservedPair):
                state.take_pair(observations.pair_of(item, dim))
            else:
                state.take_example(observations.example_of(item, dim))
        except ValueError:
            return False
        return True

    def _tenancy(self, place: Place, dim: int) -> Tenancy | None:
        tenancy = self.tenancies.get(place)
        if tenancy is None:
            if len(self.tenancies) >= self._max_tenants:
                return None
            tenancy = self.tenancies[place] = Tenancy(TenantState(dim))
        self.tenancies.move_to_end(place)
        tenancy.is_lively = True
        return tenancy if tenancy.state.dim == dim else None

    def _rest(self) -> None:
        """Let the tenants seen longest ago keep only what takes little room."""
        for tenancy in list(self.tenancies.values())[: max(0, len(self.tenancies) - MAX_LIVELY)]:
            if tenancy.is_lively:
                tenancy.state.rest()
                tenancy.last = None
                tenancy.is_lively, tenancy.is_dirty = False, True

    def _close(self, touched: dict[Place, Tenancy], offset: int) -> list[Decision]:
        """Open what is due, at the end of a record."""
        decisions: list[Decision] = []
        for place, tenancy in touched.items():
            tenancy.position, tenancy.is_dirty = offset + 1, True
            reason = tenancy.state.due
            if reason is not None and not tenancy.state.is_frozen:
                decisions.append(self._open(place, tenancy, reason))
        self._rest()
        return decisions

    def _open(self, place: Place, tenancy: Tenancy, reason: Reason) -> Opened | Withheld:
        encoder, tenant = place
        state = tenancy.state
        candidate = state.epoch(encoder=encoder, tenant=tenant, reason=reason)
        adapter = self._adapter_of(encoder, state.dim)
        refusal = None
        if adapter is not None and not adapter.is_identity:
            if tenancy.map_of != adapter.version:
                tenancy.tenant_map, judged = fit_tenant_map(candidate.memory, candidate.bank, adapter)
                tenancy.map_of, tenancy.judged = adapter.version, tuple(map(describe, judged))
            candidate = dataclasses.replace(candidate, tenant_map=tenancy.tenant_map)
            refusal = judge_epoch(candidate, tenancy.last, adapter)
        state.opened()
        if refusal is not None:
            tenancy.refusal = Refusal(candidate.number, refusal)
            return Withheld(place, candidate.number, refusal)
        tenancy.last = candidate
        return Opened(candidate, (self.timestamp, tenancy.position), tenancy.judged)

    # -- what people and clocks ask for ----------------------------------------------------------------

    def _control(self, control: Control, offset: int) -> list[Decision]:
        decisions: list[Decision] = []
        touched: dict[Place, Tenancy] = {}
        for place, tenancy in list(self.tenancies.items()):
            if control.encoder not in {None, place[0]} or control.tenant not in {None, place[1]}:
                continue
            if offset < tenancy.position:
                continue
            touched[place] = tenancy
            decisions += self._apply(control, place, tenancy, (self.timestamp, offset + 1))
        return decisions + self._close(touched, offset)

    @staticmethod
    def _apply(control: Control, place: Place, tenancy: Tenancy, moment: Moment) -> Sequence[Decision]:
        state = tenancy.state
        match control.action:
            case "tick":
                state.tick(is_live=control.is_live)
            case "publish":
                state.ask()
            case "freeze":
                state.is_frozen = True
                return [Frozen(place, moment, is_frozen=True)]
            case "thaw":
                state.thaw()
                return [Frozen(place, moment, is_frozen=False)]
            case "reset":
                state.reset(observations.key_of(control.language))
            case "rollback":
                state.is_frozen = True
                return [Frozen(place, moment, is_frozen=True, number=control.epoch)]
            case "forget-pair":
                if state.delete_pair(control.pair or ""):
                    tenancy.map_of = None
        return []


def summary_of(tenancy: Tenancy) -> Summary:
    """Return a tenant's state in numbers."""
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
        drift=None if finding is None else round(finding.statistic, 3),
        drift_threshold=None
        if finding is None or not np.isfinite(finding.threshold)
        else round(finding.threshold, 3),
        refusal=tenancy.refusal,
        maps=list(tenancy.judged),
    )


def sections_of(tenancy: Tenancy) -> dict[str, bytes]:
    """Return a tenant's state as bytes by section, the map of its pairs included."""
    found = to_sections(tenancy.state)
    values: dict[str, Any] = {"map_of": tenancy.map_of, "judged": tenancy.judged}
    arrays = {}
    if tenancy.tenant_map is not None:
        maps = tenancy.tenant_map.maps
        values |= {"languages": maps.languages, "adapter_version": tenancy.tenant_map.adapter_version}
        arrays = {"left": maps.left, "right": maps.right}
    return found | {_MAP_SECTION: pack(values, arrays)}


def _restore_map(tenancy: Tenancy, sections: Mapping[str, bytes]) -> None:
    if _MAP_SECTION not in sections:
        raise PackedCorrupt(f"a tenant's state lacks its section {_MAP_SECTION!r}")
    values, arrays = unpack(
        sections[_MAP_SECTION], what="the section of a tenant's map", max_bytes=MAX_SECTION_BYTES
    )
    try:
        tenancy.map_of, tenancy.judged = values["map_of"], tuple(values["judged"])
        if "languages" in values:
            maps = LanguageMaps(arrays["left"], arrays["right"], tuple(values["languages"]))
            tenancy.tenant_map = TenantMap(maps, values["adapter_version"])
    except (KeyError, TypeError, AdapterCorrupt) as error:
        raise PackedCorrupt(f"the map in a tenant's state is damaged: {error}") from error
