"""The whole way of a batch, without a broker: one outcome a record, in order, whatever is wrong with others."""

import base64
import dataclasses
import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.models.adapter.adapter import IDENTITY, Adapter, identity, space
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.errors import EncoderFailed
from alignstream.models.labels.fitted_labels import FittedLabels, encode_prototypes
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.learner.observed import Example, Text
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.streams.wire.codec import SourceRecord
from alignstream.streams.wire.observations import ObservedText, Origin, key_hash, text_of
from alignstream.streams.wire.outcome import Outcome, record_bytes
from alignstream.streams.wire.topics import DEAD_LETTERS, LABELS, VECTORS, Headers
from alignstream.streams.worker.admission import Policy
from alignstream.streams.worker.pipeline import DocumentsPipeline

DIM = 8
POISON = "poison"
POLICY = Policy(
    adapter="default",
    label_set=None,
    template="This is about {label}.",
    tenants=None,
    max_document_bytes=100_000,
    max_output_bytes=100_000,
    max_nesting_depth=16,
    vector_encoding="base64-f32le",
)


class Observed:
    """Keeps what the pipeline tells."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.n_tokens = 0

    def stage(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(name)

    def tokens(self, count: int) -> None:
        self.n_tokens += count


def adapter(encoder: FakeEncoder, shift: float = 0.2) -> Adapter:
    mean = np.zeros(DIM, dtype=np.float32)
    mean[0] = shift
    return Adapter(encoder.fingerprint, DIM, (Centre(mean),))


def catalogue(encoder: FakeEncoder, shift: float = 0.2) -> Catalogue:
    return Catalogue(
        adapters=MappingProxyType(
            {
                IDENTITY: Served(identity(encoder.fingerprint, DIM), "built-in", 0.0),
                "default": Served(adapter(encoder, shift), "package", 0.0),
            }
        ),
        label_sets=MappingProxyType({"topics": Served(LabelSet(("sports", "science")), "registry", 0.0)}),
    )


def pipeline(
    encoder: FakeEncoder, policy: Policy = POLICY, observed: Observed | None = None
) -> DocumentsPipeline:
    return DocumentsPipeline(
        encoder, policy, clock=lambda: 0.0, now=lambda: 0.0, observer=observed or Observed()
    )


def source(
    value: bytes | None, offset: int = 0, headers: Headers = (), key: bytes | None = b"k"
) -> SourceRecord:
    return SourceRecord("documents.v1", 1, offset, 100.0, key, value, headers)


def document(
    text: str = "hello world", offset: int = 0, headers: Headers = (), **fields: object
) -> SourceRecord:
    return source(json.dumps({"text": text, **fields}).encode(), offset, headers)


def run(
    records: Sequence[SourceRecord], encoder: FakeEncoder | None = None, policy: Policy = POLICY
) -> list[Outcome]:
    encoder = encoder or FakeEncoder(dim=DIM, failing_words=[POISON])
    return pipeline(encoder, policy).run(records, catalogue(encoder))


def bodies(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {output.topic: json.loads(output.value or b"null") for output in outcome.outputs}


def reason(outcome: Outcome) -> str | None:
    return None if outcome.rejected is None else outcome.rejected.reason


def test_a_document_becomes_a_vector_that_says_what_made_it() -> None:
    encoder = FakeEncoder(dim=DIM)
    (outcome,) = run([document("one two", id="a", language="fr", metadata={"n": [1, None]})], encoder)
    body = bodies(outcome)[VECTORS]
    vector = np.frombuffer(base64.b64decode(body.pop("vector")), dtype="<f4")
    (x,) = encoder.encode(encoder.tokenize(["one two"]))
    expected = adapter(encoder)
    assert vector.tobytes() == expected.transform_one(x).tobytes()
    assert body == {
        "id": "a", "tenant": "default", "encoding": "base64-f32le", "dim": DIM, "encoder": encoder.fingerprint,
        "adapter": "default", "adapter_version": expected.version,
        "space": space(encoder.fingerprint, expected.version), "tokens": 4, "tokens_dropped": 0,
        "truncated": False, "language": "fr", "metadata": {"n": [1, None]},
    }  # fmt: skip
    assert list(bodies(outcome)) == [VECTORS]


def test_metadata_is_returned_byte_for_byte() -> None:
    whole = b'{"b" :1.50, "a": "\\u00e9", "a":1e999}'
    (outcome,) = run([source(b'{"text":"a","metadata":' + whole + b"}")])
    assert outcome.outputs[0].value is not None
    assert b'"metadata":' + whole in outcome.outputs[0].value


def test_an_output_says_where_it_came_from_and_lets_tracing_and_cloud_events_through() -> None:
    headers: Headers = (
        ("traceparent", b"00-a"), ("private", b"no"), ("ce_id", b"1"), ("CE_Type", b"t"), ("ce_id", b"2"),
        ("content-type", b"text/plain"), ("alignstream-schema", b"documents/1"), ("tracestate", None),
    )  # fmt: skip
    (outcome,) = run([document(headers=headers, offset=7)])
    assert outcome.outputs[0].headers == (
        ("traceparent", b"00-a"), ("ce_id", b"1"), ("CE_Type", b"t"), ("ce_id", b"2"), ("tracestate", None),
        ("alignstream.source.topic", b"documents.v1"), ("alignstream.source.partition", b"1"),
        ("alignstream.source.offset", b"7"), ("alignstream-schema", b"vectors.aligned/1"),
        ("content-type", b"application/json"),
    )  # fmt: skip
    assert outcome.outputs[0].key == b"k"


def test_the_raw_vector_comes_along_only_where_it_is_wanted() -> None:
    encoder = FakeEncoder(dim=DIM)
    (without,) = run([document("one two")], encoder)
    (outcome,) = run([document("one two")], encoder, dataclasses.replace(POLICY, raw_vector=True))
    body = bodies(outcome)[VECTORS]
    (x,) = encoder.encode(encoder.tokenize(["one two"]))
    assert np.frombuffer(base64.b64decode(body.pop("raw_vector")), dtype="<f2").tobytes() == (
        x.astype("<f2").tobytes()
    )
    assert body == bodies(without)[VECTORS], "nothing else changes, and off there is no such field"


def test_json_numbers_carry_the_same_vector_as_base64() -> None:
    (plain,) = run([document()], policy=dataclasses.replace(POLICY, vector_encoding="json"))
    (packed,) = run([document()])
    numbers = np.array(bodies(plain)[VECTORS]["vector"], dtype="<f4")
    assert numbers.tobytes() == base64.b64decode(bodies(packed)[VECTORS]["vector"])
    assert bodies(plain)[VECTORS]["encoding"] == "json"


def test_equal_spaces_mean_equal_bytes_and_overrides_change_the_space() -> None:
    plain, same, weak, none, full = run(
        [
            document(),
            document(offset=0),
            document(align={"strength": 0.5}),
            document(align={"adapter": IDENTITY}),
            document(align={"strength": 1.0}),
        ]
    )
    assert plain.outputs[0].value == same.outputs[0].value
    spaces = [bodies(outcome)[VECTORS]["space"] for outcome in (plain, weak, none, full)]
    assert len({*spaces}) == 3
    assert spaces[0] == spaces[3]


@pytest.mark.parametrize(
    ("name", "same"), [("strength", (0.0, -0.0, 0)), ("strength", (1, 1.0)), ("shrinkage", (0.0, -0.0, 0))]
)
def test_numbers_that_are_equal_are_one_space_however_they_are_written(
    name: str, same: tuple[float, ...]
) -> None:
    outcomes = run([document(align={name: value}) for value in same])
    assert len({bodies(outcome)[VECTORS]["space"] for outcome in outcomes}) == 1


def test_explain_says_what_was_applied_and_who_chose_it() -> None:
    worker, message = run(
        [document(explain=True), document(explain=True, align={"adapter": IDENTITY, "strength": 0.25})]
    )
    told = bodies(worker)[VECTORS]["explain"]
    assert (told["adapter"], told["adapter_from"], told["strength_from"]) == ("default", "worker", "worker")
    assert told["steps"] == ["centre: subtract the mean of the language means"]
    assert 0.9 < told["cosine_to_raw"] < 1.0
    told = bodies(message)[VECTORS]["explain"]
    assert (told["adapter_from"], told["strength"], told["cosine_to_raw"]) == ("message", 0.25, 1.0)


def test_a_long_text_is_cut_and_says_so() -> None:
    encoder = FakeEncoder(dim=DIM, max_tokens=5)
    short, long = run([document("a b c"), document("a b c d e")], encoder)
    assert (bodies(long)[VECTORS]["truncated"], bodies(long)[VECTORS]["tokens_dropped"]) == (True, 2)
    assert bodies(long)[VECTORS]["tokens"] == 5
    assert (long.truncated, short.truncated) == (True, False)
    assert bodies(short)[VECTORS]["vector"] == bodies(long)[VECTORS]["vector"]


def test_labels_come_with_the_vector_in_descending_order() -> None:
    (outcome,) = run([document(id="a", labels=["x", "y", "z"], tenant="acme")])
    body = bodies(outcome)[LABELS]
    scores = [item["score"] for item in body["scores"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0, abs=1e-5)
    assert body["label"] == body["scores"][0]["label"]
    assert {item["label"] for item in body["scores"]} == {"x", "y", "z"}
    assert (body["id"], body["tenant"], body["label_set"]) == ("a", "acme", None)
    assert body["space"] == bodies(outcome)[VECTORS]["space"]
    assert [output.topic for output in outcome.outputs] == [VECTORS, LABELS]
    assert ("alignstream-schema", b"labels.zero-shot/1") in outcome.outputs[1].headers


def test_label_texts_are_encoded_once_for_many_messages() -> None:
    encoder = FakeEncoder(dim=DIM)
    records = [document(f"text {number}", label_set="topics") for number in range(20)]
    outcomes = run(records, encoder)
    assert all(LABELS in bodies(outcome) for outcome in outcomes)
    assert encoder.n_runs == 2


def test_no_batch_mixes_versions_and_a_swap_shows_in_the_next() -> None:
    encoder = FakeEncoder(dim=DIM)
    pipe = pipeline(encoder)
    records = [document(labels=["x", "y"]) for _ in range(3)]
    before = [bodies(outcome) for outcome in pipe.run(records, catalogue(encoder, 0.2))]
    after = [bodies(outcome) for outcome in pipe.run(records, catalogue(encoder, 0.9))]
    assert len({body[VECTORS]["space"] for body in before}) == 1
    assert before[0][VECTORS]["space"] != after[0][VECTORS]["space"]
    assert before[0][LABELS]["scores"] != after[0][LABELS]["scores"]


def test_a_tombstone_is_passed_on_to_vectors_and_labels() -> None:
    (outcome,) = run([source(None, headers=(("traceparent", b"t"), ("alignstream-schema", b"documents/9")))])
    assert [(output.topic, output.key, output.value) for output in outcome.outputs] == [
        (VECTORS, b"k", None),
        (LABELS, b"k", None),
    ]
    assert ("traceparent", b"t") in outcome.outputs[0].headers
    assert outcome.tombstone
    assert outcome.rejected is None


def test_a_tombstone_without_a_key_names_nothing_and_no_client_could_send_it() -> None:
    (outcome,) = run([source(None, key=None)])
    assert outcome.outputs == ()
    assert outcome.tombstone


def test_each_bad_record_is_dead_lettered_untouched_and_its_neighbours_are_not_touched() -> None:
    bad = [
        source(b"\xff\x00raw", offset=1, headers=(("h", b"1"), ("h", b"2"))),
        document("", offset=3),
        document(POISON, offset=5),
        document("x" * 100_001, offset=7),
        document("x", offset=9, labels=["a"] * 65),
        document("x", offset=11, align={"adapter": "nobody"}),
        document("x", offset=13, label_set="nobody"),
    ]
    good = [document(f"good {number}", offset=2 * number) for number in range(len(bad))]
    outcomes = run([record for pair in zip(good, bad, strict=True) for record in pair])
    assert [outcome.source.offset for outcome in outcomes] == list(range(14))
    assert [reason(outcome) for outcome in outcomes[::2]] == [None] * 7
    assert [reason(outcome) for outcome in outcomes[1::2]] == [
        "bad-utf8", "empty-text", "inference-failed", "too-large", "too-many-labels", "unknown-adapter",
        "unknown-label-set",
    ]  # fmt: skip
    alone = [run([record])[0] for record in good]
    assert [outcome.outputs for outcome in outcomes[::2]] == [outcome.outputs for outcome in alone]
    for record, outcome in zip(bad, outcomes[1::2], strict=True):
        (letter,) = outcome.outputs
        assert (letter.topic, letter.key, letter.value) == (DEAD_LETTERS, record.key, record.value)
        assert letter.headers[: len(record.headers)] == record.headers


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "poison", "bad", "tombstone", "labels"]), max_size=12),
    shuffled=st.randoms(use_true_random=False),
)
def test_every_record_has_the_same_outcome_alone_in_any_batch_and_in_any_order(
    kinds: list[str],
    shuffled: Any,
) -> None:
    makers = {
        "good": lambda n: document(f"text {n}", offset=n),
        "poison": lambda n: document(f"{POISON} {n}", offset=n),
        "bad": lambda n: source(b"{", offset=n),
        "tombstone": lambda n: source(None, offset=n),
        "labels": lambda n: document(f"text {n}", offset=n, labels=["a", f"b{n % 2}"]),
    }
    records = [makers[kind](number) for number, kind in enumerate(kinds)]
    alone = {record.offset: run([record])[0] for record in records}
    shuffled.shuffle(records)
    outcomes = run(records)
    assert [outcome.source for outcome in outcomes] == records
    for outcome in outcomes:
        assert outcome == alone[outcome.source.offset]


def test_failing_texts_are_found_by_halving_not_one_by_one() -> None:
    encoder = FakeEncoder(dim=DIM, failing_words=[POISON])
    records = [document(POISON if number == 37 else f"text {number}", offset=number) for number in range(64)]
    outcomes = run(records, encoder)
    assert [outcome.source.offset for outcome in outcomes if outcome.rejected] == [37]
    assert encoder.n_runs == 1 + 2 * 6


@pytest.mark.parametrize("n_records", [1, 5])
def test_records_that_all_fail_are_to_blame_while_a_plain_text_still_works(n_records: int) -> None:
    outcomes = run([document(f"{POISON} {number}") for number in range(n_records)])
    assert {reason(outcome) for outcome in outcomes} == {"inference-failed"}


@pytest.mark.parametrize("n_records", [1, 5])
def test_an_encoder_that_fails_on_everything_condemns_no_record(n_records: int) -> None:
    encoder = FakeEncoder(dim=DIM)
    encoder.is_broken = True
    with pytest.raises(EncoderFailed):
        run([document(f"text {number}") for number in range(n_records)], encoder)


def test_labels_that_the_encoder_fails_on_cost_their_own_record_alone() -> None:
    bad, good = run(
        [
            document("text", labels=["a", POISON], template="{label}"),
            document("text", labels=["a", "b"], template="{label}"),
        ]
    )
    assert reason(bad) == "inference-failed"
    assert [output.topic for output in bad.outputs] == [DEAD_LETTERS]
    assert list(bodies(good)) == [VECTORS, LABELS]


def test_an_encoder_that_breaks_at_the_labels_condemns_no_record() -> None:
    encoder = FakeEncoder(dim=DIM)
    encode = encoder.encode

    def break_after_the_texts(tokens: Any) -> Any:
        try:
            return encode(tokens)
        finally:
            encoder.is_broken = True

    encoder.encode = break_after_the_texts  # type: ignore[method-assign]
    with pytest.raises(EncoderFailed):
        run([document("text", labels=["a", "b"])], encoder)


def test_an_output_too_large_for_its_topic_is_refused_before_it_is_sent() -> None:
    policy = dataclasses.replace(POLICY, max_output_bytes=2_000)
    fits, too_large, by_key, by_headers = run(
        [
            document(metadata="m" * 10),
            document(metadata="m" * 2_000),
            dataclasses.replace(document(), key=b"k" * 2_000),
            document(headers=(("ce_data", b"c" * 2_000),)),
        ],
        policy=policy,
    )
    assert fits.rejected is None
    for outcome in (too_large, by_key, by_headers):
        assert reason(outcome) == "output-too-large"
        assert [output.topic for output in outcome.outputs] == [DEAD_LETTERS]


def test_a_label_record_too_large_takes_its_vector_along() -> None:
    policy = dataclasses.replace(POLICY, max_output_bytes=3_000)
    labels = [f"{number} " + "l" * 100 for number in range(30)]
    (outcome,) = run([document(labels=labels)], policy=policy)
    assert reason(outcome) == "output-too-large"
    assert [output.topic for output in outcome.outputs] == [DEAD_LETTERS]


def test_the_size_of_a_record_is_never_underestimated() -> None:
    headers: Headers = (("a" * 200, b"b" * 300), ("null", None))
    assert record_bytes(b"key", b"value", headers) >= 3 + 5 + 500 + 4


def test_every_stage_is_measured_once_a_batch() -> None:
    observed = Observed()
    encoder = FakeEncoder(dim=DIM)
    pipeline(encoder, observed=observed).run([document("a b"), document("c")], catalogue(encoder))
    assert observed.stages == ["decode", "tokenize", "encode", "align", "classify"]
    assert observed.n_tokens == 4 + 3


def with_fitted(encoder: FakeEncoder, /, **changes: Any) -> Catalogue:
    """Return a catalogue in which the label set is fitted: it always finds its second label, by its bias."""
    values: dict[str, Any] = {
        "encoder": encoder.fingerprint, "adapter_version": adapter(encoder).version,
        "template": POLICY.template, "dim": DIM, "prototypes": encode_prototypes(np.eye(2, DIM)),
        "bias": (5.0, 0.0), "temperature": 0.1,
    }  # fmt: skip
    multi_label = "thresholds" in changes
    labels = LabelSet(
        ("sports", "science"), multi_label=multi_label, fitted=FittedLabels(**(values | changes))
    )
    return dataclasses.replace(
        catalogue(encoder), label_sets=MappingProxyType({"topics": Served(labels, "registry", 0.0)})
    )


def labelled(found: Catalogue, encoder: FakeEncoder, **fields: object) -> dict[str, Any]:
    (outcome,) = pipeline(encoder).run([document(label_set="topics", **fields)], found)
    return bodies(outcome)[LABELS]


def test_a_fitted_label_set_is_scored_by_what_was_fitted() -> None:
    encoder = FakeEncoder(dim=DIM)
    body = labelled(with_fitted(encoder), encoder)
    assert body["label"] == "science"
    assert body["scores"][0] == {"label": "science", "score": 1.0}
    assert body["template"] == POLICY.template
    assert encoder.n_runs == 1, "the prototypes are stored, nothing is encoded for them"


def test_it_abstains_where_the_margin_is_small() -> None:
    encoder = FakeEncoder(dim=DIM)
    for margin, label in ((0.0, "science"), (1.0, None)):
        body = labelled(
            with_fitted(encoder, abstain_margin=margin, bias=(0.02, 0.0), temperature=10.0), encoder
        )
        assert len(body["scores"]) == 2
        if label is None:
            assert body["label"] is None
        else:
            assert body["label"] == body["scores"][0]["label"]


def test_a_multi_label_set_has_no_label_where_none_passes_its_threshold() -> None:
    encoder = FakeEncoder(dim=DIM)
    for threshold, is_null in ((2.0, True), (-2.0, False)):
        found = with_fitted(encoder, bias=(0.0, 0.0), thresholds=(threshold, threshold))
        assert (labelled(found, encoder)["label"] is None) == is_null


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"adapter_version": "0" * 12}, {}),
        ({"encoder": "0" * 64}, {}),
        ({"template": "{label}!"}, {}),
        ({}, {"template": "About {label}."}),
        ({}, {"multi_label": True}),
        ({}, {"align": {"adapter": IDENTITY}}),
        ({}, {"align": {"strength": 0.5}}),
        ({}, {"align": {"shrinkage": 0.5}}),
        ({}, {"align": {"temperature": 0.5}}),
    ],
)
def test_where_another_adapter_or_template_serves_the_plain_labels_do(
    changes: dict[str, Any], fields: dict[str, Any]
) -> None:
    encoder = FakeEncoder(dim=DIM)
    plain = labelled(catalogue(encoder), encoder, **fields)
    found = with_fitted(encoder, **({"bias": (0.0, 0.0), "temperature": 1e6} | changes))
    assert labelled(found, encoder, **fields) == plain
    assert plain["scores"][0]["score"] > 0.51, "what was fitted would give all labels alike 0.5"


def test_an_empty_batch_gives_nothing() -> None:
    assert run([]) == []


# -- following ----------------------------------------------------------------------------------------------


def followed(encoder: FakeEncoder, *, tenant: str = "default") -> Catalogue:
    """Return a catalogue with an epoch of one tenant: a mean that lies off, a bank, and examples of a label."""
    state = TenantState(DIM)
    for number in range(40):
        (x,) = encoder.encode(encoder.tokenize([f"text {number}"]))
        state.learn_text(Text(x, "de-Latn", key=None))
        state.learn_example(Example(str(number), "topics", "sports", x, "de-Latn"))
    found = state.epoch(encoder=encoder.fingerprint, tenant=tenant, reason="manual")
    return dataclasses.replace(
        catalogue(encoder), epochs=MappingProxyType({tenant: Served(found, "registry", 0.0)})
    )


def test_with_an_epoch_a_query_comes_along_and_the_stored_vector_stays() -> None:
    encoder = FakeEncoder(dim=DIM)
    records = [document("one two", language="de", label_set="topics")]
    (plain,) = run(records, encoder)
    (outcome,) = pipeline(encoder).run(records, followed(encoder))
    (other,) = pipeline(encoder).run(records, followed(encoder, tenant="acme"))
    assert bodies(other) == bodies(plain), "another tenant's epoch is none of its business"
    before, after = bodies(plain)[VECTORS], bodies(outcome)[VECTORS]
    assert {name: value for name, value in after.items() if name in before} == before
    assert set(after) - set(before) == {"epoch", "query_vector", "hubness"}
    assert (after["epoch"], bodies(outcome)[LABELS]["epoch"]) == (1, 1)
    following = QueryAdaptation(adapter(encoder), followed(encoder).epochs["default"].value)
    (x,) = encoder.encode(encoder.tokenize(["one two"]))
    query = np.frombuffer(base64.b64decode(after["query_vector"]), dtype="<f2")
    assert query.tobytes() == following.query(x, Context(language="de")).astype("<f2").tobytes()
    y = following.vector(x, Context(language="de"))
    assert after["hubness"] == pytest.approx(following.hubness(y, "de-Latn"), abs=1e-6)
    assert bodies(outcome)[LABELS]["scores"] != bodies(plain)[LABELS]["scores"]


def test_a_message_that_asks_not_to_be_followed_gets_no_query_and_teaches_nothing() -> None:
    encoder = FakeEncoder(dim=DIM)
    (outcome,) = pipeline(encoder).run([document(align={"follow": False})], followed(encoder))
    assert {"query_vector", "hubness", "epoch"}.isdisjoint(bodies(outcome)[VECTORS])
    assert outcome.observed is None
    off = dataclasses.replace(POLICY, follows=False)
    (outcome,) = pipeline(encoder, off).run([document()], followed(encoder))
    assert {"query_vector", "hubness", "epoch"}.isdisjoint(bodies(outcome)[VECTORS])
    assert outcome.observed is None
    (outcome,) = pipeline(encoder).run([document(align={"follow": True})], followed(encoder))
    assert outcome.observed is not None


def test_a_message_that_asks_for_less_of_the_adapter_gets_nothing_of_another_space() -> None:
    encoder = FakeEncoder(dim=DIM)
    records = [document(label_set="topics", align={"strength": 0.5})]
    (plain,) = run(records, encoder)
    (outcome,) = pipeline(encoder).run(records, followed(encoder))
    assert "hubness" not in bodies(outcome)[VECTORS]
    assert bodies(outcome)[LABELS] == bodies(plain)[LABELS]


def test_what_is_observed_is_the_vector_as_encoded_and_where_it_came_from() -> None:
    encoder = FakeEncoder(dim=DIM)
    (outcome,) = run(
        [document("one two", offset=9, language="de", tenant="acme", align={"strength": 0.0})], encoder
    )
    found = outcome.observed
    assert isinstance(found, ObservedText)
    assert found.origin == Origin("documents.v1", 1, 9)
    assert (found.tenant, found.language, found.key) == ("acme", "de", key_hash(b"k"))
    (x,) = encoder.encode(encoder.tokenize(["one two"]))
    np.testing.assert_allclose(text_of(found, DIM).vector, x, atol=1e-3)
    (without_key,) = run([source(b'{"text":"a"}', key=None)], encoder)
    assert isinstance(without_key.observed, ObservedText)
    assert without_key.observed.key is None


def test_what_is_refused_is_not_observed() -> None:
    policy = dataclasses.replace(POLICY, max_output_bytes=1000)
    poisoned, large = run([document(POISON), document(metadata="x" * 2000)], policy=policy)
    assert (reason(poisoned), reason(large)) == ("inference-failed", "output-too-large")
    assert (poisoned.observed, large.observed) == (None, None)
