"""Pairs of texts within a language with people's scores of how alike they are. Nothing here encodes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from alignstream.export.data.lines import check_language, read_cells
from alignstream.models.errors import TextError


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts by language, and how alike people found them.

    Parameters
    ----------
    name : str
        File or set, for reports.
    first, second : dict of str to list of str
        By language, both texts of each pair.
    scores : dict of str to list of float
        Any increasing scale.
    """

    name: str
    first: dict[str, list[str]]
    second: dict[str, list[str]]
    scores: dict[str, list[float]]

    def rows(self, kept: Mapping[str, Sequence[int]]) -> "ScoredPairs":
        """Return some pairs of some languages."""
        return ScoredPairs(
            self.name,
            {language: [self.first[language][n] for n in rows] for language, rows in kept.items()},
            {language: [self.second[language][n] for n in rows] for language, rows in kept.items()},
            {language: [self.scores[language][n] for n in rows] for language, rows in kept.items()},
        )


def read_scored(path: Path) -> ScoredPairs:
    """Read scored pairs: lines of ``language<TAB>score<TAB>text<TAB>text``, without a header.

    Raises
    ------
    TextError
        The file is missing, not UTF-8, malformed or empty, or all scores of a language are the same.
    """
    pairs = ScoredPairs(path.name, {}, {}, {})
    for number, cells in read_cells(path):
        if len(cells) != 4 or not all(cells):
            raise TextError(
                f"{path}, line {number}: language, score and two texts with tabs between them are needed, none "
                f"blank, but there are {sum(map(bool, cells))} in {len(cells)} cells"
            )
        language = check_language(cells[0], path, number)
        pairs.first.setdefault(language, []).append(cells[2])
        pairs.second.setdefault(language, []).append(cells[3])
        pairs.scores.setdefault(language, []).append(_score(cells[1], path, number))
    if not pairs.scores:
        raise TextError(f"{path} holds no pair")
    for language, scores in pairs.scores.items():
        if len(set(scores)) < 2:
            raise TextError(f"{path}: all scores of {language} are the same, so nothing can be compared")
    return pairs


def _score(cell: str, path: Path, number: int) -> float:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise TextError(f"{path}, line {number}: {cell[:20]!r} is not a score")
    return score
