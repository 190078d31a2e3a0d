"""From observations to epochs: the learner without I/O and clock.

A function of the log and of the judging adapter: the same records give the same epochs, whatever their batches, and a
replay counts once. Tenants never see each other's state.
"""

import dataclasses
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.learner.observed import Example, Pair, Text
from alignstream.models.learner.regression_check import judge_epoch
from alignstream.models.learner.tenant_map_fit import describe, fit_tenant_map
from alignstream.models.learner.tenant_state import Reason, TenantState
from alignstream.models.serving.epoch import MAX_EPOCH_BYTES, Epoch
from alignstream.streams.learner.tenancy import Tenancy, restored
from alignstream.streams.wire import observations
from alignstream.streams.wire.epoch_log import EpochLog, Refusal, SourcePartition, TenantKey, marks_of
from alignstream.streams.wire.observations import (
    Control,
    ObservationsV1,
    Observed,
    ObservedPair,
    ObservedText,
)

logger = logging.getLogger(__name__)

#: Tenants that keep a bank of recent texts, key quotas and a drift test. Those seen longest ago keep only their means,
#: pairs and examples.
MAX_ACTIVE: Final = 256
#: Milliseconds. A record at an offset already read, but younger by more than this, shows that the topic was recreated.
ANEW_MS: Final = 60_000


#: A position in the observations that is comparable even if the topic was recreated: highest timestamp so far, in
#: milliseconds since 1970, and next offset.
LogPosition = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """An epoch to publish."""

    epoch: Epoch
    decided_at: LogPosition
    #: For each language, the outcome of fitting a map on its pairs, in words.
    maps: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Withheld:
    """An epoch that was refused, and why."""

    tenant_key: TenantKey
    number: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class FreezeChange:
    """A tenant that an operator froze or thawed; ``number`` is the epoch to roll back to, if one was named."""

    tenant_key: TenantKey
    decided_at: LogPosition
    is_frozen: bool
    number: int | None = None


Decision = Opened | Withheld | FreezeChange


class Learning:
    """The state of all tenants of a log. Used from one thread.

    Parameters
    ----------
    adapter_of : callable
        Returns the adapter for an encoder's fingerprint and dimension, for regression checks and maps; None: there is
        none.
    max_tenants : int
        Tenants kept per encoder; observations of further ones are ignored.
    """

    def __init__(self, adapter_of: Callable[[str, int], Adapter | None], *, max_tenants: int) -> None:
        self._adapter_of = adapter_of
        self._max_tenants = max_tenants
        self.tenancies: dict[TenantKey, Tenancy] = {}
        #: Tenants that keep a bank, in the order in which they were last seen.
        self._active: OrderedDict[TenantKey, None] = OrderedDict()
        self._n_by_encoder: Counter[str] = Counter()
        #: Highest offset seen in each source partition, by encoder: each encoder's workers read the same records.
        self.marks: dict[SourcePartition, int] = {}
        self.position = 0
        self.timestamp = 0
        self.n_learned = 0
        self.n_replayed = 0
        self.n_unreadable = 0
        self.n_crowded_out = 0
        #: Requests of operators, who wait until they are in the epoch log.
        self.n_requests = 0

    # -- from and to the epoch log ---------------------------------------------------------------------

    @classmethod
    def restored(
        cls, log: EpochLog, adapter_of: Callable[[str, int], Adapter | None], *, max_tenants: int
    ) -> "Learning":
        """Resume from an epoch log. A damaged state starts empty, with a warning."""
        learning = cls(adapter_of, max_tenants=max_tenants)
        learning.marks = marks_of(log.progress)
        if log.progress is not None:
            learning.position, learning.timestamp = log.progress.position, log.progress.timestamp
        for tenant_key, stored in log.states.items():
            learning.tenancies[tenant_key] = restored(tenant_key, stored, log)
            learning._n_by_encoder[tenant_key[0]] += 1
        # In the order seen, not written: which tenant is evicted next must not depend on a restart.
        by_age = sorted(learning.tenancies.items(), key=lambda entry: entry[1].seen)
        learning._active = OrderedDict(
            (tenant_key, None) for tenant_key, tenancy in by_age if tenancy.is_active
        )
        learning._evict()
        return learning

    def dirty(self) -> list[tuple[TenantKey, Tenancy]]:
        """Return the tenants whose state has changed since it was last written."""
        return [(tenant_key, tenancy) for tenant_key, tenancy in self.tenancies.items() if tenancy.is_dirty]

    def is_waiting(self, *, is_live: bool) -> bool:
        """Return whether any tenant waits for a tick: for an epoch of its feedback, or for the next interval."""
        return any(
            _is_waiting(tenancy, is_live=is_live) and not tenancy.state.is_frozen
            for tenancy in self.tenancies.values()
        )

    # -- observations ----------------------------------------------------------------------------------

    def take(self, offset: int, timestamp: int, value: bytes | None) -> list[Decision]:
        """Process one record of ``observations.v1``.

        Parameters
        ----------
        offset : int
        timestamp : int
            Milliseconds since 1970; 0 if there is none.
        value : bytes or None

        Returns
        -------
        list of Decision
            What to carry out, in order.
        """
        if offset < self.position and timestamp > self.timestamp + ANEW_MS and self.timestamp:
            logger.warning("the observations topic was recreated; reading it from its first record")
            self.position = 0
            for tenancy in self.tenancies.values():
                tenancy.position, tenancy.is_dirty = 0, True
        self.position = max(self.position, offset + 1)
        self.timestamp = max(self.timestamp, timestamp)
        record = observations.decode(value)
        decisions: list[Decision] = []
        if isinstance(record, str):
            self.n_unreadable += 1
            logger.error("observations record %d cannot be read and is skipped: %s", offset, record)
        elif record.control is not None:
            decisions = self._control(record.control, offset)
        else:
            decisions = self._observe(record, offset)
        return decisions

    def _observe(self, record: ObservationsV1, offset: int) -> list[Decision]:
        touched: dict[TenantKey, Tenancy] = {}
        items: tuple[Observed, ...] = (*record.texts, *record.pairs, *record.examples)
        for index, observed in enumerate(items):
            source = SourcePartition(record.encoder, observed.origin.topic, observed.origin.partition)
            if observed.origin.offset <= self.marks.get(source, -1):
                self.n_replayed += 1
                continue
            tenant_key = TenantKey(record.encoder, observed.tenant)
            # Before a state is created: an unreadable item must not use up a tenant's place or memory.
            taken = _taken(observed, record.dim)
            if taken is None or self._dim_of(tenant_key, record.dim) != record.dim:
                self.n_unreadable += 1
                continue
            tenancy = self._tenancy(tenant_key, record.dim, (offset, index))
            if tenancy is None:
                self.n_crowded_out += 1
            elif offset >= tenancy.position:
                _learn(tenancy, taken)
                self.n_learned += 1
                touched[tenant_key] = tenancy
        # After the loop, because one record may hold several texts of one partition.
        for observed in items:
            source = SourcePartition(record.encoder, observed.origin.topic, observed.origin.partition)
            self.marks[source] = max(self.marks.get(source, -1), observed.origin.offset)
        return self._close(touched, offset)

    def _dim_of(self, tenant_key: TenantKey, default: int) -> int:
        tenancy = self.tenancies.get(tenant_key)
        return default if tenancy is None else tenancy.state.dim

    def _tenancy(self, tenant_key: TenantKey, dim: int, seen: tuple[int, int]) -> Tenancy | None:
        tenancy = self.tenancies.get(tenant_key)
        if tenancy is None:
            # Per encoder: states of a former encoder must not crowd out tenants of the next.
            if self._n_by_encoder[tenant_key[0]] >= self._max_tenants:
                return None
            tenancy = self.tenancies[tenant_key] = Tenancy(TenantState(dim))
            self._n_by_encoder[tenant_key[0]] += 1
        tenancy.seen = max(tenancy.seen, seen)
        tenancy.is_active = True
        self._active[tenant_key] = None
        self._active.move_to_end(tenant_key)
        return tenancy

    def _evict(self) -> None:
        """Reduce the tenants seen longest ago to what takes little memory."""
        while len(self._active) > MAX_ACTIVE:
            tenant_key, _ = self._active.popitem(last=False)
            tenancy = self.tenancies[tenant_key]
            tenancy.state.evict()
            tenancy.last = None
            tenancy.is_active, tenancy.is_dirty = False, True

    def _close(self, touched: dict[TenantKey, Tenancy], offset: int) -> list[Decision]:
        """Open the epochs that are due at the end of a record."""
        decisions: list[Decision] = []
        for tenant_key, tenancy in touched.items():
            tenancy.position, tenancy.is_dirty = offset + 1, True
            reason = tenancy.state.due
            if reason is not None and not tenancy.state.is_frozen:
                decisions.append(self._open(tenant_key, tenancy, reason))
        self._evict()
        return decisions

    def _open(self, tenant_key: TenantKey, tenancy: Tenancy, reason: Reason) -> Opened | Withheld:
        encoder, tenant = tenant_key
        state = tenancy.state
        candidate = state.epoch(encoder=encoder, tenant=tenant, reason=reason)
        adapter = self._adapter_of(encoder, state.dim)
        refusal = None
        if adapter is not None and adapter.dim != state.dim:
            refusal = f"its vectors have {state.dim} numbers, the adapter's have {adapter.dim}"
        elif adapter is not None and not adapter.is_identity:
            if tenancy.map_of != adapter.version:
                tenancy.tenant_map, judged = fit_tenant_map(candidate.memory, candidate.bank, adapter)
                tenancy.map_of, tenancy.judged = adapter.version, tuple(map(describe, judged))
            candidate = dataclasses.replace(candidate, tenant_map=tenancy.tenant_map)
            refusal = judge_epoch(candidate, tenancy.last, adapter)
        if refusal is None and len(candidate.blob) > MAX_EPOCH_BYTES:
            refusal = f"it has {len(candidate.blob)} bytes; the limit is {MAX_EPOCH_BYTES}"
        state.note_epoch()
        if refusal is not None:
            tenancy.refusal = Refusal(candidate.number, refusal)
            return Withheld(tenant_key, candidate.number, refusal)
        # A copy without the cached bytes, so that their memory is freed once they are written.
        tenancy.last, tenancy.refusal = dataclasses.replace(candidate), None
        return Opened(candidate, (self.timestamp, tenancy.position), tenancy.judged)

    # -- control requests ------------------------------------------------------------------------------

    def _control(self, control: Control, offset: int) -> list[Decision]:
        self.n_requests += control.action != "tick"
        decisions: list[Decision] = []
        touched: dict[TenantKey, Tenancy] = {}
        for tenant_key, tenancy in list(self.tenancies.items()):
            if control.encoder not in {None, tenant_key[0]} or control.tenant not in {None, tenant_key[1]}:
                continue
            if offset < tenancy.position:
                continue
            if control.action == "tick" and not _is_waiting(tenancy, is_live=control.is_live):
                continue  # ticks are frequent, and most tenants do not wait for them
            touched[tenant_key] = tenancy
            decisions += self._apply(control, tenant_key, tenancy, (self.timestamp, offset + 1))
        return decisions + self._close(touched, offset)

    @staticmethod
    def _apply(
        control: Control, tenant_key: TenantKey, tenancy: Tenancy, decided_at: LogPosition
    ) -> Sequence[Decision]:
        state = tenancy.state
        language = observations.key_of(control.language)
        match control.action:
            case "tick":
                state.tick(is_live=control.is_live)
            case "publish":
                state.request_epoch()
            case "freeze" | "thaw" if language is not None:
                state.freeze_language(language, is_frozen=control.action == "freeze")
            case "freeze":
                state.is_frozen = True
                return [FreezeChange(tenant_key, decided_at, is_frozen=True)]
            case "thaw":
                state.thaw()
                return [FreezeChange(tenant_key, decided_at, is_frozen=False)]
            case "reset":
                state.reset(language)
            case "rollback":
                state.is_frozen = True
                # The writer finds the epoch. The one rolled back must not be the baseline of later checks.
                tenancy.last = None
                return [FreezeChange(tenant_key, decided_at, is_frozen=True, number=control.epoch)]
            case "forget-pair":
                if state.delete_pair(control.pair_id or ""):
                    tenancy.map_of = None
        return []


def _is_waiting(tenancy: Tenancy, *, is_live: bool) -> bool:
    return tenancy.state.is_behind or (is_live and tenancy.state.n_since > 0)


def _taken(observed: Observed, dim: int) -> Text | Pair | Example | None:
    """Convert an observation for a state; None if a vector is damaged or does not have ``dim`` numbers."""
    try:
        if isinstance(observed, ObservedText):
            return observations.text_of(observed, dim)
        if isinstance(observed, ObservedPair):
            return observations.pair_of(observed, dim)
        return observations.example_of(observed, dim)
    except ValueError:
        return None


def _learn(tenancy: Tenancy, taken: Text | Pair | Example) -> None:
    if isinstance(taken, Text):
        tenancy.state.learn_text(taken)
    elif isinstance(taken, Pair):
        tenancy.state.learn_pair(taken)
        tenancy.map_of = None
    else:
        tenancy.state.learn_example(taken)
