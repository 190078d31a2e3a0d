"""Fit a map, or a memory, to translations: closed forms that start from another adapter."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np

from alignstream.export.data.pair_checks import PairVectors, check_dev, check_pairs
from alignstream.export.evaluate.measures import FROM_PIVOT, TO_PIVOT, retrieval
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.errors import AdapterError
from alignstream.models.fit.closed_form import (
    MAX_BLEND,
    PROCRUSTES_PAIRS_PER_DIM,
    PairSums,
    is_too_few,
    low_rank_factors,
    procrustes,
    ridge,
)
from alignstream.models.fit.self_learning import self_learn

PairMethod = Literal["ridge", "procrustes", "memory"]

#: Values of λ that are tried on development pairs.
STRENGTHS: Final = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
#: Without development pairs: the strength that did no harm in another domain.
DEFAULT_STRENGTH: Final = 3.0

Warn = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class FittedPairs:
    """A fitted adapter and its report.

    Parameters
    ----------
    adapter : Adapter
    figures : dict of str to (float, float)
        Accuracy both ways on development pairs, in points: of vectors as encoded, of the start, of the result.
    """

    adapter: Adapter
    figures: dict[str, tuple[float, float]]


def fit_pairs(
    method: PairMethod,
    start: Adapter,
    fit: PairVectors,
    *,
    dev: PairVectors | None = None,
    strength: float | None = None,
    blend: float = MAX_BLEND,
    warn: Warn = lambda _: None,
) -> FittedPairs:
    """Fit to pairs.

    Parameters
    ----------
    method : {"ridge", "procrustes", "memory"}
        A map of the source language alone, behind the start: a ridge toward the start itself, or an orthogonal
        map blended with it. Or a translation memory behind the start, for all texts.
    start : Adapter
        The identity has no centre: the means of both languages are taken from the pairs.
    fit, dev : PairVectors
        ``dev`` chooses the strength and is reported on.
    strength : float, optional
        λ of the ridge. Default: chosen on ``dev``, else 3.
    blend : float
        Share of the orthogonal map.
    warn : callable
        Called with each warning.

    Raises
    ------
    AdapterError
        Columns are swapped, lines slipped, numbers are not finite, or a value is out of range.
    """
    check_pairs(fit, start)
    if dev is not None:
        check_dev(fit, dev, start)
    start = start if start.steps else centred(start, fit)
    X, Y = fit.aligned(start)
    key = checked_key(fit.pairs.source_language)
    how = "given"
    if method == "memory":
        adapter = dataclasses.replace(
            start, steps=(*start.steps, TranslationMemory(keys=X, values=Y)), report={}
        )
    elif method == "procrustes":
        sums = PairSums.of(X, Y)
        if is_too_few(len(fit.pairs), sums.dim):
            warn(
                f"{len(fit.pairs)} pairs are few for an orthogonal map of {sums.dim} dimensions: below "
                f"{PROCRUSTES_PAIRS_PER_DIM * sums.dim} it fits the noise and loses translations that vectors as "
                "encoded find; 'fit ridge' does not"
            )
        adapter = with_correction(start, key, procrustes(sums, blend=blend), rank=start.dim)
    else:
        sums = PairSums.of(X, Y)
        candidates = [strength] if strength is not None else list(STRENGTHS) if dev else [DEFAULT_STRENGTH]
        how = "given" if strength is not None else f"chosen on {dev.pairs.name}" if dev else "default"
        made = [
            (value, with_correction(start, key, ridge(sums, strength=value), rank=start.dim))
            for value in candidates
        ]
        strength, adapter = max(made, key=lambda trial: sum(_accuracy(trial[1], dev))) if dev else made[0]
    figures: dict[str, tuple[float, float]] = {}
    if dev is not None:
        raw = Adapter(encoder=start.encoder, dim=start.dim)
        figures = {
            "raw": _accuracy(raw, dev),
            "start": _accuracy(start, dev),
            "adapter": _accuracy(adapter, dev),
        }
    report: dict[str, Any] = {
        "method": method,
        "start": start.version,
        "pairs": len(fit.pairs),
        "languages": [fit.pairs.source_language, fit.pairs.target_language],
        "dev_accuracy": {name: [round(value, 1) for value in values] for name, values in figures.items()},
    }
    if method == "ridge":
        report |= {"strength": strength, "strength_from": how}
    if method == "procrustes":
        report |= {"blend": blend}
    return FittedPairs(dataclasses.replace(adapter, report=report), figures)


def with_correction(adapter: Adapter, key: str, W: Array64, *, rank: int) -> Adapter:
    """Return an adapter that maps the aligned texts of one language further, and no others.

    Parameters
    ----------
    key : str
        The language.
    W : ndarray of shape (dim, dim)
        From the space that the adapter leads to into itself: fitted behind everything that is there already, maps
        of this language included.
    rank : int
        Rank to which ``W - I`` is reduced.
    """
    left, right = low_rank_factors(W - np.eye(len(W)), rank)
    last = adapter.steps[-1] if adapter.steps else None
    if isinstance(last, LanguageMaps) and last.left.shape[2] == rank and key not in last.languages:
        maps = LanguageMaps(
            left=np.concatenate([last.left, left[None]]),
            right=np.concatenate([last.right, right[None]]),
            languages=(*last.languages, key),
        )
        return dataclasses.replace(adapter, steps=(*adapter.steps[:-1], maps), report={})
    maps = LanguageMaps(left=left[None], right=right[None], languages=(key,))
    return dataclasses.replace(adapter, steps=(*adapter.steps, maps), report={})


def fit_unpaired(
    start: Adapter, source: Matrix, target: Matrix, languages: tuple[str, str], *, strength: float = 1.0
) -> Adapter:
    """Fit a map by self-learning from texts that are comparable, but not paired.

    Parameters
    ----------
    source, target : ndarray of shape (n, dim) and (m, dim), float32
        Raw unit vectors of texts in either language, in any order.
    languages : tuple of str
        Their tags.

    Raises
    ------
    NotComparable
        Too few texts have a translation on the other side.
    """
    start = start if start.steps else _centre(start, source, target, languages)
    X, Y = (
        start.transform_many(V, Context(language=tag)).astype(np.float64)
        for V, tag in zip((source, target), languages, strict=True)
    )
    learned = self_learn(X, Y, strength=strength, common=start.common_direction())
    report = {
        "method": "self-learning",
        "start": start.version,
        "languages": list(languages),
        "texts": [len(source), len(target)],
        "comparable": round(learned.comparable, 3),
        "margin": round(learned.margin, 3),
        "pairs_by_round": list(learned.n_pairs),
    }
    adapter = with_correction(start, checked_key(languages[0]), learned.matrix, rank=start.dim)
    return dataclasses.replace(adapter, report=report)


def checked_key(tag: str) -> str:
    """Return the key of a tag; raise ``AdapterError`` where it names no language."""
    key = language_key(tag)
    if key is None:
        raise AdapterError(f"{tag!r} is not a tag of a language, such as 'sw' or 'zh-Hant'")
    return key


def centred(start: Adapter, fit: PairVectors) -> Adapter:
    """Return a start that subtracts the means of both languages, taken from the pairs."""
    tags = (fit.pairs.source_language, fit.pairs.target_language)
    return _centre(start, fit.source, fit.target, tags)


def _centre(start: Adapter, source: Matrix, target: Matrix, tags: tuple[str, str]) -> Adapter:
    keys = tuple(checked_key(tag) for tag in tags)
    means = np.stack([V.mean(axis=0, dtype=np.float64) for V in (source, target)]).astype(np.float32)
    centre = LanguageCentre(means=means, languages=keys, counts=(len(source), len(target)))
    return dataclasses.replace(start, steps=(centre,))


def _accuracy(adapter: Adapter, dev: PairVectors) -> tuple[float, float]:
    """Return the accuracy to the target and from it, in points."""
    X, Y = dev.aligned(adapter)
    both_ways = retrieval({"source": X, "target": Y}, "target")
    return both_ways[TO_PIVOT].figures["source"], both_ways[FROM_PIVOT].figures["source"]
