"""Running means of a stream, one per language: where its texts lie, which the adapter cannot know."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Vector32, Vector64
from alignstream.models.errors import AlignstreamError
from alignstream.models.serving.epoch import MeanKey

#: Least weight of a new text: a mean remembers about the last 1 / MIN_STEP texts.
MIN_STEP: Final = 1 / 1000
#: Most weight, in texts, that a mean keeps after its stream has changed.
KEPT_TEXTS: Final = 10.0
#: Most languages per tenant; texts of further languages are counted, but enter no mean.
MAX_LANGUAGES: Final = 256


class RunningMeans:
    """A mean vector and a weight for each language of one stream.

    Texts are added one by one: the same texts in the same order give the same bytes.

    Parameters
    ----------
    dim : int
        Embedding dimension.

    Examples
    --------
    >>> means, german = RunningMeans(dim=2), MeanKey("de-Latn")
    >>> for x in ([1.0, 0.0], [0.0, 1.0]):
    ...     assert means.add(german, np.array(x, dtype=np.float32))
    >>> means.means, means.weight(german)
    (array([[0.5, 0.5]]), 2.0)
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._rows: dict[MeanKey, int] = {}
        self._means: NDArray[np.float64] = np.zeros((0, dim))
        self._weights: NDArray[np.float64] = np.zeros(0)

    def __len__(self) -> int:
        """Return the number of languages."""
        return len(self._rows)

    def __iter__(self) -> Iterator[MeanKey]:
        """Yield the languages in order of their first text."""
        return iter(self._rows)

    @property
    def languages(self) -> tuple[MeanKey, ...]:
        """The languages in order of their first text."""
        return tuple(self._rows)

    @property
    def means(self) -> NDArray[np.float64]:
        """The means, shape (n_languages, dim); a view."""
        return self._means[: len(self)]

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weight of each mean in texts, shape (n_languages,); a view."""
        return self._weights[: len(self)]

    def weight(self, key: MeanKey) -> float:
        """Return the weight of a language's mean in texts; 0 if there is none."""
        row = self._rows.get(key)
        return 0.0 if row is None else float(self._weights[row])

    def residual(self, key: MeanKey, x: Vector32) -> Vector64:
        """Return a text's difference from its language's mean, shape (dim,), float64; the mean must exist."""
        difference: Vector64 = x.astype(np.float64) - self._means[self._rows[key]]
        return difference

    def add(self, key: MeanKey, x: Vector32) -> bool:
        """Add one text; return whether there was room for its language."""
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= MAX_LANGUAGES:
                return False
            row = self._grow(key)
        n = self._weights[row]
        step = max(1.0 / (n + 1.0), MIN_STEP)
        self._means[row] += step * (x.astype(np.float64) - self._means[row])
        self._weights[row] = min(n + 1.0, 1.0 / MIN_STEP)
        return True

    def shift(self, by: Vector64) -> None:
        """Move all means by one vector of shape (dim,)."""
        self._means += by

    def soften(self) -> None:
        """Reduce the weight of what was learned, so that new texts count more."""
        np.minimum(self._weights, KEPT_TEXTS, out=self._weights)

    def forget(self, language: str | None = None) -> None:
        """Forget the means of one language, inferred or not, or all means."""
        kept = [key for key in self._rows if language not in {None, key.language}]
        rows = [self._rows[key] for key in kept]
        self._means, self._weights = self._means[rows].copy(), self._weights[rows].copy()
        self._rows = {key: position for position, key in enumerate(kept)}

    def _grow(self, key: MeanKey) -> int:
        row = len(self._rows)
        if row == len(self._means):
            # By a quarter: most tenants have few languages, and spare rows take as much memory as used ones.
            capacity = row + max(1, row // 4)
            self._means = np.vstack([self._means, np.zeros((capacity - row, self.dim))])
            self._weights = np.concatenate([self._weights, np.zeros(capacity - row)])
        self._rows[key] = row
        self._means[row], self._weights[row] = 0.0, 0.0
        return row

    @classmethod
    def restored(
        cls, dim: int, languages: Sequence[MeanKey], means: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> "RunningMeans":
        """Rebuild means from their stored parts.

        Raises
        ------
        AlignstreamError
            Shapes do not match, a number is not finite, or a weight is negative.
        """
        if means.shape != (len(languages), dim) or weights.shape != (len(languages),):
            raise AlignstreamError(
                f"stored means of shape {means.shape} and weights of shape {weights.shape} do not match "
                f"{len(languages)} languages of dimension {dim}"
            )
        if not (np.all(np.isfinite(means)) and np.all(np.isfinite(weights)) and np.all(weights >= 0)):
            raise AlignstreamError("stored means hold a number that is not finite, or a negative weight")
        restored = cls(dim)
        restored._rows = {key: position for position, key in enumerate(languages)}
        restored._means, restored._weights = means.copy(), weights.copy()
        return restored
