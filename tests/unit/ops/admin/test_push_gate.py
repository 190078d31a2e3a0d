"""The gate of publishing: what passes, what is refused, what falls back, and that it says why."""

import numpy as np
import pytest

from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.arrays import Matrix
from alignstream.models.fit.closed_form import low_rank_factors
from alignstream.ops.admin.push_gate import GateEvidence, judge

DIM = 24
ENCODER = "e" * 64
TAGS = ("en", "de", "yo", "sw", "ja", "hi", "fi", "tr")


def unit(X: np.ndarray) -> Matrix:
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def translations() -> dict[str, Matrix]:
    """Return 40 meanings in each language, with little noise: nearly every translation is found."""
    generator = np.random.default_rng(0)
    meanings = generator.normal(size=(40, DIM))
    return {tag: unit(meanings + 0.1 * generator.normal(size=meanings.shape)) for tag in TAGS}


def turned() -> np.ndarray:
    """Return a rotation that leaves nothing where it was."""
    Q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(DIM, DIM)))
    return Q


def with_own_map(tags: dict[str, np.ndarray]) -> Adapter:
    factors = [low_rank_factors(W - np.eye(DIM), DIM) for W in tags.values()]
    maps = LanguageMaps(
        left=np.stack([left for left, _ in factors]),
        right=np.stack([right for _, right in factors]),
        languages=tuple(str(language_key(tag)) for tag in tags),
    )
    return Adapter(encoder=ENCODER, dim=DIM, steps=(LinearMap(matrix=np.eye(DIM, dtype=np.float32)), maps))


def test_an_adapter_that_changes_nothing_passes() -> None:
    report = judge(identity(ENCODER, DIM), None, GateEvidence(translations()))
    assert report.is_accepted, report.reasons
    assert not report.fell_back


def test_a_language_whose_own_map_loses_its_translations_falls_back_and_the_others_keep_theirs() -> None:
    candidate = with_own_map({"yo": turned(), "sw": 1.01 * np.eye(DIM)})
    report = judge(candidate, None, GateEvidence(translations()))
    assert report.is_accepted, report.reasons
    assert list(report.fell_back) == ["yo"]
    assert "yo falls back" in report.reasons[0]
    maps = report.adapter.steps[1]
    assert isinstance(maps, LanguageMaps)
    assert maps.languages == ("sw-Latn",)
    assert report.adapter.report["fell_back"] == report.fell_back
    # What is left is the candidate to the last bit, for every other language.
    x = translations()["sw"][0]
    assert report.adapter.steps[0] is candidate.steps[0]
    np.testing.assert_array_equal(report.adapter.transform_one(x), candidate.transform_one(x))


def test_a_map_for_all_that_loses_translations_is_refused_for_there_is_nothing_to_fall_back_to() -> None:
    broken = np.diag(np.r_[np.ones(1), np.full(DIM - 1, 1e-3)]).astype(np.float32)
    candidate = Adapter(encoder=ENCODER, dim=DIM, steps=(LinearMap(matrix=broken),))
    report = judge(candidate, None, GateEvidence(translations()))
    assert not report.is_accepted
    assert not report.fell_back
    assert report.adapter is candidate


def test_an_adapter_is_judged_against_what_it_replaces() -> None:
    bad = Adapter(
        encoder=ENCODER,
        dim=DIM,
        steps=(LinearMap(matrix=np.diag(np.r_[np.ones(2), np.zeros(DIM - 2)]).astype(np.float32)),),
    )
    better = judge(identity(ENCODER, DIM), bad, GateEvidence(translations()))
    assert better.is_accepted
    assert bad.version in better.reasons[0]
    assert not judge(bad, identity(ENCODER, DIM), GateEvidence(translations())).is_accepted


@pytest.mark.parametrize(("kept", "is_accepted"), [(1.0, True), (0.3, False)])
def test_peoples_scores_refuse_an_adapter_that_loses_similarity_within_a_language(
    kept: float, *, is_accepted: bool
) -> None:
    generator = np.random.default_rng(1)
    # Half of the numbers say how alike two texts are; the adapter may shrink just these.
    first = generator.normal(size=(200, DIM))
    nearness = generator.random(200)
    second = nearness[:, None] * first + (1 - nearness[:, None]) * generator.normal(size=(200, DIM))
    second[:, DIM // 2 :] = generator.normal(size=(200, DIM // 2))
    scored = {"de": ScoredVectors(unit(first), unit(second), nearness)}
    matrix = np.diag(np.r_[np.full(DIM // 2, kept), np.ones(DIM // 2)]).astype(np.float32)
    candidate = Adapter(encoder=ENCODER, dim=DIM, steps=(LinearMap(matrix=matrix),))
    without, with_scores = (
        judge(candidate, None, evidence)
        for evidence in (GateEvidence(translations()), GateEvidence(translations(), scored))
    )
    assert with_scores.is_accepted is is_accepted, with_scores.reasons
    assert "similarity within de" in with_scores.reasons[-1]
    assert not any("similarity within" in reason for reason in without.reasons)
