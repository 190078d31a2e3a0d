"""Fit a map, or a memory, to translations: closed forms that start from another adapter.

What can be told of pairs only from their vectors is refused here: columns that are swapped, and lines that
slipped against each other.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from alignstream.export.pairs import Pairs
from alignstream.models.alignment import gate
from alignstream.models.alignment.adapter import Adapter
from alignstream.models.alignment.closed_form import (
    MAX_BLEND,
    PROCRUSTES_PAIRS_PER_DIM,
    Array64,
    PairSums,
    is_too_few,
    procrustes,
    ridge,
)
from alignstream.models.alignment.context import Context
from alignstream.models.alignment.languages import language_key
from alignstream.models.alignment.linear import LanguageMaps, low_rank
from alignstream.models.alignment.members import Matrix
from alignstream.models.alignment.memory import TranslationMemory
from alignstream.models.alignment.prototypes import LanguageCentre, PrototypeAttention
from alignstream.models.alignment.self_learning import self_learn
from alignstream.models.errors import AdapterError

PairMethod = Literal["ridge", "procrustes", "memory"]

#: What is tried on development pairs.
STRENGTHS: Final = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
#: Without development pairs: the strength that did no harm in another domain.
DEFAULT_STRENGTH: Final = 3.0
#: Lines that a misalignment may have slipped by.
_MAX_SLIP: Final = 3

Warn = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class PairVectors:
    """Pairs and their raw vectors.

    Parameters
    ----------
    pairs : Pairs
    source, target : ndarray of shape (n, dim), float32
        Unit vectors as encoded, row by row translations.
    """

    pairs: Pairs
    source: Matrix
    target: Matrix


@dataclasses.dataclass(frozen=True)
class FittedPairs:
    """The adapter and what is known of it.

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
        Told what a person should know.

    Raises
    ------
    AdapterError
        Columns are swapped, lines slipped, numbers are not finite, or a value is out of range.
    """
    check_pairs(fit, start)
    start = start if start.members else centred(start, fit)
    X, Y = aligned_pairs(start, fit)
    key = key_of(fit.pairs.source_language)
    how = "given"
    if method == "memory":
        adapter = dataclasses.replace(
            start, members=(*start.members, TranslationMemory(keys=X, values=Y)), report={}
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
        strength, adapter = max(made, key=lambda item: sum(_accuracy(item[1], dev))) if dev else made[0]
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
        From the space that the adapter leads to into itself.
    rank : int
        Of what is kept of ``W - I``.
    """
    left, right = low_rank(W - np.eye(len(W)), rank)
    kept = next((item for item in adapter.members if isinstance(item, LanguageMaps)), None)
    members = [item for item in adapter.members if item is not kept]
    found = {key: (left, right)}
    if kept is not None and kept.left.shape[2] == rank:
        found |= {
            name: (kept.left[index], kept.right[index])
            for index, name in enumerate(kept.languages)
            if name != key
        }
    elif kept is not None and set(kept.languages) != {key}:
        raise AdapterError(
            f"the adapter has maps of rank {kept.left.shape[2]} for {', '.join(kept.languages)}; one of rank {rank} "
            "cannot join them: start from another adapter"
        )
    maps = LanguageMaps(
        left=np.stack([item[0] for item in found.values()]),
        right=np.stack([item[1] for item in found.values()]),
        languages=tuple(found),
    )
    return dataclasses.replace(adapter, members=(*members, maps), report={})


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
    start = start if start.members else _centre(start, source, target, languages)
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
        "pairs_by_round": list(learned.n_pairs),
    }
    adapter = with_correction(start, key_of(languages[0]), learned.matrix, rank=start.dim)
    return dataclasses.replace(adapter, report=report)


def check_pairs(fit: PairVectors, start: Adapter) -> None:
    """Refuse pairs whose columns are swapped or whose lines slipped.

    Raises
    ------
    AdapterError
        With the file, the line and what to do.
    """
    pairs = fit.pairs
    attention = next((item for item in start.members if isinstance(item, PrototypeAttention)), None)
    if attention is not None and len(pairs):
        own = [_nearer(attention, V, pairs) for V in (fit.source, fit.target)]
        if own == ["target", "source"]:
            raise AdapterError(
                f"{pairs.name}: the {pairs.source_language} texts look like {pairs.target_language} and the other "
                "way round; were the columns swapped?"
            )
    if len(pairs) >= gate.MIN_TRANSLATION_PAIRS:
        X, Y = aligned_pairs(start, fit)
        _check_slip(pairs, X.astype(np.float64), Y.astype(np.float64))
        check_translations(X, Y, pairs.name)


def check_translations(X: Matrix, Y: Matrix, name: str) -> None:
    """Refuse pairs that do not translate each other.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Aligned unit vectors of the pairs; few are believed.
    """
    if len(X) >= gate.MIN_TRANSLATION_PAIRS and gate.translation_score(X, Y) < gate.MIN_TRANSLATION_SCORE:
        raise AdapterError(
            f"{name}: the two sides are no nearer to each other than to other lines; these are not translations, or "
            "the encoder does not know the language"
        )


def _nearer(attention: PrototypeAttention, vectors: Matrix, pairs: Pairs) -> str | None:
    keys = [language_key(tag) for tag in (pairs.source_language, pairs.target_language)]
    if any(key not in attention.languages for key in keys):
        return None
    mean = vectors.mean(axis=0, dtype=np.float64)
    found = dict(zip(attention.languages, attention.weights(mean), strict=True))
    source, target = (found[str(key)] for key in keys)
    return "source" if source >= target else "target"


def _check_slip(pairs: Pairs, X: Array64, Y: Array64) -> None:
    slips = [slip for slip in range(-_MAX_SLIP, _MAX_SLIP + 1) if abs(slip) < len(X)]
    cosines = np.full((len(slips), len(X)), -np.inf)
    for row, slip in enumerate(slips):
        rows = np.arange(max(0, -slip), min(len(X), len(X) - slip))
        cosines[row, rows] = np.einsum("ij,ij->i", X[rows], Y[rows + slip])
    best: NDArray[np.int64] = np.array(slips)[cosines.argmax(axis=0)]
    for slip in slips:
        share = float((best == slip).mean())
        if slip != 0 and share > 0.5:
            run = np.convolve(best == slip, np.ones(3), mode="valid") == 3
            first = int(np.argmax(run)) if run.any() else int(np.argmax(best == slip))
            raise AdapterError(
                f"{pairs.name}, line {pairs.lines[first]}: from here on, translations stand {abs(slip)} "
                f"line{'s' if abs(slip) > 1 else ''} {'later' if slip > 0 else 'earlier'} on the other side in "
                f"{share:.0%} of the pairs; a line is missing on one side"
            )


def key_of(tag: str) -> str:
    """Return the key of a tag; raise ``AdapterError`` where it names no language."""
    key = language_key(tag)
    if key is None:
        raise AdapterError(f"{tag!r} is not a tag of a language, such as 'sw' or 'zh-Hant'")
    return key


def aligned_pairs(adapter: Adapter, fit: PairVectors) -> tuple[Matrix, Matrix]:
    """Return both sides of pairs as an adapter aligns them, each of shape (n, dim)."""
    return (
        adapter.transform_many(fit.source, Context(language=fit.pairs.source_language)),
        adapter.transform_many(fit.target, Context(language=fit.pairs.target_language)),
    )


def centred(start: Adapter, fit: PairVectors) -> Adapter:
    """Return a start that subtracts the means of both languages, taken from the pairs."""
    tags = (fit.pairs.source_language, fit.pairs.target_language)
    return _centre(start, fit.source, fit.target, tags)


def _centre(start: Adapter, source: Matrix, target: Matrix, tags: tuple[str, str]) -> Adapter:
    keys = tuple(key_of(tag) for tag in tags)
    means = np.stack([V.mean(axis=0, dtype=np.float64) for V in (source, target)]).astype(np.float32)
    centre = LanguageCentre(means=means, languages=keys, counts=(len(source), len(target)))
    return dataclasses.replace(start, members=(centre,))


def _accuracy(adapter: Adapter, dev: PairVectors) -> tuple[float, float]:
    X, Y = aligned_pairs(adapter, dev)
    cosines, rows = X @ Y.T, np.arange(len(X))
    return (
        100.0 * float((cosines.argmax(axis=1) == rows).mean()),
        100.0 * float((cosines.argmax(axis=0) == rows).mean()),
    )
