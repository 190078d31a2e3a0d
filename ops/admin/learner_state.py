"""What the learner knows about tenants, and what people may ask it to do.

Reading looks at ``epochs.v1``, the source of truth. A request is a record in ``observations.v1``, so that it has its
place in the log like everything else, and a replay repeats it.
"""

import dataclasses
import time
import uuid
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.errors import LearnerError, RegistryError
from alignstream.models.serving import epoch as epochs
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.ops.admin.adapter_choice import catalogue
from alignstream.ops.client.connection import topic_name
from alignstream.ops.client.producer import Outgoing, produce
from alignstream.ops.client.reader import Reader
from alignstream.streams.settings import Settings
from alignstream.streams.wire import observations
from alignstream.streams.wire.epoch_log import EpochLog, EpochV1, StateV1, TenantKey
from alignstream.streams.wire.observations import Control, ObservationsV1
from alignstream.streams.wire.topics import EPOCHS, OBSERVATIONS

#: How long a learner may take to answer: after a restart it reads its log first.
ANSWER_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class TenantView:
    """One tenant under one encoder: what the learner knows, and what serves; either may be missing."""

    encoder: str
    tenant: str
    state: StateV1 | None
    epoch: EpochV1 | None

    @property
    def tenant_key(self) -> TenantKey:
        """The key of its records."""
        return TenantKey(self.encoder, self.tenant)


@dataclasses.dataclass(frozen=True, slots=True)
class LanguageView:
    """One language of a tenant's epoch.

    Parameters
    ----------
    language : str
        Key; empty for texts of no known language.
    is_inferred : bool
        Whether it stands for texts without a tag that resemble the language.
    weight : float
        Weight of its mean, in texts.
    correction : float
        Length of the correction that is subtracted from its queries.
    """

    language: str
    is_inferred: bool
    weight: float
    correction: float


def read_log(settings: Settings, *, keeps_parts: bool = False) -> EpochLog:
    """Read ``epochs.v1`` from its beginning to its present end.

    Raises
    ------
    TopicMissing, BrokerError
        The topic does not exist, or the broker is away.
    """
    log = EpochLog(keeps_parts=keeps_parts)
    with Reader(settings, [EPOCHS], from_beginning=True) as reader:
        for record in reader.records_so_far():
            log.apply(record.key, record.value)
    return log


def tenants(log: EpochLog, *, tenant: str | None = None, encoder: str | None = None) -> list[TenantView]:
    """Return what a log says about tenants, sorted by name.

    Parameters
    ----------
    log : EpochLog
    tenant : str, optional
        Only this one.
    encoder : str, optional
        Only encoders whose fingerprint starts like this.
    """
    keys = sorted({*log.states, *log.epochs}, key=lambda key: (key.tenant, key.encoder))
    return [
        TenantView(key.encoder, key.tenant, log.states.get(key), log.epochs.get(key))
        for key in keys
        if tenant in {None, key.tenant} and key.encoder.startswith(encoder or "")
    ]


def serving_epoch(log: EpochLog, tenant_key: TenantKey) -> Epoch:
    """Return the epoch that serves a tenant; the log must have been read with its parts.

    Raises
    ------
    LearnerError
        There is none.
    """
    record = log.epochs.get(tenant_key)
    blob = None if record is None else log.reassembled(record.current.parts)
    if blob is None:
        raise LearnerError(f"tenant {tenant_key.tenant!r} has no epoch yet: that takes 32 texts, or feedback")
    return epochs.from_bytes(blob)


def languages(settings: Settings, epoch: Epoch) -> list[LanguageView]:
    """Return the languages of an epoch, and how far their queries move under the adapter that serves."""
    adapter = _adapter(settings, epoch.encoder)
    adaptation = None if adapter is None or adapter.is_identity else QueryAdaptation(adapter, epoch)
    return [
        LanguageView(
            language=key.language,
            is_inferred=key.is_inferred,
            weight=weight,
            correction=0.0 if adaptation is None else float(np.linalg.norm(adaptation.correction_of(key))),
        )
        for key, weight in zip(epoch.languages, epoch.weights, strict=True)
    ]


def _adapter(settings: Settings, encoder: str) -> Adapter | None:
    try:
        served, _ = catalogue(settings, encoder=encoder, dim=1)
        return served.adapter(settings.adapter)
    except RegistryError:
        return packaged_adapter(encoder)


def request(settings: Settings, control: Control, *, timeout_seconds: float = ANSWER_SECONDS) -> EpochLog:
    """Send the learner a request, wait until it is carried out, and return the epoch log after that.

    Raises
    ------
    LearnerError
        No learner answers in time; the request stays in the log and is carried out when one runs.
    """
    topic = topic_name(settings, OBSERVATIONS)
    with Reader(settings, [OBSERVATIONS]) as reader:
        (start,) = reader.positions().values()
    record = observations.encode(ObservationsV1(control=control))
    produce(settings, [Outgoing(topic, None, record, observations.HEADERS)])
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        log = read_log(settings)
        if log.progress is not None and log.progress.position > start and _is_past(settings, control, log):
            return log
        time.sleep(_PAUSE_SECONDS)
    raise LearnerError(
        f"no learner answered within {timeout_seconds:.0f} s; the request stays in the log and is carried out when one "
        "runs: start it with 'alignstream learner', or see 'alignstream doctor'"
    )


def _is_past(settings: Settings, control: Control, log: EpochLog) -> bool:
    """Say whether the learner has read past our request: others may have written records before it."""
    position = 0 if log.progress is None else log.progress.position
    with Reader(
        settings, [OBSERVATIONS], starts={(topic_name(settings, OBSERVATIONS), 0): position}
    ) as reader:
        for record in reader.records_so_far():
            observed = observations.decode(record.value)
            if isinstance(observed, str) or observed.control is None:
                continue
            if observed.control.id == control.id:
                return False
    return True


def control_id() -> str:
    """Return a new, unique id for a request."""
    return uuid.uuid4().hex
