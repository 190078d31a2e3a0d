"""Every measure, once: vectors in, a figure for each language out. Gates, fits, figures and evaluation share them.

All figures are points (percent). Pure: numpy alone, no encoder and no files.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sized
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.export.evaluate.exact_search import BLOCK_BYTES, Stacked, nearest, search
from alignstream.export.evaluate.statistics import spearman
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Indices, Matrix, Vector64
from alignstream.models.checks import neighbours
from alignstream.models.errors import TaskError
from alignstream.models.labels.zero_shot import label_cosines

TO_PIVOT: Final = "to pivot"
FROM_PIVOT: Final = "from pivot"
TO_TARGET: Final = "P@1, source to target"
TO_SOURCE: Final = "P@1, target to source"
MIXED_POOL: Final = "mixed pool R-precision"
LABELS: Final = "label accuracy"
HEAD: Final = "accuracy of a head trained on the pivot"
SIMILARITY: Final = "Spearman within the language"
NEIGHBOURS: Final = "neighbours kept"

#: Unit vectors and their language's tag (None: unknown, as of label texts) to aligned unit vectors.
Transform = Callable[[Matrix, str | None], Matrix]
#: Unit vectors of queries and of candidates to the position of the candidate that each query finds first.
Find = Callable[[Matrix, Matrix], Indices]


@dataclasses.dataclass(frozen=True)
class Scores:
    """Figures by language, and the values of single texts where a figure is a mean of them.

    Parameters
    ----------
    figures : dict of str to float
        By language, in points.
    per_text : dict of str to ndarray of shape (n_texts,), float64
        By language, from 0 to 1; their mean is the figure. Empty where a figure is not a mean of texts.
    """

    figures: dict[str, float]
    per_text: dict[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)


#: By measure.
Measured = dict[str, Scores]


def mean_scores(per_text: Mapping[str, NDArray[Any]]) -> Scores:
    """Return scores whose figures are means of the values of texts."""
    values = {language: np.asarray(texts, dtype=np.float64) for language, texts in per_text.items()}
    return Scores({language: 100.0 * float(texts.mean()) for language, texts in values.items()}, values)


def as_encoded(X: Matrix, _: str | None) -> Matrix:
    """Return vectors as they are: the transform without an adapter."""
    return X


def transform_of(adapter: Adapter) -> Transform:
    """Return an adapter's transform: it aligns vectors as those of messages tagged with the language."""
    return lambda X, language: adapter.transform_many(X, Context(language=language))


def transformed(vectors: Mapping[str, Matrix], transform: Transform) -> dict[str, Matrix]:
    """Return the vectors of every language, transformed."""
    return {language: transform(X, language) for language, X in vectors.items()}


def retrieval(
    vectors: Mapping[str, Matrix],
    pivot: str,
    *,
    same: Mapping[str, Indices] | None = None,
    find: Find = nearest,
) -> Measured:
    """Find translations by the nearest vector, from each language to the pivot and back.

    Parameters
    ----------
    vectors : mapping of str to ndarray of shape (n_lines, dim), float32
        Unit vectors by language; row i of every language says the same.
    pivot : str
        One of the languages.
    same : mapping of str to ndarray of shape (n_lines,), int64, optional
        By language, the first line that has the text of each line (``first_lines``). Default: no text occurs twice.
    find : callable
        What a query finds first. Default: the nearest by cosine, of equals the first.

    Returns
    -------
    dict
        ``TO_PIVOT`` and ``FROM_PIVOT``: right if the first has the text of a translation of the same text, so
        repeated texts cost nothing.

    Raises
    ------
    TaskError
        Languages differ in their number of lines, or there is no pivot.

    Notes
    -----
    O(n_lines² · dim) a language, in blocks.

    Examples
    --------
    >>> turn = np.array([[0.8, 0.6], [-0.6, 0.8]], dtype=np.float32)
    >>> both_ways = retrieval({"en": np.eye(2, dtype=np.float32), "de": turn}, "en")
    >>> both_ways[TO_PIVOT].figures
    {'de': 100.0}
    """
    check_parallel(vectors, pivot)
    lines = np.arange(len(vectors[pivot]), dtype=np.int64)
    right: dict[str, dict[str, NDArray[np.bool_]]] = {TO_PIVOT: {}, FROM_PIVOT: {}}
    for language in vectors:
        if language == pivot:
            continue
        for measure, source, target in ((TO_PIVOT, language, pivot), (FROM_PIVOT, pivot, language)):
            one, other = (lines, lines) if same is None else (same[source], same[target])
            first = find(vectors[source], vectors[target])
            right[measure][language] = np.isin(_pairs(one, other[first]), _pairs(one, other))
    return {measure: mean_scores(by_language) for measure, by_language in right.items()}


def term_retrieval(
    lists: Mapping[str, tuple[Matrix, Matrix]], gold: Mapping[str, Indices], *, find: Find = nearest
) -> Measured:
    """Find a term's translation among the other list's terms, both ways.

    Parameters
    ----------
    lists : mapping of str to two ndarrays of shape (n_source, dim) and (n_target, dim), float32
        Unit vectors of the distinct terms of both lists, by the name of the lists.
    gold : mapping of str to ndarray of shape (n_pairs, 2), int64
        Positions of terms that translate each other; every term is in at least one pair.
    find : callable
        As for ``retrieval``.

    Returns
    -------
    dict
        ``TO_TARGET`` and ``TO_SOURCE``: right where the first is any translation.
    """
    right: dict[str, dict[str, NDArray[np.bool_]]] = {TO_TARGET: {}, TO_SOURCE: {}}
    for name, (source, target) in lists.items():
        for measure, queries, candidates, links in (
            (TO_TARGET, source, target, gold[name]),
            (TO_SOURCE, target, source, gold[name][:, ::-1]),
        ):
            n = len(candidates)
            first = find(queries, candidates)
            known = links[:, 0] * n + links[:, 1]
            right[measure][name] = np.isin(np.arange(len(queries)) * n + first, known)
    return {measure: mean_scores(by_list) for measure, by_list in right.items()}


def mixed_pool(
    vectors: Mapping[str, Matrix],
    *,
    rows: Mapping[str, Indices] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Scores:
    """Find all translations of a text among all texts of all languages: R-precision by the query's language.

    With R other languages, the share of a text's R nearest that are its translations: strong alignment in the
    sense of Roy et al. 2020, "LAReQA". Texts that are near for their language alone cost points.

    Parameters
    ----------
    vectors : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors by language, each text once.
    rows : mapping of str to ndarray of shape (n_lines,), int64, optional
        By language, the row of the text of each line; line i of every language says the same. Default: a row a line.
    block_bytes : int
        As in ``exact_search.search``.

    Raises
    ------
    TaskError
        Languages differ in their number of lines, or there is only one.

    Notes
    -----
    O((n_languages · n_texts)² · dim), in blocks.
    """
    if rows is None:
        rows = {language: np.arange(len(X), dtype=np.int64) for language, X in vectors.items()}
    check_parallel(rows, next(iter(rows)))
    pool = Stacked(list(vectors.values()))
    starts = dict(zip(vectors, pool.starts, strict=True))
    precision = {}
    for language, X in vectors.items():
        own = np.arange(len(X), dtype=np.int64)
        others = [other for other in vectors if other != language]
        near, _ = search(X, pool, len(others), exclude=own + starts[language], block_bytes=block_bytes)
        known = np.unique([rows[language] * len(pool) + starts[other] + rows[other] for other in others])
        is_translation = np.isin(own[:, None] * len(pool) + near, known)
        precision[language] = is_translation.mean(axis=1)[rows[language]]
    return mean_scores(precision)


def label_accuracy(
    vectors: Mapping[str, Matrix],
    prototypes: Matrix,
    gold: Mapping[str, Indices],
    *,
    common: Vector64 | None = None,
) -> Scores:
    """Label each text by the nearest label text, zero-shot.

    Parameters
    ----------
    vectors : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors of texts by language.
    prototypes : ndarray of shape (n_labels, dim), float32
        Unit vectors of label texts.
    gold : mapping of str to ndarray of shape (n_texts,), int64
        The position of each text's label.
    common : ndarray of shape (dim,), optional
        What labels leave out of aligned vectors (``Adapter.common_direction``).
    """
    return mean_scores({
        language: label_cosines(X, prototypes, common).argmax(axis=1) == gold[language]
        for language, X in vectors.items()
    })  # fmt: skip


def similarity(pairs: Mapping[str, ScoredVectors], transform: Transform = as_encoded) -> Scores:
    """Compare cosines of pairs within a language with people's scores, by Spearman's rank correlation.

    Parameters
    ----------
    pairs : mapping of str to ScoredVectors
        By language.
    transform : callable
        What vectors go through first.
    """
    figures = {}
    for language, scored in pairs.items():
        first, second = transform(scored.first, language), transform(scored.second, language)
        cosines = np.einsum("ij,ij->i", first.astype(np.float64), second.astype(np.float64))
        figures[language] = 100.0 * spearman(cosines, scored.scores)
    return Scores(figures)


def neighbours_kept(before: Matrix, after: Matrix) -> float:
    """Return the share of neighbours within a language that stay, in points: ``models.checks.neighbours``."""
    return 100.0 * neighbours.neighbours_kept(before, after)


def check_parallel(vectors: Mapping[str, Sized], pivot: str) -> None:
    """Refuse vectors that are not parallel: different numbers of lines, a single language, no pivot.

    Raises
    ------
    TaskError
        Vectors are not parallel, or have no such pivot.
    """
    if pivot not in vectors:
        raise TaskError(f"there is no text in the pivot {pivot!r}")
    lengths = {len(X) for X in vectors.values()}
    if len(vectors) < 2 or len(lengths) != 1 or min(lengths) < 1:
        raise TaskError("at least two languages with the same number of lines are needed, at least 1")


def _pairs(one: Indices, other: Indices) -> Indices:
    """Return pairs of texts on the same line, each as one number."""
    pairs: Indices = one * len(one) + other
    return pairs
