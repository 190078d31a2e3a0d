"""Hubness of stored vectors, measured against a tenant's recent texts."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector32

#: Nearest texts of the bank whose mean cosine is the hubness, as in CSLS (Conneau et al. 2018).
HUB_NEIGHBOURS: Final = 10
#: The very nearest texts are left out: in a stream with translations they are translations, not signs of a hub.
SKIPPED_NEIGHBOURS: Final = 5
#: Fewer texts say nothing about hubs.
MIN_BANK: Final = 20
#: Number of texts at which a bank's hubness counts half: few texts hardly tell hubs from chance.
BANK_TEXTS: Final = 150.0
#: Most texts of the bank from which the usual level is measured.
LEVEL_TEXTS: Final = 200


class HubnessBank:
    """Recent texts as queries, against which the hubness of a stored vector is measured. Immutable.

    Parameters
    ----------
    queries : ndarray of shape (n, dim), float32
        Unit query vectors of recent texts.
    languages : sequence of str
        Key of each text's language; "" if unknown.

    Examples
    --------
    >>> queries = np.tile(np.array([1, 0], dtype=np.float32), (50, 1))
    >>> bank = HubnessBank(queries, ["de-Latn", "en-Latn"] * 25)
    >>> bank.hubness(np.array([1, 0], dtype=np.float32)), bank.hubness(np.array([0, 1], dtype=np.float32))
    (0.0, -0.25)
    """

    def __init__(self, queries: Matrix, languages: Sequence[str]) -> None:
        self._queries = queries
        self._languages = np.array(languages, dtype=object)
        self._level = self._usual_level()

    def hubness(self, y: Vector32, language: str | None = None) -> float | None:
        """Measure how near a stored vector is to recent queries of other languages; None if there are too few.

        Parameters
        ----------
        y : ndarray of shape (dim,), float32
            The stored unit vector.
        language : str, optional
            Key of its language. Queries of its own language count only if the others are too few.

        Returns
        -------
        float or None
            How much nearer to the bank the vector is than a text usually is, times ``n / (n + 150)`` for a bank of n.
            Rank by ``cos - hubness / 2``. 0 is usual, so that values of different epochs are comparable.

        Notes
        -----
        Nearness is the mean cosine of the 6th to the 15th nearest. O(n · dim).
        """
        if len(self._queries) < MIN_BANK:
            return None
        cosines = self._queries @ y
        # Masked here, not selected beforehand: messages may name more languages than a bank has texts.
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
    """Return the mean cosine of the ten nearest after the five very nearest; of fewer if there are not as many."""
    n = min(HUB_NEIGHBOURS + SKIPPED_NEIGHBOURS, len(cosines))
    nearest = np.sort(np.partition(cosines, -n)[-n:])
    return float(nearest[: max(1, n - SKIPPED_NEIGHBOURS)].mean(dtype=np.float64))
