"""What the learner measures: base units, bounded labels; a tenant is never a label."""

from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from alignstream.models.learner.tenant_state import Reason
from alignstream.streams.learner.learning import Learning

FATES: Final = ("learned", "replayed", "unreadable", "crowded-out", "capped", "doubtful")


class LearnerMetrics:
    """The learner's own metrics, beside those of every process around Faust.

    Parameters
    ----------
    registry : CollectorRegistry
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        own: dict[str, Any] = {"registry": registry, "namespace": "alignstream"}
        self.active = Gauge("learner_active", "Whether this learner works; of several one does", **own)
        self._opened = Counter("epochs_opened", "Epochs that were published", ["reason"], **own)
        self._refused = Counter("epochs_refused", "Epochs that their canaries refused", **own)
        self._opened_at = Gauge(
            "epoch_last_opened_timestamp_seconds",
            "When an epoch was last published; 0: not since the start",
            **own,
        )
        self._observations = Gauge(
            "learner_observations", "What became of the observations since the start", ["fate"], **own
        )
        self._tenants = Gauge("learner_tenants", "Tenants with a state", **own)
        self._suspended = Gauge(
            "learner_tenants_suspended",
            "Tenants from whose stream nothing is learned: a change of it is odd",
            **own,
        )
        self._frozen = Gauge("learner_tenants_frozen", "Tenants that a person froze", **own)
        self._withheld = Gauge("learner_tenants_refused", "Tenants whose last epoch was refused", **own)
        self._drift = Gauge(
            "drift_ratio",
            "Of the tenant whose stream changes most: the test's last statistic over its threshold",
            **own,
        )
        self._drifts = Gauge("drifts_confirmed", "Confirmed changes of streams, all tenants", **own)
        for reason in get_args(Reason):
            self._opened.labels(reason=reason)

    def opened(self, reason: str) -> None:
        """Count an epoch that was published."""
        self._opened.labels(reason=reason).inc()
        self._opened_at.set_to_current_time()

    def refused(self) -> None:
        """Count an epoch that the gate refused."""
        self._refused.inc()

    def show(self, learning: Learning) -> None:
        """Show where all tenants stand."""
        states = [tenancy.state for tenancy in learning.tenancies.values()]
        fates = {
            "learned": learning.n_learned,
            "replayed": learning.n_replayed,
            "unreadable": learning.n_unreadable,
            "crowded-out": learning.n_crowded_out,
            "capped": sum(state.n_capped for state in states),
            "doubtful": sum(sum(state.doubtful.values()) for state in states),
        }
        for fate in FATES:
            self._observations.labels(fate=fate).set(fates[fate])
        self._tenants.set(len(states))
        self._suspended.set(sum(state.suspended is not None for state in states))
        self._frozen.set(sum(state.is_frozen for state in states))
        self._withheld.set(sum(tenancy.refusal is not None for tenancy in learning.tenancies.values()))
        findings = [state.last_finding for state in states if state.last_finding is not None]
        self._drift.set(max((found.statistic / found.threshold for found in findings), default=0.0))
        self._drifts.set(sum(state.n_drifts for state in states))
