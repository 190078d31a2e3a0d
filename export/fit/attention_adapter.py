"""Fit prototypes to people's own text, and a pooled map to their own translations: the shipped method at home."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from alignstream.export.data.pair_checks import PairVectors, check_pairs
from alignstream.export.data.pairs import Pairs
from alignstream.export.evaluate.set_report import SetReport, judge, measure, transform_of
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
        Of the set.
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
    keys = [language_key(tag) for tag in tags]
    for tag, key in zip(tags, keys, strict=True):
        if key is None:
            raise AdapterError(f"{tag!r} is not a tag of a language, such as 'sw' or 'zh-Hant'")
        if keys.count(key) > 1:
            same = ", ".join(name for name, other in zip(tags, keys, strict=True) if other == key)
            raise AdapterError(f"{same} name the same language ({key}); put their texts together")
    commons = COMMONS if dev is not None else (DEFAULT_COMMON,)
    strengths = (STRENGTHS if dev is not None else (DEFAULT_STRENGTH,)) if parallel is not None else (None,)
    plain = PrototypeAttention(
        means=means.astype(np.float32),
        languages=tuple(map(str, keys)),
        counts=tuple(len(texts[tag]) for tag in tags),
        spreads=np.ones(len(tags), dtype=np.float32),
        temperature=TEMPERATURE,
        tag_evidence=TAG_EVIDENCE,
    )
    for item in (parallel, dev, test):
        if item is not None:
            _check(item, Adapter(encoder=encoder, dim=plain.dim, steps=(plain,)))
    spreads = _spreads(plain, texts)
    sums = pair_sums(plain, parallel.vectors, parallel.pivot) if parallel is not None else {}
    trials: list[tuple[float, float, float | None, Adapter]] = []
    for common in commons:
        first = dataclasses.replace(plain, common=common, spreads=spreads)
        for strength in strengths:
            steps: tuple[Step, ...] = (first,)
            if strength is not None:
                steps = (first, pooled_map(first, [(sums, 1.0)], strength=strength))
            adapter = Adapter(encoder=encoder, dim=means.shape[1], steps=steps)
            trials.append((_score(adapter, dev) if dev is not None else 0.0, common, strength, adapter))
    score, common, strength, adapter = max(trials, key=lambda trial: trial[0])
    reports = [
        judge(item.name, item.vectors, transform_of(adapter), use=use, pivot=item.pivot)
        for item, use in ((dev, USED_TO_CHOOSE), (test, NOT_USED))
        if item is not None
    ]
    report: dict[str, Any] = {
        "method": "attention over language prototypes"
        + (", and a pooled map" if parallel is not None else ""),
        "texts": {tag: len(texts[tag]) for tag in tags},
        "parallel_lines": 0 if parallel is None else len(parallel.vectors[parallel.pivot]),
        "common": common,
        "strength": strength,
        "settings_from": f"chosen on {dev.name}" if dev is not None else "those of the shipped adapter",
        "trials": [[common, strength, round(score, 2)] for score, common, strength, _ in trials],
        "sets": [item.summary() for item in reports],
    }
    del score
    return dataclasses.replace(adapter, report=report), reports


def _spreads(plain: PrototypeAttention, texts: Mapping[str, Matrix]) -> Matrix:
    """Return the spreads of languages in sorted order of their tags; few texts say little of their language's."""
    found = fit_spreads(plain, texts)
    usual = float(np.mean(list(found.values())))
    shrunk = [
        (len(texts[tag]) * spread + SPREAD_TEXTS * usual) / (len(texts[tag]) + SPREAD_TEXTS)
        for tag, spread in sorted(found.items())
    ]
    return np.array(shrunk, dtype=np.float32)


def _check(item: ParallelVectors, adapter: Adapter) -> None:
    """Refuse what pairs of the pivot with each other language are refused for."""
    pivot = item.vectors[item.pivot]
    lines = list(item.lines) or list(range(1, len(pivot) + 1))
    blank = [""] * len(pivot)
    for tag, X in item.vectors.items():
        if tag != item.pivot:
            check_pairs(
                PairVectors(Pairs(item.name, tag, item.pivot, blank, blank, lines), X, pivot), adapter
            )


def _score(adapter: Adapter, dev: ParallelVectors) -> float:
    transform = transform_of(adapter)
    found = measure({tag: transform(X, tag) for tag, X in dev.vectors.items()}, pivot=dev.pivot)
    figures = list(itertools.chain.from_iterable(by_language.values() for by_language in found.values()))
    return sum(figures) / len(figures)
