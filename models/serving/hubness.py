"""Hubness of stored vectors, measured against a tenant's recent texts."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector32

#: Nearest texts of the bank whose mean cosine is the hubness, as in CSLS (Conneau et al. 2018), but for the very
#: nearest: where a stream holds translations these are among them, and no hubs.
HUB_NEIGHBOURS: Final = 10
SKIPPED_NEIGHBOURS: Final = 5
#: Fewer texts say nothing about hubs.
MIN_BANK: Final = 20
#: Texts at which a bank's hubness counts half: few texts tell chance from hubs badly.
BANK_TEXTS: Final = 150.0
#: Texts of the bank from whose own hubness the usual level is taken.
LEVEL_TEXTS: Final = 200


class HubnessBank:
    """Recent texts as queries, against which the hubness of a stored vector is measured. Immutable.

    Parameters
    ----------
    queries : ndarray of shape (n, dim), float32
        Unit query vectors of recent texts.
    languages : sequence of str
        Key of each one's language; "" where it is not known.
    """

    def __init__(self, queries: Matrix, languages: Sequence[str]) -> None:
        self._queries = queries
        self._languages = np.array(languages, dtype=object)
        self._level = self._usual_level()

    def hubness(self, y: Vector32, language: str | None = None) -> float | None:
        """Measure how near a stored vector is to recent queries of other languages; None where there are too few.

        Parameters
        ----------
        y : ndarray of shape (dim,), float32
            The stored unit vector.
        language : str, optional
            Key of its language. Queries of its own count where there are not enough of others.

        Returns
        -------
        float or None
            How much nearer the stored vector is to the bank than a text usually is, times ``n / (n + 150)`` of a bank
            of n: ``cos - hubness / 2`` ranks. 0 is usual, so that values of different epochs go together.

        Notes
        -----
        Near is the mean cosine of the 6th to the 15th nearest. O(n · dim).
        """
        if len(self._queries) < MIN_BANK:
            return None
        cosines = self._queries @ y
        # Masked, not chosen beforehand: messages may name more languages than a bank has texts.
        others = cosines[self._languages != (language or "")]
        chosen = others if len(others) >= MIN_BANK else cosines
        return (_nearness(chosen) - self._level) * len(chosen) / (len(chosen) + BANK_TEXTS)

    def _usual_level(self) -> float:
        """Return the mean nearness of the bank's own texts to those of other languages."""
        n = len(self._queries)
        if n < MIN_BANK:
            return 0.0
        levels = []
        for row in np.linspace(0, n - 1, min(n, LEVEL_TEXTS)).round().astype(int).tolist():
            cosines = self._queries @ self._queries[row]
            others = cosines[self._languages != self._languages[row]]
            levels.append(_nearness(others if len(others) >= MIN_BANK else np.delete(cosines, row)))
        return float(np.mean(levels))


def _nearness(cosines: Matrix) -> float:
    """Return the mean of the ten nearest but the five very nearest; all there are where they are few."""
    n = min(HUB_NEIGHBOURS + SKIPPED_NEIGHBOURS, len(cosines))
    nearest = np.sort(np.partition(cosines, -n)[-n:])
    return float(nearest[: max(1, n - SKIPPED_NEIGHBOURS)].mean(dtype=np.float64))
