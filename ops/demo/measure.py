"""What the demonstration measures: whether a text finds its translations, and how fast the service is."""

import http.client
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from alignstream.models.arrays import Indices, Mask, Matrix, Vector32

_TIMEOUT_SECONDS: Final = 5.0


def r_precision(X: Matrix, meaning: Indices) -> float:
    """Return the share of translations among the nearest texts of all languages, averaged over texts.

    For a text with R translations in the pool it is their share among its R nearest neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        Unit vectors.
    meaning : ndarray of shape (n,), int
        Equal numbers mark translations of each other.
    """
    cosines = X @ X.T
    shares = [translation_share(row, meaning, position) for position, row in enumerate(cosines)]
    return float(np.mean(shares))


def translation_share(cosines: Vector32, meaning: Indices, text: int) -> float:
    """Return the share of translations among a text's R nearest texts, R being their number; ``text`` is its row."""
    is_translation = meaning == meaning[text]
    is_translation[text] = False
    n_relevant = int(is_translation.sum())
    distances = -cosines
    distances[text] = np.inf
    return float(is_translation[np.argpartition(distances, n_relevant)[:n_relevant]].mean())


def counterpart_accuracy(X: Matrix, meaning: Indices, is_pivot: Mask) -> float:
    """Return how often the nearest pivot text is the translation, over all texts in other languages."""
    pivots = meaning[is_pivot]
    nearest = (X[~is_pivot] @ X[is_pivot].T).argmax(axis=1)
    return float((pivots[nearest] == meaning[~is_pivot]).mean())


class Quantiles(NamedTuple):
    """Median and 99th percentile of a duration in seconds, and the number of measurements."""

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
    """Return the sum of a metric over all series with these labels; 0 if there is none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
    )


def quantiles(text: str, name: str, **labels: str) -> Quantiles:
    """Estimate quantiles from a histogram as Prometheus does: linearly within a bucket."""
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
