"""Resolve what a message asks for against what the worker serves: from ``DocumentV1`` to ``Document``.

Pure: the catalogue and the policy are passed in.
"""

import dataclasses
from typing import Literal

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.errors import LabelsError
from alignstream.models.labels.fitted_labels import FittedLabels
from alignstream.models.labels.label_set import MAX_LABELS, check_labels, check_template
from alignstream.models.registry.follower import Catalogue
from alignstream.streams.settings import Settings
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.records import DocumentV1


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide how messages are treated."""

    adapter: str
    label_set: str | None
    template: str
    tenants: frozenset[str] | None
    max_document_bytes: int
    max_output_bytes: int
    max_nesting_depth: int
    vector_encoding: Literal["base64-f32le", "json"]
    raw_vector: bool = False
    #: Whether the worker publishes observations and query vectors.
    follows: bool = True


def policy_of(settings: Settings, *, max_output_bytes: int) -> Policy:
    """Return the policy that the settings describe."""
    return Policy(
        adapter=settings.adapter,
        label_set=settings.label_set,
        template=settings.template,
        tenants=None if settings.tenants is None else frozenset(settings.tenants),
        max_document_bytes=settings.max_document_bytes,
        max_output_bytes=max_output_bytes,
        max_nesting_depth=settings.max_nesting_depth,
        vector_encoding=settings.vector_encoding,
        raw_vector=settings.raw_vector,
        follows=settings.follow != "off",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LabelRequest:
    """Labels to score, and their label set (None: the message named them itself).

    ``fitted`` may belong to another adapter or template than the message's; ``FittedLabels.serves`` tells.
    """

    labels: tuple[str, ...]
    label_set: str | None
    template: str
    multi_label: bool
    fitted: FittedLabels | None = None
    steady_mix: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """An admitted document: from here on, only the encoder or the size of an output can refuse it."""

    source: SourceRecord
    record: DocumentV1
    id: str
    adapter_name: str
    adapter: Adapter
    adapter_from: Literal["message", "worker"]
    context: Context
    labels: LabelRequest | None


def admit(
    source: SourceRecord, record: DocumentV1, *, catalogue: Catalogue, policy: Policy
) -> Document | Rejected:
    """Resolve tenant, adapter and labels of a message.

    Returns
    -------
    Document or Rejected
        With the reason ``tenant-not-allowed``, ``empty-text``, ``unknown-adapter``, ``unknown-label-set``,
        ``too-many-labels`` or ``bad-schema``.
    """
    if refusal := check_tenant(record.tenant, policy) or check_text(record.text, "the text"):
        return refusal
    align = record.align
    requested = align.adapter if align is not None else None
    name = requested or policy.adapter
    adapter = catalogue.adapter(name)
    if adapter is None:
        available = ", ".join(sorted(catalogue.adapters))
        return Rejected(
            "unknown-adapter", "admit", f"no adapter {name!r} for this encoder; available: {available}"
        )
    labels = _resolve_labels(record, catalogue=catalogue, policy=policy)
    if isinstance(labels, Rejected):
        return labels
    return Document(
        source=source,
        record=record,
        id=record.id or source.default_id,
        adapter_name=name,
        adapter=adapter,
        adapter_from="worker" if requested is None else "message",
        context=Context(
            language=record.language,
            strength=align.strength if align is not None else None,
            shrinkage=align.shrinkage if align is not None else None,
            temperature=align.temperature if align is not None else None,
        ),
        labels=labels,
    )


def check_tenant(tenant: str, policy: Policy) -> Rejected | None:
    """Refuse a tenant that is not on the allow-list, if there is one."""
    if policy.tenants is not None and tenant not in policy.tenants:
        return Rejected("tenant-not-allowed", "admit", f"tenant {tenant!r} is not on the allow-list")
    return None


def check_text(text: str, name: str) -> Rejected | None:
    """Refuse a blank text; ``name`` stands for it in the message."""
    return None if text.strip() else Rejected("empty-text", "admit", f"{name} is empty or blank")


def _resolve_labels(
    record: DocumentV1, *, catalogue: Catalogue, policy: Policy
) -> LabelRequest | Rejected | None:
    if record.labels is not None and record.label_set is not None:
        return Rejected("bad-schema", "admit", "labels and label_set are mutually exclusive")
    if record.template is not None:
        try:
            check_template(record.template)
        except LabelsError as error:
            return Rejected("bad-schema", "admit", str(error))
    if record.labels is not None:
        if len(record.labels) > MAX_LABELS:
            return Rejected(
                "too-many-labels", "admit", f"{len(record.labels)} labels; the limit is {MAX_LABELS}"
            )
        if len(set(record.labels)) < len(record.labels):
            return Rejected("bad-schema", "admit", "labels contain a duplicate")  # which one is payload
        try:
            check_labels(record.labels)
        except LabelsError as error:
            return Rejected("bad-schema", "admit", str(error))
        return LabelRequest(
            labels=tuple(record.labels),
            label_set=None,
            template=record.template or policy.template,
            multi_label=bool(record.multi_label),
        )
    name = record.label_set or policy.label_set
    if name is None:
        return None
    label_set = catalogue.label_set(name)
    if label_set is None:
        available = ", ".join(sorted(catalogue.label_sets)) or "none"
        return Rejected("unknown-label-set", "admit", f"no label set {name!r}; available: {available}")
    multi_label = label_set.multi_label if record.multi_label is None else record.multi_label
    return LabelRequest(
        labels=label_set.labels,
        label_set=name,
        template=record.template or label_set.template or policy.template,
        multi_label=multi_label,
        fitted=label_set.fitted if multi_label == label_set.multi_label else None,
        steady_mix=label_set.steady_mix and not multi_label,
    )
