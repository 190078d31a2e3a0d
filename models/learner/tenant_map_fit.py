"""Fit a tenant's own maps to the pairs that it vouches for, on top of an adapter; each map must pass the gate.

``W_l = (XᵀX + λ I)⁻¹ (XᵀY + λ I)`` on aligned vectors: the prior is the adapter itself. The sums ``XᵀX`` and ``XᵀY``
add up pair by pair, in any order and any batches. Solving them at an epoch gives, up to rounding, the result of
recursive least squares without forgetting after the last pair.
"""

import dataclasses
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks.gate import (
    MIN_TRANSLATION_PAIRS,
    MIN_TRANSLATION_SCORE,
    Verdict,
    judge_found,
    judge_meaning,
    translation_score,
)
from alignstream.models.checks.neighbours import N_NEIGHBOURS, neighbours_kept
from alignstream.models.fit.closed_form import PairSums, low_rank_factors, shrunk_by_pairs
from alignstream.models.serving.epoch import Memory, TaggedVectors
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.models.unit_vectors import unit_rows

#: λ: weight of the adapter, in pairs. Of 2, 4, 6, 10 and 20, the lower ones gain most from 100 pairs, and 2 harms some
#: languages with 10 pairs.
PRIOR_WEIGHT: Final = 4.0
#: Fewest pairs of a language for a fit. Three pairs gained 0.2 points on average and cost one language 2.7; five gained
#: 0.5 and cost 1.
MIN_PAIRS: Final = 5
#: Rank of a stored correction. A higher rank gains nothing with 100 pairs, and 0.2 points with 300.
MAX_RANK: Final = 32
#: Folds of pairs; each is held out once.
FOLDS: Final = 10
#: The language that others are moved toward.
PIVOT: Final = "en-Latn"
#: Fewer texts of a language say nothing about which neighbours stay.
MIN_TEXTS: Final = 2 * N_NEIGHBOURS
#: Bytes that a tenant's maps may take in an epoch; the languages with fewest pairs go without.
MAX_MAP_BYTES: Final = 2_500_000


@dataclasses.dataclass(frozen=True, slots=True)
class MapVerdict:
    """The verdict on the map of one language."""

    language: str
    n_pairs: int
    verdict: Verdict


def fit_tenant_map(
    memory: Memory, bank: TaggedVectors, adapter: Adapter
) -> tuple[TenantMap | None, list[MapVerdict]]:
    """Fit and judge a map for each language that a tenant has enough pairs in.

    Parameters
    ----------
    memory : Memory
        Pairs, as encoded.
    bank : TaggedVectors
        Recent texts, as encoded: distractors and neighbours.
    adapter : Adapter
        The adapter that the maps correct.

    Returns
    -------
    tenant_map : TenantMap or None
        The maps that passed; None if none did.
    judged : list of MapVerdict
        A verdict for every language that was fitted, sorted by name.

    Notes
    -----
    A pair moves its source toward its target; if the source is English, the target moves toward the source. Pairs
    whose moving side has no tag are remembered, but fit no map. O(n_languages · folds · dim³).
    """
    pairs = _by_language(memory, adapter)
    texts = _aligned(bank, adapter)
    bank_languages = np.array(bank.languages, dtype=object)
    judged, fitted = [], {}
    for language in sorted(_chosen({name: len(X) for name, (X, _) in pairs.items()}, adapter.dim)):
        X, Y = pairs[language]
        verdict = _judge(
            X, Y, others=texts[bank_languages != language], own=texts[bank_languages == language]
        )
        judged.append(MapVerdict(language, len(X), verdict))
        if verdict.is_accepted:
            fitted[language] = low_rank_factors(fit(X, Y) - np.eye(X.shape[1]), min(MAX_RANK, adapter.dim))
    if not fitted:
        return None, judged
    maps = LanguageMaps(
        left=np.stack([left for left, _ in fitted.values()]),
        right=np.stack([right for _, right in fitted.values()]),
        languages=tuple(fitted),
    )
    return TenantMap(maps, adapter.version), judged


def _chosen(n_pairs: dict[str, int], dim: int) -> list[str]:
    """Return the languages with enough pairs; those with most if an epoch cannot hold maps for all."""
    by_number = sorted(n_pairs, key=lambda name: (-n_pairs[name], name))
    n_at_most = max(1, MAX_MAP_BYTES // (2 * 4 * dim * min(MAX_RANK, dim)))
    return [name for name in by_number if n_pairs[name] >= MIN_PAIRS][:n_at_most]


def fit(X: Matrix, Y: Matrix) -> Array64:
    """Fit the map of shape (dim, dim) from aligned unit vectors X to their translations Y, row by row."""
    dim = X.shape[1]
    return shrunk_by_pairs(PairSums.of(X, Y), strength=PRIOR_WEIGHT * dim, pairs=1.0, prior=np.eye(dim))


def _by_language(memory: Memory, adapter: Adapter) -> dict[str, tuple[Matrix, Matrix]]:
    sources, targets = _aligned(memory.sources, adapter), _aligned(memory.targets, adapter)
    by_language: dict[str, tuple[list[Matrix], list[Matrix]]] = {}
    # In order of ids, so that the order in which pairs came does not change a bit.
    for row in np.argsort(np.array(memory.ids, dtype=object), kind="stable"):
        language, fixed_language = memory.sources.languages[row], memory.targets.languages[row]
        moved, fixed = sources[row], targets[row]
        if language == PIVOT and fixed_language != PIVOT:
            language, fixed_language, moved, fixed = fixed_language, language, fixed, moved
        if language and language != fixed_language:
            X, Y = by_language.setdefault(language, ([], []))
            X.append(moved)
            Y.append(fixed)
    return {language: (np.stack(X), np.stack(Y)) for language, (X, Y) in by_language.items()}


def _aligned(rows: TaggedVectors, adapter: Adapter) -> Matrix:
    vectors = rows.vectors.astype(np.float32)
    if len(vectors) == 0:
        return vectors
    return np.stack(
        [
            adapter.transform_one(x, Context(language=language or None))
            for x, language in zip(vectors, rows.languages, strict=True)
        ]
    )


def _judge(X: Matrix, Y: Matrix, *, others: Matrix, own: Matrix) -> Verdict:
    """Judge one language's map on pairs that it was fitted without, and on the neighbours within the language."""
    if len(X) >= MIN_TRANSLATION_PAIRS and (score := translation_score(X, Y)) < MIN_TRANSLATION_SCORE:
        return Verdict(
            False, f"the {len(X)} pairs are not translations: they lie {score:.1f} standard errors nearer than "
            f"shuffled ones; {MIN_TRANSLATION_SCORE:g} are needed", 0.0, 0.0, 0.0,
        )  # fmt: skip
    W = fit(X, Y)
    before = _finds(X, np.concatenate([Y, others]), np.concatenate([X, own]))
    held_out, own_moved = _held_out(X, Y), _mapped(own, W)
    after = _finds(held_out, np.concatenate([Y, others]), np.concatenate([held_out, own_moved]))
    verdict = judge_found(before, after)
    if not verdict.is_accepted:
        return verdict
    texts = own if len(own) >= MIN_TEXTS else X
    if len(texts) >= MIN_TEXTS:
        meaning = judge_meaning(neighbours_kept(texts, _mapped(texts, W)))
        if not meaning.is_accepted:
            return meaning
    return verdict


def _held_out(X: Matrix, Y: Matrix) -> Matrix:
    """Map every row by a matrix fitted without it."""
    n_folds = min(FOLDS, len(X))
    folds = np.arange(len(X)) % n_folds
    mapped = np.empty_like(X)
    for fold in range(n_folds):
        is_out = folds == fold
        mapped[is_out] = _mapped(X[is_out], fit(X[~is_out], Y[~is_out]))
    return mapped


def _mapped(X: Matrix, W: Array64) -> Matrix:
    moved: Matrix = unit_rows(X.astype(np.float64) @ W).astype(np.float32)
    return moved


def _finds(X: Matrix, targets: Matrix, sources: Matrix) -> Array64:
    """Return a score for each pair: half for finding its target first, and half for finding its source first.

    ``targets`` and ``sources`` begin with the pairs, followed by other texts.
    """
    rows = np.arange(len(X))
    to = (X @ targets.T).argmax(axis=1) == rows
    back = (targets[: len(X)] @ sources.T).argmax(axis=1) == rows
    shares: Array64 = (to.astype(np.float64) + back) / 2.0
    return shares


def describe(judged: MapVerdict) -> str:
    """Describe the verdict on one language's map in a line."""
    return f"{judged.language}: {'accepted' if judged.verdict.is_accepted else 'refused'}, {judged.verdict.reason}"
