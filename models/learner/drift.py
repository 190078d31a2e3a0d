"""Has the stream changed? A test of windows of texts against the means learned so far."""

import dataclasses
import math
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Vector64

#: Texts per window.
WINDOW: Final = 32
#: Least threshold, also used while there is nothing to draw from; without a change, the statistic is about 1.
MIN_THRESHOLD: Final = 1.5
#: Consecutive texts resemble each other and random draws do not: the quantile of draws is raised by this factor.
DEPENDENCE: Final = 1.3
#: Past windows kept: they show how much consecutive texts of this stream resemble each other.
HISTORY: Final = 32
#: Fewer past windows say nothing.
MIN_HISTORY: Final = 4
#: A change must exceed the 90 % quantile of past windows by this factor.
ABOVE_HISTORY: Final = 1.5
#: Fewest texts to draw from.
MIN_SAMPLE: Final = 64
DRAWS: Final = 500
QUANTILE: Final = 0.999
#: Two windows show the same change if the cosine of their mean residuals is above this.
MIN_AGREEMENT: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of a full window; together with the window before, it may confirm a change."""

    statistic: float
    threshold: float
    is_above: bool
    is_confirmed: bool


class DriftTest:
    """Tests one window after another: ``W ‖mean of residuals‖² / mean of ‖residual‖²``.

    A change is confirmed by two consecutive windows above the threshold whose means point the same way. Articles that
    each have their own topic do not point the same way.

    Examples
    --------
    >>> test = DriftTest()
    >>> findings = [test.add(np.array([1.0, 0.0])) for _ in range(WINDOW)]
    >>> findings[-1].statistic
    32.0
    """

    def __init__(self) -> None:
        self._drawn = MIN_THRESHOLD
        self._history: deque[float] = deque(maxlen=HISTORY)
        self.reset()

    @property
    def threshold(self) -> float:
        """What a window must exceed; infinite until enough windows were seen."""
        if len(self._history) < MIN_HISTORY:
            return math.inf
        return max(self._drawn, ABOVE_HISTORY * float(np.quantile(self._history, 0.9)))

    @property
    def dependence(self) -> float:
        """How many consecutive texts tell as much as one independent text; at least 1."""
        return max(1.0, float(np.median(self._history))) if len(self._history) >= MIN_HISTORY else 1.0

    def reset(self) -> None:
        """Start a new window; the history of past windows stays."""
        #: None before the first text of a window, to save memory: most tenants are idle, and there are many.
        self._sum: Vector64 | None = None
        self._squares = 0.0
        self._n = 0
        self._before: Vector64 | None = None

    @property
    def is_suspicious(self) -> bool:
        """Whether the last window was above the threshold."""
        return self._before is not None

    def add(self, residual: Vector64) -> Finding | None:
        """Add a text's residual from the mean of its language; return a finding at the end of each window."""
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
        """Set the threshold by bootstrap, so that one in a thousand windows of a steady stream exceeds it.

        Parameters
        ----------
        residuals : ndarray of shape (n, dim), float64
            Recent texts minus the mean of their language among them. With fewer than ``MIN_SAMPLE``, nothing is drawn.
        seed : int
            Seed of the draws, so that the same log gives the same threshold.
        """
        if len(residuals) < MIN_SAMPLE:
            self._drawn = MIN_THRESHOLD * DEPENDENCE
            return
        generator = np.random.Generator(np.random.PCG64(seed))
        squares = np.einsum("ij,ij->i", residuals, residuals)
        # Inner products suffice: a draw reads W² numbers instead of W · dim.
        gram = residuals @ residuals.T
        drawn = np.empty(DRAWS)
        for position in range(DRAWS):
            rows = generator.integers(0, len(residuals), size=WINDOW)
            drawn[position] = gram[np.ix_(rows, rows)].sum() / max(float(squares[rows].sum()), 1e-12)
        self._drawn = max(MIN_THRESHOLD, DEPENDENCE * float(np.quantile(drawn, QUANTILE)))

    def state(self) -> tuple[dict[str, float], dict[str, Vector64]]:
        """Return the state to store: numbers and vectors by name."""
        sums = {"sum": self._sum, "before": self._before}
        vectors = {name: vector for name, vector in sums.items() if vector is not None}
        numbers = {"drawn": self._drawn, "squares": self._squares, "n": float(self._n)}
        return numbers | {f"history.{i}": value for i, value in enumerate(self._history)}, vectors

    def restore(self, numbers: dict[str, float], vectors: dict[str, Vector64]) -> None:
        """Restore the stored state."""
        self._drawn, self._squares, self._n = numbers["drawn"], numbers["squares"], int(numbers["n"])
        n_history = sum(name.startswith("history.") for name in numbers)
        self._history = deque((numbers[f"history.{i}"] for i in range(n_history)), maxlen=HISTORY)
        self._sum, self._before = vectors.get("sum"), vectors.get("before")


def _cosine(x: Vector64, y: Vector64) -> float:
    return float(x @ y) / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12)
