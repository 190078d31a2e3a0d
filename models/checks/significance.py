"""Whether a difference is more than chance: a paired bootstrap and Holm's correction. Pure and seeded."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Array64
from alignstream.models.errors import StatisticsError

DRAWS: Final = 2000
#: The share of draws outside an interval, and the level of a significance test.
LEVEL: Final = 0.05
#: Sums of draws that differ from 0 by less than this are 0: what adding floats in another order costs.
_ZERO: Final = 1e-12
#: Numbers of one block of draws: 32 MB of counts.
_BLOCK_CELLS: Final = 4_000_000


def bootstrap_means(values: Array64, *, seed: int = 0, n_draws: int = DRAWS) -> Array64:
    """Draw means of resamples with replacement.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        At least one.
    seed : int
        Seed of ``PCG64``.
    n_draws : int

    Returns
    -------
    ndarray of shape (n_draws,), float64

    Raises
    ------
    StatisticsError
        There is no value.

    Notes
    -----
    Equal values are drawn together, which changes nothing but the time.

    Examples
    --------
    >>> bool((bootstrap_means(np.array([1.0, 1.0])) == 1.0).all())
    True
    """
    if len(values) == 0:
        raise StatisticsError("there is nothing to resample")
    distinct, counts = np.unique(values, return_counts=True)
    generator = np.random.Generator(np.random.PCG64(seed))
    shares = counts / len(values)
    means = np.empty(n_draws)
    step = max(1, _BLOCK_CELLS // len(distinct))
    for start in range(0, n_draws, step):
        n = min(step, n_draws - start)
        drawn = generator.multinomial(len(values), shares, size=n)
        means[start : start + n] = drawn @ distinct / len(values)
    return means


def holm(p_values: Array64) -> NDArray[np.bool_]:
    """Return which of several tests are significant at 5 % after Holm's correction (Holm 1979).

    Examples
    --------
    >>> holm(np.array([0.001, 0.04, 0.03]))
    array([ True, False, False])
    """
    order = np.argsort(p_values, kind="stable")
    significant = np.zeros(len(p_values), dtype=bool)
    for rank, position in enumerate(order):
        if p_values[position] > LEVEL / (len(p_values) - rank):
            break
        significant[position] = True
    return significant


def worse_p_value(
    before: NDArray[np.bool_] | Array64,
    after: NDArray[np.bool_] | Array64,
    *,
    seed: int = 0,
    n_draws: int = DRAWS,
) -> float:
    """Return how plausible it is that the mean did not fall: the share of bootstrap draws where it did not.

    Parameters
    ----------
    before, after : ndarray of shape (n,), float64 or bool
        One value a text, paired.

    Raises
    ------
    StatisticsError
        Shapes differ, or there is no text.

    Examples
    --------
    >>> worse_p_value(np.ones(100), np.zeros(100)) < 0.001
    True
    """
    if before.shape != after.shape:
        raise StatisticsError(f"{len(before)} texts were judged before, but {len(after)} after")
    means = bootstrap_means(after.astype(np.float64) - before.astype(np.float64), seed=seed, n_draws=n_draws)
    return float((np.count_nonzero(means >= -_ZERO) + 1) / (n_draws + 1))
