"""Fit prototypes to own texts, and a pooled map to own translations: the method of the shipped adapter."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from alignstream.export.data.pair_checks import PairVectors, check_pairs
from alignstream.export.data.pairs import Pairs
from alignstream.export.evaluate.measures import transform_of, transformed
from alignstream.export.evaluate.set_report import SetReport, judge, measure
from alignstream.export.fit.default_adapter import NOT_USED, USED_TO_CHOOSE
from alignstream.export.fit.pooled_map import pair_sums, pooled_map
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import Step
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError
from alignstream.models.fit.projection import language_means
from alignstream.models.fit.spreads import fit_spreads

#: As chosen for the shipped adapter; ``dev`` chooses among the others.
DEFAULT_COMMON: Final = 0.7
DEFAULT_STRENGTH: Final = 1.5
COMMONS: Final = (0.5, 0.7, 0.9)
STRENGTHS: Final = (0.5, 1.5, 5.0, 15.0)
TEMPERATURE: Final = 0.05
TAG_EVIDENCE: Final = 4.0
#: Texts that the average spread of the languages is worth.
SPREAD_TEXTS: Final = 20.0


@dataclasses.dataclass(frozen=True)
class ParallelVectors:
    """Raw vectors of the same texts in several languages.

    Parameters
    ----------
    name : str
        Name of the set.
    pivot : str
        The language that the others are mapped and compared to.
    vectors : mapping of str to ndarray of shape (n_lines, dim), float32
        By tag, row by row translations.
    lines : sequence of int
        Lines of the rows in their file, for errors; none counts from 1.
    """

    name: str
    pivot: str
    vectors: Mapping[str, Matrix]
    lines: Sequence[int] = ()


class AttentionTrial(NamedTuple):
    """One choice of settings.

    Parameters
    ----------
    score : float
        On development texts, in points; 0 without them.
    common : float
        Share of the common part that stays.
    strength : float or None
        λ of the pooled map; None without one.
    adapter : Adapter
        The adapter of these settings.
    """

    score: float
    common: float
    strength: float | None
    adapter: Adapter


def fit_attention(
    texts: Mapping[str, Matrix],
    *,
    encoder: str,
    parallel: ParallelVectors | None = None,
    dev: ParallelVectors | None = None,
    test: ParallelVectors | None = None,
) -> tuple[Adapter, list[SetReport]]:
    """Fit attention over the prototypes of languages, and a map pooled over their translations.

    Parameters
    ----------
    texts : mapping of str to ndarray of shape (n, dim), float32
        Raw vectors of monolingual texts by tag.
    encoder : str
        Fingerprint of the encoder.
    parallel : ParallelVectors, optional
        Translations to fit the map to; without them there is none.
    dev : ParallelVectors, optional
        Chooses the share of the common part and the strength of the ridge.
    test : ParallelVectors, optional
        Is reported on only.

    Returns
    -------
    adapter : Adapter
        With its report.
    reports : list of SetReport
        One for each of ``dev`` and ``test``.

    Raises
    ------
    AdapterError
        A tag names no language, or two tags name the same one; or lines of parallel texts slipped, or are no
        translations.
    """
    tags, means = language_means(texts)
    plain = PrototypeAttention(
        means=means.astype(np.float32),
        languages=_keys(tags),
        counts=tuple(len(texts[tag]) for tag in tags),
        spreads=np.ones(len(tags), dtype=np.float32),
        temperature=TEMPERATURE,
        tag_evidence=TAG_EVIDENCE,
    )
    for vectors in (parallel, dev, test):
        if vectors is not None:
            _check(vectors, Adapter(encoder=encoder, dim=plain.dim, steps=(plain,)))
    trials = list(_trials(plain, texts, encoder=encoder, parallel=parallel, dev=dev))
    chosen = max(trials, key=lambda trial: trial.score)
    reports = [
        judge(vectors.name, vectors.vectors, transform_of(chosen.adapter), use=use, pivot=vectors.pivot)
        for vectors, use in ((dev, USED_TO_CHOOSE), (test, NOT_USED))
        if vectors is not None
    ]
    report: dict[str, Any] = {
        "method": "attention over language prototypes"
        + (", and a pooled map" if parallel is not None else ""),
        "texts": {tag: len(texts[tag]) for tag in tags},
        "parallel_lines": 0 if parallel is None else len(parallel.vectors[parallel.pivot]),
        "common": chosen.common,
        "strength": chosen.strength,
        "settings_from": f"chosen on {dev.name}" if dev is not None else "those of the shipped adapter",
        "trials": [[trial.common, trial.strength, round(trial.score, 2)] for trial in trials],
        "sets": [report.summary() for report in reports],
    }
    return dataclasses.replace(chosen.adapter, report=report), reports


def _keys(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the languages of tags; refuse a tag that names none, and two that name the same."""
    keys = [language_key(tag) for tag in tags]
    for tag, key in zip(tags, keys, strict=True):
        if key is None:
            raise AdapterError(f"{tag!r} is not a tag of a language, such as 'sw' or 'zh-Hant'")
        if keys.count(key) > 1:
            same = ", ".join(name for name, other in zip(tags, keys, strict=True) if other == key)
            raise AdapterError(f"{same} name the same language ({key}); put their texts together")
    return tuple(map(str, keys))


def _trials(
    plain: PrototypeAttention,
    texts: Mapping[str, Matrix],
    *,
    encoder: str,
    parallel: ParallelVectors | None,
    dev: ParallelVectors | None,
) -> Iterator[AttentionTrial]:
    """Yield every choice of settings; a single one without development texts."""
    commons = COMMONS if dev is not None else (DEFAULT_COMMON,)
    strengths: tuple[float | None, ...] = (None,)
    if parallel is not None:
        strengths = STRENGTHS if dev is not None else (DEFAULT_STRENGTH,)
    spreads = _spreads(plain, texts)
    sums = pair_sums(plain, parallel.vectors, parallel.pivot) if parallel is not None else {}
    for common in commons:
        attention = dataclasses.replace(plain, common=common, spreads=spreads)
        for strength in strengths:
            steps: tuple[Step, ...] = (attention,)
            if strength is not None:
                steps = (attention, pooled_map(attention, [(sums, 1.0)], strength=strength))
            adapter = Adapter(encoder=encoder, dim=plain.dim, steps=steps)
            score = _score(adapter, dev) if dev is not None else 0.0
            yield AttentionTrial(score, common, strength, adapter)


def _spreads(plain: PrototypeAttention, texts: Mapping[str, Matrix]) -> Matrix:
    """Return the spreads of languages in sorted order of their tags, shrunk where texts are few."""
    spreads = fit_spreads(plain, texts)
    usual = float(np.mean(list(spreads.values())))
    shrunk = [
        (len(texts[tag]) * spread + SPREAD_TEXTS * usual) / (len(texts[tag]) + SPREAD_TEXTS)
        for tag, spread in sorted(spreads.items())
    ]
    return np.array(shrunk, dtype=np.float32)


def _check(parallel: ParallelVectors, adapter: Adapter) -> None:
    """Check the pairs of the pivot with each other language (``check_pairs``)."""
    pivot = parallel.vectors[parallel.pivot]
    lines = list(parallel.lines) or list(range(1, len(pivot) + 1))
    blank = [""] * len(pivot)
    for tag, X in parallel.vectors.items():
        if tag != parallel.pivot:
            pairs = Pairs(parallel.name, tag, parallel.pivot, blank, blank, lines)
            check_pairs(PairVectors(pairs, X, pivot), adapter)


def _score(adapter: Adapter, dev: ParallelVectors) -> float:
    by_measure = measure(transformed(dev.vectors, transform_of(adapter)), pivot=dev.pivot)
    figures = [figure for by_language in by_measure.values() for figure in by_language.values()]
    return sum(figures) / len(figures)
