"""Pipelines for ``pairs.v1`` and ``label-feedback.v1``: feedback from people, encoded for the learner.

Validation, dead letters and delivery are those of documents. Every pair is scored, whether learned or not.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter, space
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Vector32
from alignstream.models.registry.follower import Catalogue
from alignstream.models.serving.query_adaptation import QueryAdaptationCache
from alignstream.streams.wire import codec
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.observations import (
    EXCERPT_CHARACTERS,
    ObservedExample,
    ObservedPair,
    ObservedSide,
    Origin,
)
from alignstream.streams.wire.outcome import Outcome, published
from alignstream.streams.wire.records import LabelFeedbackV1, PairScoredV1, PairSide, PairV1
from alignstream.streams.wire.topics import PAIRS_SCORED
from alignstream.streams.worker.admission import Policy, check_tenant, check_text
from alignstream.streams.worker.batch import BatchPipeline
from alignstream.streams.worker.encoding import Encoding

PAIRS_SCHEMA: Final = b"pairs.scored/1"
#: Hexadecimal digits of an example's default id, a hash of its label set and text.
_ID_DIGITS: Final = 16


@dataclasses.dataclass(frozen=True, slots=True)
class AdmittedPair:
    """A pair that will be encoded."""

    source: SourceRecord
    record: PairV1
    id: str
    adapter: Adapter


class PairsPipeline(BatchPipeline[AdmittedPair]):
    """The pipeline from ``pairs.v1`` to ``pairs.scored.v1``, and to the learner if the pair says ``learn``.

    Parameters
    ----------
    encoding : Encoding
    policy : Policy
    now : callable
        Returns the seconds since 1970.
    """

    tombstones = ((PAIRS_SCORED, PAIRS_SCHEMA),)

    def __init__(self, encoding: Encoding, policy: Policy, *, now: Callable[[], float]) -> None:
        super().__init__(encoding, now=now)
        self._policy = policy
        self._adaptations = QueryAdaptationCache()

    def _admit(self, record: SourceRecord, catalogue: Catalogue) -> AdmittedPair | Rejected:
        policy = self._policy
        pair = codec.decode_pair(
            record, max_bytes=policy.max_document_bytes, max_nesting_depth=policy.max_nesting_depth
        )
        if isinstance(pair, Rejected):
            return pair
        refusal = (
            check_tenant(pair.tenant, policy)
            or check_text(pair.source.text, "the source text")
            or check_text(pair.target.text, "the target text")
        )
        if refusal is not None:
            return refusal
        adapter = catalogue.adapter(policy.adapter)
        if adapter is None:
            return Rejected("unknown-adapter", "admit", f"no adapter {policy.adapter!r} for this encoder")
        return AdmittedPair(record, pair, pair.id or record.default_id, adapter)

    def _process(self, admitted: Sequence[AdmittedPair], catalogue: Catalogue) -> list[Outcome]:
        texts = [text for pair in admitted for text in (pair.record.source.text, pair.record.target.text)]
        tokens, X = self._encoding(texts)
        started = self._encoding.clock()
        outcomes = []
        for position, pair in enumerate(admitted):
            x_src, x_tgt = X[2 * position], X[2 * position + 1]
            if x_src is None or x_tgt is None:
                rejected = Rejected("inference-failed", "encode", "the encoder fails on a text of this pair")
                outcomes.append(self.reject(pair.source, rejected))
                continue
            dropped = tokens[2 * position].dropped + tokens[2 * position + 1].dropped
            outcomes.append(self._outcome(pair, x_src, x_tgt, catalogue, truncated=dropped > 0))
        self._encoding.observer.stage("align", self._encoding.clock() - started)
        return outcomes

    def _outcome(
        self, pair: AdmittedPair, x_src: Vector32, x_tgt: Vector32, catalogue: Catalogue, *, truncated: bool
    ) -> Outcome:
        adaptation = self._adaptations.find(pair.adapter, catalogue.epoch(pair.record.tenant))
        aligned = []
        for x, side in ((x_src, pair.record.source), (x_tgt, pair.record.target)):
            context = Context(language=side.language)
            aligned.append(
                pair.adapter.transform_one(x, context)
                if adaptation is None
                else adaptation.vector(x, context)
            )
        cosine = float(aligned[0].astype(np.float64) @ aligned[1].astype(np.float64))
        is_sent_to_learner = pair.record.learn and self._policy.follows
        scored = PairScoredV1(
            id=pair.id,
            tenant=pair.record.tenant,
            cosine=min(1.0, max(-1.0, round(cosine, 6))),
            is_sent_to_learner=is_sent_to_learner,
            adapter=self._policy.adapter,
            adapter_version=pair.adapter.version,
            space=space(
                pair.adapter.encoder,
                pair.adapter.version,
                tenant_map=None if adaptation is None else adaptation.map_version,
            ),
        )
        return published(
            pair.source,
            [(PAIRS_SCORED, codec.encode_record(scored), PAIRS_SCHEMA)],
            max_output_bytes=self._policy.max_output_bytes,
            now=self._now(),
            truncated=truncated,
            observed=self._observed(pair, x_src, x_tgt) if is_sent_to_learner else None,
        )

    @staticmethod
    def _observed(pair: AdmittedPair, x_src: Vector32, x_tgt: Vector32) -> ObservedPair:
        def side(x: Vector32, given: PairSide) -> ObservedSide:
            return ObservedSide(codec.float16_field(x), given.language, given.text[:EXCERPT_CHARACTERS])

        return ObservedPair(
            origin=Origin(pair.source.topic, pair.source.partition, pair.source.offset),
            tenant=pair.record.tenant,
            id=pair.id,
            source=side(x_src, pair.record.source),
            target=side(x_tgt, pair.record.target),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class AdmittedFeedback:
    """A labelled text that will be encoded."""

    source: SourceRecord
    record: LabelFeedbackV1


class FeedbackPipeline(BatchPipeline[AdmittedFeedback]):
    """The pipeline from ``label-feedback.v1`` to the learner.

    Parameters
    ----------
    encoding : Encoding
    policy : Policy
    now : callable
        Returns the seconds since 1970.
    """

    def __init__(self, encoding: Encoding, policy: Policy, *, now: Callable[[], float]) -> None:
        super().__init__(encoding, now=now)
        self._policy = policy

    def _admit(self, record: SourceRecord, catalogue: Catalogue) -> AdmittedFeedback | Rejected:
        policy = self._policy
        feedback = codec.decode_feedback(
            record, max_bytes=policy.max_document_bytes, max_nesting_depth=policy.max_nesting_depth
        )
        if isinstance(feedback, Rejected):
            return feedback
        refusal = check_tenant(feedback.tenant, policy) or check_text(feedback.text, "the text")
        if refusal is not None:
            return refusal
        label_set = catalogue.label_set(feedback.label_set)
        if label_set is None:
            available = ", ".join(sorted(catalogue.label_sets)) or "none"
            return Rejected(
                "unknown-label-set", "admit", f"no label set {feedback.label_set!r}; available: {available}"
            )
        if feedback.label not in label_set.labels:
            message = f"label set {feedback.label_set!r} has no such label"  # which one is payload
            return Rejected("bad-schema", "admit", message)
        return AdmittedFeedback(record, feedback)

    def _process(self, admitted: Sequence[AdmittedFeedback], catalogue: Catalogue) -> list[Outcome]:
        del catalogue  # examples are kept as encoded
        tokens, X = self._encoding([feedback.record.text for feedback in admitted])
        outcomes = []
        for feedback, text_tokens, x in zip(admitted, tokens, X, strict=True):
            if x is None:
                rejected = Rejected("inference-failed", "encode", "the encoder fails on this text")
                outcomes.append(self.reject(feedback.source, rejected))
                continue
            outcomes.append(
                Outcome(
                    source=feedback.source,
                    outputs=(),
                    truncated=text_tokens.dropped > 0,
                    observed=self._observed(feedback, x) if self._policy.follows else None,
                )
            )
        return outcomes

    @staticmethod
    def _observed(feedback: AdmittedFeedback, x: Vector32) -> ObservedExample:
        record, source = feedback.record, feedback.source
        text_id = hashlib.sha256(f"{record.label_set}\0{record.text}".encode()).hexdigest()[:_ID_DIGITS]
        return ObservedExample(
            origin=Origin(source.topic, source.partition, source.offset),
            tenant=record.tenant,
            id=record.id or text_id,
            label_set=record.label_set,
            label=record.label,
            vector=codec.float16_field(x),
            language=record.language,
        )
