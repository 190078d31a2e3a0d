"""What the demonstration measures: does the same meaning find itself, and how fast did it go."""

import http.client
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

Matrix = NDArray[np.float32]

_TIMEOUT_SECONDS: Final = 5.0


def r_precision(X: Matrix, meaning: NDArray[np.int64]) -> float:
    """Return how many of the nearest texts, of all languages, are translations; averaged over texts.

    For a text with R translations in the pool: the share of translations among its R nearest neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        Unit vectors.
    meaning : ndarray of shape (n,), int
        Equal numbers: translations of each other.
    """
    cosines = X @ X.T
    shares = [found_share(row, meaning, position) for position, row in enumerate(cosines)]
    return float(np.mean(shares))


def found_share(cosines: NDArray[np.float32], meaning: NDArray[np.int64], own: int) -> float:
    """Return the share of a text's R translations among its R nearest texts, ``own`` being its own place."""
    is_translation = meaning == meaning[own]
    is_translation[own] = False
    n_relevant = int(is_translation.sum())
    distances = -cosines
    distances[own] = np.inf
    return float(is_translation[np.argpartition(distances, n_relevant)[:n_relevant]].mean())


def counterpart_accuracy(X: Matrix, meaning: NDArray[np.int64], is_pivot: NDArray[np.bool_]) -> float:
    """Return how often the nearest pivot text is the translation, over all texts that are no pivot."""
    pivots = meaning[is_pivot]
    nearest = (X[~is_pivot] @ X[is_pivot].T).argmax(axis=1)
    return float((pivots[nearest] == meaning[~is_pivot]).mean())


class Quantiles(NamedTuple):
    """Median and 99th percentile of a duration, in seconds, and how often it was measured."""

    p50: float
    p99: float
    n_measured: int


def scrape(host: str, port: int) -> str:
    """Return a worker's metrics."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def counter(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric over all series with these labels; 0 where there is none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
    )


def quantiles(text: str, name: str, **labels: str) -> Quantiles:
    """Estimate quantiles from a histogram, as Prometheus does: linear within a bucket."""
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total == 0:
        return Quantiles(math.nan, math.nan, 0)
    return Quantiles(_quantile(0.5, bounds, buckets), _quantile(0.99, bounds, buckets), int(total))


def _quantile(share: float, bounds: list[float], buckets: Mapping[float, float]) -> float:
    rank = share * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 0.0)
        lower, below = bound, buckets[bound]
    return lower
