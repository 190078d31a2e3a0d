"""Replay a stream as the service meets it: every query uses the epoch that is open when it comes, and nothing later.

Epochs come from the functions that the service learns and serves with (``models.learner``, ``models.serving``). Stored
vectors are those of the adapter alone; only queries adapt. Pure: the same messages give the same figures.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.evaluate.columns import RAW, Column, Results
from alignstream.export.evaluate.measures import LABELS, mean_scores
from alignstream.export.evaluate.prequential.stream_index import (
    MEASURES,
    NO_GROUP,
    Messages,
    PerQuery,
    StreamIndex,
    concatenated,
    stored_vectors,
    tag_key,
)
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Indices, Matrix, Vector32
from alignstream.models.errors import ReplayError
from alignstream.models.labels.zero_shot import label_cosines
from alignstream.models.learner.observed import Text
from alignstream.models.learner.regression_check import judge_epoch
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.serving.epoch import TaggedVectors
from alignstream.models.serving.query_adaptation import QueryAdaptation

#: Messages of one batch of observations, as the worker publishes them: epochs open between two batches.
BATCH_TEXTS: Final = 64
#: Batches after which the ideal's bank is renewed; its means are renewed before every message.
_IDEAL_BANK_BATCHES: Final = 4

STATIC: Final = Column("static", "inductive")
EPOCHS: Final = Column("epochs", "causal")
LIVE: Final = Column("live", "causal")
IDEAL: Final = Column("ideal", "causal")
#: The same by cosine less half the hubness of the stored vectors.
WITH_HUBNESS: Final[Mapping[Column, Column]] = {
    column: Column(f"{column.name} + hubness", "causal") for column in (EPOCHS, LIVE, IDEAL)
}


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of a stream, in which every message looks up its translations among the texts that the stretch stores.

    Parameters
    ----------
    name : str
    pivot : str
        The language, as reported, that retrieval goes to and from.
    messages : Messages
    stored : Messages, optional
        Texts that are stored too, and are not in the stream.
    held_out : Messages, optional
        Texts of the same domain that are not in the stream: the quality of each epoch is estimated on them.
    prototypes : ndarray of shape (n_labels, dim), float32, optional
        Vectors of label texts as encoded; then messages have gold labels.
    is_change : bool
        The domain differs from that of the segment before.
    is_home : bool
        The domain is the one that adapters are fitted on: adapting can gain little there, and must not lose.
    """

    name: str
    pivot: str
    messages: Messages
    stored: Messages | None = None
    held_out: Messages | None = None
    prototypes: Matrix | None = None
    is_change: bool = False
    is_home: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedEpoch:
    """An epoch that opened during a segment: after how many of its messages, why, and how to serve with it."""

    position: int
    reason: str
    adaptation: QueryAdaptation


@dataclasses.dataclass(frozen=True, eq=False)
class Played:
    """The results of a segment.

    Parameters
    ----------
    segment : Segment
    per_query : dict
        By column, then as ``PerQuery``.
    before : QueryAdaptation, optional
        The epoch that was open when the segment began.
    opened : list of OpenedEpoch
        Those of ``EPOCHS`` that opened in it.
    n_live : int
        Epochs of ``LIVE`` that opened in it.
    refusals : list of str
        Why epochs of ``EPOCHS`` that were due in it did not open: what their gate said.
    """

    segment: Segment
    per_query: dict[Column, PerQuery]
    before: QueryAdaptation | None
    opened: list[OpenedEpoch]
    n_live: int
    refusals: list[str]

    def results(self) -> Results:
        """Return figures of every measure, column by column."""
        return {
            measure: {
                column: mean_scores({name: np.array(values) for name, values in by_measure[measure].items()})
                for column, by_measure in self.per_query.items()
                if by_measure.get(measure)
            }
            for measure in (*MEASURES, LABELS)
            if self.per_query[STATIC].get(measure)
        }


class _ReplayLearner:
    """The learner of one tenant and its open epoch: opened by doubling and on drift, or also every n messages."""

    def __init__(self, adapter: Adapter, *, live_texts: int | None = None) -> None:
        self._adapter = adapter
        self._live_texts = live_texts
        self._n_ticks = 0
        self.state = TenantState(adapter.dim)
        self.adaptation: QueryAdaptation | None = None
        self.refusals: list[str] = []
        self.n_texts = 0

    def take(self, text: Text) -> None:
        self.state.learn_text(text)
        self.n_texts += 1

    def open_if_due(self) -> str | None:
        """At the end of a batch: open an epoch if one is due and its gate lets it pass, and say why."""
        if self._live_texts is not None and self.n_texts // self._live_texts > self._n_ticks:
            self._n_ticks = self.n_texts // self._live_texts
            self.state.tick(is_live=True)
        reason = self.state.due
        if reason is None:
            return None
        epoch = self.state.epoch(encoder=self._adapter.encoder, tenant="evaluation", reason=reason)
        last = None if self.adaptation is None else self.adaptation.epoch
        refusal = None if self._adapter.is_identity else judge_epoch(epoch, last, self._adapter)
        self.state.note_epoch()
        if refusal is not None:
            self.refusals.append(refusal)
            return None
        self.adaptation = QueryAdaptation(self._adapter, epoch)
        return reason

    def ideal(self, *, with_bank: bool) -> QueryAdaptation:
        """Return the query adaptation of an epoch at this moment; without a bank it has no usable hubness."""
        epoch = self.state.epoch(encoder=self._adapter.encoder, tenant="evaluation", reason="interval")
        if not with_bank:
            none = TaggedVectors(np.zeros((0, self._adapter.dim), dtype=np.float16), ())
            epoch = dataclasses.replace(epoch, bank=none)
        return QueryAdaptation(self._adapter, epoch)


class Replay:
    """One stream, segment by segment.

    Parameters
    ----------
    adapter : Adapter
    live_texts : int
        Messages after which ``LIVE`` opens an epoch, at the end of the batch.
    columns : collection of Column
        Those of ``EPOCHS``, ``LIVE`` and ``IDEAL`` that are wanted; ``EPOCHS`` is always there.

    Notes
    -----
    A message costs a pass of the adapter a column, and O(n_stored · dim) to be looked up; an epoch
    O(n_stored · n_bank · dim) for the hubness of the stored vectors. ``IDEAL`` is the learner of ``EPOCHS`` with
    an epoch before every message, except for the bank, which is renewed every ``_IDEAL_BANK_BATCHES`` batches.
    """

    def __init__(
        self, adapter: Adapter, *, live_texts: int, columns: Sequence[Column] = (EPOCHS, LIVE, IDEAL)
    ) -> None:
        self._adapter = adapter
        self._learners = {EPOCHS: _ReplayLearner(adapter)}
        if LIVE in columns:
            self._learners[LIVE] = _ReplayLearner(adapter, live_texts=live_texts)
        self._is_ideal = IDEAL in columns
        self._ideal_bank: QueryAdaptation | None = None
        self._n_messages = 0

    def play(self, segment: Segment) -> Played:
        """Replay one segment, with the state learned in those before.

        Raises
        ------
        ReplayError
            Labels are asked for, but messages have none.
        """
        stage = _Stage(self._adapter, segment)
        main = self._learners[EPOCHS]
        before, opened, n_live, n_refused = main.adaptation, [], 0, len(main.refusals)
        penalties = {column: stage.penalty(learner.adaptation) for column, learner in self._learners.items()}
        ideal_penalty = stage.penalty(self._ideal_bank)
        for start, stop in self._batches(len(segment.messages)):
            rows = np.arange(start, stop)
            stage.judge(RAW, segment.messages.vectors[rows], rows)
            stage.judge(STATIC, stage.aligned[rows], rows)
            for column, learner in self._learners.items():
                Q = stage.queries(learner.adaptation, rows)
                stage.judge(column, Q, rows)
                stage.judge(WITH_HUBNESS[column], Q, rows, penalties[column])
            if self._is_ideal:
                Q = np.stack([self._take(stage, row) for row in rows.tolist()])
                stage.judge(IDEAL, Q, rows)
                stage.judge(WITH_HUBNESS[IDEAL], Q, rows, ideal_penalty)
            else:
                for row in rows.tolist():
                    self._take(stage, row)
            self._n_messages += len(rows)
            if self._n_messages % BATCH_TEXTS:
                continue
            for column, learner in self._learners.items():
                reason = learner.open_if_due()
                if reason is not None:
                    penalties[column] = stage.penalty(learner.adaptation)
                    n_live += column == LIVE
                    if column == EPOCHS and learner.adaptation is not None:
                        opened.append(OpenedEpoch(stop, reason, learner.adaptation))
            if self._is_ideal and self._n_messages % (BATCH_TEXTS * _IDEAL_BANK_BATCHES) == 0:
                self._ideal_bank = main.ideal(with_bank=True)
                ideal_penalty = stage.penalty(self._ideal_bank)
        return Played(segment, stage.per_query, before, opened, n_live, main.refusals[n_refused:])

    def _batches(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield where batches begin and end in a segment of n messages: batches go on across segments."""
        start = 0
        while start < n:
            stop = min(n, start + BATCH_TEXTS - self._n_messages % BATCH_TEXTS)
            yield start, stop
            start = stop

    def _take(self, stage: "_Stage", row: int) -> Vector32:
        """Let all learners take in a message; return the ideal's query for it, made before."""
        query = stage.stored_vector(row)
        if self._is_ideal and stage.is_looked_up[row]:
            query = stage.query(self._learners[EPOCHS].ideal(with_bank=False), row)
        text = stage.text(row)
        for learner in self._learners.values():
            learner.take(text)
        return query


class _Stage:
    """One segment with its stored vectors, and what its queries found so far."""

    def __init__(self, adapter: Adapter, segment: Segment) -> None:
        self._adapter = adapter
        self._messages = messages = segment.messages
        self.aligned = stored_vectors(adapter, messages)
        self.is_looked_up = messages.groups != NO_GROUP
        everything, raw, Y = messages, messages.vectors, self.aligned
        if segment.stored is not None:
            everything = concatenated(messages, segment.stored)
            raw = everything.vectors
            Y = np.concatenate([Y, stored_vectors(adapter, segment.stored)])
        self._index = {RAW: StreamIndex(everything, raw, segment.pivot)}
        self._stored = StreamIndex(everything, Y, segment.pivot)
        #: Positions of the messages' own texts in the index.
        self._positions = np.cumsum(everything.groups != NO_GROUP) - 1
        self._labels: Matrix | None = None
        if segment.prototypes is not None:
            if messages.gold is None:
                raise ReplayError(f"{segment.name}: labels are asked for, but messages have none")
            self._raw_labels = segment.prototypes
            self._labels = adapter.transform_many(segment.prototypes)
        self.per_query: dict[Column, PerQuery] = {}

    def text(self, row: int) -> Text:
        """Return what the worker observes of a message; none has a key, so nothing caps what a sender contributes."""
        x, tag = self._messages.vectors[row], self._messages.tags[row]
        evidence = self._adapter.evidence(x, tag)
        return Text(x, tag_key(tag), evidence.nearest_language, evidence.contradicts_tag, None)

    def stored_vector(self, row: int) -> Vector32:
        aligned: Vector32 = self.aligned[row]
        return aligned

    def query(self, adaptation: QueryAdaptation | None, row: int) -> Vector32:
        if adaptation is None:
            return self.stored_vector(row)
        return adaptation.query(self._messages.vectors[row], Context(language=self._messages.tags[row]))

    def queries(self, adaptation: QueryAdaptation | None, rows: Indices) -> Matrix:
        return np.stack([self.query(adaptation, row) for row in rows.tolist()])

    def penalty(self, adaptation: QueryAdaptation | None) -> Vector32 | None:
        return None if adaptation is None else self._stored.penalty(adaptation)

    def judge(self, column: Column, Q: Matrix, rows: Indices, penalty: Vector32 | None = None) -> None:
        per_query = self.per_query.setdefault(column, {})
        kept = self.is_looked_up[rows]
        index = self._index.get(column, self._stored)
        index.look_up(Q[kept], self._positions[rows[kept]], penalty, per_query)
        if self._labels is not None and column in {RAW, STATIC, EPOCHS}:
            self._label(column, Q, rows, per_query)

    def _label(self, column: Column, Q: Matrix, rows: Indices, into: PerQuery) -> None:
        gold = self._messages.gold
        if self._labels is None or gold is None:
            return
        labels, common = (self._labels, self._adapter.common_direction())
        if column == RAW:
            labels, common = self._raw_labels, None
        chosen = label_cosines(Q, labels, common).argmax(axis=1)
        for row, label in zip(rows.tolist(), chosen.tolist(), strict=True):
            by_language = into.setdefault(LABELS, {})
            by_language.setdefault(self._messages.languages[row], []).append(float(label == gold[row]))
