"""Has the stream changed? A test of windows of texts against the means that were learned so far."""

import dataclasses
import math
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Vector64

#: Texts of one window.
WINDOW: Final = 32
#: Texts behind a mean before it may be tested against.
MIN_TEXTS: Final = 8.0
#: The threshold while there is nothing to draw from, and its least: without a change the statistic is about 1.
MIN_THRESHOLD: Final = 1.5
#: Neighbours in a stream resemble each other, draws do not: the quantile of draws is raised by this.
DEPENDENCE: Final = 1.3
#: Windows that show how much neighbours resemble each other in this stream: so many are looked back on, so many it
#: takes to say anything, and so far above nine of ten of them a change has to be.
HISTORY: Final = 32
MIN_HISTORY: Final = 4
ABOVE_HISTORY: Final = 1.5
#: Texts to draw from.
MIN_SAMPLE: Final = 64
DRAWS: Final = 500
QUANTILE: Final = 0.999
#: Two windows are one change if their means point the same way.
MIN_AGREEMENT: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a full window says: the statistic, and whether with the window before it a change is confirmed."""

    statistic: float
    threshold: float
    is_above: bool
    is_confirmed: bool


class DriftTest:
    """Tests one window after another: ``W ‖mean of residuals‖² / mean of ‖residual‖²``.

    A change is confirmed by two windows in a row above the threshold whose means point the same way: articles of
    which each has a topic of its own do not.
    """

    def __init__(self) -> None:
        self._drawn = MIN_THRESHOLD
        self._history: deque[float] = deque(maxlen=HISTORY)
        self.reset()

    @property
    def threshold(self) -> float:
        """What a window has to exceed; infinite while too few windows were seen."""
        if len(self._history) < MIN_HISTORY:
            return math.inf
        return max(self._drawn, ABOVE_HISTORY * float(np.quantile(self._history, 0.9)))

    @property
    def dependence(self) -> float:
        """How many texts tell as much as one would, if neighbours did not resemble each other; 1 where they do not."""
        return max(1.0, float(np.median(self._history))) if len(self._history) >= MIN_HISTORY else 1.0

    def reset(self) -> None:
        """Begin afresh; what is known of the stream's windows stays."""
        #: None before the first text of a window: most tenants rest, and are many.
        self._sum: Vector64 | None = None
        self._squares = 0.0
        self._n = 0
        self._before: Vector64 | None = None

    @property
    def is_suspicious(self) -> bool:
        """Whether the last window was above the threshold."""
        return self._before is not None

    def add(self, residual: Vector64) -> Finding | None:
        """Take in how far a text lies from the mean of its language; answer at the end of each window."""
        total = residual if self._sum is None else self._sum + residual
        self._sum = total
        self._squares += float(residual @ residual)
        self._n += 1
        if self._n < WINDOW:
            return None
        mean: Vector64 = total / self._n
        statistic = self._n * float(mean @ mean) / max(self._squares / self._n, 1e-12)
        threshold = self.threshold
        is_above = statistic > threshold
        if not is_above:
            self._history.append(statistic)
        is_confirmed = is_above and self._before is not None and _cosine(mean, self._before) > MIN_AGREEMENT
        self._before = mean if is_above else None
        self._sum, self._squares, self._n = None, 0.0, 0
        return Finding(statistic, threshold, is_above, is_confirmed)

    def calibrate(self, residuals: NDArray[np.float64], seed: int) -> None:
        """Set the threshold by a bootstrap: what windows drawn from one stream, in no order, reach once in a thousand.

        Parameters
        ----------
        residuals : ndarray of shape (n, dim), float64
            Recent texts less the means of their languages among them; of fewer than ``MIN_SAMPLE`` nothing is drawn.
        seed : int
            Of the draws: the same log gives the same threshold.
        """
        if len(residuals) < MIN_SAMPLE:
            self._drawn = MIN_THRESHOLD * DEPENDENCE
            return
        generator = np.random.Generator(np.random.PCG64(seed))
        squares = np.einsum("ij,ij->i", residuals, residuals)
        # Sums of products suffice: a draw costs W² numbers, not W · dim.
        gram = residuals @ residuals.T
        drawn = np.empty(DRAWS)
        for position in range(DRAWS):
            rows = generator.integers(0, len(residuals), size=WINDOW)
            drawn[position] = gram[np.ix_(rows, rows)].sum() / max(float(squares[rows].sum()), 1e-12)
        self._drawn = max(MIN_THRESHOLD, DEPENDENCE * float(np.quantile(drawn, QUANTILE)))

    def state(self) -> tuple[dict[str, float], dict[str, Vector64]]:
        """Return what has to be stored: numbers and vectors by name."""
        sums = {"sum": self._sum, "before": self._before}
        vectors = {name: vector for name, vector in sums.items() if vector is not None}
        numbers = {"drawn": self._drawn, "squares": self._squares, "n": float(self._n)}
        return numbers | {f"history.{i}": value for i, value in enumerate(self._history)}, vectors

    def restore(self, numbers: dict[str, float], vectors: dict[str, Vector64]) -> None:
        """Go on from what was stored."""
        self._drawn, self._squares, self._n = numbers["drawn"], numbers["squares"], int(numbers["n"])
        n_history = sum(name.startswith("history.") for name in numbers)
        self._history = deque((numbers[f"history.{i}"] for i in range(n_history)), maxlen=HISTORY)
        self._sum, self._before = vectors.get("sum"), vectors.get("before")


def _cosine(one: Vector64, other: Vector64) -> float:
    return float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)
