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

from alignstream.export.evaluate.search import (
    BLOCK_BYTES,
    Centred,
    Rows,
    Stacked,
    csls_penalty,
    search,
    stream_blocks,
)
from alignstream.export.evaluate.statistics import is_chance
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.errors import TaskError

Kind = Literal["inductive", "causal", "transductive"]


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
