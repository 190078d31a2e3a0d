"""The tasks as pure functions: arrays to figures of every language, a column at a time.

Every column of a measure meets the same candidates. Columns are of three kinds that are never mixed: *inductive*
ones see one text and what was fitted beforehand; *causal* ones also see earlier texts of the same stream;
*transductive* ones see all test texts of both sides at once, which a live stream never does.

Columns of raw and of aligned vectors can be asked for one after the other (``retrieve``, ``find_terms``,
``find_in_pool``) and ``joined``, so that vectors may be aligned in their place.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from alignstream.export.evaluate import N_NEIGHBOURS
from alignstream.export.evaluation.search import (
    BLOCK_BYTES,
    Centred,
    Indices,
    Rows,
    Stacked,
    csls_penalty,
    search,
    stream_blocks,
)
from alignstream.export.evaluation.statistics import is_chance, spearman
from alignstream.models.alignment.members import Matrix, Vector64
from alignstream.models.errors import AlignstreamError
from alignstream.models.tasks.zero_shot import label_cosines

Kind = Literal["inductive", "causal", "transductive"]


class TaskError(AlignstreamError):
    """Arrays of a task do not go together; the message says which."""


@dataclasses.dataclass(frozen=True)
class Column:
    """What the vectors of a column went through, and which texts it saw: its kind."""

    name: str
    kind: Kind


RAW: Final = Column("raw", "inductive")
ADAPTER: Final = Column("adapter", "inductive")
TOKEN_MEANS: Final = Column("token means removed", "inductive")
STREAM: Final = Column("adapter + stream mean", "causal")
RAW_CSLS: Final = Column("raw + CSLS", "transductive")
ADAPTER_CSLS: Final = Column("adapter + CSLS", "transductive")
RAW_CENTRED: Final = Column("raw + list centring", "transductive")
ADAPTER_CENTRED: Final = Column("adapter + list centring", "transductive")
ADAPTER_BOTH: Final = Column("adapter + list centring + CSLS", "transductive")
#: How columns follow each other in a measure.
_ORDER: Final = (
    RAW, ADAPTER, TOKEN_MEANS, STREAM, RAW_CSLS, ADAPTER_CSLS, RAW_CENTRED, ADAPTER_CENTRED, ADAPTER_BOTH
)  # fmt: skip

TO_PIVOT: Final = "to pivot"
FROM_PIVOT: Final = "from pivot"
TO_TARGET: Final = "P@1, source to target"
TO_SOURCE: Final = "P@1, target to source"
MIXED_POOL: Final = "mixed pool R-precision"
LABELS: Final = "label accuracy"
HEAD: Final = "accuracy of a head trained on the pivot"
SIMILARITY: Final = "Spearman within the language"
NEIGHBOURS: Final = "neighbours kept"

#: λ of the head, tried on the training texts alone, each left out of its own fit.
HEAD_STRENGTHS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

PerText = NDArray[np.float64]
#: Which candidates are right: (queries, what they found) to one value a query.
_Right = Callable[[Indices], NDArray[np.bool_]]


@dataclasses.dataclass(frozen=True)
class Scores:
    """A column's figures in points, and the values of the texts behind them where there are any.

    Parameters
    ----------
    figures : dict of str to float
        By language, in points.
    per_text : dict of str to ndarray of shape (n_texts,), float64
        By language, from 0 to 1; their mean is the figure. Empty where a figure is no mean of texts.
    """

    figures: dict[str, float]
    per_text: dict[str, PerText] = dataclasses.field(default_factory=dict)


#: By measure, then by column.
Results = dict[str, dict[Column, Scores]]


def mean_scores(per_text: Mapping[str, NDArray[Any]]) -> Scores:
    """Return scores whose figures are means of the values of texts."""
    values = {language: np.asarray(items, dtype=np.float64) for language, items in per_text.items()}
    return Scores({language: 100.0 * float(items.mean()) for language, items in values.items()}, values)


def joined(*parts: Results) -> Results:
    """Put columns of the same measures together, in the order that all tables have."""
    found: Results = {}
    for measure in parts[0]:
        columns = {column: scores for part in parts for column, scores in part[measure].items()}
        found[measure] = {column: columns[column] for column in sorted(columns, key=_ORDER.index)}
    return found


def retrieval(
    raw: Mapping[str, Matrix],
    aligned: Mapping[str, Matrix],
    pivot: str,
    *,
    same: Mapping[str, Indices] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Results:
    """Find translations by the nearest vector, from each language to the pivot and back.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_lines, dim), float32
        Unit vectors by language; row i of every language says the same.
    pivot : str
        One of the languages.
    same : mapping of str to ndarray of shape (n_lines,), int64, optional
        By language, the first line that has the text of each line (``first_lines``). Default: no text stands twice.
    block_bytes : int
        As in ``search.search``.

    Returns
    -------
    dict
        ``TO_PIVOT`` and ``FROM_PIVOT``, in every column: right where the first has the text of a translation of
        the same text, so that texts which stand twice cost nothing.

    Raises
    ------
    TaskError
        Languages differ in their number of lines, or there is no pivot.
    """
    return joined(
        retrieve(raw, pivot, is_aligned=False, same=same, block_bytes=block_bytes),
        retrieve(aligned, pivot, is_aligned=True, same=same, block_bytes=block_bytes),
    )


def retrieve(
    vectors: Mapping[str, Matrix],
    pivot: str,
    *,
    is_aligned: bool,
    same: Mapping[str, Indices] | None = None,
    with_corrections: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> Results:
    """Return the columns of ``retrieval`` for raw or for aligned vectors; without corrections the plain one alone."""
    _check_parallel(vectors, pivot)
    found: dict[str, dict[Column, dict[str, NDArray[np.bool_]]]] = {TO_PIVOT: {}, FROM_PIVOT: {}}
    lines = np.arange(len(vectors[pivot]), dtype=np.int64)
    for language in vectors:
        if language == pivot:
            continue
        for measure, source, target in ((TO_PIVOT, language, pivot), (FROM_PIVOT, pivot, language)):
            one, other = (lines, lines) if same is None else (same[source], same[target])
            known = _translations(one, other)

            def right(
                positions: Indices, one: Indices = one, other: Indices = other, known: Indices = known
            ) -> NDArray[np.bool_]:
                return np.isin(one * len(one) + other[positions], known)

            columns = _columns(
                vectors[source],
                vectors[target],
                right,
                is_aligned=is_aligned,
                with_corrections=with_corrections,
                block_bytes=block_bytes,
            )
            for column, hits in columns.items():
                found[measure].setdefault(column, {})[language] = hits
    return _scored(found)


def first_lines(texts: Sequence[str]) -> Indices:
    """Return, for each line, the first line that has the same text; shape (n_lines,)."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, line) for line, text in enumerate(texts)], dtype=np.int64)


def right_shares(same: Mapping[str, Indices], pivot: str) -> dict[str, float]:
    """Return how often a line drawn at random is right in ``retrieve``, by language, from ``first_lines``."""
    n = len(same[pivot])
    counts = {language: np.bincount(lines, minlength=n) for language, lines in same.items()}
    shares = {}
    for language in same:
        if language != pivot:
            known = _translations(same[language], same[pivot])
            n_right = (counts[language][known // n] * counts[pivot][known % n]).sum()
            shares[language] = float(n_right) / n**2
    return shares


def at_chance(found: Results, measures: Sequence[str], shares: Mapping[str, float]) -> list[str]:
    """Name the languages whose translations are found by chance alone: in all measures, raw and aligned.

    Parameters
    ----------
    found : dict
        Of a task whose texts are right or wrong; of its columns the plain ones count.
    measures : sequence of str
        Of it.
    shares : mapping of str to float
        By language, how often a random candidate is right.
    """
    plain = [
        found[measure][column].per_text
        for measure in measures
        for column in (RAW, ADAPTER)
        if column in found[measure]
    ]
    return [
        language
        for language, share in shares.items()
        if all(is_chance(int(hits[language].sum()), len(hits[language]), share) for hits in plain)
    ]


def terms(
    raw: Mapping[str, tuple[Matrix, Matrix]],
    aligned: Mapping[str, tuple[Matrix, Matrix]],
    gold: Mapping[str, NDArray[np.int64]],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Results:
    """Find a term's translation among the other list's terms, both ways.

    Parameters
    ----------
    raw, aligned : mapping of str to two ndarrays of shape (n_source, dim) and (n_target, dim), float32
        Unit vectors of the distinct terms of both lists, by the name of the lists.
    gold : mapping of str to ndarray of shape (n_pairs, 2), int64
        Positions of terms that translate each other; every term stands in at least one pair.
    block_bytes : int
        As in ``search.search``.

    Returns
    -------
    dict
        ``TO_TARGET`` and ``TO_SOURCE``, in every column: right where the first is any translation.
    """
    return joined(
        find_terms(raw, gold, is_aligned=False, block_bytes=block_bytes),
        find_terms(aligned, gold, is_aligned=True, block_bytes=block_bytes),
    )


def find_terms(
    vectors: Mapping[str, tuple[Matrix, Matrix]],
    gold: Mapping[str, NDArray[np.int64]],
    *,
    is_aligned: bool,
    with_corrections: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> Results:
    """Return the columns of ``terms`` for raw or for aligned vectors; without corrections the plain one alone."""
    found: dict[str, dict[Column, dict[str, NDArray[np.bool_]]]] = {TO_TARGET: {}, TO_SOURCE: {}}
    for name, (source, target) in vectors.items():
        for measure, queries, candidates, links in (
            (TO_TARGET, source, target, gold[name]),
            (TO_SOURCE, target, source, gold[name][:, ::-1]),
        ):
            n_found = len(candidates)
            known = np.unique(links[:, 0] * n_found + links[:, 1])

            def right(positions: Indices, known: Indices = known, n: int = n_found) -> NDArray[np.bool_]:
                return np.isin(np.arange(len(positions)) * n + positions, known)

            columns = _columns(
                queries,
                candidates,
                right,
                is_aligned=is_aligned,
                with_corrections=with_corrections,
                block_bytes=block_bytes,
            )
            for column, hits in columns.items():
                found[measure].setdefault(column, {})[name] = hits
    return _scored(found)


def mixed_pool(
    raw: Mapping[str, Matrix],
    aligned: Mapping[str, Matrix],
    *,
    rows: Mapping[str, Indices] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Results:
    """Find all translations of a text among all texts of all languages: R-precision by the query's language.

    With R other languages, the share of a text's R nearest that are its translations: strong alignment in the
    sense of Roy et al. 2020, "LAReQA". Texts that are near for their language alone cost points.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors by language, each text once.
    rows : mapping of str to ndarray of shape (n_lines,), int64, optional
        By language, the row of the text of each line; line i of every language says the same. Default: a row a line.
    block_bytes : int
        As in ``search.search``.
    """
    return joined(
        find_in_pool(raw, is_aligned=False, rows=rows, block_bytes=block_bytes),
        find_in_pool(aligned, is_aligned=True, rows=rows, block_bytes=block_bytes),
    )


def find_in_pool(
    vectors: Mapping[str, Matrix],
    *,
    is_aligned: bool,
    rows: Mapping[str, Indices] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Results:
    """Return the column of ``mixed_pool`` for raw or for aligned vectors."""
    if rows is None:
        rows = {language: np.arange(len(X), dtype=np.int64) for language, X in vectors.items()}
    _check_parallel(rows, next(iter(rows)))
    pool = Stacked(list(vectors.values()))
    starts = dict(zip(vectors, pool.starts, strict=True))
    precision = {}
    for language, X in vectors.items():
        own = np.arange(len(X), dtype=np.int64)
        others = [other for other in vectors if other != language]
        nearest, _ = search(X, pool, len(others), exclude=own + starts[language], block_bytes=block_bytes)
        known = np.unique([rows[language] * len(pool) + starts[other] + rows[other] for other in others])
        hits = np.isin(own[:, None] * len(pool) + nearest, known)
        precision[language] = hits.mean(axis=1)[rows[language]]
    return {MIXED_POOL: {ADAPTER if is_aligned else RAW: mean_scores(precision)}}


def labels(
    raw: Mapping[str, Matrix],
    aligned: Mapping[str, Matrix],
    prototypes: tuple[Matrix, Matrix],
    gold: Mapping[str, NDArray[np.int64]],
    *,
    common: Vector64 | None = None,
) -> Results:
    """Label each text by the nearest label text, zero-shot.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors of texts by language.
    prototypes : two ndarrays of shape (n_labels, dim), float32
        Unit vectors of label texts, raw and aligned.
    gold : mapping of str to ndarray of shape (n_texts,), int64
        The position of each text's label.
    common : ndarray of shape (dim,), optional
        What labels leave out of aligned vectors (``Adapter.common_direction``).
    """
    scored = {}
    for column, vectors, own, left_out in (
        (RAW, raw, prototypes[0], None),
        (ADAPTER, aligned, prototypes[1], common),
    ):
        scored[column] = mean_scores(
            {
                language: label_cosines(X, own, left_out).argmax(axis=1) == gold[language]
                for language, X in vectors.items()
            }
        )
    return {LABELS: scored}


def head(
    raw: Mapping[str, Matrix],
    aligned: Mapping[str, Matrix],
    train: tuple[Matrix, Matrix],
    train_gold: NDArray[np.int64],
    gold: Mapping[str, NDArray[np.int64]],
) -> Results:
    """Classify texts of all languages by a head that was trained on texts of the pivot alone.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors of texts by language.
    train : two ndarrays of shape (n_train, dim), float32
        The pivot's training texts, raw and aligned.
    train_gold : ndarray of shape (n_train,), int64
        Their classes, from 0.
    gold : mapping of str to ndarray of shape (n_texts,), int64
        Classes of the texts; one that training lacks counts as wrong.
    """
    scored = {}
    for column, vectors, X in ((RAW, raw, train[0]), (ADAPTER, aligned, train[1])):
        weights, mean = fit_head(X, train_gold)
        scored[column] = mean_scores(
            {
                language: ((rows.astype(np.float64) - mean) @ weights[:-1] + weights[-1]).argmax(axis=1)
                == gold[language]
                for language, rows in vectors.items()
            }
        )
    return {HEAD: scored}


def fit_head(X: Matrix, classes: NDArray[np.int64]) -> tuple[Vector64, Vector64]:
    """Fit one-against-rest least squares with a ridge, its λ chosen by leave-one-out accuracy on X alone.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        Unit vectors.
    classes : ndarray of shape (n,), int64
        From 0; at least two distinct ones.

    Returns
    -------
    weights : ndarray of shape (dim + 1, n_classes), float64
        The last row is the intercept.
    mean : ndarray of shape (dim,), float64
        To subtract from a vector first.

    Raises
    ------
    TaskError
        There are fewer than two classes.

    Notes
    -----
    One singular value decomposition, O(n · dim · min(n, dim)); leaving one out needs no further fit.
    """
    if len(np.unique(classes)) < 2:
        raise TaskError("a head needs training texts of at least two labels")
    mean = X.mean(axis=0, dtype=np.float64)
    Y = np.eye(int(classes.max()) + 1)[classes]
    intercept = Y.mean(axis=0)
    U, s, Vt = np.linalg.svd(X.astype(np.float64) - mean, full_matrices=False)
    best = (-1.0, 0.0)
    for strength in HEAD_STRENGTHS:
        accuracy = float((_left_out(U, s, Y, strength).argmax(axis=1) == classes).mean())
        # Of equals the strongest: the simplest head.
        best = max(best, (accuracy, strength))
    weights = Vt.T @ ((s / (s**2 + best[1]))[:, None] * (U.T @ (Y - intercept)))
    return np.concatenate([weights, intercept[None]]), mean


def _left_out(U: Vector64, s: Vector64, Y: Vector64, strength: float) -> Vector64:
    """Return what ridge regressions say of each row, each fitted without it; shape of Y.

    U and s are of the singular value decomposition of the centred rows; the intercept is not penalised.
    """
    intercept = Y.mean(axis=0)
    shrunk = s**2 / (s**2 + strength)
    fitted = intercept + U @ (shrunk[:, None] * (U.T @ (Y - intercept)))
    leverage = np.minimum((U**2) @ shrunk + 1.0 / len(Y), 1.0 - 1e-9)
    left_out: Vector64 = Y - (Y - fitted) / (1.0 - leverage)[:, None]
    return left_out


def similarity(
    raw: Mapping[str, tuple[Matrix, Matrix]],
    aligned: Mapping[str, tuple[Matrix, Matrix]],
    gold: Mapping[str, NDArray[np.float64]],
) -> Results:
    """Compare cosines of pairs within a language with people's scores, by Spearman's rank correlation.

    Parameters
    ----------
    raw, aligned : mapping of str to two ndarrays of shape (n_pairs, dim), float32
        Unit vectors of both texts of each pair, by language.
    gold : mapping of str to ndarray of shape (n_pairs,), float64
        People's scores; any increasing scale.
    """
    scored = {}
    for column, vectors in ((RAW, raw), (ADAPTER, aligned)):
        scored[column] = Scores(
            {
                language: 100.0
                * spearman(np.einsum("ij,ij->i", first.astype(np.float64), second), gold[language])
                for language, (first, second) in vectors.items()
            }
        )
    return {SIMILARITY: scored}


def neighbours(
    raw: Mapping[str, Matrix], aligned: Mapping[str, Matrix], *, block_bytes: int = BLOCK_BYTES
) -> Results:
    """Measure how much of each text's ``N_NEIGHBOURS`` nearest within its language the adapter keeps.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors by language, each text once.
    block_bytes : int
        As in ``search.search``.

    Returns
    -------
    dict
        ``NEIGHBOURS``. The raw column is 100 by definition: raw vectors are what is compared with.
    """
    return kept(
        {language: nearest_within(X, block_bytes=block_bytes) for language, X in raw.items()},
        {language: nearest_within(X, block_bytes=block_bytes) for language, X in aligned.items()},
    )


def nearest_within(X: Matrix, *, block_bytes: int = BLOCK_BYTES) -> Indices:
    """Return the ``N_NEIGHBOURS`` nearest other rows of each row, nearest first; all of them where they are fewer."""
    own = np.arange(len(X), dtype=np.int64)
    return search(X, X, min(N_NEIGHBOURS, len(X) - 1), exclude=own, block_bytes=block_bytes)[0]


def kept(before: Mapping[str, Indices], after: Mapping[str, Indices]) -> Results:
    """Return ``neighbours`` from what ``nearest_within`` found in raw and in aligned vectors, by language."""
    shares = {
        language: (found[:, :, None] == after[language][:, None, :]).any(axis=2).mean(axis=1)
        for language, found in before.items()
    }
    return {NEIGHBOURS: {RAW: Scores(dict.fromkeys(shares, 100.0)), ADAPTER: mean_scores(shares)}}


def _translations(one: Indices, other: Indices) -> Indices:
    """Return the distinct pairs of texts that stand in a line together, each as one number."""
    pairs: Indices = np.unique(one * len(one) + other)
    return pairs


def _columns(
    queries: Matrix,
    candidates: Matrix,
    right: _Right,
    *,
    is_aligned: bool,
    with_corrections: bool,
    block_bytes: int,
) -> dict[Column, NDArray[np.bool_]]:
    """Search once for each column, without a copy of either side."""

    def hits(Q: Rows, C: Rows) -> NDArray[np.bool_]:
        return right(search(Q, C, 1, block_bytes=block_bytes)[0][:, 0])

    def corrected(Q: Rows, C: Rows) -> NDArray[np.bool_]:
        penalty = csls_penalty(C, Q, block_bytes=block_bytes)
        return right(search(Q, C, 1, block_bytes=block_bytes, penalty=penalty)[0][:, 0])

    found = {ADAPTER if is_aligned else RAW: hits(queries, candidates)}
    if not with_corrections:
        return found
    lists = Centred(queries), Centred(candidates)
    if not is_aligned:
        return found | {RAW_CSLS: corrected(queries, candidates), RAW_CENTRED: hits(*lists)}
    streamed = [
        search(block, candidates, 1, block_bytes=block_bytes)[0][:, 0]
        for block in stream_blocks(queries, candidates)
    ]
    return found | {
        STREAM: right(np.concatenate(streamed)),
        ADAPTER_CSLS: corrected(queries, candidates),
        ADAPTER_CENTRED: hits(*lists),
        ADAPTER_BOTH: corrected(*lists),
    }


def _scored(found: Mapping[str, Mapping[Column, Mapping[str, NDArray[np.bool_]]]]) -> Results:
    return {
        measure: {column: mean_scores(hits) for column, hits in columns.items()}
        for measure, columns in found.items()
    }


def _check_parallel(vectors: Mapping[str, Sized], pivot: str) -> None:
    if pivot not in vectors:
        raise TaskError(f"there is no text in the pivot {pivot!r}")
    lengths = {len(X) for X in vectors.values()}
    if len(vectors) < 2 or len(lengths) != 1 or min(lengths) < 2:
        raise TaskError("at least two languages with the same number of lines are needed, at least 2")
