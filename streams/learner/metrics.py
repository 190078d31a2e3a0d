"""The learner's metrics: base units, bounded labels; a tenant is never a label."""

from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from alignstream.models.learner.tenant_state import Reason
from alignstream.streams.learner.learning import Learning

OUTCOMES: Final = ("learned", "replayed", "unreadable", "crowded-out", "capped", "doubtful")


class LearnerMetrics:
    """The learner's own metrics, beside those of every service.

    Parameters
    ----------
    registry : CollectorRegistry
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        common: dict[str, Any] = {"registry": registry, "namespace": "alignstream"}
        self.active = Gauge("learner_active", "Whether this learner is active; others wait", **common)
        self._opened = Counter("epochs_opened", "Epochs published", ["reason"], **common)
        self._refused = Counter(
            "epochs_refused", "Epochs refused by their regression checks or for their size", **common
        )
        self._opened_at = Gauge(
            "epoch_last_opened_timestamp_seconds",
            "Time of the last published epoch; 0: none since the start",
            **common,
        )
        self._observations = Gauge(
            "learner_observations", "Observations since the start, by outcome", ["outcome"], **common
        )
        self._tenants = Gauge("learner_tenants", "Tenants with a state", **common)
        self._suspended = Gauge(
            "learner_tenants_suspended",
            "Tenants whose texts are not learned from, because their stream changed suspiciously",
            **common,
        )
        self._frozen = Gauge("learner_tenants_frozen", "Tenants frozen by an operator", **common)
        self._withheld = Gauge("learner_tenants_refused", "Tenants whose last epoch was refused", **common)
        self._drift = Gauge(
            "drift_ratio",
            "Latest drift statistic over its threshold, highest of all tenants",
            **common,
        )
        self._drifts = Gauge("drifts_confirmed", "Confirmed drifts, all tenants", **common)
        for reason in get_args(Reason):
            self._opened.labels(reason=reason)

    def opened(self, reason: str) -> None:
        """Count a published epoch."""
        self._opened.labels(reason=reason).inc()
        self._opened_at.set_to_current_time()

    def refused(self) -> None:
        """Count a refused epoch."""
        self._refused.inc()

    def show(self, learning: Learning) -> None:
        """Set the gauges from the state of all tenants."""
        states = [tenancy.state for tenancy in learning.tenancies.values()]
        outcomes = {
            "learned": learning.n_learned,
            "replayed": learning.n_replayed,
            "unreadable": learning.n_unreadable,
            "crowded-out": learning.n_crowded_out,
            "capped": sum(state.n_capped for state in states),
            "doubtful": sum(sum(state.doubtful.values()) for state in states),
        }
        for outcome in OUTCOMES:
            self._observations.labels(outcome=outcome).set(outcomes[outcome])
        self._tenants.set(len(states))
        self._suspended.set(sum(state.suspended is not None for state in states))
        self._frozen.set(sum(state.is_frozen for state in states))
        self._withheld.set(sum(tenancy.refusal is not None for tenancy in learning.tenancies.values()))
        findings = [state.last_finding for state in states if state.last_finding is not None]
        self._drift.set(max((finding.statistic / finding.threshold for finding in findings), default=0.0))
        self._drifts.set(sum(state.n_drifts for state in states))
