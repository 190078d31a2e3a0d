"""Intervals and tests for differences between columns: bootstrap over languages, paired tests within each.

Pure and seeded: the same figures and seed give the same numbers. numpy alone.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.models.checks.significance import DRAWS, LEVEL, bootstrap_means, holm, worse_p_value
from alignstream.models.errors import StatisticsError

#: A change of at most this many points is neither a win nor a loss.
TIE_POINTS: Final = 0.5
#: Holm's strictest step of n tests is LEVEL / n, which a bootstrap of few draws could never reach: its least p-value
#: is 1 / (draws + 1). So there are this many draws beyond that step.
_DRAWS_BEYOND: Final = 5
#: Hits among fewer texts than this cannot be told from chance, so nothing is warned of.
_MIN_TEXTS: Final = 10
#: A count of hits is called chance unless chance alone finds as many less often than this.
_CHANCE: Final = 0.01
#: Where a random candidate is right as often as this, hits tell nothing.
_MAX_SHARE: Final = 0.5


class Interval(msgspec.Struct, frozen=True):
    """A mean and its 95 % bootstrap interval, all in the unit of what was averaged.

    ``low`` and ``high`` are None where a single item was averaged: resampling it says nothing.
    """

    mean: float
    low: float | None
    high: float | None


def wins(gains: Mapping[str, float]) -> list[str]:
    """Name the languages that gain more than ``TIE_POINTS`` points, most first.

    Examples
    --------
    >>> wins({"de": 0.6, "fr": 0.5, "sw": 2.0})
    ['sw', 'de']
    """
    return _beyond(gains, sign=1.0)


def losses(gains: Mapping[str, float]) -> list[str]:
    """Name the languages that lose more than ``TIE_POINTS`` points, most first."""
    return _beyond(gains, sign=-1.0)


def _beyond(gains: Mapping[str, float], *, sign: float) -> list[str]:
    beyond = [language for language, gain in gains.items() if sign * gain > TIE_POINTS]
    return sorted(beyond, key=lambda language: (-sign * gains[language], language))


def bootstrap_interval(
    differences: NDArray[np.float64], *, seed: int = 0, n_draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Return the mean and its percentile bootstrap interval over items, such as languages; none for a single item.

    Parameters
    ----------
    differences : ndarray of shape (n,), float64
        One number an item, at least one.
    seed : int
        Seed of ``PCG64``.
    n_draws : int
        Resamples with replacement.
    level : float
        Share of the draws outside the interval.

    Raises
    ------
    StatisticsError
        There are no items.
    """
    means = bootstrap_means(differences, seed=seed, n_draws=n_draws)
    if len(differences) == 1:
        return Interval(mean=float(differences[0]), low=None, high=None)
    low, high = np.quantile(means, [level / 2, 1 - level / 2])
    return Interval(mean=float(differences.mean()), low=float(low), high=float(high))


def significantly_worse(
    correct_raw: Mapping[str, NDArray[Any]],
    correct_adapter: Mapping[str, NDArray[Any]],
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> list[str]:
    """Name the languages in which the adapter is worse beyond chance, paired over the same texts.

    Parameters
    ----------
    correct_raw, correct_adapter : mapping of str to ndarray of shape (n_texts,)
        By language, one value a text, such as whether it was right; item i of both is the same text.
    seed : int
        Seed of ``PCG64``; every language draws from a stream of its own.
    level : float
        Significance level of all tests together.

    Returns
    -------
    list of str
        Languages whose one-sided p-value (the share of bootstrap draws over texts in which the mean did not fall)
        is significant after Holm's correction (1979) over all languages, in the order of ``correct_raw``.

    Raises
    ------
    StatisticsError
        Languages or numbers of texts differ.
    """
    if set(correct_raw) != set(correct_adapter):
        raise StatisticsError("raw and adapter were judged in different languages")
    languages = list(correct_raw)
    if not languages:
        return []
    n_draws = max(DRAWS, round(_DRAWS_BEYOND * len(languages) / level))
    p_values = np.array(
        [
            worse_p_value(
                np.asarray(correct_raw[language], dtype=np.float64),
                np.asarray(correct_adapter[language], dtype=np.float64),
                seed=seed + position,
                n_draws=n_draws,
            )
            for position, language in enumerate(languages)
        ]
    )
    # holm tests at 5 %; another level is the same test on scaled p-values.
    significant = holm(p_values * (LEVEL / level))
    return [language for language, is_worse in zip(languages, significant, strict=True) if is_worse]


def is_chance(n_hits: int, n_texts: int, share: float) -> bool:
    """Tell whether candidates drawn at random would give as many hits.

    Parameters
    ----------
    n_hits, n_texts : int
        Texts whose candidate was right, and all texts.
    share : float
        How often a random candidate is right.

    Returns
    -------
    bool
        True unless chance alone gives as many hits in less than 1 % of all cases (one-sided exact binomial test).
        False where there are too few texts to tell.
    """
    if n_texts < _MIN_TEXTS or not 0.0 < share < _MAX_SHARE:
        return False
    fewer = 0.0
    for n in range(n_hits):
        ways = math.lgamma(n_texts + 1) - math.lgamma(n + 1) - math.lgamma(n_texts - n + 1)
        fewer += math.exp(ways + n * math.log(share) + (n_texts - n) * math.log1p(-share))
        if fewer > 1.0 - _CHANCE:
            return False
    return True


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one side does not vary.

    Parameters
    ----------
    a, b : ndarray of shape (n,), float64

    Raises
    ------
    StatisticsError
        Shapes differ, or there are fewer than two items.

    Examples
    --------
    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    if a.shape != b.shape or len(a) < 2:
        raise StatisticsError(
            f"a rank correlation needs two lists of equal length, at least 2, not {len(a)} and {len(b)}"
        )
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return 0.0 if scale == 0.0 else float(x @ y) / scale


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, equal values at the mean of theirs; shape (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return mean_rank
