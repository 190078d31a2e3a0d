"""The laws of learning: a function of the log, a replay counts once, a restart changes nothing, tenants stand apart."""

import json
import tracemalloc
from typing import Any

import made_streams as made
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_streams import DIM, ENCODER, Ledger, adapter, control, feed, learner, opened, record, states

from alignstream.models.adapter.adapter import identity
from alignstream.models.serving.epoch import MeanKey
from alignstream.streams.learner import learning as learnings
from alignstream.streams.learner.learning import FreezeChange, Learning, Opened, Withheld
from alignstream.streams.learner.tenancy import summary_of
from alignstream.streams.wire import epoch_log, observations

cheap = settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)
#: 10,000 means of 384 numbers, and all that stands around them.
MAX_MEANS_BYTES = 100_000_000


def busy_log(
    seed: int, *, n_records: int = 50, n_texts: int = 8, tenants: tuple[str, ...] = ("a", "b")
) -> list[bytes]:
    """Return a log with everything in it: tagged and untagged texts, a change, feedback, ticks and people."""
    rng = np.random.default_rng(seed)
    offsets: dict[object, int] = {}

    def take(tenant_key: object) -> int:
        offsets[tenant_key] = offsets.get(tenant_key, -1) + int(rng.integers(1, 3))
        return offsets[tenant_key]

    away = 0.5 * made.unit(rng.standard_normal(DIM))
    values = []
    for position in range(n_records):
        shift: Any = away if position > n_records // 2 else 0.0
        kind = rng.integers(0, 12)
        tenant = tenants[rng.integers(0, len(tenants))]
        if kind == 0:
            items: list[Any] = []
            for _ in range(3):
                language = int(rng.integers(0, 4))
                (x,), (y,) = made.texts(rng, 1, language=language), made.texts(rng, 1, language=1)
                name = f"p{rng.integers(0, 30)}"
                items.append(
                    made.observed_pair(
                        x, y, take("p"), tenant=tenant, name=name, languages=(made.TAGS[language], "en")
                    )
                )
            values.append(record(*items))
        elif kind == 1:
            (x,) = made.texts(rng, 1)
            values.append(
                record(made.observed_example(x, take("e"), tenant=tenant, name=f"e{rng.integers(9)}"))
            )
        elif kind == 2:
            values.append(control("tick", is_live=bool(rng.integers(0, 2))))
        elif kind == 3:
            action = ("publish", "reset", "thaw", "freeze", "forget-pair", "rollback")[rng.integers(0, 6)]
            fields: dict[str, Any] = {"tenant": tenant, "pair_id": f"p{rng.integers(0, 30)}", "epoch": 1}
            values.append(control(action, **fields))
            if action in {"freeze", "rollback"}:
                values.append(control("thaw", tenant=tenant))
        else:
            items = []
            for _ in range(n_texts):
                language, partition = int(rng.integers(0, 4)), int(rng.integers(0, 2))
                (x,) = made.texts(rng, 1, language=language, shift=shift)
                is_tagged = rng.random() < 0.7
                items.append(
                    made.observed_text(
                        x, take(partition), tenant=tenant, partition=partition,
                        key=int(rng.integers(0, 40)) if rng.random() < 0.8 else None,
                        language=made.TAGS[language] if is_tagged else None,
                        nearest_language=made.LANGUAGES[language],
                        contradicts_tag=bool(is_tagged and rng.random() < 0.1),
                    )
                )  # fmt: skip
            values.append(record(*items))
    return values


@given(seed=seeds)
@cheap
def test_the_same_log_gives_the_same_epochs_and_states(seed: int) -> None:
    values = busy_log(seed)
    one, other = learner(adapter()), learner(adapter())
    decisions, again = feed(one, values), feed(other, values)
    assert opened(decisions), "a log that opens nothing shows nothing"
    assert opened(decisions) == opened(again)
    assert states(one) == states(other)
    assert one.marks == other.marks


@given(seed=seeds)
@cheap
def test_a_replay_of_the_whole_input_in_other_batches_changes_no_state(seed: int) -> None:
    values = busy_log(seed)
    learning = learner(adapter())
    feed(learning, values)
    before, n_learned, n_replayed = states(learning), learning.n_learned, learning.n_replayed
    records = [record_ for value in values if not isinstance(record_ := observations.decode(value), str)]
    items = [item for record_ in records for item in (*record_.texts, *record_.pairs, *record_.examples)]
    again = [record(*items[start : start + 5]) for start in range(0, len(items), 5)]
    assert feed(learning, again, start=len(values)) == []
    assert states(learning) == before
    assert (learning.n_learned, learning.n_replayed - n_replayed) == (n_learned, len(items))


@given(seed=seeds, data=st.data())
@cheap
def test_a_restart_anywhere_ends_in_the_same_states_and_the_same_epochs(
    seed: int, data: st.DataObject
) -> None:
    values = busy_log(seed)
    whole = learner(adapter())
    expected = opened(feed(whole, values))
    crash = data.draw(st.integers(1, len(values)), label="crash before")
    written = data.draw(st.integers(0, crash), label="checkpoint before")
    n_states = data.draw(st.integers(0, 2), label="states written at the crash")
    ledger, before = Ledger(), learner(adapter())
    found = feed(before, values[:written])
    ledger.carry_out(found)
    ledger.checkpoint(before)
    found += (more := feed(before, values[written:crash], start=written))
    ledger.carry_out(more)
    # It dies while it writes: some states are newer than the progress.
    ledger.checkpoint(before, n_states=n_states)
    after = Learning.restored(ledger.log, lambda *_: adapter(), max_tenants=100)
    assert after.position == written
    start = data.draw(st.integers(0, written), label="read again from")
    again = opened(feed(after, values[start:], start=start))
    assert states(after) == states(whole)
    assert {tenant_key: tenancy.refusal for tenant_key, tenancy in after.tenancies.items()} == {
        tenant_key: tenancy.refusal for tenant_key, tenancy in whole.tenancies.items()
    }
    n_new = len(expected) - len(opened(found))
    assert again[len(again) - n_new :] == expected[len(expected) - n_new :]
    assert set(again) <= set(expected)
    assert after.marks == whole.marks


def test_what_serves_is_compared_with_after_a_restart_as_before_it() -> None:
    rng = np.random.default_rng(3)
    values = [
        record(*(made.observed_text(x, 8 * i + j) for j, x in enumerate(made.texts(rng, 8))))
        for i in range(9)
    ]
    ledger, learning = Ledger(), learner(adapter())
    ledger.carry_out(feed(learning, values[:4]))
    ledger.checkpoint(learning)
    ledger.carry_out(feed(learning, values[4:], start=4))
    assert ledger.log.epochs[ENCODER, "a"].current.number == 2
    after = Learning.restored(ledger.log, lambda *_: adapter(), max_tenants=9)
    last = after.tenancies[ENCODER, "a"].last
    assert last is not None
    assert last.number == 1, "the second epoch is decided on again, against the first"


def test_a_state_that_cannot_be_read_begins_anew_but_uses_no_number_twice_and_stays_frozen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(3)
    values = [
        record(*(made.observed_text(x, 8 * i + j) for j, x in enumerate(made.texts(rng, 8))))
        for i in range(8)
    ]
    ledger, learning = Ledger(), learner(adapter())
    ledger.carry_out(feed(learning, values))
    ledger.checkpoint(learning)
    (stored,) = ledger.log.states.values()
    ledger.log.parts.pop(stored.sections["bank"][0])
    serving = ledger.log.epochs[ENCODER, "a"]
    ledger.log.epochs[ENCODER, "a"] = msgspec.structs.replace(serving, is_frozen=True)
    after = Learning.restored(ledger.log, lambda *_: adapter(), max_tenants=9)
    assert "starts empty" in caplog.text
    tenancy = after.tenancies[ENCODER, "a"]
    assert (len(tenancy.state.means), tenancy.state.number, tenancy.position) == (0, 2, 8)
    assert tenancy.state.is_frozen
    assert tenancy.is_dirty
    feed(after, values, start=0)
    assert tenancy.state.n_seen == 0, "its texts were learned from once"
    decisions = feed(after, [control("thaw"), control("publish")], start=8)
    assert [decision.epoch.number for decision in decisions if isinstance(decision, Opened)] == [3]


def test_the_last_finding_about_drift_survives_a_restart() -> None:
    ledger, learning = Ledger(), learner(adapter())
    feed(learning, busy_log(1, tenants=("a",)))
    ledger.checkpoint(learning)
    after = Learning.restored(ledger.log, lambda *_: adapter(), max_tenants=9)
    tenant_key = ENCODER, "a"
    assert learning.tenancies[tenant_key].state.last_finding is not None
    assert after.tenancies[tenant_key].state.last_finding == learning.tenancies[tenant_key].state.last_finding
    assert summary_of(after.tenancies[tenant_key]) == summary_of(learning.tenancies[tenant_key])


@given(seed=seeds, hostile_seed=seeds, data=st.data())
@cheap
def test_no_tenant_sees_what_another_does(seed: int, hostile_seed: int, data: st.DataObject) -> None:
    own = [value for value in busy_log(seed, tenants=("a",)) if b'"control"' not in value]
    hostile = []
    for value in busy_log(hostile_seed, tenants=("b",)):
        decoded = json.loads(value)
        for kind in ("texts", "pairs", "examples"):
            for item in decoded.get(kind, ()):
                item["origin"]["topic"] += ".other"
        if "control" in decoded:
            decoded["control"]["tenant"] = "b"
        hostile.append(json.dumps(decoded).encode())
    order = data.draw(st.permutations([True] * len(own) + [False] * len(hostile)))
    sides = {True: iter(own), False: iter(hostile)}
    alone, mixed = learner(adapter()), learner(adapter())
    expected = opened(feed(alone, own))
    found = feed(mixed, [next(sides[is_own]) for is_own in order])
    assert [
        decision.epoch.blob
        for decision in found
        if isinstance(decision, Opened) and decision.epoch.tenant == "a"
    ] == expected
    own_state, mixed_state = states(alone)[ENCODER, "a"], states(mixed)[ENCODER, "a"]
    assert {name: blob for name, blob in mixed_state.items() if name != "standing"} == {
        name: blob for name, blob in own_state.items() if name != "standing"
    }


def test_of_too_many_tenants_those_seen_longest_ago_keep_means_pairs_and_examples_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learnings, "MAX_ACTIVE", 2)
    rng = np.random.default_rng(0)
    learning = learner(adapter())
    x, y = made.texts(rng, 2)
    feed(
        learning, [record(made.observed_pair(x, y, 0), made.observed_example(x, 0), made.observed_text(x, 0))]
    )
    means = learning.tenancies[ENCODER, "a"].state.means.means.tobytes()
    for offset, tenant in enumerate("bcbc", 1):
        feed(learning, [record(made.observed_text(x, offset, tenant=tenant))], start=offset)
    states_ = {tenant: learning.tenancies[ENCODER, tenant].state for tenant in "abc"}
    assert [len(state.bank) for state in states_.values()] == [0, 2, 2]
    rested = states_["a"]
    assert (rested.means.means.tobytes(), len(rested.pairs), len(rested.examples)) == (means, 1, 1)
    assert (len(rested.recent), rested.key_quota.n_known) == (0, 0)
    feed(learning, [record(made.observed_text(y, 9))], start=9)
    assert [len(state.bank) for state in states_.values()] == [1, 0, 2], "a wakes up, and b was seen before c"


def test_who_rests_after_a_restart_is_who_would_have_rested_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learnings, "MAX_ACTIVE", 3)
    rng = np.random.default_rng(0)
    for _ in range(40):
        names = [str(name) for name in rng.choice(list("abcdef"), size=24)]
        values = [
            record(made.observed_text(x, offset, tenant=name))
            for offset, (name, x) in enumerate(zip(names, made.texts(rng, len(names)), strict=True))
        ]
        whole, before, ledger = learner(adapter()), learner(adapter()), Ledger()
        feed(whole, values)
        for start in (0, 10):
            feed(before, values[start : start + 10], start=start)
            ledger.checkpoint(before)
        after = Learning.restored(ledger.log, lambda *_: adapter(), max_tenants=9)
        assert after.dirty() == [], "a restart by itself writes nothing"
        feed(after, values[20:], start=20)
        assert states(after) == states(whole)


def test_two_encoders_in_one_topic_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    small, large = made.texts(rng, 4), made.texts(rng, 4, dim=24)
    learning = learner()
    for offset, (x, z) in enumerate(zip(small, large, strict=True)):
        feed(learning, [record(made.observed_text(x, 2 * offset))], start=2 * offset)
        value = record(made.observed_text(z, 2 * offset + 1), encoder="f" * 64, dim=24)
        feed(learning, [value], start=2 * offset + 1)
    one, other = learning.tenancies[ENCODER, "a"].state, learning.tenancies["f" * 64, "a"].state
    assert (one.dim, other.dim) == (DIM, 24)
    halves = np.stack([observations.text_of(made.observed_text(x, 0), DIM).vector for x in small])
    np.testing.assert_allclose(one.means.means[0], halves.mean(axis=0), atol=1e-6)
    assert (one.n_seen, other.n_seen) == (4, 4)


@pytest.mark.parametrize(
    ("change", "n_items"),
    [
        ({"vector": made.damaged_vector()}, 1),
        ({"vector": "not base64!"}, 1),
        ({"vector": ""}, 1),
        ({"vector": "AAAA"}, 1),
        ({"vector": "\u00e9"}, 1),
        ({"vector": "A" * 44}, 1),
        ({"vector": None}, 0),
        ({"origin": {"topic": "t", "partition": 0}}, 0),
        ({"origin": {"topic": "t", "partition": -1, "offset": 5}}, 0),
        ({"tenant": "../etc"}, 0),
        ({"language": "x"}, 0),
        ({"key": "f" * 5000}, 0),
        ({"key": "-1"}, 0),
        ({"key": "0x00000000000000"}, 0),
    ],
)
def test_a_damaged_item_teaches_nothing_is_counted_and_takes_nobodys_place(
    change: dict[str, Any], n_items: int
) -> None:
    rng = np.random.default_rng(0)
    (x, y) = made.texts(rng, 2)
    value = json.loads(record(made.observed_text(x, 3)))
    value["texts"][0] |= change
    learning = learner(max_tenants=1)
    assert feed(learning, [json.dumps(value).encode()]) == []
    assert (learning.n_unreadable, learning.n_learned, learning.position) == (1, 0, 1)
    assert not learning.tenancies
    assert len(learning.marks) == n_items
    feed(learning, [record(made.observed_text(y, 4, tenant="other"))], start=1)
    assert learning.n_learned == 1, "the only place was left"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b'{"texts":1}',
        b'{"control":{"id":"a","action":"explode"}}',
        b"[" * 5000,
    ],
)
def test_a_record_that_is_none_teaches_nothing_and_is_counted(value: bytes | None) -> None:
    learning = learner()
    assert feed(learning, [value]) == []
    assert (learning.n_unreadable, learning.position, len(learning.tenancies)) == (1, 1, 0)


names = st.sampled_from(["encoder", "dim", "texts", "pairs", "control", "source", "vector"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(value=st.binary(max_size=200) | json_values.map(lambda found: json.dumps(found).encode()))
@settings(deadline=None, max_examples=150)
def test_whatever_stands_in_the_topic_raises_nothing(value: bytes) -> None:
    learning = learner(adapter())
    feed(learning, [value])
    assert learning.n_learned == 0
    assert learning.position == 1


def test_unknown_fields_are_ignored() -> None:
    (x,) = made.texts(np.random.default_rng(0), 1)
    value = json.loads(record(made.observed_text(x, 0)))
    value["new"], value["texts"][0]["newer"] = {"a": [1]}, None
    learning = learner()
    feed(learning, [json.dumps(value).encode()])
    assert (learning.n_learned, learning.n_unreadable) == (1, 0)


def test_a_size_that_no_vector_has_costs_no_memory() -> None:
    (x,) = made.texts(np.random.default_rng(0), 1)
    learning = learner()
    tracemalloc.start()
    feed(learning, [record(made.observed_text(x, 0), dim=10**9)])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (learning.n_unreadable, len(learning.tenancies)) == (1, 0)
    assert most < 10_000_000


def test_another_size_under_the_same_encoder_is_ignored_without_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnings, "MAX_ACTIVE", 1)
    rng = np.random.default_rng(0)
    (x,), (z,) = made.texts(rng, 1), made.texts(rng, 1, dim=24)
    learning = learner()
    feed(learning, [record(made.observed_text(x, 0)), record(made.observed_text(x, 1, tenant="b"))])
    before = states(learning)
    feed(learning, [record(made.observed_text(z, 2), dim=24)], start=2)
    assert states(learning) == before
    assert (learning.n_unreadable, learning.n_crowded_out) == (1, 0)


def test_an_adapter_of_another_size_judges_nothing_and_nothing_is_published() -> None:
    rng = np.random.default_rng(0)
    items = [made.observed_text(x, i) for i, x in enumerate(made.texts(rng, 40, dim=24))]
    (decision,) = feed(learner(adapter()), [record(*items, dim=24)])
    assert isinstance(decision, Withheld)
    assert "24" in decision.reason
    assert "16" in decision.reason


def test_a_refused_epoch_leaves_the_last_one_and_a_good_one_ends_the_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    learning = learner(adapter())
    answers = iter([None, "because", None])
    monkeypatch.setattr(learnings, "judge_epoch", lambda *_: next(answers))
    for i, x in enumerate(made.texts(rng, 32)):
        feed(learning, [record(made.observed_text(x, i))], start=i)
    tenancy = learning.tenancies[ENCODER, "a"]
    first = tenancy.last
    (refused,) = feed(learning, [control("publish")], start=40)
    assert isinstance(refused, Withheld)
    assert (refused.number, refused.reason, refused.tenant_key) == (2, "because", (ENCODER, "a"))
    assert tenancy.last is first
    assert tenancy.refusal is not None
    assert summary_of(tenancy).refusal == epoch_log.Refusal(2, "because")
    (published,) = feed(learning, [control("publish")], start=41)
    assert isinstance(published, Opened)
    assert published.epoch.number == 3, "no number is used twice"
    assert tenancy.refusal is None


def test_an_epoch_that_nobody_could_fetch_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnings, "MAX_EPOCH_BYTES", 100)
    (x,) = made.texts(np.random.default_rng(0), 1)
    (decision,) = feed(learner(), [record(made.observed_text(x, 0)), control("publish")])
    assert isinstance(decision, Withheld)
    assert "the limit is 100" in decision.reason


def test_tenants_beyond_the_limit_teach_nothing_and_each_encoder_has_its_own_limit() -> None:
    rng = np.random.default_rng(0)
    (x,) = made.texts(rng, 1)
    learning = learner(max_tenants=2)
    for offset, tenant in enumerate("abca"):
        feed(learning, [record(made.observed_text(x, offset, tenant=tenant))], start=offset)
    assert (learning.n_crowded_out, learning.n_learned) == (1, 3)
    feed(learning, [record(made.observed_text(x, 9, tenant="c"), encoder="f" * 64)], start=9)
    assert learning.n_learned == 4, "after a change of the encoder, states of the old one crowd nobody out"


def test_a_tick_touches_only_who_waits() -> None:
    rng = np.random.default_rng(0)
    x, y = made.texts(rng, 2)
    learning, ledger = learner(), Ledger()
    feed(learning, [record(made.observed_text(x, 0)), record(made.observed_text(x, 1, tenant="b"))])
    for offset, name in enumerate("pqrst"):  # of five, one is no quarter any more
        value = record(made.observed_pair(x, y, offset, tenant="b", name=name))
        feed(learning, [value], start=2 + offset)
    ledger.checkpoint(learning)
    assert learning.is_waiting(is_live=False)
    decisions = feed(learning, [control("tick")], start=8)
    assert [decision.epoch.reason for decision in decisions if isinstance(decision, Opened)] == ["feedback"]
    assert [tenant_key for tenant_key, _ in learning.dirty()] == [(ENCODER, "b")]
    assert not learning.is_waiting(is_live=False)
    assert learning.is_waiting(is_live=True)
    decisions = feed(learning, [control("tick", is_live=True)], start=9)
    assert [decision.epoch.tenant for decision in decisions if isinstance(decision, Opened)] == ["a"]
    assert feed(learning, [control("tick", is_live=True)], start=10) == []
    feed(learning, [record(made.observed_text(y, 2))], start=11)
    assert feed(learning, [control("tick")], start=12) == [], "for texts alone it must be live"


def test_a_frozen_tenant_learns_on_and_publishes_nothing_until_it_is_thawed() -> None:
    rng = np.random.default_rng(0)
    learning = learner()
    (x,) = made.texts(rng, 1)
    first = feed(learning, [record(made.observed_text(x, 0)), control("freeze", tenant="a")])
    assert first == [FreezeChange((ENCODER, "a"), (1_001_000, 2), is_frozen=True)]
    items = [made.observed_text(x, i + 1) for i, x in enumerate(made.texts(rng, 40))]
    assert feed(learning, [record(*items), control("publish")], start=2) == []
    assert learning.tenancies[ENCODER, "a"].state.n_texts == 41
    thawed, published = feed(learning, [control("thaw", tenant="a")], start=4)
    assert thawed == FreezeChange((ENCODER, "a"), (1_004_000, 5), is_frozen=False)
    assert isinstance(published, Opened)


def test_a_person_goes_back_and_later_canaries_are_compared_with_the_adapter_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    monkeypatch.setattr(learnings, "judge_epoch", lambda _candidate, last, _adapter: compared.append(last))
    (x,) = made.texts(np.random.default_rng(0), 1)
    learning = learner(adapter())
    values = [record(made.observed_text(x, 0)), control("publish"), control("rollback", tenant="a", epoch=7)]
    decisions = feed(learning, [*values, control("thaw"), control("publish")])
    assert decisions[1] == FreezeChange((ENCODER, "a"), (1_002_000, 3), is_frozen=True, number=7)
    assert compared == [None, None]


def test_a_control_for_one_tenant_or_encoder_reaches_no_other() -> None:
    (x,) = made.texts(np.random.default_rng(0), 1)
    learning = learner()
    for offset, (tenant, encoder) in enumerate([("a", ENCODER), ("b", ENCODER), ("a", "f" * 64)]):
        feed(learning, [record(made.observed_text(x, offset, tenant=tenant), encoder=encoder)], start=offset)
    tenant_keys = [(ENCODER, "a"), (ENCODER, "b"), ("f" * 64, "a")]
    for fields, expected in (
        ({"tenant": "b"}, tenant_keys[1:2]), ({"encoder": "f" * 64}, tenant_keys[2:]),
        ({"encoder": ENCODER, "tenant": "a"}, tenant_keys[:1]), ({}, tenant_keys), ({"tenant": "nobody"}, []),
    ):  # fmt: skip
        decisions = feed(learning, [control("publish", **fields)], start=learning.position)
        assert [(d.epoch.encoder, d.epoch.tenant) for d in decisions if isinstance(d, Opened)] == expected


def test_a_topic_that_was_made_anew_is_read_from_its_first_record() -> None:
    rng = np.random.default_rng(0)
    learning = learner()
    feed(learning, [record(made.observed_text(x, i)) for i, x in enumerate(made.texts(rng, 5))])
    later = learning.timestamp + learnings.ANEW_MS + 1
    learning.take(0, later, record(made.observed_text(made.texts(rng, 1)[0], 5)))
    assert (learning.n_learned, learning.position) == (6, 1)
    learning.take(0, later, record(made.observed_text(made.texts(rng, 1)[0], 6)))
    assert learning.n_learned == 6, "the same place again is a replay"


def test_without_prototypes_untagged_texts_are_learned_too() -> None:
    learning = learner(identity(ENCODER, DIM))
    items = [
        made.observed_text(x, i, language=None)
        for i, x in enumerate(made.texts(np.random.default_rng(0), 32))
    ]
    (decision,) = feed(learning, [record(*items)])
    assert isinstance(decision, Opened)
    assert decision.epoch.languages == (MeanKey(),)
    assert decision.epoch.tenant_map is None


@pytest.mark.parametrize("n_languages", [1, 50])
def test_ten_thousand_means_stay_small(n_languages: int) -> None:
    dim, n_means = 384, 2000
    rng = np.random.default_rng(0)
    x = made.unit(rng.standard_normal(dim))
    tags = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"][:n_languages]
    for tag in tags:
        observations.key_of(tag)  # what is known of languages is loaded once
    tracemalloc.start()
    learning = learner()
    for offset in range(n_means // n_languages):
        items = [
            made.observed_text(x, offset * n_languages + row, tenant=f"t{offset}", language=tag)
            for row, tag in enumerate(tags)
        ]
        feed(learning, [record(*items, dim=dim)], start=offset)
    found = sum(len(tenancy.state.means) for tenancy in learning.tenancies.values())
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert found == n_means
    assert held * 10_000 / n_means < MAX_MEANS_BYTES
