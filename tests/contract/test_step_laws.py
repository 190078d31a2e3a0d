"""The laws of the steps of adapters, for every kind and for chains of them. No encoder, no network."""

import dataclasses
import inspect
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from bounded import join
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from alignstream.models.adapter.adapter import Adapter, from_bytes, space
from alignstream.models.adapter.context import Context, HyperParameter, KnownLanguage, choose
from alignstream.models.adapter.languages import LanguageTable, language_key
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.kinds import KINDS, make_step
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import EXAMPLE_LANGUAGES, UNTUNED, Step, Tuning
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import AdapterCorrupt

ENCODER = "e" * 64
DIM = 6
#: float32 rows that were normalised in float64.
MAX_NORM_ERROR = 1e-6
LANGUAGES = EXAMPLE_LANGUAGES

seeds = st.integers(0, 2**32 - 1)
#: A shared machine may pause any example; laws are about results, not time.
untimed = settings(deadline=None, max_examples=40)
overrides = st.one_of(st.none(), st.floats(0.0, 1.0))
tags = st.sampled_from([None, "pt-BR", "zh_TW", "no", "prs", "sr-Latn", "ja", "qaa-nothing-of-the-sort", "!"])


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    temperature = draw(st.one_of(st.none(), st.floats(0.001, 10.0)))
    return Context(draw(tags), draw(overrides), draw(overrides), temperature)


def rows(seed: int, n: int, dim: int = DIM) -> Matrix:
    X: Matrix = np.random.default_rng([seed, n, dim]).standard_normal((n, dim)).astype(np.float32)
    return X


def unit_rows(seed: int, n: int, dim: int = DIM) -> Matrix:
    X = rows(seed, n, dim).astype(np.float64)
    unit: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _attention(seed: int, **changes: Any) -> PrototypeAttention:
    return dataclasses.replace(PrototypeAttention.example(DIM, seed), **changes)


def example_of(kind: str, seed: int = 3) -> Step:
    return KINDS[kind].example(DIM, seed)


#: Laws run on whatever is registered: a new kind of step has them all with its line in ``kinds``.
NAMES = sorted(KINDS)
every_kind = pytest.mark.parametrize("kind", NAMES)


def alone(kind: str, seed: int = 3) -> Adapter:
    return Adapter(ENCODER, DIM, (example_of(kind, seed),))


@st.composite
def chains(draw: st.DrawFn) -> Adapter:
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4))
    return Adapter(ENCODER, DIM, tuple(example_of(name, draw(seeds)) for name in names), {"steps": names})


def test_every_class_of_step_is_registered_under_its_own_name() -> None:
    assert {step for step in Step.__subclasses__() if not inspect.isabstract(step)} == set(KINDS.values())
    assert all(KINDS[kind].kind == kind for kind in KINDS)


# -- pure, exact, of length one ---------------------------------------------------------------------


def check_pure(adapter: Adapter, X: Matrix, context: Context) -> None:
    before = X.tobytes()
    first, again = adapter.transform_many(X, context), adapter.transform_many(X, context)
    assert X.tobytes() == before
    assert first.tobytes() == again.tobytes()
    singles = [adapter.transform_one(x, context) for x in X]
    assert first.tobytes() == b"".join(y.tobytes() for y in singles)
    reverse = adapter.transform_many(np.asfortranarray(X[::-1]), context)
    assert reverse[::-1].tobytes() == first.tobytes()
    assert X.tobytes() == before
    for Y in (first, *singles):
        assert Y.dtype == np.float32
        assert not np.shares_memory(X, Y)
    norms = np.linalg.norm(first.astype(np.float64), axis=1)
    assert np.abs(norms - 1.0).max(initial=0.0) <= MAX_NORM_ERROR


@every_kind
@given(seed=seeds, n=st.integers(0, 5), context=contexts())
@untimed
def test_a_member_alone_is_pure_and_gives_unit_vectors(
    kind: str, seed: int, n: int, context: Context
) -> None:
    check_pure(alone(kind, seed), unit_rows(seed, n), context)


@given(adapter=chains(), seed=seeds, n=st.integers(0, 5), context=contexts())
@untimed
def test_a_chain_is_pure_and_gives_unit_vectors(
    adapter: Adapter, seed: int, n: int, context: Context
) -> None:
    check_pure(adapter, unit_rows(seed, n), context)


@every_kind
@given(seed=seeds, tag=tags, shrinkage=st.floats(0.0, 1.0))
@untimed
def test_a_member_leaves_its_input_and_itself_as_they_are(
    kind: str, seed: int, tag: str | None, shrinkage: float
) -> None:
    step = example_of(kind, seed)
    stored = {name: tensor.tobytes() for name, tensor in step.tensors().items()}
    x: Vector64 = unit_rows(seed, 1)[0].astype(np.float64)
    before, tuning = x.tobytes(), Tuning(tag, shrinkage)
    y = step.transform_one(x, tuning)
    assert y.shape == (step.dim,)
    assert y.dtype == np.float64
    assert step.transform_one(x, tuning).tobytes() == y.tobytes()
    assert x.tobytes() == before
    assert {name: tensor.tobytes() for name, tensor in step.tensors().items()} == stored
    assert step.describe()


def test_threads_share_a_chain() -> None:
    adapter = Adapter(ENCODER, DIM, tuple(example_of(kind, 5) for kind in NAMES))
    X, expected = unit_rows(1, 40), []
    contexts_ = [Context(language=tag) for tag in (None, "pt", "zh-TW")]
    expected = [adapter.transform_many(X, context).tobytes() for context in contexts_]
    found: list[list[bytes]] = []

    def work() -> None:
        found.append([adapter.transform_many(X, context).tobytes() for context in contexts_])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    join(threads, "four threads transform 40 rows three times")
    assert found == [expected] * 4


# -- on disk ----------------------------------------------------------------------------------------


def check_round_trip(adapter: Adapter, X: Matrix, context: Context) -> None:
    again = from_bytes(adapter.blob, encoder=ENCODER)
    assert (again.version, again.blob) == (adapter.version, adapter.blob)
    assert again.transform_many(X, context).tobytes() == adapter.transform_many(X, context).tobytes()
    # Written once more from what was read, not from the bytes that it remembers.
    written = Adapter(again.encoder, again.dim, again.steps, again.report)
    assert written.blob == adapter.blob


@every_kind
@given(seed=seeds, context=contexts())
@untimed
def test_a_member_comes_back_bit_for_bit(kind: str, seed: int, context: Context) -> None:
    check_round_trip(alone(kind, seed), unit_rows(seed, 3), context)
    assert alone(kind, seed).blob == alone(kind, seed).blob


@given(adapter=chains(), seed=seeds, context=contexts())
@untimed
def test_a_chain_comes_back_bit_for_bit(adapter: Adapter, seed: int, context: Context) -> None:
    check_round_trip(adapter, unit_rows(seed, 3), context)


@every_kind
def test_members_of_other_numbers_have_another_version(kind: str) -> None:
    assert len({alone(kind, seed).version for seed in (3, 4, 8)}) == 3


def rewritten(blob: bytes, change: Callable[[dict[str, Matrix], dict[str, Any]], None]) -> bytes:
    """Change tensors and manifest of a file, and write it as a program that knows the format would."""
    tensors = {name: tensor.copy() for name, tensor in safetensors.numpy.load(blob).items()}
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    manifest = json.loads(header["__metadata__"]["alignstream"])
    change(tensors, manifest)
    written: bytes = safetensors.numpy.save(tensors, metadata={"alignstream": json.dumps(manifest)})
    return written


def test_rewriting_without_a_change_is_accepted() -> None:
    for kind in NAMES:
        from_bytes(rewritten(alone(kind).blob, lambda _tensors, _manifest: None))


def _not_a_number(tensor: Matrix) -> Matrix:
    tensor.flat[0] = np.nan
    return tensor


WRONG_TENSORS: Mapping[str, Callable[[Matrix], Any]] = {
    "one dimension more": lambda tensor: tensor[None],
    "one dimension less": lambda tensor: tensor.reshape(-1) if tensor.ndim > 1 else tensor[:1].reshape(()),
    "a number short": lambda tensor: np.ascontiguousarray(tensor[..., :-1]),
    "no numbers": lambda tensor: tensor[..., :0],
    "float64": lambda tensor: tensor.astype(np.float64),
    "float16": lambda tensor: tensor.astype(np.float16),
    "whole numbers": lambda tensor: tensor.astype(np.int32),
    "not a number": _not_a_number,
    "infinite": lambda tensor: np.full_like(tensor, np.inf),
}
KINDS_AND_TENSORS = [(kind, name) for kind in NAMES for name in example_of(kind, 3).tensors()]


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_TENSORS)
@pytest.mark.parametrize("wrong", WRONG_TENSORS)
def test_a_wrong_tensor_is_refused(kind: str, name: str, wrong: str) -> None:
    step = example_of(kind, 3)
    tensors = {key: tensor.copy() for key, tensor in step.tensors().items()}
    tensors[name] = WRONG_TENSORS[wrong](tensors[name])
    # A vector of fewer numbers is one of another dimension: the adapter refuses it.
    with pytest.raises(AdapterCorrupt):
        Adapter(ENCODER, DIM, (make_step(kind, tensors, step.parameters()),))

    def change(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored[f"0.{name}"] = np.ascontiguousarray(tensors[name])

    with pytest.raises(AdapterCorrupt):
        from_bytes(rewritten(alone(kind).blob, change))


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_TENSORS)
def test_a_missing_or_surplus_tensor_is_refused(kind: str, name: str) -> None:
    step = example_of(kind, 3)
    missing = {key: tensor for key, tensor in step.tensors().items() if key != name}
    surplus = {**step.tensors(), "more": rows(1, 1)}
    for tensors in (missing, surplus):
        with pytest.raises(AdapterCorrupt, match="needs tensors"):
            make_step(kind, tensors, step.parameters())

    def lose(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        del stored[f"0.{name}"]

    def add(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["9.more"] = rows(1, 1)

    with pytest.raises(AdapterCorrupt, match="lacks tensor"):
        from_bytes(rewritten(alone(kind).blob, lose))
    with pytest.raises(AdapterCorrupt, match="unused tensors"):
        from_bytes(rewritten(alone(kind).blob, add))


#: By the type that JSON gives a parameter: what must not stand there.
WRONG_LISTS: list[Any] = [
    None, "de", 1.5, {}, [], ["de-Latn"], [None] * 7, [["de"]] * 7, [{}] * 7, [1.5, *range(6)], [-1] * 7, [True] * 7,
]  # fmt: skip
WRONG_FLOATS: list[Any] = [None, "0.1", True, [], float("nan"), float("inf"), -1.0, -1, 1e300, 10**400]
PARAMETERS = [(kind, name) for kind in NAMES for name in example_of(kind, 3).parameters()]


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_a_wrong_parameter_is_refused(kind: str, name: str) -> None:
    step = example_of(kind, 3)
    wrongs = WRONG_LISTS if isinstance(step.parameters()[name], list) else WRONG_FLOATS
    for wrong in wrongs:
        with pytest.raises(AdapterCorrupt):
            make_step(kind, step.tensors(), {**step.parameters(), name: wrong})
    missing = {key: value for key, value in step.parameters().items() if key != name}
    with pytest.raises(AdapterCorrupt, match="needs parameters"):
        make_step(kind, step.tensors(), missing)


@every_kind
def test_a_surplus_parameter_and_an_unknown_kind_are_refused(kind: str) -> None:
    step = example_of(kind, 3)
    with pytest.raises(AdapterCorrupt, match="needs parameters"):
        make_step(kind, step.tensors(), {**step.parameters(), "more": 1.0})
    with pytest.raises(AdapterCorrupt, match="unknown kind"):
        make_step(f"{kind}-2", step.tensors(), step.parameters())


@pytest.mark.parametrize("kind", [kind for kind in NAMES if "languages" in example_of(kind).parameters()])
def test_a_language_named_twice_is_refused(kind: str) -> None:
    step = example_of(kind, 3)
    names = step.parameters()["languages"]
    with pytest.raises(AdapterCorrupt):
        make_step(kind, step.tensors(), {**step.parameters(), "languages": [names[0], *names[:-1]]})


def test_whole_numbers_are_numbers() -> None:
    step = example_of(TranslationMemory.kind, 3)
    made = make_step(step.kind, step.tensors(), {"temperature": 1, "weight": 1})
    assert made.parameters() == {"temperature": 1.0, "weight": 1.0}


@every_kind
def test_another_golden_vector_is_refused(kind: str) -> None:
    blob = alone(kind, seed=4).blob

    def other(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["golden.output"] = stored["golden.output"][::-1].copy()

    def short(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["golden.output"] = stored["golden.output"][:-1].copy()

    def lost(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        del stored["golden.output"]

    def nan(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["golden.output"][0] = np.nan

    for change in (other, short, lost, nan):
        with pytest.raises(AdapterCorrupt, match="golden"):
            from_bytes(rewritten(blob, change))


@pytest.mark.parametrize("kind", [kind for kind in NAMES if not example_of(kind).own_languages])
def test_other_numbers_under_the_same_golden_vector_are_refused(kind: str) -> None:
    """Not so for maps of single languages: the golden vector has no tag. Their sha256 is all that tells."""
    other = example_of(kind, 9).tensors()

    def change(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        for name, tensor in other.items():
            stored[f"0.{name}"] = np.ascontiguousarray(tensor)

    with pytest.raises(AdapterCorrupt, match="golden"):
        from_bytes(rewritten(alone(kind, seed=4).blob, change))


# -- attention and tags -----------------------------------------------------------------------------


@given(seed=seeds, tag=tags, shrinkage=st.floats(0.0, 1.0), temperature=st.floats(0.001, 10.0))
@untimed
def test_attention_weights_sum_to_one(
    seed: int, tag: str | None, shrinkage: float, temperature: float
) -> None:
    weights = _attention(seed).weights(
        rows(seed, 1)[0].astype(np.float64), Tuning(tag, shrinkage, temperature)
    )
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


@given(seed=seeds, steps=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6), place=st.integers(0, 6))
@untimed
def test_a_tag_moves_weight_towards_its_language_the_more_the_less_it_is_shrunk(
    seed: int, steps: list[float], place: int
) -> None:
    attention = _attention(seed, tag_evidence=2.0, temperature=1.0)
    x: Vector64 = unit_rows(seed, 1)[0].astype(np.float64)
    steps = sorted(steps)
    found = [attention.weights(x, Tuning(LANGUAGES[place], step)) for step in steps]
    own = [float(weights[place]) for weights in found]
    assert all(before <= after + 1e-15 for before, after in itertools.pairwise(own))
    for step, weights in zip(steps, found, strict=True):
        # The others share what is left as before: a tag says nothing about them.
        others, untagged = np.delete(weights, place), np.delete(attention.weights(x), place)
        np.testing.assert_allclose(others / others.sum(), untagged / untagged.sum(), atol=1e-12)
        odds = own[steps.index(step)] / others.sum()
        base = float(attention.weights(x)[place]) / untagged.sum()
        assert odds == pytest.approx(base * np.exp(2.0 * step), rel=1e-9)


@given(seed=seeds, tag=st.text(max_size=12), shrinkage=overrides)
@example(seed=1, tag="!", shrinkage=1.0)
@example(seed=1, tag="ja", shrinkage=1.0)
@example(seed=1, tag="und", shrinkage=1.0)
@example(seed=1, tag="x-private", shrinkage=1.0)
@example(seed=1, tag="de-\x00", shrinkage=1.0)
@example(seed=1, tag="i-default", shrinkage=1.0)
@settings(deadline=None, max_examples=150)
def test_an_unknown_or_malformed_tag_is_no_tag(seed: int, tag: str, shrinkage: float | None) -> None:
    assume(LanguageTable(LANGUAGES).find(tag) is None)
    X = unit_rows(seed, 2)
    for kind in NAMES:
        adapter = alone(kind, seed)
        tagged = adapter.transform_many(X, Context(language=tag, shrinkage=shrinkage))
        assert tagged.tobytes() == adapter.transform_many(X, Context(shrinkage=shrinkage)).tobytes()


@given(seed=seeds)
@untimed
def test_a_withheld_language_falls_back_to_what_the_vector_resembles(seed: int) -> None:
    whole = _attention(seed, tag_evidence=3.0)
    keep = [place for place, key in enumerate(LANGUAGES) if key != "pt-Latn"]
    less = dataclasses.replace(
        whole,
        means=np.ascontiguousarray(whole.means[keep]),
        languages=tuple(LANGUAGES[place] for place in keep),
        counts=tuple(whole.counts[place] for place in keep),
        spreads=whole.spreads[keep],
    )
    hard = LanguageCentre(less.means, less.languages, less.counts)
    (x,) = unit_rows(seed, 1)
    for step in (less, hard):
        adapter = Adapter(ENCODER, DIM, (step,))
        assert adapter.transform_one(x, Context("pt-BR")).tobytes() == adapter.transform_one(x).tobytes()
        assert adapter.tune(Context("pt-BR")).shrinkage == HyperParameter(
            0.0, "the adapter does not know language 'pt-BR'"
        )
    assert less.weights(x.astype(np.float64), Tuning("pt-BR", 1.0)).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [kind for kind in NAMES if "languages" in example_of(kind).parameters()])
@given(seed=seeds)
@untimed
def test_region_and_alias_tags_give_the_same_bytes(kind: str, seed: int) -> None:
    adapter, X = alone(kind, seed), unit_rows(seed, 2)
    found = {
        adapter.transform_many(X, Context(tag, shrinkage=1.0)).tobytes()
        for tag in ("pt", "pt-BR", "pt_PT", "PT-br", "por", "por_Latn", "pt-Latn-BR")
    }
    assert len(found) == 1
    if kind == LanguageCentre.kind:
        assert found != {adapter.transform_many(X).tobytes()}


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        ("no", "nb-Latn"), ("nob_Latn", "nb-Latn"), ("prs", "fa-Arab"), ("prs_Arab", "fa-Arab"), ("pes", "fa-Arab"),
        ("zh-TW", "zh-Hant"), ("zh-HK", "zh-Hant"), ("zho_Hant", "zh-Hant"), ("sr", "sr-Cyrl"), ("deu", "de-Latn"),
        ("sr-Latn", None), ("zh-Latn", None), ("ja", None), ("", None), (None, None), ("und", None), ("de--", None),
    ],
)  # fmt: skip
def test_a_table_of_languages_falls_back_as_cldr_says(tag: str | None, key: str | None) -> None:
    place = LanguageTable(LANGUAGES).find(tag)
    assert (None if place is None else LANGUAGES[place]) == key


@given(tag=st.text(max_size=20))
@settings(deadline=None, max_examples=300)
def test_a_tag_of_any_characters_is_looked_up_without_an_error(tag: str) -> None:
    key = language_key(tag)
    assert key is None or language_key(key) == key
    place = LanguageTable(LANGUAGES).find(tag)
    assert place is None or key is not None


# -- what a step says about itself --------------------------------------------------------------------


@every_kind
@given(seed=seeds)
@untimed
def test_a_step_that_tells_languages_apart_says_what_it_knows_of_them(kind: str, seed: int) -> None:
    """Else queries would not adapt to it and no explanation would name it, and nobody would notice."""
    step = example_of(kind, seed)
    x: Vector64 = unit_rows(seed, 1)[0].astype(np.float64)
    outputs = {step.transform_one(x, Tuning(tag, 1.0)).tobytes() for tag in (None, "de", "pt", "zh-TW")}
    if len(outputs) > 1:
        means = step.language_means
        assert step.own_languages or (means is not None and means.languages)


@every_kind
def test_what_a_step_knows_of_languages_reaches_whoever_asks_the_adapter(kind: str) -> None:
    adapter, step = alone(kind), example_of(kind)
    (x,) = unit_rows(1, 1)
    means = step.language_means
    around = x.astype(np.float64)
    if means is None:
        assert adapter.expected_mean("de", around) is None
    else:
        np.testing.assert_array_equal(adapter.expected_mean("de", around), means.expected("de", around))
    if means is None or not means.languages:
        assert adapter.evidence(x, "de").nearest_language is None
        return
    assert adapter.evidence(means.means64[2].astype(np.float32)).nearest_language == means.languages[2]
    known = adapter.tune(Context("pt-BR")).shrinkage
    assert known.value == choose(Context("pt-BR"), KnownLanguage("pt-Latn", means.counts[4])).shrinkage.value


@every_kind
def test_a_step_without_its_maps_of_languages_leaves_them_as_they_came(kind: str) -> None:
    step = example_of(kind)
    reduced = step.without_languages(LANGUAGES)
    if not step.own_languages:
        assert reduced is step
        return
    assert reduced is None
    one = step.without_languages(step.own_languages[:1])
    assert one is not None
    assert one.own_languages == step.own_languages[1:]
    x: Vector64 = unit_rows(1, 1)[0].astype(np.float64)
    assert one.transform_one(x, Tuning(step.own_languages[0])).tobytes() == x.tobytes()
    kept = Tuning(step.own_languages[1])
    assert one.transform_one(x, kept).tobytes() == step.transform_one(x, kept).tobytes()


@every_kind
def test_what_a_step_keeps_of_the_common_direction_is_in_every_vector(kind: str) -> None:
    part = example_of(kind, 4).common_part
    if part is None:
        return
    axis = part.kept / np.linalg.norm(part.kept)
    for x in unit_rows(5, 10).astype(np.float64):
        along = float(example_of(kind, 4).transform_one(x) @ axis)
        assert along == pytest.approx(float(np.linalg.norm(part.kept)), abs=1e-9)


# -- the translation memory -------------------------------------------------------------------------


def empty(**parameters: float) -> TranslationMemory:
    nothing = np.zeros((0, DIM), dtype=np.float32)
    return TranslationMemory(nothing, nothing, **parameters)


@given(seed=seeds)
@untimed
def test_an_empty_memory_changes_nothing(seed: int) -> None:
    x = unit_rows(seed, 1)[0]
    x64 = x.astype(np.float64)
    assert empty().transform_one(x64, UNTUNED).tobytes() == x64.tobytes()
    centre = Centre(rows(seed + 1, 1)[0])
    with_memory, without = (
        Adapter(ENCODER, DIM, steps).transform_one(x) for steps in ((centre, empty()), (centre,))
    )
    assert with_memory.tobytes() == without.tobytes()


def test_a_known_source_moves_to_its_translation() -> None:
    keys, values = unit_rows(1, 3), unit_rows(2, 3)
    adapter = Adapter(ENCODER, DIM, (TranslationMemory(keys, values, 1e-3, 1.0),))
    np.testing.assert_allclose(adapter.transform_many(keys), values, atol=1e-5)


# -- contexts and spaces ----------------------------------------------------------------------------


@given(context=contexts(), other=contexts())
@untimed
def test_spaces_differ_by_what_a_message_fixes_and_not_by_its_language(
    context: Context, other: Context
) -> None:
    def fixed(item: Context) -> dict[str, float]:
        return {name: value for name, value in item.overrides.items() if (name, value) != ("strength", 1.0)}

    spaces = [space(ENCODER, "v1", item) for item in (context, other)]
    # 0.0 and -0.0 are written apart; that is another name, not a wrong one.
    assume(
        not any(
            value == 0.0 and np.signbit(value) for item in (context, other) for value in fixed(item).values()
        )
    )
    assert (spaces[0] == spaces[1]) == (fixed(context) == fixed(other))
    assert space(ENCODER, "v1", dataclasses.replace(context, language="de")) == spaces[0]


@pytest.mark.parametrize("name", ["strength", "shrinkage", "temperature"])
def test_each_override_names_a_space_of_its_own(name: str) -> None:
    fixed: list[dict[str, Any]] = [{}, {name: 0.25}, {name: 0.5}]
    names = {space(ENCODER, "v1", Context(**item)) for item in fixed}
    assert len(names) == 3
    assert names.isdisjoint({space(ENCODER, "v2"), space("f" * 64, "v1")})


states = st.builds(
    KnownLanguage,
    language=st.sampled_from([None, "pt-Latn"]),
    n_texts=st.integers(0, 10**6),
    temperature=st.floats(0.01, 1.0),
)


@given(context=contexts(), state=states)
@untimed
def test_choosing_is_pure_and_gives_reasons(context: Context, state: KnownLanguage) -> None:
    found = choose(context, state)
    assert choose(dataclasses.replace(context), dataclasses.replace(state)) == found
    for name in ("strength", "shrinkage", "temperature"):
        choice = getattr(found, name)
        own = context.overrides.get(name)
        assert choice.reason
        assert (choice.reason == "set by the message") == (own is not None)
        if own is not None:
            assert choice.value == own
    if context.strength is None:
        assert found.strength.value == 1.0
    if context.temperature is None:
        assert found.temperature.value == state.temperature
    if context.shrinkage is None:
        assert 0.0 <= found.shrinkage.value < 1.0
        if context.language is None or state.language is None:
            assert found.shrinkage.value == 0.0


def test_more_texts_behind_a_prototype_make_its_tag_count_more() -> None:
    values = [choose(Context("pt"), KnownLanguage("pt-Latn", n)).shrinkage.value for n in (0, 1, 20, 500)]
    assert values == sorted(values)
    assert (values[0], values[2]) == (0.0, 0.5)
