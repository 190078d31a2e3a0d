"""Columns of a measure: how vectors are transformed before they are measured, and which texts each column saw.

Every column of a measure meets the same candidates. Columns are of three kinds that are never mixed: *inductive*
ones see one text and what was fitted beforehand; *causal* ones also see earlier texts of the same stream (as a causal
filter does); *transductive* ones see all test texts of both sides at once, which a live stream never does.

Columns of raw and of aligned vectors can be asked for one after the other and ``joined``, so that vectors may be
aligned in their place.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, Literal

import numpy as np

from alignstream.export.evaluate.exact_search import (
    BLOCK_BYTES,
    Centred,
    VectorRows,
    csls_penalty,
    nearest,
    stream_blocks,
)
from alignstream.export.evaluate.measures import Find, Measured, Scores
from alignstream.models.arrays import Indices, Matrix

Kind = Literal["inductive", "causal", "transductive"]


@dataclasses.dataclass(frozen=True)
class Column:
    """How the vectors of a column were transformed, and which texts it saw: its kind."""

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

#: By measure, then by column.
Results = dict[str, dict[Column, Scores]]


def plain_column(*, is_aligned: bool) -> Column:
    """Return the column of vectors as they are: raw, or aligned."""
    return ADAPTER if is_aligned else RAW


def with_corrections(
    measure: Callable[[Find], Measured], *, is_aligned: bool, block_bytes: int = BLOCK_BYTES
) -> Results:
    """Measure in every column that raw, or aligned, vectors have.

    Parameters
    ----------
    measure : callable
        Takes a way to find, returns the measured scores: ``measures.retrieval`` or ``measures.term_retrieval`` on some
        vectors.
    is_aligned : bool
        Whether they are aligned.
    block_bytes : int
        As in ``exact_search.search``.
    """
    results: Results = {}
    for column, find in _finds(is_aligned=is_aligned, block_bytes=block_bytes).items():
        for name, scores in measure(find).items():
            results.setdefault(name, {})[column] = scores
    return results


def in_column(column: Column, measured: Mapping[str, Scores]) -> Results:
    """Return measured scores as the results of one column."""
    return {name: {column: scores} for name, scores in measured.items()}


def joined(*parts: Results) -> Results:
    """Put columns of the same measures together, in the order that all tables have."""
    whole: Results = {}
    for measure in parts[0]:
        columns = {column: scores for part in parts for column, scores in part[measure].items()}
        whole[measure] = {column: columns[column] for column in sorted(columns, key=_ORDER.index)}
    return whole


def _finds(*, is_aligned: bool, block_bytes: int) -> dict[Column, Find]:
    """Return how each column finds; none makes a copy of either side."""

    def by_cosine(Q: VectorRows, C: VectorRows) -> Indices:
        return nearest(Q, C, block_bytes=block_bytes)

    def by_csls(Q: VectorRows, C: VectorRows) -> Indices:
        return nearest(Q, C, block_bytes=block_bytes, penalty=csls_penalty(C, Q, block_bytes=block_bytes))

    def of_centred(find: Callable[[VectorRows, VectorRows], Indices]) -> Find:
        return lambda Q, C: find(Centred(Q), Centred(C))

    def of_stream(Q: Matrix, C: Matrix) -> Indices:
        return np.concatenate([by_cosine(block, C) for block in stream_blocks(Q, C)])

    if not is_aligned:
        return {RAW: by_cosine, RAW_CSLS: by_csls, RAW_CENTRED: of_centred(by_cosine)}
    return {
        ADAPTER: by_cosine,
        STREAM: of_stream,
        ADAPTER_CSLS: by_csls,
        ADAPTER_CENTRED: of_centred(by_cosine),
        ADAPTER_BOTH: of_centred(by_csls),
    }
