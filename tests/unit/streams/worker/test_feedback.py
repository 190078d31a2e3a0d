"""Pairs and label feedback: scored, learned from where somebody says so, and as strict as documents."""

import dataclasses
import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from fake_encoder import FakeEncoder

from alignstream.models.adapter.adapter import IDENTITY, Adapter, identity, space
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.arrays import Vector32
from alignstream.models.errors import EncoderFailed
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.streams.wire import observations
from alignstream.streams.wire.codec import SourceRecord
from alignstream.streams.wire.observations import EXCERPT_CHARACTERS, ObservedExample, ObservedPair, Origin
from alignstream.streams.wire.outcome import Outcome
from alignstream.streams.wire.topics import DEAD_LETTERS, PAIRS_SCORED
from alignstream.streams.worker.admission import Policy
from alignstream.streams.worker.batch import BatchPipeline
from alignstream.streams.worker.encoding import Encoding
from alignstream.streams.worker.feedback import FeedbackPipeline, PairsPipeline

DIM = 8
POISON = "poison"
POLICY = Policy(
    adapter="default", label_set=None, template="This is about {label}.", tenants=None, max_document_bytes=10_000,
    max_output_bytes=100_000, max_nesting_depth=16, vector_encoding="base64-f32le",
)  # fmt: skip


class Silent:
    """Told, and says nothing."""

    def stage(self, name: str, seconds: float) -> None:
        assert name
        assert seconds >= 0

    def tokens(self, count: int) -> None:
        assert count >= 0


def adapter(encoder: FakeEncoder) -> Adapter:
    mean = np.zeros(DIM, dtype=np.float32)
    mean[0] = 0.2
    return Adapter(encoder.fingerprint, DIM, (Centre(mean),))


def epoch(encoder: FakeEncoder) -> Epoch:
    """An epoch with a map for German."""
    state = TenantState(DIM)
    plain = state.epoch(encoder=encoder.fingerprint, tenant="default", reason="manual")
    rng = np.random.default_rng(0)
    maps = LanguageMaps(
        rng.standard_normal((1, DIM, 2)).astype(np.float32), rng.standard_normal((1, 2, DIM)).astype(np.float32),
        ("de-Latn",),
    )  # fmt: skip
    return dataclasses.replace(plain, tenant_map=TenantMap(maps, adapter(encoder).version))


def catalogue(encoder: FakeEncoder, *, with_epoch: bool = False, with_default: bool = True) -> Catalogue:
    adapters = {IDENTITY: Served(identity(encoder.fingerprint, DIM), "built-in", 0.0)}
    if with_default:
        adapters["default"] = Served(adapter(encoder), "package", 0.0)
    return Catalogue(
        adapters=MappingProxyType(adapters),
        label_sets=MappingProxyType({"topics": Served(LabelSet(("sports", "science")), "registry", 0.0)}),
        epochs=MappingProxyType({"default": Served(epoch(encoder), "registry", 0.0)} if with_epoch else {}),
    )


def source(value: bytes | None, offset: int = 0, key: bytes | None = b"k") -> SourceRecord:
    return SourceRecord("in.v1", 1, offset, 100.0, key, value, ())


def pair(one: str = "guten tag", other: str = "good day", offset: int = 0, **fields: object) -> SourceRecord:
    value = {"source": {"text": one, "language": "de"}, "target": {"text": other, "language": "en"}, **fields}
    return source(json.dumps(value).encode(), offset)


def feedback(text: str = "the match", offset: int = 0, **fields: object) -> SourceRecord:
    value = {"text": text, "label_set": "topics", "label": "sports", **fields}
    return source(json.dumps(value).encode(), offset)


def pipelines(encoder: FakeEncoder, policy: Policy) -> dict[str, BatchPipeline[Any]]:
    encoding = Encoding(encoder, clock=lambda: 0.0, observer=Silent())
    return {
        "pair": PairsPipeline(encoding, policy, now=lambda: 0.0),
        "feedback": FeedbackPipeline(encoding, policy, now=lambda: 0.0),
    }


def run(
    kind: str, records: Sequence[SourceRecord], encoder: FakeEncoder | None = None, policy: Policy = POLICY,
    known: Catalogue | None = None,
) -> list[Outcome]:  # fmt: skip
    encoder = encoder or FakeEncoder(dim=DIM, failing_words=[POISON])
    return pipelines(encoder, policy)[kind].run(records, known or catalogue(encoder))


def body(outcome: Outcome) -> dict[str, Any]:
    (output,) = outcome.outputs
    found: dict[str, Any] = json.loads(output.value or b"null")
    return found


def encoded(text: str) -> Vector32:
    encoder = FakeEncoder(dim=DIM)
    x: Vector32 = encoder.encode(encoder.tokenize([text]))[0]
    return x


# -- pairs --------------------------------------------------------------------------------------------------


def test_a_pair_is_scored_by_its_aligned_vectors() -> None:
    encoder = FakeEncoder(dim=DIM)
    (outcome,) = run("pair", [pair(id="p", tenant="acme")], encoder)
    known = adapter(encoder)
    one, other = (
        known.transform_one(encoded(text), Context(language=tag))
        for text, tag in (("guten tag", "de"), ("good day", "en"))
    )
    assert body(outcome) == {
        "id": "p", "tenant": "acme", "cosine": pytest.approx(float(one @ other), abs=1e-5), "is_sent_to_learner": False,
        "adapter": "default", "adapter_version": known.version, "space": space(encoder.fingerprint, known.version),
    }  # fmt: skip
    (output,) = outcome.outputs
    assert (output.topic, output.key) == (PAIRS_SCORED, b"k")
    assert ("alignstream-schema", b"pairs.scored/1") in output.headers
    assert outcome.observed is None, "nobody vouches for it"


def test_equal_texts_have_a_cosine_of_one_and_no_more() -> None:
    (outcome,) = run("pair", [pair("a b c", "a b c")])
    assert body(outcome)["cosine"] == 1.0


def test_a_pair_that_somebody_vouches_for_is_observed_as_encoded() -> None:
    long = "ä" * 300
    (outcome,) = run("pair", [pair(f"x {long}", "y", offset=7, learn=True, id="p", tenant="acme")])
    assert body(outcome)["is_sent_to_learner"] is True
    found = outcome.observed
    assert isinstance(found, ObservedPair)
    assert (found.origin, found.tenant, found.id) == (Origin("in.v1", 1, 7), "acme", "p")
    assert (found.source.text, found.target.text) == (f"x {long}"[:EXCERPT_CHARACTERS], "y")
    taken = observations.pair_of(found, DIM)
    assert (taken.source.language, taken.target.language) == ("de-Latn", "en-Latn")
    np.testing.assert_allclose(taken.source.vector, encoded(f"x {long}"), atol=1e-3)
    np.testing.assert_allclose(taken.target.vector, encoded("y"), atol=1e-3)


def test_a_pair_without_an_id_is_named_by_its_place() -> None:
    (outcome,) = run("pair", [pair(offset=9, learn=True)])
    assert body(outcome)["id"] == "in.v1-1-9"
    assert isinstance(outcome.observed, ObservedPair)
    assert outcome.observed.id == "in.v1-1-9"


def test_where_nothing_is_followed_pairs_are_scored_and_not_learned() -> None:
    (outcome,) = run("pair", [pair(learn=True)], policy=dataclasses.replace(POLICY, follows=False))
    assert (body(outcome)["is_sent_to_learner"], outcome.observed) == (False, None)


def test_a_pair_is_scored_with_its_tenants_own_map_and_says_so_in_its_space() -> None:
    encoder = FakeEncoder(dim=DIM)
    known = catalogue(encoder, with_epoch=True)
    mine, others = run("pair", [pair(), pair(tenant="acme")], encoder, known=known)
    following = QueryAdaptation(adapter(encoder), epoch(encoder))
    one, other = (
        following.vector(encoded(text), Context(language=tag))
        for text, tag in (("guten tag", "de"), ("good day", "en"))
    )
    assert body(mine)["cosine"] == pytest.approx(float(one @ other), abs=1e-5)
    assert body(mine)["cosine"] != body(others)["cosine"]
    version = adapter(encoder).version
    assert body(mine)["space"] == space(encoder.fingerprint, version, tenant_map=following.map_version)
    assert body(others)["space"] == space(encoder.fingerprint, version)


def test_a_pair_that_is_cut_says_so() -> None:
    encoder = FakeEncoder(dim=DIM, max_tokens=5)
    short, long = run("pair", [pair("a", "b"), pair("a", "b c d e f g")], encoder)
    assert (short.truncated, long.truncated) == (False, True)


def test_without_its_adapter_a_pair_is_refused() -> None:
    encoder = FakeEncoder(dim=DIM)
    (outcome,) = run("pair", [pair()], encoder, known=catalogue(encoder, with_default=False))
    assert outcome.rejected is not None
    assert outcome.rejected.reason == "unknown-adapter"


def test_a_score_that_is_too_large_is_a_dead_letter_and_teaches_nothing() -> None:
    policy = dataclasses.replace(POLICY, max_output_bytes=1000)
    (outcome,) = run("pair", [pair(id="i" * 512, learn=True)], policy=policy)
    assert outcome.rejected is not None
    assert outcome.rejected.reason == "output-too-large"
    assert outcome.observed is None


# -- label feedback -----------------------------------------------------------------------------------------


def test_feedback_is_observed_as_encoded_and_publishes_nothing() -> None:
    (outcome,) = run("feedback", [feedback(offset=5, id="e", language="de", tenant="acme")])
    assert (outcome.outputs, outcome.rejected) == ((), None)
    found = outcome.observed
    assert isinstance(found, ObservedExample)
    assert (found.origin, found.tenant, found.id) == (Origin("in.v1", 1, 5), "acme", "e")
    assert (found.label_set, found.label, found.language) == ("topics", "sports", "de")
    np.testing.assert_allclose(observations.example_of(found, DIM).vector, encoded("the match"), atol=1e-3)


def test_feedback_without_an_id_is_named_by_its_text_so_that_a_later_label_takes_its_place() -> None:
    first, again, other = run(
        "feedback", [feedback(), feedback(label="science", offset=1), feedback("another", offset=2)]
    )
    names = [
        outcome.observed.id
        for outcome in (first, again, other)
        if isinstance(outcome.observed, ObservedExample)
    ]
    assert names[0] == names[1] != names[2]


def test_where_nothing_is_followed_feedback_is_read_and_not_observed() -> None:
    good, bad = run(
        "feedback", [feedback(), feedback(label="x")], policy=dataclasses.replace(POLICY, follows=False)
    )
    assert (good.observed, good.rejected) == (None, None)
    assert bad.rejected is not None


@pytest.mark.parametrize(
    ("fields", "reason", "told"),
    [
        ({"label_set": "nobody"}, "unknown-label-set", "available: topics"),
        ({"label": "secret"}, "bad-schema", "no such label"),
        ({"label": ""}, "bad-schema", "label"),
        ({"label": None}, "bad-schema", "label"),
    ],
)
def test_a_label_that_no_set_has_is_refused_without_telling_it(
    fields: dict[str, object], reason: str, told: str
) -> None:
    (outcome,) = run("feedback", [feedback(**fields)])
    assert outcome.rejected is not None
    assert outcome.rejected.reason == reason
    assert told in outcome.rejected.message
    assert "secret" not in outcome.rejected.message


# -- both ---------------------------------------------------------------------------------------------------


GOOD = {"pair": pair(), "feedback": feedback()}
BAD = {
    "pair": [
        (pair(" \t"), "empty-text"),
        (pair("a", "\u2003"), "empty-text"),
        (pair("a", POISON), "inference-failed"),
        (pair(POISON, "a"), "inference-failed"),
        (pair("x" * 10_001), "too-large"),
        (pair(tenant="other"), "tenant-not-allowed"),
        (pair(learn="yes"), "bad-schema"),
        (source(b'{"source":{"text":"a"}}'), "bad-schema"),
    ],
    "feedback": [
        (feedback(""), "empty-text"),
        (feedback(POISON), "inference-failed"),
        (feedback("x" * 10_001), "too-large"),
        (feedback(tenant="other"), "tenant-not-allowed"),
        (feedback(text=7), "bad-schema"),
    ],
}


@pytest.mark.parametrize("kind", ["pair", "feedback"])
def test_each_bad_record_is_a_dead_letter_untouched_and_leaves_its_neighbours_alone(kind: str) -> None:
    records, reasons = [], []
    for offset, (bad, reason) in enumerate(BAD[kind]):
        records += [
            dataclasses.replace(GOOD[kind], offset=2 * offset),
            dataclasses.replace(bad, offset=2 * offset + 1),
        ]
        reasons += [None, reason]
    policy = dataclasses.replace(POLICY, tenants=frozenset({"default"}))
    outcomes = run(kind, records, policy=policy)
    assert [None if item.rejected is None else item.rejected.reason for item in outcomes] == reasons
    assert [item.source for item in outcomes] == records
    (alone,) = run(kind, records[:1], policy=policy)
    for outcome, reason in zip(outcomes, reasons, strict=True):
        if reason is None:
            assert [output.value for output in outcome.outputs] == [
                (output.value or b"").replace(b"in.v1-1-0", outcome.source.default_id.encode())
                for output in alone.outputs
            ]
        else:
            (letter,) = outcome.outputs
            assert (letter.topic, letter.key, letter.value) == (DEAD_LETTERS, b"k", outcome.source.value)
            assert ("alignstream.error.reason", reason.encode()) in letter.headers
            assert outcome.observed is None


@pytest.mark.parametrize("kind", ["pair", "feedback"])
def test_an_encoder_that_fails_on_everything_is_no_fault_of_records(kind: str) -> None:
    encoder = FakeEncoder(dim=DIM)
    encoder.is_broken = True
    with pytest.raises(EncoderFailed):
        run(kind, [GOOD[kind]], encoder)


@pytest.mark.parametrize(("kind", "topics"), [("pair", [PAIRS_SCORED]), ("feedback", [])])
def test_a_tombstone_is_passed_on_to_what_a_record_becomes(kind: str, topics: list[str]) -> None:
    with_key, without = run(kind, [source(None), source(None, key=None)])
    assert [(output.topic, output.key, output.value) for output in with_key.outputs] == [
        (topic, b"k", None) for topic in topics
    ]
    assert with_key.tombstone
    assert without.tombstone
    assert (without.outputs, with_key.observed) == ((), None)


@pytest.mark.parametrize("kind", ["pair", "feedback"])
def test_batches_are_as_good_as_single_records(kind: str) -> None:
    make = {
        "pair": lambda i: pair(f"a {i}", f"b {i}", i, learn=True),
        "feedback": lambda i: feedback(f"a {i}", i),
    }
    records = [make[kind](offset) for offset in range(5)]
    assert run(kind, records) == [outcome for item in records for outcome in run(kind, [item])]
