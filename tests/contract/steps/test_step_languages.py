"""What a tag, or none, does to a step, and what a step says of the languages it knows."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import langcodes
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from langcodes import language_distance
from step_examples import (
    DIM,
    ENCODER,
    LANGUAGES,
    NAMES,
    alone,
    attention_step,
    every_kind,
    example_of,
    overrides,
    rows,
    seeds,
    tags,
    unit_rows,
    untimed,
)

from alignstream.models.adapter import languages
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context, HyperParameter, KnownLanguage, choose
from alignstream.models.adapter.languages import LanguageTable, is_known_tag, language_key
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.step import Tuning
from alignstream.models.arrays import Vector64


@given(seed=seeds, tag=tags, shrinkage=st.floats(0.0, 1.0), temperature=st.floats(0.001, 10.0))
@untimed
def test_attention_weights_sum_to_one(
    seed: int, tag: str | None, shrinkage: float, temperature: float
) -> None:
    weights = attention_step(seed).weights(
        rows(seed, 1)[0].astype(np.float64), Tuning(tag, shrinkage, temperature)
    )
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


@given(seed=seeds, steps=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6), place=st.integers(0, 6))
@untimed
def test_a_tag_moves_weight_towards_its_language_the_more_the_less_it_is_shrunk(
    seed: int, steps: list[float], place: int
) -> None:
    attention = attention_step(seed, tag_evidence=2.0, temperature=1.0)
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
    whole = attention_step(seed, tag_evidence=3.0)
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


def test_tags_that_somebody_invents_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """langcodes keeps every tag that it has ever seen, in three dictionaries behind our bounded ones."""
    monkeypatch.setattr(languages, "_LIBRARY_REMEMBERS", 500)
    table = LanguageTable(LANGUAGES)
    sizes = []
    for number in range(3000):
        tag = f"en-x-{number:06}"
        assert language_key(tag) == "en-Latn"
        assert is_known_tag(f"{tag}-y")
        table.find(f"de-{number % 999:03}")
        sizes.append(
            max(
                len(cache)
                for cache in (
                    langcodes.Language._INSTANCES,
                    langcodes.Language._PARSE_CACHE,
                    language_distance._DISTANCE_CACHE,
                )
            )
        )
    assert max(sizes[1000:]) <= 500 + 50
    # What was forgotten is found again.
    assert language_key("pt_BR") == "pt-Latn"


def test_threads_look_languages_up_while_what_the_library_knows_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(languages, "_LIBRARY_REMEMBERS", 1)
    look_up = language_key.__wrapped__  # without the cache in front
    tags = ("pt_BR", "swh", "zh-TW", "deu_Latn") * 300
    with ThreadPoolExecutor(6) as executor:
        found = list(executor.map(lambda _: [look_up(tag) for tag in tags], range(6)))
    assert found == [["pt-Latn", "sw-Latn", "zh-Hant", "de-Latn"] * 300] * 6


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
