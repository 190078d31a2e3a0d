"""Documents against what a worker serves: every request is resolved, or refused with its reason."""

import dataclasses
import re
from types import MappingProxyType

import numpy as np
import pytest

from alignstream.models.adapter.adapter import IDENTITY, Adapter, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.labels.label_set import MAX_LABELS, LabelSet
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.records import Align, DocumentV1
from alignstream.streams.worker.admission import Document, LabelRequest, Policy, admit

ENCODER = "e" * 64
SOURCE = SourceRecord("documents.v1", 2, 41, None, b"k", b"{}")
CENTRE = Adapter(ENCODER, 4, (Centre(np.array([0.1, 0.0, 0.0, 0.0], dtype=np.float32)),))
CATALOGUE = Catalogue(
    adapters=MappingProxyType(
        {
            IDENTITY: Served(identity(ENCODER, 4), "built-in", 0.0),
            "default": Served(CENTRE, "package", 0.0),
        }
    ),
    label_sets=MappingProxyType(
        {
            "plain": Served(LabelSet(("sports", "science")), "registry", 0.0),
            "own": Served(LabelSet(("a", "b"), template="It is {label}.", multi_label=True), "registry", 0.0),
        }
    ),
)
POLICY = Policy(
    adapter="default",
    label_set=None,
    template="This is about {label}.",
    tenants=None,
    max_document_bytes=1000,
    max_output_bytes=1000,
    max_nesting_depth=8,
    vector_encoding="json",
)


def resolve(record: DocumentV1, policy: Policy = POLICY) -> Document:
    document = admit(SOURCE, record, catalogue=CATALOGUE, policy=policy)
    assert isinstance(document, Document), document
    return document


def refuse(record: DocumentV1, policy: Policy = POLICY) -> Rejected:
    rejected = admit(SOURCE, record, catalogue=CATALOGUE, policy=policy)
    assert isinstance(rejected, Rejected), rejected
    assert rejected.stage == "admit"
    return rejected


def test_a_plain_document_gets_the_workers_adapter_and_no_labels() -> None:
    document = resolve(DocumentV1("hello"))
    assert (document.adapter, document.adapter_name, document.adapter_from) == (CENTRE, "default", "worker")
    assert document.context == Context()
    assert document.labels is None


def test_a_document_without_id_is_named_after_its_place() -> None:
    assert resolve(DocumentV1("hello")).id == "documents.v1-2-41"
    assert resolve(DocumentV1("hello", id="mine")).id == "mine"


def test_a_message_chooses_its_adapter_and_hyper_parameters() -> None:
    align = Align(adapter=IDENTITY, strength=0.0, shrinkage=0.5, temperature=0.1)
    document = resolve(DocumentV1("hello", language="pt-BR", align=align))
    assert (document.adapter_name, document.adapter_from) == (IDENTITY, "message")
    assert document.context == Context("pt-BR", strength=0.0, shrinkage=0.5, temperature=0.1)


def test_an_empty_align_changes_nothing() -> None:
    document = resolve(DocumentV1("hello", align=Align()))
    assert (document.adapter_name, document.adapter_from) == ("default", "worker")
    assert document.context == Context()


@pytest.mark.parametrize("text", ["", " ", "\n\t\r ", "\u00a0\u2003\u3000"])
def test_a_text_of_white_space_is_empty(text: str) -> None:
    assert refuse(DocumentV1(text)).reason == "empty-text"


def test_an_unknown_adapter_is_refused_with_those_that_there_are() -> None:
    rejected = refuse(DocumentV1("hello", align=Align(adapter="nobody")))
    assert rejected.reason == "unknown-adapter"
    assert "default" in rejected.message


def test_a_tenant_is_refused_only_where_a_list_is_set() -> None:
    policy = dataclasses.replace(POLICY, tenants=frozenset({"acme"}))
    assert resolve(DocumentV1("hello", tenant="other")).record.tenant == "other"
    assert resolve(DocumentV1("hello", tenant="acme"), policy).record.tenant == "acme"
    assert refuse(DocumentV1("hello", tenant="other"), policy).reason == "tenant-not-allowed"
    assert refuse(DocumentV1("hello"), policy).reason == "tenant-not-allowed"


def test_labels_of_a_message_use_its_template_or_the_workers() -> None:
    own = resolve(DocumentV1("hello", labels=["x"], template="On {label}"))
    assert own.labels == LabelRequest(("x",), None, "On {label}", multi_label=False)
    default = resolve(DocumentV1("hello", labels=["x", "y"], multi_label=True))
    assert default.labels == LabelRequest(("x", "y"), None, POLICY.template, multi_label=True)


def test_a_label_set_brings_its_template_and_flag_and_the_message_may_override_both() -> None:
    assert resolve(DocumentV1("hello", label_set="own")).labels == LabelRequest(
        ("a", "b"), "own", "It is {label}.", multi_label=True
    )
    assert resolve(
        DocumentV1("hello", label_set="own", template="{label}!", multi_label=False)
    ).labels == LabelRequest(("a", "b"), "own", "{label}!", multi_label=False)
    plain = resolve(DocumentV1("hello", label_set="plain")).labels
    assert plain is not None
    assert plain.template == POLICY.template


def test_the_workers_label_set_serves_where_a_message_names_none() -> None:
    policy = dataclasses.replace(POLICY, label_set="plain")
    by_default = resolve(DocumentV1("hello"), policy).labels
    assert by_default is not None
    assert by_default.label_set == "plain"
    own = resolve(DocumentV1("hello", labels=["x"]), policy).labels
    assert own is not None
    assert own.label_set is None


def test_an_unknown_label_set_is_refused() -> None:
    assert refuse(DocumentV1("hello", label_set="nobody")).reason == "unknown-label-set"


def test_sixty_four_labels_are_scored_and_sixty_five_are_too_many() -> None:
    labels = [f"label {number}" for number in range(MAX_LABELS + 1)]
    assert resolve(DocumentV1("hello", labels=labels[:-1])).labels is not None
    assert refuse(DocumentV1("hello", labels=labels)).reason == "too-many-labels"


@pytest.mark.parametrize(
    "record",
    [
        DocumentV1("hello", labels=[]),
        DocumentV1("hello", labels=["  "]),
        DocumentV1("hello", labels=["twice", "other", "twice"]),
        DocumentV1("hello", labels=["x"], label_set="plain"),
        DocumentV1("hello", labels=["x"], template="no place"),
        DocumentV1("hello", labels=["x"], template="{label} and {label}"),
        DocumentV1("hello", template="no place, and no labels either"),
        DocumentV1("hello", label_set="plain", template=""),
    ],
)
def test_a_request_for_labels_that_means_nothing_is_a_wrong_schema(record: DocumentV1) -> None:
    assert refuse(record).reason == "bad-schema"


def test_a_refusal_never_quotes_a_text_or_a_label() -> None:
    for record in (
        DocumentV1("s3cret", labels=["s3cret", "s3cret"]),
        DocumentV1("s3cret", labels=["s3cret"] * 65),
        DocumentV1("s3cret", labels=["x"], template="s3cret"),
        DocumentV1("s3cret", label_set="nobody"),
    ):
        assert not re.search("s3cret", refuse(record).message)
