"""Fitting to pairs, learning without them, and bringing in a language: on a toy world where the truth is known.

In it a text is a meaning plus the place of its language; translations share the meaning, turned a little.
"""

import dataclasses

import numpy as np
import pytest

from alignstream.export.data.pair_checks import PairVectors
from alignstream.export.data.pairs import Pairs
from alignstream.export.evaluate.measures import MIXED_POOL
from alignstream.export.fit.attention_adapter import ParallelVectors, fit_attention
from alignstream.export.fit.default_adapter import NOT_USED, USED_TO_CHOOSE
from alignstream.export.fit.language_examples import LanguageExamples
from alignstream.export.fit.onboarding import onboard
from alignstream.export.fit.pair_adapter import fit_pairs, fit_unpaired
from alignstream.models.adapter.adapter import Adapter, from_bytes, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.language_groups import ancestry, relatives
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError, NotComparable
from alignstream.models.fit.self_learning import mutual_neighbours

DIM = 32
ENCODER = "e" * 64
LANGUAGES = ("sw-Latn", "en-Latn", "zu-Latn", "xh-Latn")


#: Related languages lie near each other.
BANTU = ("sw-Latn", "zu-Latn", "xh-Latn")


def place(language: str) -> np.ndarray:
    family = np.random.default_rng(7 if language in BANTU else 8).normal(size=DIM)
    own = np.random.default_rng(sum(map(ord, language))).normal(size=DIM)
    return 0.2 * family + 0.1 * own


def world(language: str, n: int, *, seed: int = 0, first: int = 0, turn: float = 0.0) -> Matrix:
    """Return vectors of texts ``first`` to ``first + n`` in a language."""
    meanings = np.random.default_rng(seed).normal(size=(2000, DIM)) / np.sqrt(DIM)
    Q, _ = np.linalg.qr(np.eye(DIM) + turn * np.random.default_rng(99).normal(size=(DIM, DIM)))
    Q *= np.sign(np.diag(Q))[:, None]
    noise = np.random.default_rng(sum(map(ord, language)) + 7 * first).normal(size=(n, DIM)) * 0.1
    X = meanings[first : first + n] @ Q + place(language) + noise
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def base(*languages: str) -> Adapter:
    means = np.stack([world(name, 400, first=1000).mean(axis=0) for name in languages]).astype(np.float32)
    attention = PrototypeAttention(
        means=means, languages=languages, counts=(400,) * len(languages),
        spreads=np.ones(len(languages), dtype=np.float32), temperature=0.05, tag_evidence=4.0,
        common=0.5,
    )  # fmt: skip
    return Adapter(
        encoder=ENCODER, dim=DIM, steps=(attention, LinearMap(matrix=np.eye(DIM, dtype=np.float32)))
    )


def vectors(n: int, *, first: int = 0, turn: float = 0.0, name: str = "p.tsv") -> PairVectors:
    pairs = Pairs(name, "sw", "en", [""] * n, [""] * n, list(range(2, n + 2)))
    return PairVectors(pairs, world("sw-Latn", n, first=first, turn=turn), world("en-Latn", n, first=first))


@pytest.mark.parametrize("method", ["ridge", "procrustes", "memory"])
def test_pairs_improve_on_the_start_where_the_sides_are_turned(method: str) -> None:
    start = base(*LANGUAGES)
    found = fit_pairs(
        method,  # type: ignore[arg-type]
        start,
        vectors(400, turn=0.2),
        dev=vectors(150, first=500, turn=0.2),
        blend=1.0,
    )
    raw, begun, done = (sum(found.figures[name]) for name in ("raw", "start", "adapter"))
    assert raw < begun < done
    again = from_bytes(found.adapter.blob, encoder=ENCODER)
    assert again.version == found.adapter.version
    assert again.report["pairs"] == 400


def test_a_ridge_of_few_pairs_stays_near_its_prior_and_procrustes_warns() -> None:
    start, few, dev = base(*LANGUAGES), vectors(6), vectors(150, first=500)
    told: list[str] = []
    ridge = fit_pairs("ridge", start, few, dev=dev, warn=told.append)
    assert told == []
    orthogonal = fit_pairs("procrustes", start, few, dev=dev, blend=1.0, warn=told.append)
    assert "below 160 it fits the noise" in told[0]
    assert sum(orthogonal.figures["adapter"]) < sum(ridge.figures["adapter"])
    assert sum(ridge.figures["adapter"]) >= sum(ridge.figures["start"]) - 2.0


def test_the_identity_is_given_the_means_of_both_sides() -> None:
    found = fit_pairs("ridge", identity(ENCODER, DIM), vectors(300), dev=vectors(150, first=500))
    assert [item.kind for item in found.adapter.steps] == ["language-centre", "language-maps"]
    assert sum(found.figures["adapter"]) > sum(found.figures["raw"])


def test_a_memory_holds_the_pairs_behind_the_start() -> None:
    found = fit_pairs("memory", base(*LANGUAGES), vectors(20)).adapter
    memory = found.steps[-1]
    assert isinstance(memory, TranslationMemory)
    assert len(memory) == 20
    fit = vectors(20)
    moved = found.transform_many(fit.source, Context(language="sw"))
    before = base(*LANGUAGES).transform_many(fit.source, Context(language="sw"))
    goal = base(*LANGUAGES).transform_many(fit.target, Context(language="en"))
    assert np.einsum("ij,ij->i", moved, goal).mean() > np.einsum("ij,ij->i", before, goal).mean()


def test_a_second_fit_of_a_language_builds_on_the_first_and_touches_no_other() -> None:
    start = fit_pairs("ridge", base(*LANGUAGES), vectors(300, turn=0.2), strength=1.0).adapter
    again = fit_pairs("ridge", start, vectors(300, first=300, turn=0.2), strength=1e6).adapter
    X = world("sw-Latn", 20, first=900, turn=0.2)
    # So strong a prior is no change at all: the first map must still be there.
    np.testing.assert_allclose(
        again.transform_many(X, Context("sw")), start.transform_many(X, Context("sw")), atol=1e-4
    )
    memory = fit_pairs("memory", start, vectors(20)).adapter
    behind = fit_pairs("ridge", memory, renamed(vectors(300), "zu"), strength=1.0).adapter
    assert (
        behind.transform_many(X, Context("sw")).tobytes() == memory.transform_many(X, Context("sw")).tobytes()
    )


def renamed(pairs: PairVectors, language: str) -> PairVectors:
    return dataclasses.replace(pairs, pairs=dataclasses.replace(pairs.pairs, source_language=language))


def test_development_pairs_of_another_language_are_refused() -> None:
    dev = renamed(vectors(60, first=500, name="dev.tsv"), "zu")
    with pytest.raises(AdapterError, match=r"dev\.tsv holds pairs of zu and en, but p\.tsv of sw and en"):
        fit_pairs("ridge", base(*LANGUAGES), vectors(60), dev=dev)


def test_self_learning_finds_the_pairs_of_comparable_texts_and_refuses_others() -> None:
    start = base(*LANGUAGES)
    X, Y = world("sw-Latn", 300, turn=0.12), world("en-Latn", 300)
    order = np.random.default_rng(0).permutation(300)
    adapter = fit_unpaired(start, X, Y[order], ("sw", "en"))
    assert adapter.report["comparable"] > 0.3
    dev = vectors(150, first=500, turn=0.12)
    figures = [
        (item.transform_many(dev.source, Context("sw")) @ item.transform_many(dev.target, Context("en")).T)
        .argmax(axis=1)
        .tolist()
        for item in (start, adapter)
    ]
    right = [sum(found == row for row, found in enumerate(item)) for item in figures]
    assert right[1] > right[0]
    with pytest.raises(NotComparable, match="use comparable texts, or pairs"):
        fit_unpaired(start, X, world("en-Latn", 300, first=1300), ("sw", "en"))
    for n in (50, 120, 300):
        with pytest.raises(NotComparable):
            fit_unpaired(start, X[:n], world("en-Latn", n, first=1300), ("sw", "en"))
    with pytest.raises(AdapterError, match="at least 50 texts"):
        fit_unpaired(start, X[:10], Y, ("sw", "en"))


def test_mutual_neighbours_of_a_shuffled_copy_are_the_shuffle() -> None:
    X = world("en-Latn", 60).astype(np.float64)
    order = np.random.default_rng(1).permutation(60)
    found = mutual_neighbours(X, X[order])
    assert found.source.tolist() == list(range(60))
    assert order[found.target].tolist() == list(range(60))


def examples(n_texts: int, n_pairs: int, *, turn: float = 0.0, is_wrong: bool = False) -> LanguageExamples:
    target = world("en-Latn", n_pairs)
    return LanguageExamples(
        language="sw",
        texts=world("sw-Latn", max(n_texts, n_pairs), turn=turn),
        source=world("sw-Latn", n_pairs, turn=turn),
        target=target[::-1].copy() if is_wrong else target,
        target_language="en",
        distractors=world("en-Latn", 60, first=1500),
    )


def test_a_language_without_examples_borrows_from_its_relatives() -> None:
    start = base("en-Latn", "zu-Latn", "xh-Latn")
    found = onboard(start, examples(0, 0))
    attention = found.adapter.steps[0]
    assert isinstance(attention, PrototypeAttention)
    assert attention.languages[-1] == "sw-Latn"
    np.testing.assert_allclose(attention.means[-1], attention.means[1:3].mean(axis=0), atol=1e-6)
    assert "2 related languages (CLDR group bnt)" in found.attempts[0].reason
    alone = onboard(base("en-Latn", "ja-Jpan"), examples(0, 0))
    assert alone.adapter.version == base("en-Latn", "ja-Jpan").version
    assert "attention serves it already" in alone.attempts[0].reason


def test_text_gives_a_prototype_and_pairs_a_correction() -> None:
    start = base("en-Latn", "zu-Latn", "xh-Latn")
    texts = onboard(start, examples(200, 0))
    assert [step.is_taken for step in texts.attempts] == [True, False]
    pairs = onboard(start, examples(0, 450, turn=0.2))
    assert [step.is_taken for step in pairs.attempts] == [True, True]
    maps = pairs.adapter.steps[-1]
    assert isinstance(maps, LanguageMaps)
    assert maps.languages == ("sw-Latn",)
    assert sum(after - before for before, after in pairs.figures.values()) > 0
    # Other languages and texts without a tag stay where the prototypes put them.
    X = world("zu-Latn", 5)
    without = dataclasses.replace(pairs.adapter, steps=pairs.adapter.steps[:-1])
    for tag in ("zu", None):
        context = Context(language=tag)
        assert (
            pairs.adapter.transform_many(X, context).tobytes() == without.transform_many(X, context).tobytes()
        )
    assert from_bytes(pairs.adapter.blob).version == pairs.adapter.version


@pytest.mark.parametrize("n", [30, 450])
def test_pairs_that_translate_nothing_are_refused(n: int) -> None:
    with pytest.raises(AdapterError, match="these are not translations"):
        onboard(base(*LANGUAGES), examples(0, n, is_wrong=True))


def test_a_step_that_harms_is_not_taken_unless_forced() -> None:
    """Half of the texts are of another language: as a prototype they would pull everything away."""
    mixed = dataclasses.replace(examples(0, 300), texts=world("qq-Latn", 6000 // 20) * np.float32(-1.0))
    start = base("en-Latn", "zu-Latn", "xh-Latn")
    found = onboard(start, mixed)
    assert not found.attempts[0].is_taken
    forced = onboard(start, mixed, force=True)
    assert forced.attempts[0].is_taken
    assert "(forced)" in forced.attempts[0].reason
    assert forced.adapter.report["forced"] is True


def test_what_cannot_be_onboarded_is_said() -> None:
    with pytest.raises(AdapterError, match="is not a tag of a language"):
        onboard(base(*LANGUAGES), dataclasses.replace(examples(5, 0), language="x!"))
    with pytest.raises(AdapterError, match="has no prototypes"):
        onboard(identity(ENCODER, DIM), examples(5, 0))


def test_no_pair_is_judged_with_what_it_gave_itself() -> None:
    """A source that appears in its own prototype or map alone gains nothing: each fold is fitted without it."""
    start = base("en-Latn", "zu-Latn", "xh-Latn")
    given = examples(0, 40, turn=0.2)
    found = onboard(start, given)
    rows = np.arange(40) % 2 == 0
    rest = given.without(rows)
    assert len(rest.source) == 20
    assert not {row.tobytes() for row in rest.texts} & {row.tobytes() for row in given.source[rows]}
    assert set(found.figures) == {"to target", "from target"}
    before, after = found.attention
    assert before[0][0] != "sw-Latn"
    assert after[0][0] == "sw-Latn"


def test_relatives_come_from_the_groups_of_cldr() -> None:
    assert ancestry("swa")[0] == "bnt"
    assert ancestry("sw-KE") == ancestry("swh_Latn")
    assert ancestry("ko") == []
    assert ancestry("not a tag") == []
    assert relatives("de", ["en-Latn", "nl-Latn", "fr-Latn", "sw-Latn"]) == ("gmw", ["en-Latn", "nl-Latn"])
    assert relatives("de", ["en-Latn", "fr-Latn", "sw-Latn"]) == ("ine", ["en-Latn", "fr-Latn"])
    assert relatives("ko", list(LANGUAGES)) == (None, [])


def parallel(name: str, n: int, *, first: int) -> ParallelVectors:
    return ParallelVectors(
        name, "en", {tag: world(f"{tag}-Latn", n, first=first) for tag in ("en", "sw", "zu", "xh")}
    )


def test_attention_is_fitted_to_text_and_a_pooled_map_to_translations() -> None:
    texts = {tag: world(f"{tag}-Latn", 200, first=800) for tag in ("en", "sw", "zu", "xh")}
    dev, test = parallel("dev", 60, first=300), parallel("test", 60, first=400)
    plain, _ = fit_attention(texts, encoder=ENCODER)
    assert [item.kind for item in plain.steps] == ["prototype-attention"]
    assert plain.report["settings_from"] == "those of the shipped adapter"
    adapter, reports = fit_attention(
        texts, encoder=ENCODER, parallel=parallel("fit", 250, first=0), dev=dev, test=test
    )
    assert [item.kind for item in adapter.steps] == ["prototype-attention", "linear-map"]
    assert [item.use for item in reports] == [USED_TO_CHOOSE, NOT_USED]
    mixed = reports[1].mean(MIXED_POOL)
    assert mixed.adapter > mixed.raw + 5.0
    assert adapter.report["settings_from"] == "chosen on dev"
    assert len(adapter.report["trials"]) == 12
    assert from_bytes(adapter.blob, encoder=ENCODER).version == adapter.version


def test_parallel_lines_that_slipped_are_refused() -> None:
    texts = {tag: world(f"{tag}-Latn", 200, first=800) for tag in ("en", "sw", "zu", "xh")}
    whole = parallel("fit.tsv", 60, first=0)
    slipped = np.concatenate([whole.vectors["zu"][:30], whole.vectors["zu"][31:], whole.vectors["zu"][:1]])
    broken = dataclasses.replace(whole, vectors={**whole.vectors, "zu": slipped}, lines=range(2, 62))
    with pytest.raises(AdapterError, match=r"fit\.tsv, line 32: from here to line 60"):
        fit_attention(texts, encoder=ENCODER, parallel=broken)
    fit_attention(texts, encoder=ENCODER, parallel=whole)


def test_tags_that_name_one_language_or_none_are_refused() -> None:
    X = world("en-Latn", 5)
    with pytest.raises(AdapterError, match=r"por_Latn, pt-BR name the same language \(pt-Latn\)"):
        fit_attention({"pt-BR": X, "por_Latn": X, "en": X}, encoder=ENCODER)
    with pytest.raises(AdapterError, match="'und' is not a tag of a language"):
        fit_attention({"und": X, "en": X}, encoder=ENCODER)
