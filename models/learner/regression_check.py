"""Regression checks of an epoch: texts and pairs of the tenant's own stream must still find what they found.

If they do not, the epoch is not published, and the last good one keeps serving.
"""

import dataclasses
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Array64
from alignstream.models.checks.gate import MIN_NEIGHBOURS_KEPT, judge_few, margins
from alignstream.models.checks.neighbours import neighbours_kept
from alignstream.models.serving.epoch import Epoch, Memory, TaggedVectors
from alignstream.models.serving.query_adaptation import QueryAdaptation

#: Most texts whose neighbours are compared, and the fewest that say anything.
MAX_TEXTS: Final = 150
MIN_TEXTS: Final = 40
#: Fewest pairs whose margins say anything, and the most that are compared.
MIN_PAIRS: Final = 8
MAX_PAIRS: Final = 200


def judge_epoch(candidate: Epoch, last: Epoch | None, adapter: Adapter) -> str | None:
    """Compare retrieval with a candidate epoch to retrieval with the epoch that serves now.

    Parameters
    ----------
    candidate : Epoch
    last : Epoch or None
        The epoch that serves now; None: the adapter alone.
    adapter : Adapter
        An adapter of the same encoder.

    Returns
    -------
    str or None
        Why the candidate must not be published; None if there is no reason.

    Notes
    -----
    Texts come from the bank of the serving epoch. They come from the candidate's own bank if there is no such epoch,
    if its bank has too few texts, and after a confirmed change, when older texts are no longer the stream that queries
    are corrected for. A query must still find most neighbours of its text's stored vector. Pairs are those that the
    tenant vouches for: the margins between source queries and their targets must not be significantly smaller than
    now. Both sides are vectors as they would be served. O(n² · dim) for a few hundred vectors.
    """
    adaptation = QueryAdaptation(adapter, candidate)
    is_new = last is None or candidate.reason == "drift" or len(last.bank) < MIN_TEXTS
    texts = _spread(candidate.bank if is_new or last is None else last.bank, MAX_TEXTS)
    if len(texts) >= MIN_TEXTS:
        kept = _neighbours_found(adaptation, texts)
        if kept < MIN_NEIGHBOURS_KEPT:
            return (
                f"queries would find {kept:.0%} of the neighbours of {len(texts)} recent texts' stored vectors; "
                f"{MIN_NEIGHBOURS_KEPT:.0%} are needed"
            )
    n_pairs = min(len(candidate.memory.ids), MAX_PAIRS)
    if n_pairs >= MIN_PAIRS:
        now = QueryAdaptation(adapter, _without_feedback(candidate) if last is None else last)
        verdict = judge_few(
            _pair_margins(now, candidate, n_pairs), _pair_margins(adaptation, candidate, n_pairs)
        )
        if not verdict.is_accepted:
            return f"its pairs would find less: {verdict.reason}"
    return None


def _without_feedback(epoch: Epoch) -> Epoch:
    """Return an epoch of the same tenant that changes nothing."""
    empty = TaggedVectors(np.zeros((0, epoch.dim), dtype=np.float16), ())
    return dataclasses.replace(
        epoch,
        languages=(),
        means=np.zeros((0, epoch.dim), dtype=np.float32),
        weights=(),
        bank=empty,
        memory=Memory(empty, empty, (), ()),
        tenant_map=None,
    )


def _spread(rows: TaggedVectors, n: int) -> TaggedVectors:
    """Return at most n rows, evenly spaced."""
    places = np.linspace(0, len(rows) - 1, min(n, len(rows)))
    chosen: list[int] = [round(float(place)) for place in places]
    return TaggedVectors(rows.vectors[chosen], tuple(rows.languages[row] for row in chosen))


def _neighbours_found(adaptation: QueryAdaptation, texts: TaggedVectors) -> float:
    vectors = texts.vectors.astype(np.float32)
    contexts = [Context(language=language or None) for language in texts.languages]
    stored = np.stack([adaptation.vector(x, context) for x, context in zip(vectors, contexts, strict=True)])
    queries = np.stack([adaptation.query(x, context) for x, context in zip(vectors, contexts, strict=True)])
    return neighbours_kept(stored, stored, queries=queries)


def _pair_margins(adaptation: QueryAdaptation, candidate: Epoch, n: int) -> Array64:
    """Return the margins of the n newest pairs, each against the targets of the others."""
    memory = candidate.memory
    sources = memory.sources.vectors[-n:].astype(np.float32)
    targets = memory.targets.vectors[-n:].astype(np.float32)
    Q = np.stack(
        [
            adaptation.query(x, Context(language=language or None))
            for x, language in zip(sources, memory.sources.languages[-n:], strict=True)
        ]
    )
    Y = np.stack(
        [
            adaptation.vector(x, Context(language=language or None))
            for x, language in zip(targets, memory.targets.languages[-n:], strict=True)
        ]
    )
    return np.concatenate(
        [margins(Q[row : row + 1], Y[row : row + 1], np.delete(Y, row, axis=0)) for row in range(n)]
    )
