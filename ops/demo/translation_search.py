"""How well a text finds its translations among stored ones: in any language, in English, and from English."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from alignstream.models.arrays import Matrix, Vector32
from alignstream.ops.demo.measure import translation_share

PIVOT: Final = "en"
#: Each measure and what it means.
MEASURES: Final = {
    "r_precision": "translations among the nearest texts of all languages (R-precision)",
    "to_english": "nearest English text is the translation",
    "from_english": "from English: nearest text of a language is the translation",
}


class SearchHits(NamedTuple):
    """What one query found.

    Parameters
    ----------
    share : float
        Translations among its nearest texts of all languages.
    to_pivot : float or None
        1 if the nearest English text is its translation, else 0; None for English texts.
    from_pivot : dict of str to float
        For English texts, by language: 1 if the nearest text of the language is the translation, else 0.
    """

    share: float
    to_pivot: float | None
    from_pivot: dict[str, float]


class StoredIndex:
    """An index of stored vectors, searched exactly.

    Parameters
    ----------
    Y : ndarray of shape (n, dim), float32
        Unit vectors.
    meaning : sequence of str
        Equal names mark translations of each other.
    languages : sequence of str
    """

    def __init__(self, Y: Matrix, meaning: Sequence[str], languages: Sequence[str]) -> None:
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

    def find(self, row: int, query: Vector32) -> SearchHits:
        """Search for the translations of one of the stored texts with a query; the text itself is left out."""
        cosines = self.Y @ query
        share = translation_share(cosines, self._meaning, row)
        if self._languages[row] != PIVOT:
            return SearchHits(share, self._finds(cosines, row, PIVOT), {})
        hits = {language: self._finds(cosines, row, language) for language in self._rows if language != PIVOT}
        return SearchHits(
            share, None, {language: hit for language, hit in sorted(hits.items()) if hit is not None}
        )

    def _finds(self, cosines: Vector32, row: int, language: str) -> float | None:
        """Say whether the nearest text of a language is the translation; None if there is no translation."""
        counterpart = self._places.get((language, int(self._meaning[row])))
        if counterpart is None:
            return None
        return float(self._rows[language][cosines[self._rows[language]].argmax()] == counterpart)


@dataclasses.dataclass(frozen=True, slots=True)
class StreamQuery:
    """One text of the stream: what its stored vector found, and what its query vector found."""

    position: int
    domain: str
    language: str
    epoch: int
    static: SearchHits
    adapted: SearchHits


def figures(queries: Iterable[StreamQuery], language: str | None = None) -> dict[str, dict[str, float]]:
    """Return each measure for stored vectors (``static``) and query vectors (``following``), and its ``n`` queries.

    Parameters
    ----------
    queries : iterable of StreamQuery
    language : str, optional
        Only queries by texts of this language, and from English for texts of it.
    """
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in MEASURES}
    for query in queries:
        if language in {None, query.language}:
            values["r_precision"].append((query.static.share, query.adapted.share))
            if query.static.to_pivot is not None and query.adapted.to_pivot is not None:
                values["to_english"].append((query.static.to_pivot, query.adapted.to_pivot))
        values["from_english"] += [
            (hit, query.adapted.from_pivot[tag])
            for tag, hit in query.static.from_pivot.items()
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
