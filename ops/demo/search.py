"""How well a text finds its translations among what is stored: by any language, to English, and from English."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignstream.ops.demo import measure

PIVOT: Final = "en"
#: What is measured, and what it means.
MEASURES: Final = {
    "r_precision": "translations among the nearest texts of all languages (R-precision)",
    "to_english": "the English counterpart among the English texts",
    "from_english": "from English, the counterpart among the texts of a language",
}


class Found(NamedTuple):
    """What one query found: a share, whether its English counterpart, and which counterparts by language."""

    share: float
    to_pivot: float | None
    from_pivot: dict[str, float]


class Index:
    """Stored vectors.

    Parameters
    ----------
    Y : ndarray of shape (n, dim), float32
        Unit vectors.
    meaning : sequence of str
        Equal: translations of each other.
    languages : sequence of str
    """

    def __init__(self, Y: measure.Matrix, meaning: Sequence[str], languages: Sequence[str]) -> None:
        numbers = {name: number for number, name in enumerate(sorted(set(meaning)))}
        self.Y = Y
        self._meaning = np.array([numbers[name] for name in meaning])
        self._languages = list(languages)
        self._rows = {
            language: np.array([row for row, tag in enumerate(languages) if tag == language])
            for language in set(languages)
        }
        self._places = {
            (language, int(number)): row
            for row, (language, number) in enumerate(zip(languages, self._meaning, strict=True))
        }

    def find(self, row: int, query: NDArray[np.float32]) -> Found:
        """Look up one of the stored texts by a query; it does not find itself."""
        cosines = self.Y @ query
        share = measure.found_share(cosines, self._meaning, row)
        if self._languages[row] != PIVOT:
            return Found(share, self._finds(cosines, row, PIVOT), {})
        hits = {language: self._finds(cosines, row, language) for language in self._rows if language != PIVOT}
        return Found(
            share, None, {language: hit for language, hit in sorted(hits.items()) if hit is not None}
        )

    def _finds(self, cosines: NDArray[np.float32], row: int, language: str) -> float | None:
        """Say whether the nearest text of a language is the translation; None where there is none."""
        counterpart = self._places.get((language, int(self._meaning[row])))
        if counterpart is None:
            return None
        return float(self._rows[language][cosines[self._rows[language]].argmax()] == counterpart)


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """One text of the stream: what its stored vector found, and what its query vector found."""

    position: int
    domain: str
    language: str
    epoch: int
    static: Found
    following: Found


def figures(judged: Iterable[Judged], language: str | None = None) -> dict[str, dict[str, float]]:
    """Return each measure that there is, ``static`` and ``following``, and over how many look-ups, ``n``.

    Parameters
    ----------
    judged : iterable of Judged
    language : str, optional
        Only look-ups by its texts, and for its texts from English.
    """
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in MEASURES}
    for item in judged:
        if language in {None, item.language}:
            values["r_precision"].append((item.static.share, item.following.share))
            if item.static.to_pivot is not None and item.following.to_pivot is not None:
                values["to_english"].append((item.static.to_pivot, item.following.to_pivot))
        values["from_english"] += [
            (hit, item.following.from_pivot[tag])
            for tag, hit in item.static.from_pivot.items()
            if language in {None, tag}
        ]
    return {
        name: {
            "static": float(np.mean([pair[0] for pair in pairs])),
            "following": float(np.mean([pair[1] for pair in pairs])),
            "n": float(len(pairs)),
        }
        for name, pairs in values.items()
        if pairs
    }
