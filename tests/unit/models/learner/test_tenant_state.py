"""What a tenant's stream teaches: means, a change that is noticed, and who may move anything."""

from collections.abc import Iterable
from typing import Any

import made_streams as made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_streams import DIM, text, texts

from alignstream.models.errors import AlignstreamError, PackedCorrupt
from alignstream.models.learner import tenant_state as tenants
from alignstream.models.learner.bank import MAX_TEXTS, Bank
from alignstream.models.learner.drift import MIN_HISTORY, WINDOW, DriftTest
from alignstream.models.learner.key_quota import MAX_OF_KEY, SAMPLE, KeyQuota
from alignstream.models.learner.key_quota import WINDOW as KEY_WINDOW
from alignstream.models.learner.means import KEPT_TEXTS, MAX_LANGUAGES, MIN_STEP, RunningMeans
from alignstream.models.learner.observed import Example, Pair, Side, Text
from alignstream.models.learner.state_bytes import SECTIONS, from_sections, to_sections
from alignstream.models.learner.tenant_state import FIRST_EPOCH_TEXTS, MAX_PAIRS, TenantState
from alignstream.models.packed import pack, unpack
from alignstream.models.serving.epoch import MeanKey

#: A stream of real size of a vector: windows of fewer numbers vary more.
WIDE = 64
#: Of windows without a change, how many may look like one; and how far a mean of a hundred texts may lie off.
MAX_FALSE = 0.01
NEAR = 0.12


def take(
    state: TenantState, X: Iterable[Any], *, key: int | None = 1, tag: str | None = "de-Latn",
    **fields: Any,
) -> None:  # fmt: skip
    for x in X:
        state.learn_text(text(x, tag, key, **fields))


def many_keys(state: TenantState, X: Iterable[Any], rng: np.random.Generator, n_keys: int = 60) -> None:
    for x in X:
        state.learn_text(text(x, key=int(rng.integers(0, n_keys))))


def away(seed: int = 9, size: float = 0.4, dim: int = DIM) -> Any:
    return size * made.unit(np.random.default_rng(seed).standard_normal(dim)).astype(np.float64)


# -- means and bank -----------------------------------------------------------------------------------------


@given(n=st.integers(1, 1200))
@settings(deadline=None, max_examples=15)
def test_a_mean_is_that_of_its_texts_and_forgets_only_after_a_thousand(n: int) -> None:
    X = made.unit(np.random.default_rng(n).standard_normal((n, 4)))
    means = RunningMeans(4)
    for x in X:
        assert means.add(MeanKey("de"), x)
    expected = np.zeros(4)
    for row, x in enumerate(X):
        expected += max(1 / (row + 1), MIN_STEP) * (x - expected)
    np.testing.assert_allclose(means.means[0], expected, atol=1e-12)
    if n <= 1000:
        np.testing.assert_allclose(means.means[0], X.astype(np.float64).mean(axis=0), atol=1e-12)
    assert means.weight(MeanKey("de")) == min(n, 1000)
    assert means.weight(MeanKey("fr")) == 0.0


def test_languages_keep_apart_up_to_a_limit_and_one_may_be_forgotten() -> None:
    means = RunningMeans(2)
    for number in range(MAX_LANGUAGES + 1):
        x = np.array([number, 1.0], dtype=np.float32)
        assert means.add(MeanKey(f"l{number}"), x) == (number < MAX_LANGUAGES)
    assert means.add(MeanKey("l0"), np.array([2.0, 1.0], dtype=np.float32))
    assert len(means) == MAX_LANGUAGES
    np.testing.assert_array_equal(means.means[:3, 0], [1.0, 1.0, 2.0])
    means.forget("l1")
    assert means.languages[:2] == (MeanKey("l0"), MeanKey("l2"))
    np.testing.assert_array_equal(means.means[:2, 0], [1.0, 2.0])
    assert means.add(MeanKey("new"), np.zeros(2, dtype=np.float32))
    assert (means.weight(MeanKey("new")), means.weight(MeanKey("l1")), list(means)[-1]) == (
        1.0,
        0.0,
        MeanKey("new"),
    )
    means.shift(np.array([0.5, 0.0]))
    assert means.means[1, 0] == 2.5
    means.soften()
    assert means.weights.max() <= KEPT_TEXTS
    means.forget()
    assert len(means) == 0


@pytest.mark.parametrize(
    ("means", "weights"),
    [(np.zeros((2, 3)), np.zeros(1)), (np.zeros((1, 2)), np.zeros(1)), (np.full((1, 3), np.nan), np.zeros(1)),
     (np.zeros((1, 3)), np.array([-1.0])), (np.zeros((1, 3)), np.array([np.inf]))],
)  # fmt: skip
def test_stored_means_that_cannot_be_are_refused(means: Any, weights: Any) -> None:
    with pytest.raises(AlignstreamError, match="stored means"):
        RunningMeans.restored(3, ("de",), means, weights)


def test_a_bank_is_shared_out_evenly_and_keeps_the_newest() -> None:
    bank = Bank()
    x = np.ones(2, dtype=np.float32)
    for number in range(MAX_TEXTS + 300):
        bank.add("de" if number < MAX_TEXTS else ("fr", "en")[number % 2], number * x)
    counts = {name: sum(name == language for language, _ in bank) for name in ("de", "fr", "en")}
    assert counts == {"de": MAX_TEXTS - 300, "fr": 150, "en": 150}
    assert len(bank) == sum(counts.values()) == MAX_TEXTS
    oldest = next(vector for language, vector in bank if language == "de")
    assert oldest[0] == 300, "the oldest went"
    bank.clear("de")
    assert (len(bank), {language for language, _ in bank}) == (300, {"fr", "en"})
    bank.clear("nobody")
    bank.clear()
    assert (len(bank), list(bank)) == (0, [])
    assert bank.stacked(2)[1].shape == (0, 2)


# -- a change of the stream ---------------------------------------------------------------------------------


def test_a_stream_without_a_change_looks_like_one_at_most_once_in_a_hundred_windows() -> None:
    n_above = n_windows = n_confirmed = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        state = TenantState(WIDE)
        seen: Any = None
        for x in texts(rng, 50 * WINDOW, dim=WIDE):
            state.learn_text(text(x, key=None))
            if state.due:
                state.note_epoch()
            if state.last_finding is not seen:
                seen = state.last_finding
                n_windows += 1
                n_above += seen.is_above
                n_confirmed += seen.is_confirmed
        assert state.n_drifts == 0
    assert n_windows > 500
    assert n_above <= MAX_FALSE * n_windows
    assert n_confirmed == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_shift_is_confirmed_within_four_windows_and_means_follow_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = TenantState(WIDE)
    shift = away(seed, 0.35, WIDE)

    def where() -> Any:
        return state.means.means[0]

    def expected(by: Any) -> Any:
        return np.mean(texts(np.random.default_rng(1), 4000, dim=WIDE, shift=by), axis=0)

    def run(n: int, by: Any) -> int:
        """Feed n texts; return after how many a change was confirmed, or 0."""
        before, found = state.n_drifts, 0
        for count, x in enumerate(texts(rng, n, dim=WIDE, shift=by), 1):
            state.learn_text(text(x, key=None))
            if not found and state.n_drifts > before:
                found = count
                assert state.due == "drift"
                assert len(state.bank) == 2 * WINDOW, "hubs are looked for among texts of the new place alone"
                assert state.means.weight(MeanKey("de-Latn")) <= KEPT_TEXTS + 2 * WINDOW
                assert (state.n_texts, state.next_at) == (2 * WINDOW, 4 * WINDOW)
            if state.due:
                reason = state.due
                assert state.epoch(encoder="e", tenant="a", reason=reason).reason == reason
                state.note_epoch()
                assert state.due is None
        assert state.n_drifts - before == (1 if found else 0), "one change is one change"
        return found

    assert run(700, 0.0) == 0
    assert 0 < run(600, shift) <= 4 * WINDOW
    assert np.linalg.norm(where() - expected(shift)) < NEAR
    assert 0 < run(600, 0.0) <= 4 * WINDOW
    assert np.linalg.norm(where() - expected(0.0)) < NEAR


def test_a_change_reaches_languages_that_were_not_among_its_texts() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(WIDE)
    for x, y in zip(texts(rng, 408, dim=WIDE), texts(rng, 408, dim=WIDE, language=1), strict=True):
        state.learn_text(text(x, key=None))
        state.learn_text(text(y, "en-Latn", None))
    shift = away(3, 0.4, WIDE)
    before = state.means.means[1].copy()
    take(state, texts(rng, 5 * WINDOW, dim=WIDE, shift=shift), key=None)
    assert state.n_drifts == 1
    moved = state.means.means[1] - before
    assert float(moved @ shift) / float(shift @ shift) > 0.4
    assert state.means.weight(MeanKey("en-Latn")) <= KEPT_TEXTS


@pytest.mark.parametrize("block", [16, 48])
def test_a_stream_whose_neighbours_resemble_each_other_is_no_change_after_change(block: int) -> None:
    rng = np.random.default_rng(1)
    state = TenantState(WIDE)
    for _ in range(4000 // block):
        (topic,) = texts(rng, 1, dim=WIDE, spread=0.5)
        X = made.unit(topic + 0.05 * rng.standard_normal((block, WIDE)) / 8)
        take(state, X, key=None)
        if state.due:
            state.note_epoch()
    assert state.n_drifts <= 2
    assert state.drift.dependence > 4, "such neighbours tell as much as one"


def test_neighbours_that_do_not_resemble_each_other_each_count() -> None:
    state = TenantState(WIDE)
    take(state, texts(np.random.default_rng(0), 1000, dim=WIDE), key=None)
    assert 1.0 <= state.drift.dependence < 1.5


def test_too_few_windows_confirm_nothing() -> None:
    drift = DriftTest()
    one = np.ones(8)
    findings = [drift.add(one) for _ in range(WINDOW * MIN_HISTORY)]
    assert sum(finding is not None for finding in findings) == MIN_HISTORY
    assert not any(finding.is_above for finding in findings if finding is not None)


def test_two_windows_that_point_apart_are_no_change() -> None:
    rng = np.random.default_rng(0)
    drift = DriftTest()
    for _ in range(10 * WINDOW):
        drift.add(rng.standard_normal(WIDE))
    far = 40 * np.eye(WIDE)
    ends = [drift.add(far[axis] + rng.standard_normal(WIDE)) for axis in (0, 1, 2, 2) for _ in range(WINDOW)]
    found = [finding for finding in ends if finding is not None]
    assert [finding.is_above for finding in found] == [True] * 4
    assert [finding.is_confirmed for finding in found] == [False, False, False, True]


# -- whose texts count --------------------------------------------------------------------------------------


def test_a_key_counts_so_often_in_a_window_and_no_more() -> None:
    quota = KeyQuota()
    admitted = [quota.admits(1) for _ in range(KEY_WINDOW)]
    assert sum(admitted) == MAX_OF_KEY
    assert all(admitted[:MAX_OF_KEY])
    assert quota.admits(1), "a new window"
    assert all(quota.admits(None) for _ in range(3 * KEY_WINDOW))


def test_what_a_key_sends_above_its_cap_moves_nothing_and_is_counted() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(DIM)
    hostile = made.unit(-np.ones(DIM))
    good = texts(rng, 56)
    for position in range(KEY_WINDOW):
        if position < 200:
            state.learn_text(text(hostile, key=7))
        else:
            state.learn_text(text(good[position - 200], key=100 + position))
    assert (state.n_seen, state.n_capped, state.n_texts) == (KEY_WINDOW, 200 - MAX_OF_KEY, MAX_OF_KEY + 56)
    share = MAX_OF_KEY / (MAX_OF_KEY + 56)
    expected = share * hostile + (1 - share) * np.mean(good, axis=0)
    np.testing.assert_allclose(state.means.means[0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["few", "null", "new"])
def test_a_change_that_comes_from_odd_keys_suspends_until_it_is_calm_or_a_person_thaws(kind: str) -> None:
    rng = np.random.default_rng(2)
    state = TenantState(WIDE)
    many_keys(state, texts(rng, 1000, dim=WIDE), rng)
    assert state.suspended is None
    hostile = texts(rng, 130, dim=WIDE, shift=away(1, 0.6, WIDE))
    n_bank = len(state.bank)
    for number, x in enumerate(hostile):
        state.learn_text(
            text(
                x,
                key={"few": number % 3, "null": None if number % 5 else number // 5, "new": 10_000 + number}[
                    kind
                ],
            )
        )
    assert state.suspended is not None
    assert {"few": "keys", "null": "no key", "new": "never seen before"}[kind] in state.suspended
    assert (state.n_drifts, state.due in {None, "doubling"}) == (0, True)
    held, n_texts = state.means.means.copy(), state.n_texts
    assert len(state.bank) >= n_bank, "what is known of the stream stays"
    many_keys(state, texts(rng, 20, dim=WIDE, shift=away(1, 0.6, WIDE)), rng)
    np.testing.assert_array_equal(state.means.means, held)
    assert state.n_texts == n_texts
    assert not state.epoch(encoder="e", tenant="a", reason="manual").is_steady
    again = from_sections(to_sections(state))
    many_keys(state, texts(rng, 4 * WINDOW, dim=WIDE), rng)
    assert state.suspended is None, "two calm windows"
    assert state.n_texts > n_texts
    again.thaw()
    many_keys(again, texts(rng, 1, dim=WIDE), rng)
    assert (again.suspended, again.n_texts) == (None, n_texts + 1)


def test_a_change_from_usual_keys_suspends_nothing() -> None:
    rng = np.random.default_rng(2)
    state = TenantState(WIDE)
    many_keys(state, texts(rng, 1000, dim=WIDE), rng)
    many_keys(state, texts(rng, 200, dim=WIDE, shift=away(1, 0.6, WIDE)), rng)
    assert (state.suspended, state.n_drifts) == (None, 1)


def test_a_stream_that_always_had_few_keys_may_change() -> None:
    rng = np.random.default_rng(2)
    state = TenantState(WIDE)
    X = [*texts(rng, 1000, dim=WIDE), *texts(rng, 200, dim=WIDE, shift=away(1, 0.6, WIDE))]
    for number, x in enumerate(X):
        state.learn_text(text(x, key=number % 5))
    assert (state.suspended, state.n_drifts) == (None, 1)


def test_nothing_is_odd_before_anything_is_usual_and_old_keys_are_forgotten() -> None:
    quota = KeyQuota()
    assert quota.anomaly([(None, False)] * SAMPLE) is None
    for key in range(10_000):
        assert quota.is_new(key)
    assert quota.n_known <= 2 * 2049
    assert not quota.is_new(9999)
    assert quota.is_new(0)
    assert not quota.is_new(None)


def test_a_text_whose_tag_is_not_believed_moves_nothing_and_is_counted() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(DIM)
    take(state, texts(rng, 20))
    before = to_sections(state)
    take(state, texts(rng, 5, language=3), contradicts_tag=True, nearest_language="ru-Cyrl")
    assert (state.doubtful["de-Latn"], state.n_seen, state.n_texts) == (5, 25, 20)
    after = to_sections(state)
    assert after["bank"] == before["bank"]
    assert state.means.weight(MeanKey("de-Latn")) == 20
    for number in range(2 * MAX_LANGUAGES):
        state.learn_text(Text(texts(rng, 1)[0], f"l{number}", contradicts_tag=True))
    assert len(state.doubtful) <= MAX_LANGUAGES + 1
    assert sum(state.doubtful.values()) == 5 + 2 * MAX_LANGUAGES


def test_texts_without_a_tag_teach_the_place_of_what_they_resemble() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(DIM)
    X = texts(rng, 10)
    take(state, X, tag=None, nearest_language="de-Latn")
    take(state, X, tag=None)
    assert state.means.languages == (MeanKey("de-Latn", is_inferred=True), MeanKey())
    np.testing.assert_allclose(state.means.means[0], np.mean(X, axis=0), atol=1e-6)
    assert {language for language, _ in state.bank} == {""}


# -- when an epoch is due -----------------------------------------------------------------------------------


def test_epochs_come_when_texts_have_doubled() -> None:
    state = TenantState(DIM)
    found = []
    for count, x in enumerate(texts(np.random.default_rng(0), 600), 1):
        state.learn_text(text(x, key=None))
        if state.due == "doubling":
            found.append(count)
            state.note_epoch()
    assert found == [FIRST_EPOCH_TEXTS * 2**power for power in range(5)]
    assert state.number == 5


def pair(name: str, seed: int = 0, dim: int = DIM) -> Pair:
    x, y = made.unit(np.random.default_rng(seed).standard_normal((2, dim)))
    return Pair(name, Side(x, "de-Latn", "a"), Side(y, "en-Latn", "b"))


def test_feedback_is_due_when_a_quarter_is_new_and_the_rest_when_time_passes() -> None:
    state = TenantState(DIM)
    found = []
    for number in range(20):
        state.learn_pair(pair(str(number)))
        if state.due == "feedback":
            found.append(number + 1)
            state.note_epoch()
    assert found == [1, 2, 3, 4, 6, 8, 11, 15, 20]
    state.learn_pair(pair("more"))
    assert (state.due, state.is_behind) == (None, True)
    state.tick(is_live=False)
    assert state.due == "feedback"
    state.note_epoch()
    assert (state.due, state.is_behind) == (None, False)
    assert not state.delete_pair("nobody")
    assert state.due is None
    assert state.delete_pair("more")
    assert state.due == "feedback"
    assert "more" not in state.pairs


def test_a_later_pair_of_the_same_id_takes_the_place_of_the_first_and_the_oldest_give_way() -> None:
    state = TenantState(DIM)
    for number in range(MAX_PAIRS + 1):
        state.learn_pair(pair(str(number)))
        if number == 1:
            state.learn_pair(pair("0", seed=5))
    assert len(state.pairs) == MAX_PAIRS
    assert list(state.pairs)[:2] == ["0", "2"], "0 came again behind 1, and 1 was the oldest"
    assert "1" not in state.pairs
    state.learn_pair(pair("5", seed=7))
    assert state.pairs["5"].source.vector.tobytes() == pair("5", seed=7).source.vector.tobytes()
    assert next(reversed(state.pairs)) == "5"


@pytest.mark.parametrize("dim", [384, 768, 1024])
def test_a_full_epoch_can_be_published_whatever_the_size_of_vectors(dim: int) -> None:
    rng = np.random.default_rng(0)
    state = TenantState(dim)
    x, y = made.unit(rng.standard_normal((2, dim)))
    for number in range(2000):
        state.learn_text(Text(x, f"l{number % MAX_LANGUAGES}", key=None))
        state.learn_pair(Pair(f"{number:0100}", Side(x, "de-Latn", "a" * 120), Side(y, "en-Latn", "b" * 120)))
        state.learn_example(Example(str(number), "topics", "sports", x, "de-Latn"))
    found = state.epoch(encoder="e" * 64, tenant="a", reason="manual")
    maps = 2_500_000
    assert len(found.blob) + maps < 8 * 1024 * 1024
    assert len(found.memory.ids) >= 390


def test_a_reset_forgets_what_texts_taught_and_keeps_feedback() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(DIM)
    take(state, texts(rng, 40), key=None)
    take(state, texts(rng, 40, language=1), tag="en-Latn", key=None)
    state.learn_pair(pair("p"))
    state.note_epoch()
    state.reset("de-Latn")
    assert (state.means.languages, len(state.bank), state.due) == ((MeanKey("en-Latn"),), 40, "reset")
    state.reset()
    assert (len(state.means), len(state.bank), state.n_texts, state.next_at) == (0, 0, 0, FIRST_EPOCH_TEXTS)
    assert list(state.pairs) == ["p"]
    state.note_epoch()
    take(state, texts(rng, FIRST_EPOCH_TEXTS), key=None)
    assert state.due == "doubling"
    assert state.number == 2, "numbers go on"


# -- as bytes -----------------------------------------------------------------------------------------------


def busy_state(seed: int, n: int) -> TenantState:
    rng = np.random.default_rng(seed)
    state = TenantState(DIM)
    many_keys(state, texts(rng, n, shift=away(seed) if n % 2 else 0.0), rng)
    many_keys(state, texts(rng, n // 2, shift=away(seed + 1)), rng)
    take(state, texts(rng, 3), contradicts_tag=True)
    for number in range(n % 5):
        state.learn_pair(pair(str(number), seed + number))
        (x,) = texts(rng, 1)
        state.learn_example(Example(str(number), "topics", "sports", x, None if number % 2 else "de-Latn"))
    if state.due:
        state.note_epoch()
    return state


@given(seed=st.integers(0, 2**16), n=st.integers(0, 400))
@settings(deadline=None, max_examples=20)
def test_a_state_survives_its_bytes_and_goes_on_as_it_would_have(seed: int, n: int) -> None:
    state = busy_state(seed, n)
    again = from_sections(to_sections(state))
    assert to_sections(again) == to_sections(state)
    assert again.last_finding == state.last_finding
    for one in (state, again):
        rng = np.random.default_rng(seed)
        many_keys(one, texts(rng, 150, shift=away(seed + 2)), rng)
        one.learn_pair(pair("new", 3))
        one.note_epoch()
    assert to_sections(again) == to_sections(state)
    blobs = [one.epoch(encoder="e", tenant="a", reason="manual").blob for one in (state, again)]
    assert blobs[0] == blobs[1]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_state_without_a_section_or_with_a_damaged_one_is_refused(name: str) -> None:
    sections = to_sections(busy_state(1, 101))
    with pytest.raises(PackedCorrupt, match=name):
        from_sections({key: blob for key, blob in sections.items() if key != name})
    with pytest.raises(PackedCorrupt, match=name):
        from_sections(sections | {name: sections[name][:-3]})


@pytest.mark.parametrize(
    ("section", "array"),
    [("core", "means"), ("core", "recent"), ("core", "drift.sum"), ("bank", "vectors"), ("pairs", "sources"),
     ("pairs", "targets"), ("examples", "vectors")],
)  # fmt: skip
def test_vectors_of_another_size_or_that_are_no_numbers_are_refused(section: str, array: str) -> None:
    sections = to_sections(busy_state(1, 104))
    values, arrays = unpack(sections[section], what="it", max_bytes=10**7)
    assert arrays[array].size
    for wrong in (arrays[array][..., :-1].copy(), np.full_like(arrays[array], np.nan)):
        with pytest.raises(PackedCorrupt):
            from_sections(sections | {section: pack(values, arrays | {array: wrong})})


@pytest.mark.parametrize(
    "change", [{"format": "alignstream.tenant-state/9"}, {"dim": float("inf")}, {"dim": None}, {"plain": {}},
               {"key_quota": {}}, {"recent": [["a"]]}, {"languages": []}, {"drift": {}}, {"finding": [1]}]
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    sections = to_sections(busy_state(1, 101))
    values, arrays = unpack(sections["core"], what="it", max_bytes=10**7)
    with pytest.raises(PackedCorrupt, match="state"):
        from_sections(sections | {"core": pack(values | change, arrays)})


def test_nothing_about_a_state_grows_without_bound() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(4)
    sizes = []
    for turn in range(4):
        for number, x in enumerate(made.unit(rng.standard_normal((4000, 4)))):
            key = 4000 * turn + number
            state.learn_text(
                Text(
                    x,
                    f"l{key % 1000}",
                    nearest_language=f"s{key % 999}",
                    key=key,
                    contradicts_tag=number % 9 == 0,
                )
            )
            state.learn_example(Example(str(key), "topics", "sports", x))
        sizes.append(sum(map(len, to_sections(state).values())))
    assert sizes[-1] < 1.1 * sizes[1]
    assert len(state.examples) == tenants.MAX_EXAMPLES
