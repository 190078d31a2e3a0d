"""Fit the language-free default adapter: vectors of texts by language in, an adapter with its report out."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.parallel import Parallel
from alignstream.export.data.texts import Texts
from alignstream.export.data.vector_sets import DevTexts
from alignstream.export.evaluate.measures import transform_of, transformed
from alignstream.export.evaluate.set_report import SetReport, aligned_labels, judge, measure
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError
from alignstream.models.fit.projection import fit_default, language_means

#: Without development texts: as many directions as served 27 languages best when the method was measured,
#: and never more than half of the languages, as the last directions of few means are chance.
DEFAULT_RANK: Final = 15
#: Ranks that are tried; those not below the number of languages are left out.
RANKS: Final = (0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 25, 30, 36, 42, 50, 60, 80, 100)
#: Of ranks this close to the best, the smallest is taken: every direction removed takes some meaning along.
CLOSE_POINTS: Final = 0.1

USED_TO_CHOOSE: Final = "used to choose settings"
NOT_USED: Final = "not used to fit or to choose"


class RankTrial(msgspec.Struct, frozen=True):
    """One rank on the development texts: the adapter's figures, averaged over languages, in points."""

    rank: int
    score: float
    measures: dict[str, float]


def default_rank(n_languages: int) -> int:
    """Return the rank without development texts: 15, or half the number of languages if that is less.

    Examples
    --------
    >>> [default_rank(n) for n in (3, 27, 200)]
    [1, 13, 15]
    """
    return min(DEFAULT_RANK, n_languages // 2)


def fit_adapter(
    means: NDArray[np.float64], *, rank: int, encoder: str, report: Mapping[str, Any] | None = None
) -> Adapter:
    """Fit centre and low-rank projection to language means.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float64
    rank : int
        Directions to remove.
    encoder : str
        Fingerprint of the encoder of the vectors.
    report : mapping, optional
        Kept with the adapter: JSON values only.

    Raises
    ------
    AdapterError
        The rank is out of range.
    """
    steps = fit_default(means, rank=rank)
    return Adapter(encoder=encoder, dim=means.shape[1], steps=steps, report=report or {})


def choose_rank(means: NDArray[np.float64], dev: DevTexts) -> tuple[int, list[RankTrial]]:
    """Choose the rank on development texts.

    The score of a rank is the plain average of retrieval to the pivot, from the pivot, the mixed pool and,
    where labels are known, label accuracy. The smallest rank within ``CLOSE_POINTS`` of the best score wins.

    Returns
    -------
    rank : int
    trials : list of RankTrial
        All that were tried, by rank.
    """
    trials = [try_rank(means, rank, dev) for rank in RANKS if rank < len(means)]
    best = max(trial.score for trial in trials)
    return next(trial.rank for trial in trials if trial.score >= best - CLOSE_POINTS), trials


def try_rank(means: NDArray[np.float64], rank: int, dev: DevTexts) -> RankTrial:
    """Measure one rank on development texts."""
    transform = transform_of(fit_adapter(means, rank=rank, encoder=""))
    figures = measure(transformed(dev.parallel, transform), pivot=dev.pivot)
    if dev.labelled is not None:
        labelled = aligned_labels(dev.labelled, transform)
        figures |= measure(transformed(dev.topical, transform), labelled=labelled)
    measures = {name: statistics.fmean(by_language.values()) for name, by_language in figures.items()}
    return RankTrial(rank=rank, score=statistics.fmean(measures.values()), measures=measures)


def fit_from_texts(
    texts: Texts,
    cache: EmbeddingCache,
    *,
    encoder: str,
    rank: int | None = None,
    dev: Parallel | None = None,
    test: Parallel | None = None,
) -> tuple[Adapter, list[SetReport]]:
    """Fit an adapter to people's own texts.

    Parameters
    ----------
    texts : Texts
        Monolingual texts by language.
    cache : EmbeddingCache
        Gives the vectors.
    encoder : str
        Fingerprint of the encoder.
    rank : int, optional
        Directions to remove. Default: chosen on ``dev``, or ``default_rank``.
    dev : Parallel, optional
        Parallel texts to choose the rank on, and to report on as such.
    test : Parallel, optional
        Parallel texts to report on only.

    Returns
    -------
    adapter : Adapter
        With its report.
    reports : list of SetReport
        One for each of ``dev`` and ``test``.

    Raises
    ------
    AdapterError
        The rank is out of range, or vectors are not finite.
    """
    vectors = _embed(cache, "fit", texts.by_language)
    languages, means = language_means(vectors)
    if rank is not None and not 0 <= rank < len(languages):
        raise AdapterError(
            f"--rank must lie between 0 and {len(languages) - 1} for {len(languages)} languages"
        )
    trials: list[RankTrial] = []
    how = "given"
    raw_dev = _embed(cache, "dev", dev.by_language) if dev else {}
    if rank is None and dev is not None:
        rank, trials = choose_rank(means, DevTexts(parallel=raw_dev, pivot=dev.pivot))
        how = f"chosen on {dev.name}"
    elif rank is None:
        rank = default_rank(len(languages))
        how = "default: 15, at most half the number of languages"
    transform = transform_of(fit_adapter(means, rank=rank, encoder=encoder))
    reports = []
    if dev is not None:
        use = USED_TO_CHOOSE if trials else NOT_USED
        reports.append(judge(dev.name, raw_dev, transform, use=use, pivot=dev.pivot))
    if test is not None:
        raw_test = _embed(cache, "test", test.by_language)
        reports.append(judge(test.name, raw_test, transform, use=NOT_USED, pivot=test.pivot))
    own_report = {
        "method": "centre and low-rank projection",
        "texts": {language: len(vectors[language]) for language in languages},
        "rank": rank,
        "rank_from": how,
        "trials": [[trial.rank, round(trial.score, 2)] for trial in trials],
        "sets": [report.summary() for report in reports],
    }
    return fit_adapter(means, rank=rank, encoder=encoder, report=own_report), reports


def _embed(cache: EmbeddingCache, part: str, by_language: Mapping[str, Sequence[str]]) -> dict[str, Matrix]:
    sets = {f"{part}.{language}": texts for language, texts in by_language.items()}
    vectors = cache.embed_with_progress(sets, title=f"encoding {part} texts")
    return {language: vectors[f"{part}.{language}"] for language in by_language}
