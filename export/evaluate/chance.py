"""Whether translations are found no more often than by chance, as where lines slipped. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from alignstream.export.evaluate.columns import ADAPTER, RAW, Results
from alignstream.export.evaluate.statistics import is_chance
from alignstream.models.arrays import Indices


def first_lines(texts: Sequence[str]) -> Indices:
    """Return, for each line, the first line that has the same text; shape (n_lines,).

    Examples
    --------
    >>> first_lines(["yes", "no", "yes"]).tolist()
    [0, 1, 0]
    """
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, line) for line, text in enumerate(texts)], dtype=np.int64)


def right_shares(same: Mapping[str, Indices], pivot: str) -> dict[str, float]:
    """Return how often a line drawn at random is right in ``measures.retrieval``, by language.

    Parameters
    ----------
    same : mapping of str to ndarray of shape (n_lines,), int64
        By language, ``first_lines`` of its texts.
    pivot : str
        One of the languages.
    """
    n = len(same[pivot])
    counts = {language: np.bincount(lines, minlength=n) for language, lines in same.items()}
    shares = {}
    for language in same:
        if language != pivot:
            known = np.unique(same[language] * n + same[pivot])
            n_right = (counts[language][known // n] * counts[pivot][known % n]).sum()
            shares[language] = float(n_right) / n**2
    return shares


def right_term_shares(gold: Mapping[str, Indices]) -> dict[str, float]:
    """Return how often a term drawn at random is right in ``measures.term_retrieval``, by the name of the lists."""
    shares = {}
    for name, pairs in gold.items():
        n_source, n_target = pairs.max(axis=0) + 1
        shares[name] = len(np.unique(pairs[:, 0] * n_target + pairs[:, 1])) / float(n_source * n_target)
    return shares


def at_chance(results: Results, measures: Iterable[str], shares: Mapping[str, float]) -> list[str]:
    """Name the languages whose translations are found by chance alone: in all measures, raw and aligned.

    Parameters
    ----------
    results : dict
        Results of a task whose texts are right or wrong; only its plain columns are looked at.
    measures : iterable of str
        Measures of the task.
    shares : mapping of str to float
        By language, how often a random candidate is right.
    """
    plain = [
        results[measure][column].per_text
        for measure in measures
        for column in (RAW, ADAPTER)
        if column in results[measure]
    ]
    return [
        language
        for language, share in shares.items()
        if all(is_chance(int(right[language].sum()), len(right[language]), share) for right in plain)
    ]
