"""Refuse pairs that their vectors show to be wrong: swapped columns, slipped lines, no translations.

A file may be right at its beginning and wrong from some line on, so the checks look for the part of it that is
wrong, and name its first line.
"""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.pairs import Pairs
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key, same_language
from alignstream.models.adapter.steps.language_means import LanguageMeans
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks import gate
from alignstream.models.errors import AdapterError

#: Lines that a misalignment may have slipped by.
_MAX_SLIP: Final = 3
#: In a part that slipped, the lines that fit a neighbouring line better outnumber the others by at least this.
_SLIPPED_LINES: Final = 5
#: Unrelated lines that a pair is compared with.
_N_UNRELATED: Final = 10
#: Weights of a line whose pair is not nearer than the median unrelated line, and of any other line. Of unrelated lines
#: one in two is not nearer; of translations hardly one in six, even in a language that the encoder hardly knows.
_UNRELATED_WEIGHT: Final = 1.0
_RELATED_WEIGHT: Final = -0.6
#: From this sum of weights on, a part of the file holds no translations.
_UNRELATED_SUM: Final = 9.0


@dataclasses.dataclass(frozen=True)
class PairVectors:
    """Pairs and their raw vectors.

    Parameters
    ----------
    pairs : Pairs
    source, target : ndarray of shape (n, dim), float32
        Unit vectors as encoded, row by row translations.
    """

    pairs: Pairs
    source: Matrix
    target: Matrix

    def aligned(self, adapter: Adapter) -> tuple[Matrix, Matrix]:
        """Return both sides as an adapter aligns them, each of shape (n, dim)."""
        return (
            adapter.transform_many(self.source, Context(language=self.pairs.source_language)),
            adapter.transform_many(self.target, Context(language=self.pairs.target_language)),
        )


def check_pairs(fit: PairVectors, start: Adapter) -> None:
    """Refuse pairs whose columns are swapped, whose lines slipped, or that are not translations.

    Raises
    ------
    AdapterError
        With the file, the line and what to do.
    """
    pairs = fit.pairs
    if len(pairs) and any(_is_swapped(known, fit) for known in start.known_languages):
        raise AdapterError(
            f"{pairs.name}, line {pairs.lines[0]}: from here on, the {pairs.source_language} texts look like "
            f"{pairs.target_language} and the other way round; were the columns swapped?"
        )
    if len(pairs) >= gate.MIN_TRANSLATION_PAIRS:
        X, Y = fit.aligned(start)
        X64, Y64 = X.astype(np.float64), Y.astype(np.float64)
        _check_slip(pairs, X64, Y64)
        check_translations(X, Y, pairs.name)
        _check_related(pairs, X64, Y64)


def check_dev(fit: PairVectors, dev: PairVectors, start: Adapter) -> None:
    """Refuse development pairs of other languages, and those that ``check_pairs`` refuses.

    Raises
    ------
    AdapterError
        With the file and what to do.
    """
    for side in ("source_language", "target_language"):
        fitted, held_out = (getattr(vectors.pairs, side) for vectors in (fit, dev))
        if not same_language(fitted, held_out):
            raise AdapterError(
                f"{dev.pairs.name} holds pairs of {dev.pairs.source_language} and {dev.pairs.target_language}, but "
                f"{fit.pairs.name} of {fit.pairs.source_language} and {fit.pairs.target_language}; development pairs "
                "are needed in the languages that are fitted"
            )
    check_pairs(dev, start)


def check_translations(X: Matrix, Y: Matrix, name: str) -> None:
    """Refuse pairs that do not translate each other.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Aligned unit vectors of the pairs; too few are not judged.
    """
    if len(X) >= gate.MIN_TRANSLATION_PAIRS and gate.translation_score(X, Y) < gate.MIN_TRANSLATION_SCORE:
        raise AdapterError(
            f"{name}: the two sides are no nearer to each other than to other lines; these are not translations, or "
            "the encoder does not know the language"
        )


def _is_swapped(means: LanguageMeans, fit: PairVectors) -> bool:
    """Say whether each side looks like the other side's language, as far as attention knows the two.

    Where it knows only one of the two, a few texts could mislead it.
    """
    keys = [language_key(tag) for tag in (fit.pairs.source_language, fit.pairs.target_language)]
    attended = [means.attention(V.mean(axis=0, dtype=np.float64)) for V in (fit.source, fit.target)]
    known = [key in attended[0] for key in keys]
    if not any(known) or (not all(known) and len(fit.pairs) < gate.MIN_TRANSLATION_PAIRS):
        return False
    return all(
        attended[1 - side][str(key)] > attended[side][str(key)]
        for side, (key, is_known) in enumerate(zip(keys, known, strict=True))
        if is_known
    )


def _check_slip(pairs: Pairs, X: Array64, Y: Array64) -> None:
    slips = [slip for slip in range(-_MAX_SLIP, _MAX_SLIP + 1) if abs(slip) < len(X)]
    cosines = np.full((len(slips), len(X)), -np.inf)
    for row, slip in enumerate(slips):
        rows = np.arange(max(0, -slip), min(len(X), len(X) - slip))
        cosines[row, rows] = np.einsum("ij,ij->i", X[rows], Y[rows + slip])
    best: NDArray[np.int64] = np.array(slips)[cosines.argmax(axis=0)]
    for slip in slips:
        if slip == 0:
            continue
        first, last, lead = _heaviest_part(np.where(best == slip, 1.0, -1.0))
        if lead >= _SLIPPED_LINES:
            raise AdapterError(
                f"{pairs.name}, line {pairs.lines[first]}: from here to line {pairs.lines[last]}, translations are "
                f"{abs(slip)} line{'s' if abs(slip) > 1 else ''} {'later' if slip > 0 else 'earlier'} on the other "
                "side; a line is missing on one side"
            )


def _check_related(pairs: Pairs, X: Array64, Y: Array64) -> None:
    n = len(X)
    if n <= _N_UNRELATED + 1:
        return
    # Lines spread evenly over the file serve as unrelated ones; none is the pair itself.
    steps = [1 + turn * (n - 1) // _N_UNRELATED for turn in range(_N_UNRELATED)]
    others = np.stack([np.einsum("ij,ij->i", X, np.roll(Y, -step, axis=0)) for step in steps])
    own = np.einsum("ij,ij->i", X, Y)
    is_unrelated = own <= np.median(others, axis=0)
    first, last, weight = _heaviest_part(np.where(is_unrelated, _UNRELATED_WEIGHT, _RELATED_WEIGHT))
    if weight >= _UNRELATED_SUM:
        raise AdapterError(
            f"{pairs.name}, line {pairs.lines[first]}: from here to line {pairs.lines[last]}, "
            f"{is_unrelated[first : last + 1].mean():.0%} of the pairs are no nearer than unrelated lines are; these "
            "are not translations of each other: is one side in another order, or other text?"
        )


def _heaviest_part(weights: Array64) -> tuple[int, int, float]:
    """Return the first and last position of the stretch with the largest sum, and the sum (Kadane 1977)."""
    best, total, start = (0, 0, float(weights[0])), 0.0, 0
    for position, weight in enumerate(weights):
        if total <= 0.0:
            total, start = 0.0, position
        total += float(weight)
        if total > best[2]:
            best = start, position, total
    return best
