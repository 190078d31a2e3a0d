"""Serving with an epoch: stored vectors stay where the adapter puts them, queries move by what is documented."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import made_streams as made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_streams import DIM, ENCODER, LANGUAGES, adapter, centres

from alignstream.models.adapter.adapter import Adapter, LanguageEvidence, identity, space
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Matrix, Vector32, Vector64
from alignstream.models.serving import query_adaptation as serving
from alignstream.models.serving.epoch import Epoch, LabelExamples, MeanKey, Memory, TaggedVectors
from alignstream.models.serving.hubness import BANK_TEXTS, MIN_BANK
from alignstream.models.serving.label_feedback import LABEL_TEXTS, MAX_LEAD, corrected_prototypes
from alignstream.models.serving.memory_attention import (
    MEMORY_SHARE,
    MEMORY_TEMPERATURE,
    NO_MATCH,
    MemoryAttention,
)
from alignstream.models.serving.query_adaptation import (
    MAX_SHIFT,
    MAX_SHIFT_TEXTS,
    PRIOR_TEXTS,
    SHIFT_SHARE,
    QueryAdaptation,
    QueryAdaptationCache,
)
from alignstream.models.serving.tenant_map import TenantMap

untimed = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)
NOTHING = TaggedVectors(np.zeros((0, DIM), dtype=np.float16), ())
#: float32 in, float32 out, float64 inside.
MAX_ERROR = 1e-6
#: How far a query may move for a pair that does not resemble it, and how far one must that does.
UNNOTICED = 0.02


def rows(X: Any, languages: Sequence[str]) -> TaggedVectors:
    return TaggedVectors(np.asarray(X, dtype=np.float16).reshape(len(languages), DIM), tuple(languages))


def mean_key(name: str) -> MeanKey:
    """Return a key as people write it: a leading ``~`` for texts without a tag."""
    return MeanKey(name.removeprefix("~"), is_inferred=name.startswith("~"))


def epoch(**fields: Any) -> Epoch:
    means = np.asarray(fields.pop("means", np.zeros((0, DIM))), dtype=np.float32)
    fields["languages"] = tuple(map(mean_key, fields.get("languages", ())))
    nothing: dict[str, Any] = {
        "encoder": ENCODER, "tenant": "a", "number": 1, "dim": DIM, "reason": "manual", "languages": (),
        "weights": (100.0,) * len(means), "dependence": 1.0, "n_keys": 9, "is_steady": True, "bank": NOTHING,
        "memory": Memory(NOTHING, NOTHING, (), ()), "examples": LabelExamples(NOTHING, (), ()),
    }  # fmt: skip
    return Epoch(**(nothing | {"means": means} | fields))


def tenant_map(version: str, *, language: str = "de-Latn") -> TenantMap:
    rng = np.random.default_rng(8)
    left = (0.3 * rng.standard_normal((1, DIM, 2))).astype(np.float32)
    right = rng.standard_normal((1, 2, DIM)).astype(np.float32)
    return TenantMap(LanguageMaps(left, right, (language,)), version)


def busy(seed: int, **fields: Any) -> Epoch:
    rng = np.random.default_rng(seed)
    texts = [x for language in range(4) for x in made.texts(rng, 12, language=language)]
    tags = [LANGUAGES[row // 12] for row in range(48)]
    others = made.texts(rng, 48, language=1)
    return epoch(
        means=centres() + 0.2 * made.unit(rng.standard_normal(DIM)), languages=LANGUAGES, weights=(50.0,) * 4,
        bank=rows(texts, tags),
        memory=Memory(rows(texts, tags), rows(others, ["en-Latn"] * 48), tuple(map(str, range(48))), (("", ""),) * 48),
        examples=LabelExamples(rows(texts, tags), ("topics",) * 48, ("sports",) * 48), **fields,
    )  # fmt: skip


def vector(seed: int, language: int = 0) -> Vector32:
    return made.texts(np.random.default_rng(seed), 1, language=language)[0]


# -- what is stored -----------------------------------------------------------------------------------------


@given(
    seed=seeds,
    language=st.sampled_from([None, "de", "en", "pt", "und"]),
    strength=st.none() | st.floats(0, 1),
)
@untimed
def test_stored_vectors_do_not_depend_on_what_the_stream_taught(
    seed: int, language: str | None, strength: float | None
) -> None:
    x, context = vector(seed), Context(language=language, strength=strength)
    following = QueryAdaptation(adapter(), busy(seed))
    assert following.vector(x, context).tobytes() == adapter().transform_one(x, context).tobytes()
    assert following.map_version is None


def test_a_tenants_map_moves_texts_of_its_language_and_no_others() -> None:
    x = vector(0)
    found = tenant_map(adapter().version)
    following = QueryAdaptation(adapter(), epoch(tenant_map=found))
    assert following.map_version == found.version
    y = adapter().transform_one(x, Context(language="de"))
    left, right = found.maps.left[0].astype(np.float64), found.maps.right[0].astype(np.float64)
    expected = made.unit(y + y.astype(np.float64) @ left @ right)
    np.testing.assert_allclose(following.vector(x, Context(language="de-AT")), expected, atol=MAX_ERROR)
    assert float(y @ expected) < 0.99, "the map of this test moves something"
    for context in (Context(language="fr"), Context()):
        assert following.vector(x, context).tobytes() == adapter().transform_one(x, context).tobytes()


@given(seed=seeds)
@untimed
def test_at_strength_0_a_vector_stays_as_encoded_whatever_the_tenant_has(seed: int) -> None:
    following = QueryAdaptation(adapter(), busy(seed, tenant_map=tenant_map(adapter().version)))
    x, context = vector(seed), Context(language="de", strength=0.0)
    assert following.vector(x, context).tobytes() == x.tobytes()
    assert following.query(x, context).tobytes() == x.tobytes()


def test_a_map_of_another_adapter_version_is_not_applied() -> None:
    x, context = vector(0), Context(language="de")
    following = QueryAdaptation(adapter(), epoch(tenant_map=tenant_map("0" * 12)))
    assert following.vector(x, context).tobytes() == adapter().transform_one(x, context).tobytes()
    assert following.map_version is None


def test_space_differs_with_the_version_of_a_map_and_is_as_before_without_one() -> None:
    plain = space(ENCODER, "v1")
    assert plain == space(ENCODER, "v1", Context(language="de"), None)
    assert len({plain, space(ENCODER, "v1", tenant_map="m1"), space(ENCODER, "v1", tenant_map="m2")}) == 3


# -- queries ------------------------------------------------------------------------------------------------


def documented(item: Epoch, known: Adapter, language: str) -> Vector64:
    """The correction as the documentation writes it, worked out apart from the code."""
    differences = {
        str(key): mean.astype(np.float64) - centres()[LANGUAGES.index(key.language)].astype(np.float64)
        for key, mean in zip(item.languages, item.means, strict=True)
    }
    assert known.steps
    n = {str(key): weight / item.dependence for key, weight in zip(item.languages, item.weights, strict=True)}
    counted = {name: min(value, MAX_SHIFT_TEXTS) for name, value in n.items()}
    total = sum((counted[name] * differences[name] for name in n), np.zeros(DIM))
    delta = total / (sum(counted.values()) + PRIOR_TEXTS)
    delta = delta * min(1.0, MAX_SHIFT / float(np.linalg.norm(delta)))
    common: Vector64 = SHIFT_SHARE * delta
    if language not in differences:
        return common
    own = n[language] / (n[language] + PRIOR_TEXTS) * (differences[language] - delta)
    return common + own * min(1.0, MAX_SHIFT / max(float(np.linalg.norm(own)), 1e-12))


@given(seed=seeds, size=st.floats(0.01, 2.0), dependence=st.floats(1.0, 8.0))
@untimed
def test_a_query_moves_by_exactly_the_documented_correction(
    seed: int, size: float, dependence: float
) -> None:
    rng = np.random.default_rng(seed)
    item = epoch(
        means=centres()[[0, 2, 0]] + size * made.unit(rng.standard_normal((3, DIM))),
        languages=("de-Latn", "fr-Latn", "~de-Latn"),
        weights=tuple(rng.uniform(1, 1000, 3)),
        dependence=dependence,
    )
    following = QueryAdaptation(adapter(), item)
    for tag, name in (("de-CH", "de-Latn"), ("fr", "fr-Latn"), ("ru", "ru-Cyrl"), ("xx", "xx-Latn")):
        x = vector(seed)
        correction = documented(item, adapter(), name)
        np.testing.assert_allclose(following.correction(tag), correction, atol=1e-6)
        expected = adapter().transform_one(x, Context(language=tag), correction)
        np.testing.assert_allclose(following.query(x, Context(language=tag)), expected, atol=1e-5)
        wide = x.astype(np.float64) - correction
        known = LANGUAGES.index(name) if name in LANGUAGES else None
        mean = centres().astype(np.float64).mean(axis=0) if known is None else centres()[known]
        np.testing.assert_allclose(expected, made.unit(wide - mean), atol=1e-5)


@pytest.mark.parametrize("language", range(4))
def test_a_text_without_a_tag_gets_the_correction_of_the_language_that_it_resembles(language: int) -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"~{name}" for name in LANGUAGES[:3])
    item = epoch(means=centres()[:3] + 0.3 * rng.standard_normal((3, DIM)), languages=names)
    following = QueryAdaptation(adapter(), item)
    x = made.unit(centres()[language])
    assert adapter().evidence(x).nearest_language == LANGUAGES[language]
    expected = documented(item, adapter(), f"~{LANGUAGES[language]}")
    np.testing.assert_allclose(following.correction(None, x), expected, atol=1e-6)
    assert not np.allclose(following.correction(None, x), following.common) or language == 3
    np.testing.assert_allclose(
        following.query(x), adapter().transform_one(x, Context(), expected), atol=MAX_ERROR
    )


@given(seed=seeds, size=st.floats(0, 100))
@untimed
def test_no_correction_is_longer_than_both_parts_may_be(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    item = epoch(
        means=centres() + size * made.unit(rng.standard_normal((4, DIM))),
        languages=LANGUAGES,
        weights=(1e3,) * 4,
    )
    following = QueryAdaptation(adapter(), item)
    assert np.linalg.norm(following.shift) <= MAX_SHIFT + 1e-9
    for name in (*LANGUAGES, None):
        assert np.linalg.norm(following.correction(name) - following.common) <= MAX_SHIFT + 1e-9


def test_an_epoch_without_anything_changes_nothing() -> None:
    following = QueryAdaptation(adapter(), epoch())
    x, context = vector(0), Context(language="de")
    assert following.query(x, context).tobytes() == following.vector(x, context).tobytes()
    assert following.prototypes("topics", ("a",), centres()[:1], None) is None
    assert following.hubness(x) is None


def centre_adapter() -> Adapter:
    return Adapter(ENCODER, DIM, (Centre(centres().mean(axis=0).astype(np.float32)),))


def attention_adapter() -> Adapter:
    step = PrototypeAttention(
        centres(),
        LANGUAGES,
        (9,) * 4,
        np.ones(4, dtype=np.float32),
        temperature=0.05,
        tag_evidence=3.0,
        common=0.5,
    )
    return Adapter(ENCODER, DIM, (step,))


@pytest.mark.parametrize(
    "known", [adapter(), centre_adapter(), attention_adapter()], ids=["hard", "centre", "soft"]
)
@pytest.mark.parametrize("tag", ["de", "en", "nb", "xx", "qaa", "und", "x-own", None])
def test_texts_of_which_nothing_is_known_stand_in_nobodys_way(known: Adapter, tag: str | None) -> None:
    item = epoch(means=centres()[:2] + 0.1, languages=("", "de-Latn"))
    following = QueryAdaptation(known, item)
    y = following.query(vector(0), Context(language=tag))
    assert np.linalg.norm(y) == pytest.approx(1.0, abs=1e-5)


def test_where_an_adapter_expects_a_language() -> None:
    found = adapter().expected_mean("de-AT", np.zeros(DIM))
    np.testing.assert_array_equal(found, centres()[0].astype(np.float64))
    for language in (None, "xx"):
        found = adapter().expected_mean(language, np.zeros(DIM))
        np.testing.assert_allclose(found, centres().astype(np.float64).mean(axis=0))
        near = attention_adapter().expected_mean(language, centres()[2].astype(np.float64))
        assert near is not None
        np.testing.assert_allclose(near, centres()[2], atol=0.05)
    found = centre_adapter().expected_mean("de", np.zeros(DIM))
    np.testing.assert_allclose(found, centres().mean(axis=0), atol=1e-7)
    assert identity(ENCODER, DIM).expected_mean("de", np.zeros(DIM)) is None


# -- hubness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "is_told"), [(MIN_BANK - 1, False), (MIN_BANK, True)])
def test_too_small_a_bank_says_nothing_about_hubs(n: int, *, is_told: bool) -> None:
    bank = rows(made.texts(np.random.default_rng(0), n), ["de-Latn"] * n)
    following = QueryAdaptation(adapter(), epoch(bank=bank))
    assert (following.hubness(vector(1), "fr-Latn") is not None) == is_told


def nearness(cosines: Matrix) -> float:
    """The mean of the 6th to the 15th nearest, as the documentation writes it."""
    return float(np.sort(cosines)[-15:-5].mean())


def test_hubness_is_how_much_nearer_than_usual_a_vector_is_to_queries_of_other_languages() -> None:
    rng = np.random.default_rng(0)
    X = [x for language in (0, 1) for x in made.texts(rng, 25, language=language)]
    tags = ["de-Latn"] * 25 + ["en-Latn"] * 25
    following = QueryAdaptation(adapter(), epoch(bank=rows(X, tags)))
    half = np.asarray(X, dtype=np.float16).astype(np.float32)
    Q = np.stack([following.query(x, Context(language=tag)) for x, tag in zip(half, tags, strict=True)])
    y = following.vector(vector(3), Context(language="de"))
    usual = np.mean([nearness((Q[25:] if row < 25 else Q[:25]) @ q) for row, q in enumerate(Q)])
    for language, chosen in (("de-Latn", Q[25:]), ("en-Latn", Q[:25]), ("fr-Latn", Q), (None, Q)):
        expected = (nearness(chosen @ y) - usual) * len(chosen) / (len(chosen) + BANK_TEXTS)
        assert following.hubness(y, language) == pytest.approx(expected, abs=1e-6)


def test_hubness_of_two_epochs_goes_together() -> None:
    """Records of a small bank stand beside records of a large one: no side may be favoured for its age."""
    rng = np.random.default_rng(0)
    X = [x for _ in range(120) for language in range(3) for x in made.texts(rng, 1, language=language)]
    tags = [LANGUAGES[number % 3] for number in range(360)]
    small, large = (QueryAdaptation(adapter(), epoch(bank=rows(X[:n], tags[:n]))) for n in (30, 300))
    later = [(x, tag) for x, tag in zip(X[300:], tags[300:], strict=True)]
    levels = [
        np.mean([of.hubness(of.vector(x, Context(language=tag)), tag) or 0.0 for x, tag in later])
        for of in (small, large)
    ]
    assert abs(levels[0] - levels[1]) < 0.03


def test_queries_of_the_own_language_count_where_there_are_not_enough_others() -> None:
    rng = np.random.default_rng(0)
    X = made.texts(rng, 30)
    tags = ["de-Latn"] * 20 + ["en-Latn"] * 10
    following = QueryAdaptation(adapter(), epoch(bank=rows(X, tags)))
    assert following.hubness(vector(3), "de-Latn") == following.hubness(vector(3), "fr-Latn")


def test_languages_that_nobody_has_cost_no_memory() -> None:
    following = QueryAdaptation(adapter(), busy(0))
    sizes = []
    for number in range(300):
        tag = f"q{chr(97 + number // 26)}{chr(97 + number % 26)}"
        following.hubness(vector(0), tag)
        following.query(vector(0), Context(language=tag))
        held = [value for value in vars(following).values() if isinstance(value, dict)]
        sizes.append(sum(map(len, held)) + len(vars(following._memory)["_rows"]))
    assert sizes[0] == sizes[-1]


# -- who is followed ----------------------------------------------------------------------------------------


def test_without_an_epoch_or_an_adapter_nothing_is_followed_and_what_is_is_made_once() -> None:
    cache = QueryAdaptationCache()
    one, other = busy(0), busy(1)
    assert cache.find(adapter(), None) is None
    assert cache.find(identity(ENCODER, DIM), one) is None
    assert cache.find(adapter(), dataclasses.replace(one, dim=DIM + 1)) is None, "an epoch that does not fit"
    found = cache.find(adapter(), one)
    assert cache.find(adapter(), busy(0)) is found, "equal epochs are one"
    assert cache.find(adapter(), other) is not found
    assert cache.find(adapter(seed=6), one) is not found


def test_the_pair_used_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_ADAPTATIONS", 2)
    cache = QueryAdaptationCache()
    items = [epoch(number=number) for number in (1, 2, 3)]
    first, second = (cache.find(adapter(), item) for item in items[:2])
    assert cache.find(adapter(), items[0]) is first
    cache.find(adapter(), items[2])
    assert cache.find(adapter(), items[0]) is first
    assert cache.find(adapter(), items[1]) is not second


@pytest.mark.parametrize("known", [adapter(), attention_adapter()], ids=["hard", "soft"])
def test_a_tag_that_the_vector_contradicts_is_doubtful(known: Adapter) -> None:
    x = made.unit(centres()[3])
    assert known.evidence(x, "ru") == LanguageEvidence("ru-Cyrl", contradicts_tag=False)
    assert known.evidence(x, "de") == LanguageEvidence("ru-Cyrl", contradicts_tag=True)
    assert known.evidence(x) == LanguageEvidence("ru-Cyrl", contradicts_tag=False)
    assert known.evidence(x, "xx") == LanguageEvidence("ru-Cyrl", contradicts_tag=False)
    assert centre_adapter().evidence(x, "de") == LanguageEvidence(None, contradicts_tag=False)


# -- memory -------------------------------------------------------------------------------------------------


def test_no_pairs_and_pairs_of_other_languages_change_no_bit() -> None:
    z = vector(0)
    assert (
        MemoryAttention(np.zeros((0, DIM), np.float32), np.zeros((0, DIM), np.float32), ()).moved(z, None)
        is z
    )
    key, value = made.unit(z + 0.1), vector(2)
    recall = MemoryAttention(key[None], value[None], ("de-Latn",))
    assert recall.moved(z, "fr-Latn").tobytes() == z.tobytes()
    for language in ("de-Latn", None):
        assert recall.moved(z, language).tobytes() != z.tobytes()
    untagged = MemoryAttention(key[None], value[None], ("",))
    assert untagged.moved(z, "fr-Latn").tobytes() != z.tobytes()


@given(seed=seeds)
@untimed
def test_one_pair_moves_what_resembles_it_and_leaves_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    key, value = made.unit(rng.standard_normal((2, 64)))
    recall = MemoryAttention(key[None], value[None], ("",))
    same = recall.moved(key, None)
    assert float(same @ value) > max(0.8, float(key @ value)), "most of the way"
    assert np.linalg.norm(same) == pytest.approx(1.0, abs=1e-6)
    far = made.unit(rng.standard_normal(64))
    if float(far @ key) < NO_MATCH - 0.25:
        assert np.linalg.norm(recall.moved(far, None) - far) < UNNOTICED
    near = made.unit(key + 0.1 * made.unit(rng.standard_normal(64)))
    assert float(recall.moved(near, None) @ value) > float(near @ value) + 0.1


@given(seed=seeds)
@untimed
def test_a_query_moves_by_the_attention_that_is_documented_whatever_the_order_of_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys, values = made.unit(rng.standard_normal((2, 9, DIM)))
    tags = ["de-Latn", "", "fr-Latn"] * 3
    z = made.unit(keys[0] + 0.3 * rng.standard_normal(DIM))
    for language, chosen in ((None, range(9)), ("de-Latn", (0, 1, 3, 4, 6, 7)), ("ru-Cyrl", (1, 4, 7))):
        K, V = keys[list(chosen)].astype(np.float64), values[list(chosen)].astype(np.float64)
        weights = np.exp(np.append(K @ z, NO_MATCH) / MEMORY_TEMPERATURE)
        expected = made.unit(z + MEMORY_SHARE * (weights[:-1] / weights.sum()) @ (V - K))
        np.testing.assert_allclose(
            MemoryAttention(keys, values, tags).moved(z, language), expected, atol=1e-5
        )
        order = rng.permutation(9)
        shuffled = MemoryAttention(keys[order], values[order], [tags[row] for row in order])
        np.testing.assert_allclose(shuffled.moved(z, language), expected, atol=1e-5)


def test_a_remembered_translation_leads_the_query_of_its_source_to_its_target() -> None:
    rng = np.random.default_rng(4)
    (x,), (y,) = made.texts(rng, 1, spread=1.0), made.texts(rng, 1, language=1, spread=1.0)
    memory = Memory(rows([x], ["de-Latn"]), rows([y], ["en-Latn"]), ("p",), (("", ""),))
    plain, following = QueryAdaptation(adapter(), epoch()), QueryAdaptation(adapter(), epoch(memory=memory))
    target = following.vector(y, Context(language="en"))
    moved = float(following.query(x, Context(language="de")) @ target)
    assert moved > 0.85 > float(plain.query(x, Context(language="de")) @ target) + 0.2
    half = Context(language="de", strength=0.5)
    assert following.query(x, half).tobytes() == plain.query(x, half).tobytes(), (
        "another space than that of memory"
    )


# -- label examples -----------------------------------------------------------------------------------------


def prototypes(n: int = 3, seed: int = 1) -> Matrix:
    found: Matrix = made.unit(np.random.default_rng(seed).standard_normal((n, DIM)))
    return found


def test_without_examples_prototypes_keep_their_direction() -> None:
    V = prototypes()
    found = corrected_prototypes(V, ("a", "b", "c"), np.zeros((0, DIM), np.float32), ())
    np.testing.assert_allclose(found, V, atol=MAX_ERROR)


@given(seed=seeds, n=st.integers(1, 30))
@untimed
def test_examples_move_their_own_label_by_what_is_documented_and_no_other(seed: int, n: int) -> None:
    V, Y = prototypes(), made.unit(np.random.default_rng(seed).standard_normal((n, DIM)))
    found = corrected_prototypes(V, ("a", "b", "c"), Y, ("b",) * (n - 1) + ("unknown",))
    np.testing.assert_allclose(found[[0, 2]], V[[0, 2]], atol=MAX_ERROR)
    weight = min(1.0, MAX_LEAD / max(1, n - 1))  # the others have none, so it leads by all of them
    expected = made.unit(
        LABEL_TEXTS * V[1].astype(np.float64) + weight * Y[: n - 1].astype(np.float64).sum(axis=0)
    )
    np.testing.assert_allclose(found[1], expected, atol=MAX_ERROR)


def test_what_all_texts_share_is_left_out() -> None:
    common = made.unit(np.ones(DIM)).astype(np.float64)
    found = corrected_prototypes(prototypes(), ("a", "b", "c"), prototypes(4, 2), ("a",) * 4, common)
    np.testing.assert_allclose(found @ common, 0.0, atol=MAX_ERROR)


def test_prototypes_are_moved_only_by_examples_of_their_set() -> None:
    V, labels = prototypes(2), ("sports", "science")
    following = QueryAdaptation(adapter(), busy(0))
    found = following.prototypes("topics", labels, V, None)
    assert found is not None
    assert following.prototypes("other", labels, V, None) is None
    assert following.prototypes("topics", ("x", "y"), V, None) is None
    Y = np.stack([following.vector(x.astype(np.float32), Context(language=tag))
                  for x, tag in zip(following.epoch.examples.rows.vectors, following.epoch.examples.rows.languages,
                                    strict=True)])  # fmt: skip
    np.testing.assert_array_equal(found, corrected_prototypes(V, labels, Y, ("sports",) * 48))
