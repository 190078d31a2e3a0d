"""Attention over the translations that a tenant vouches for: a query moves like the most similar source."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector32, Vector64
from alignstream.models.unit_vectors import MIN_NORM

#: Divides similarities before the softmax over remembered sources. At 0.05, a source among 300 of its own domain took
#: only a quarter of the weight for a query equal to itself.
MEMORY_TEMPERATURE: Final = 0.025
#: Similarity of a source that resembles a query no more than other texts of its domain do, and so moves nothing. In
#: four domains the median of unrelated texts is 0.74 to 0.79; among 300 texts the most similar other one is at 0.83 to
#: 0.89, and at 0.95 for one in twenty.
NO_MATCH: Final = 0.92
#: Share of the way from source to target that a query moves. All of it loses texts in the language of the query.
MEMORY_SHARE: Final = 0.7


class MemoryAttention:
    """Attention over remembered translations: a query moves like the most similar source moves to its target.

    ``z + β Σ a_j (v_j - k_j)`` with ``a = softmax([z k_1, z k_2, ..., s_0] / τ)``. The constant last entry takes the
    weight if no source is similar, so that one pair does not move every query. Queries move from source to target only:
    a query in the target's language would move toward one of the languages that it searches, and away from the others.

    Parameters
    ----------
    keys, values : ndarray of shape (n, dim), float32
        Aligned unit vectors of sources and their targets.
    languages : sequence of str
        Key of each source's language; "" if unknown.

    Examples
    --------
    >>> east, north = np.array([[1, 0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)
    >>> memory = MemoryAttention(east, north, ["de-Latn"])
    >>> memory.moved(east[0], "de-Latn").round(1)
    array([0.4, 0.9], dtype=float32)
    >>> bool(np.allclose(memory.moved(north[0], "de-Latn"), north[0]))
    True
    """

    def __init__(self, keys: Matrix, values: Matrix, languages: Sequence[str]) -> None:
        # Sorted by language, so that the rows of one are a view: messages may name any number of languages.
        order = sorted(range(len(languages)), key=languages.__getitem__)
        self._keys = keys[order].astype(np.float64)
        self._moves = MEMORY_SHARE * (values[order].astype(np.float64) - self._keys)
        self._rows: dict[str, slice] = {}
        for place, row in enumerate(order):
            start = self._rows.get(languages[row], slice(place, place)).start
            self._rows[languages[row]] = slice(start, place + 1)

    def moved(self, z: Vector32, language: str | None) -> Vector32:
        """Return the moved unit vector, shape (dim,), float32; sources in another known language do not count.

        Notes
        -----
        O(n · dim).
        """
        names = self._rows if language is None else sorted({language, ""} & self._rows.keys())
        if not names:
            return z
        z64 = z.astype(np.float64)
        cosines = [self._keys[self._rows[name]] @ z64 for name in names]
        logits = np.concatenate([*cosines, [NO_MATCH]]) / MEMORY_TEMPERATURE
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        moved: Vector64 = z64.copy()
        start = 0
        for name in names:
            moves = self._moves[self._rows[name]]
            moved += weights[start : start + len(moves)] @ moves
            start += len(moves)
        return (moved / max(float(np.linalg.norm(moved)), MIN_NORM)).astype(np.float32)
