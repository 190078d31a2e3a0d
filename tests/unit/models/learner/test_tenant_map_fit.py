"""Maps from a tenant's pairs, and the canaries that every epoch passes: what helps is let in, what harms is not."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import made_streams as made
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_streams import DIM, ENCODER, adapter, text, texts
from recursive_ridge import RecursiveRidge

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.checks.gate import judge_few, margins
from alignstream.models.checks.neighbours import neighbours_kept
from alignstream.models.fit.closed_form import PairSums, ridge
from alignstream.models.learner import regression_check
from alignstream.models.learner import tenant_map_fit as tenant_maps
from alignstream.models.learner.observed import Pair, Side
from alignstream.models.learner.regression_check import judge_epoch
from alignstream.models.learner.tenant_map_fit import PRIOR_WEIGHT, describe, fit, fit_tenant_map
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.serving.epoch import Epoch, MeanKey, Memory, TaggedVectors
from alignstream.models.serving.query_adaptation import QueryAdaptation

untimed = settings(deadline=None, max_examples=15)
seeds = st.integers(0, 2**32 - 1)
#: What solving at once and updating pair by pair may differ by.
MAX_ERROR = 1e-6
NO_BANK = TaggedVectors(np.zeros((0, DIM), dtype=np.float16), ())
Q = np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0]


def distorted(X: Any, much: float = 0.5) -> Any:
    """Return where an encoder with a systematic error puts texts: turned partly into another direction."""
    wide = np.asarray(X, dtype=np.float64)
    return made.unit((1 - much) * wide + much * wide @ Q)


def pairs(
    seed: int, n: int, *, tag: str = "de-Latn", name: str = "p", much: float = 0.5, noise: float = 0.02
) -> list[Pair]:
    """Return pairs whose sources lie where a systematic error puts their targets' meaning."""
    rng = np.random.default_rng(seed)
    centre_of = (
        made.centres()[made.LANGUAGES.index(tag)] if tag in made.LANGUAGES else made.centres().mean(axis=0)
    )
    meaning = made.unit(rng.standard_normal((n, DIM)))
    Y = made.unit(made.centres()[1] + meaning)
    X = made.unit(centre_of + distorted(meaning, much) + noise * rng.standard_normal((n, DIM)))
    return [
        Pair(f"{name}{row:03}", Side(x, tag, "a"), Side(y, "en-Latn", "b"))
        for row, (x, y) in enumerate(zip(X, Y, strict=True))
    ]


def taken(items: Sequence[Pair]) -> Memory:
    """Return the memory of an epoch after a state took pairs."""
    state = TenantState(DIM)
    for item in items:
        state.learn_pair(item)
    return state.epoch(encoder=ENCODER, tenant="a", reason="manual").memory


def aligned(items: Sequence[Pair], known: Adapter) -> tuple[Matrix, Matrix]:
    sides = [[known.transform_one(side.vector.astype(np.float16).astype(np.float32), Context(language=side.language))
              for side in (item.source, item.target)] for item in items]  # fmt: skip
    return np.stack([one for one, _ in sides]), np.stack([other for _, other in sides])


# -- maps ---------------------------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(3, 60))
@untimed
def test_a_map_is_what_recursive_least_squares_give_after_the_last_pair_in_any_order(
    seed: int, n: int
) -> None:
    items = pairs(seed, n)
    X, Y = aligned(items, adapter())
    batch = fit(X, Y)
    recursive = RecursiveRidge(np.eye(DIM), weight=PRIOR_WEIGHT)
    for row in np.random.default_rng(seed).permutation(n):
        recursive.update(X[row].astype(np.float64), Y[row].astype(np.float64))
    np.testing.assert_allclose(recursive.matrix, batch, atol=MAX_ERROR)
    sums = PairSums.of(X, Y)
    np.testing.assert_allclose(batch, ridge(sums, strength=PRIOR_WEIGHT * DIM / sums.yy), atol=MAX_ERROR)


@given(seed=seeds, n=st.integers(8, 40), data=st.data())
@untimed
def test_the_order_of_pairs_and_pairs_that_were_forgotten_and_came_again_change_no_bit(
    seed: int, n: int, data: st.DataObject
) -> None:
    items = pairs(seed, n)
    bank = TaggedVectors(
        np.stack(texts(np.random.default_rng(seed), 30, language=1)).astype(np.float16), ("en-Latn",) * 30
    )
    expected, judged = fit_tenant_map(taken(items), bank, adapter())
    state = TenantState(DIM)
    for item in data.draw(st.permutations(items)):
        state.learn_pair(item)
    for item in data.draw(st.lists(st.sampled_from(items), max_size=5, unique_by=lambda item: item.id)):
        state.learn_pair(dataclasses.replace(item, source=items[0].target))
        assert state.delete_pair(item.id)
        state.learn_pair(item)
    found, again = fit_tenant_map(
        state.epoch(encoder=ENCODER, tenant="a", reason="manual").memory, bank, adapter()
    )
    assert judged == again
    assert (found is None) == (expected is None) == (not judged[0].verdict.is_accepted)
    assume(expected is not None)  # a few pairs may be refused; that most are not is hypothesis' to check
    assert expected is not None
    assert found is not None
    assert found.version == expected.version
    X, Y = aligned(sorted(items, key=lambda item: item.id), adapter())
    correction = found.maps.left[0].astype(np.float64) @ found.maps.right[0].astype(np.float64)
    np.testing.assert_allclose(correction + np.eye(DIM), fit(X, Y), atol=1e-5)


def test_a_map_brings_held_out_translations_nearer() -> None:
    found, (judged,) = fit_tenant_map(taken(pairs(0, 60)), NO_BANK, adapter())
    assert found is not None
    assert (judged.language, judged.n_pairs, judged.verdict.is_accepted) == ("de-Latn", 60, True)
    assert "de-Latn: accepted, retrieval of 60 held-out pairs" in describe(judged)
    X, Y = aligned(pairs(99, 50), adapter())
    W = np.eye(DIM) + found.maps.left[0].astype(np.float64) @ found.maps.right[0].astype(np.float64)
    before, after = np.einsum("ij,ij->i", X, Y).mean(), np.einsum("ij,ij->i", made.unit(X @ W), Y).mean()
    assert after > before + 0.05
    assert found.adapter_version == adapter().version


@pytest.mark.parametrize(
    ("n", "is_judged"), [(0, False), (tenant_maps.MIN_PAIRS - 1, False), (tenant_maps.MIN_PAIRS, True)]
)
def test_too_few_pairs_fit_nothing(n: int, *, is_judged: bool) -> None:
    found, judged = fit_tenant_map(taken(pairs(0, n)), NO_BANK, adapter())
    assert (len(judged) == 1) == is_judged
    assert is_judged or found is None


@pytest.mark.parametrize("seed", range(8))
def test_shuffled_pairs_are_refused(seed: int) -> None:
    items = pairs(seed, 40)
    order = np.random.default_rng(seed).permutation(40)
    shuffled = [
        dataclasses.replace(item, target=items[row].target) for item, row in zip(items, order, strict=True)
    ]
    found, (judged,) = fit_tenant_map(taken(shuffled), NO_BANK, adapter())
    assert found is None
    assert "not translations" in judged.verdict.reason
    assert "refused" in describe(judged)


@pytest.mark.parametrize("n", [10, 40])
def test_a_map_that_makes_margins_smaller_and_loses_nothing_passes(n: int) -> None:
    # As an encoder has them: all texts lie near each other, and a translation is off by chance.
    rng = np.random.default_rng(0)
    meaning = made.unit(rng.standard_normal((n, DIM)))
    off = 0.7 * made.unit(rng.standard_normal((n, DIM)))
    Y = made.unit(2.0 * made.centres()[1] + meaning)
    X = made.unit(2.0 * made.centres()[1] + meaning + off)
    items = [
        Pair(f"{row:03}", Side(x, "de-Latn"), Side(y, "en-Latn"))
        for row, (x, y) in enumerate(zip(X, Y, strict=True))
    ]
    known = Adapter(ENCODER, DIM, (Centre(np.zeros(DIM, dtype=np.float32)),))
    X, Y = aligned(items, known)
    held_out = tenant_maps._held_out(X, Y)
    margin_before, margin_after = (
        np.concatenate(
            [margins(Z[row : row + 1], Y[row : row + 1], np.delete(Y, row, axis=0)) for row in range(n)]
        )
        for Z in (X, held_out)
    )
    assert not judge_few(margin_before, margin_after).is_accepted
    found, (judged,) = fit_tenant_map(taken(items), NO_BANK, known)
    assert found is not None
    assert judged.verdict.change == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_a_few_shuffled_pairs_are_refused_or_do_no_harm(seed: int) -> None:
    items = pairs(seed, 6)
    shuffled = [dataclasses.replace(item, target=items[row - 1].target) for row, item in enumerate(items)]
    found, _ = fit_tenant_map(taken(shuffled), NO_BANK, adapter())
    if found is None:
        return
    X, Y = aligned(pairs(77, 60), adapter())
    W = np.eye(DIM) + found.maps.left[0].astype(np.float64) @ found.maps.right[0].astype(np.float64)
    before = ((X @ Y.T).argmax(axis=1) == np.arange(60)).mean()
    after = ((made.unit(X @ W) @ Y.T).argmax(axis=1) == np.arange(60)).mean()
    assert after >= before - 0.2


def test_a_fifth_of_wrong_pairs_among_good_ones_does_little() -> None:
    items = pairs(3, 60)
    mixed = [dataclasses.replace(item, target=items[row - 7].target) if row % 5 == 0 else item
             for row, item in enumerate(items)]  # fmt: skip
    X, Y = aligned(pairs(50, 60), adapter())
    scores = []
    for chosen in (items, mixed):
        W = fit(*aligned(chosen, adapter()))
        scores.append(np.einsum("ij,ij->i", made.unit(X @ W), Y).mean())
    assert scores[1] > np.einsum("ij,ij->i", X, Y).mean()
    assert scores[1] > scores[0] - 0.1


def test_a_map_that_makes_held_out_pairs_significantly_worse_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    broken = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    monkeypatch.setattr(tenant_maps, "fit", lambda _X, _Y: broken)
    found, (judged,) = fit_tenant_map(taken(pairs(0, 40, much=0.0)), NO_BANK, adapter())
    assert found is None
    assert "significantly worse" in judged.verdict.reason


def test_many_pairs_are_judged_by_what_they_find(monkeypatch: pytest.MonkeyPatch) -> None:
    items = pairs(0, 220, much=0.6)
    found, (judged,) = fit_tenant_map(taken(items), NO_BANK, adapter())
    assert found is not None
    assert "of 220 held-out pairs" in judged.verdict.reason
    monkeypatch.setattr(tenant_maps, "fit", lambda _X, _Y: -np.eye(DIM))
    found, (judged,) = fit_tenant_map(taken(items), NO_BANK, adapter())
    assert found is None


def test_a_map_that_changes_which_texts_are_alike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        tenant_maps, "judge_found", lambda _before, _after: tenant_maps.Verdict(True, "", 0.0, 0.0, 0.0)
    )
    flat = np.zeros((DIM, DIM))
    flat[:, :2] = rng.standard_normal((DIM, 2))
    monkeypatch.setattr(tenant_maps, "fit", lambda _X, _Y: flat)
    own = np.stack(texts(rng, 40)).astype(np.float16)
    found, (judged,) = fit_tenant_map(taken(pairs(0, 30)), TaggedVectors(own, ("de-Latn",) * 40), adapter())
    assert found is None
    assert "neighbours within the language" in judged.verdict.reason


def test_where_the_source_is_english_the_other_side_moves() -> None:
    items = pairs(0, 30)
    turned = [Pair(item.id, item.target, item.source) for item in items]
    one, _ = fit_tenant_map(taken(items), NO_BANK, adapter())
    other, _ = fit_tenant_map(taken(turned), NO_BANK, adapter())
    assert one is not None
    assert other is not None
    assert one.version == other.version
    assert one.maps.languages == ("de-Latn",)


@pytest.mark.parametrize(
    ("source", "target"),
    [(None, "en-Latn"), ("en-Latn", "en-Latn"), ("de-Latn", "de-Latn"), ("en-Latn", None)],
)
def test_pairs_that_say_not_which_side_moves_fit_nothing(source: str | None, target: str | None) -> None:
    items = [
        dataclasses.replace(
            item,
            source=dataclasses.replace(item.source, language=source),
            target=dataclasses.replace(item.target, language=target),
        )
        for item in pairs(0, 20)
    ]
    assert fit_tenant_map(taken(items), NO_BANK, adapter()) == (None, [])


def test_each_language_has_its_own_map_and_one_that_is_refused_keeps_no_other_back() -> None:
    good, bad = pairs(0, 40), pairs(1, 40, tag="fr-Latn", name="q")
    shuffled = [dataclasses.replace(item, target=bad[row - 5].target) for row, item in enumerate(bad)]
    found, judged = fit_tenant_map(taken([*shuffled, *good]), NO_BANK, adapter())
    assert found is not None
    assert found.maps.languages == ("de-Latn",)
    assert [(item.language, item.verdict.is_accepted) for item in judged] == [
        ("de-Latn", True),
        ("fr-Latn", False),
    ]


def test_more_languages_than_an_epoch_holds_leave_those_with_most_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tenant_maps, "MAX_MAP_BYTES", 2 * 8 * DIM * DIM)
    items = [
        item
        for n, tag in ((9, "fr-Latn"), (12, "de-Latn"), (10, "ru-Cyrl"))
        for item in pairs(n, n, tag=tag, name=tag)
    ]
    _, judged = fit_tenant_map(taken(items), NO_BANK, adapter())
    assert [item.language for item in judged] == ["de-Latn", "ru-Cyrl"]


# -- neighbours ---------------------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(2, 50))
@untimed
def test_kept_neighbours_are_the_share_of_the_nearest_that_stay(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    before = made.unit(rng.standard_normal((n, 40)))
    after = made.unit(before + 0.1 * rng.standard_normal((n, 40)))
    k = min(10, n - 1)
    shares = []
    for row in range(n):
        nearest = []
        for X in (before, after):
            cosines = X @ X[row]
            cosines[row] = -np.inf
            nearest.append(set(np.argsort(-cosines)[:k].tolist()))
        shares.append(len(nearest[0] & nearest[1]) / k)
    # Cosines that hardly differ count as equal.
    assert -1e-9 <= neighbours_kept(before, after) - np.mean(shares) < 0.1
    assert neighbours_kept(before, before) == 1.0


def test_copies_of_one_text_are_each_others_neighbours_in_any_order() -> None:
    rng = np.random.default_rng(0)
    X = np.repeat(made.unit(rng.standard_normal((3, 40))), 50, axis=0)
    X = made.unit(X + 0.0001 * rng.standard_normal(X.shape))
    moved = made.unit(X + 0.0001 * rng.standard_normal(X.shape))
    assert neighbours_kept(X, moved) == 1.0
    assert neighbours_kept(X, rng.permutation(moved)) < 0.6, "and another text is none"


# -- canaries -----------------------------------------------------------------------------------------------


def epoch_of(seed: int, *, n: int = 200, memory: Sequence[Pair] = (), shift: Any = 0.0) -> Epoch:
    rng = np.random.default_rng(seed)
    state = TenantState(DIM)
    for position, x in enumerate(texts(rng, n, shift=shift, spread=1.0)):
        state.learn_text(text(x, key=position))
    for item in memory:
        state.learn_pair(item)
    return state.epoch(encoder=ENCODER, tenant="a", reason="manual")


def scrambled(item: Epoch) -> Epoch:
    """Return an epoch with absurd means: as long as may be, in the direction that tells texts apart."""
    vectors = item.bank.vectors.astype(np.float64)
    axis = np.linalg.svd(vectors - vectors.mean(axis=0))[2][0]
    means = np.stack([made.centres()[0] + 9 * axis, made.centres()[2] - 9 * axis])
    return dataclasses.replace(
        item,
        languages=(MeanKey("de-Latn"), MeanKey("fr-Latn")),
        means=means.astype(np.float32),
        weights=(1000.0, 10.0),
    )


def test_a_good_epoch_passes() -> None:
    shift = 0.15 * made.unit(np.ones(DIM))
    for by in (0.0, shift):
        assert judge_epoch(epoch_of(0, shift=by), None, adapter()) is None
        assert judge_epoch(epoch_of(0, shift=by), epoch_of(1), adapter()) is None
    assert judge_epoch(epoch_of(0, n=3), None, adapter()) is None, "too few texts say nothing"


def test_an_epoch_whose_queries_find_other_neighbours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    item = epoch_of(0)
    monkeypatch.setattr(
        QueryAdaptation, "query", lambda self, x, context: self.vector(made.unit(x @ Q), context)
    )
    for last in (None, epoch_of(1)):
        refusal = judge_epoch(item, last, adapter())
        assert refusal is not None
        assert "of the neighbours of 150 recent texts' stored vectors; 60% are needed" in refusal


def test_after_a_confirmed_change_the_texts_before_it_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved, before = epoch_of(0, shift=np.full(DIM, 0.2)), epoch_of(1)
    looked_at = []
    spread = regression_check._spread
    monkeypatch.setattr(
        regression_check, "_spread", lambda rows, n: looked_at.append(rows) or spread(rows, n)
    )
    for reason in ("doubling", "drift"):
        judge_epoch(dataclasses.replace(moved, reason=reason), before, adapter())
    assert looked_at[0] is before.bank
    assert looked_at[-1] is not before.bank
    assert looked_at[-1].vectors.tobytes() == moved.bank.vectors.tobytes()


def test_absurd_means_are_clipped_and_scramble_little_or_are_refused() -> None:
    item = scrambled(epoch_of(0))
    refusal = judge_epoch(item, None, adapter())
    following = QueryAdaptation(adapter(), item)
    vectors = item.bank.vectors.astype(np.float32)
    stored = np.stack([following.vector(x, Context(language="de")) for x in vectors])
    queries = np.stack([following.query(x, Context(language="de")) for x in vectors])
    assert (refusal is None) == (neighbours_kept(stored[:150], stored[:150], queries=queries[:150]) >= 0.6)


def test_a_stream_of_copies_passes() -> None:
    rng = np.random.default_rng(0)
    state = TenantState(DIM)
    originals = texts(rng, 4, spread=1.0)
    for position in range(200):
        state.learn_text(text(originals[position % 4], key=position))
    item = state.epoch(encoder=ENCODER, tenant="a", reason="manual")
    assert judge_epoch(item, None, adapter()) is None


def test_pairs_that_get_significantly_worse_refuse_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    items = pairs(0, 30, much=0.1)
    good = epoch_of(0, n=20, memory=items)
    assert judge_epoch(good, None, adapter()) is None
    bad = dataclasses.replace(good, number=9)
    plain = QueryAdaptation.query

    def query(self: QueryAdaptation, x: Any, context: Context) -> Any:
        return made.unit(plain(self, x, context) @ Q) if self.epoch is bad else plain(self, x, context)

    monkeypatch.setattr(QueryAdaptation, "query", query)
    for last in (None, good):
        refusal = judge_epoch(bad, last, adapter())
        assert refusal is not None
        assert "its pairs would find less: margins of 30 pairs" in refusal
    few = dataclasses.replace(bad, memory=taken(items[:7]))
    assert judge_epoch(few, None, adapter()) is None, "seven margins say nothing"
