"""The documents pipeline, from bytes to bytes, without I/O: clock, encoder and catalogue are passed in.

``bytes → DocumentV1 → Document → Tokens → embeddings → aligned → Prediction → bytes``. The worker runs it in
its inference thread and ``alignstream encode`` runs it over a file: same records in, same records out.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from msgspec import UNSET

from alignstream.models.adapter.adapter import space
from alignstream.models.adapter.languages import language_key
from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.encoder.protocol import Encoder
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import InferenceError
from alignstream.models.labels.zero_shot import PrototypeCache, predict_one
from alignstream.models.registry.follower import Catalogue
from alignstream.models.serving.query_adaptation import (
    QueryAdaptation,
    QueryAdaptationCache,
    is_whole,
)
from alignstream.models.serving.tenant_labels import TenantLabelsCache
from alignstream.streams.observe.stages import Observer
from alignstream.streams.wire import codec
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.observations import ObservedText, Origin, key_hash
from alignstream.streams.wire.outcome import Outcome, published
from alignstream.streams.wire.records import (
    Applied,
    Explanation,
    LabelsZeroShotV1,
    LanguageWeight,
    Score,
    VectorAlignedV1,
)
from alignstream.streams.wire.topics import LABELS, VECTORS
from alignstream.streams.worker.admission import Document, LabelRequest, Policy, admit
from alignstream.streams.worker.batch import BatchPipeline
from alignstream.streams.worker.encoding import Encoding

OUTPUT_SCHEMAS: Final = ((VECTORS, b"vectors.aligned/1"), (LABELS, b"labels.zero-shot/1"))
#: Decimals of a hubness: more would only be noise.
HUBNESS_DECIMALS: Final = 6


class DocumentsPipeline(BatchPipeline[Document]):
    """The pipeline from ``documents.v1`` to vectors and labels. Used from one thread at a time.

    Parameters
    ----------
    encoder : Encoder
        Turns texts into unit vectors.
    policy : Policy
        The settings that decide how messages are treated.
    clock : callable
        Returns monotonic seconds, for the durations of stages.
    now : callable
        Returns the seconds since 1970, for dead letters.
    observer : Observer
        Receives the durations.
    """

    tombstones = OUTPUT_SCHEMAS

    def __init__(
        self,
        encoder: Encoder,
        policy: Policy,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        observer: Observer,
    ) -> None:
        super().__init__(Encoding(encoder, clock=clock, observer=observer), now=now)
        self._encoder = encoder
        self._policy = policy
        self._prototypes = PrototypeCache(self._encoding.labels)
        self._adaptations = QueryAdaptationCache()
        self._tenant_labels = TenantLabelsCache()

    def _admit(self, record: SourceRecord, catalogue: Catalogue) -> Document | Rejected:
        decoded = codec.decode_document(
            record,
            max_bytes=self._policy.max_document_bytes,
            max_nesting_depth=self._policy.max_nesting_depth,
        )
        if isinstance(decoded, Rejected):
            return decoded
        return admit(record, decoded, catalogue=catalogue, policy=self._policy)

    def _process(self, admitted: Sequence[Document], catalogue: Catalogue) -> list[Outcome]:
        clock, observer = self._encoding.clock, self._encoding.observer
        tokens, X = self._encoding([document.record.text for document in admitted])
        encoded = clock()
        adaptations = [
            self._adaptations.find(document.adapter, catalogue.epoch(document.record.tenant))
            for document in admitted
        ]
        Y = [
            None if x is None else _aligned(document, adaptation, x)
            for document, adaptation, x in zip(admitted, adaptations, X, strict=True)
        ]
        aligned = clock()
        observer.stage("align", aligned - encoded)
        outcomes = []
        for document, adaptation, text_tokens, x, y in zip(admitted, adaptations, tokens, X, Y, strict=True):
            if x is None or y is None:
                rejected = Rejected("inference-failed", "encode", "the encoder fails on this text")
                outcomes.append(self.reject(document.source, rejected))
            else:
                outcomes.append(self._outcome(document, adaptation, text_tokens, x, y))
        observer.stage("classify", clock() - aligned)
        return outcomes

    def _outcome(
        self, document: Document, adaptation: QueryAdaptation | None, tokens: Tokens, x: Vector32, y: Vector32
    ) -> Outcome:
        name = space(
            self._encoder.fingerprint,
            document.adapter.version,
            document.context,
            None if adaptation is None else adaptation.map_version,
        )
        record = self._vector_record(document, adaptation, tokens, x, y, name=name)
        values = [(VECTORS, codec.encode_record(record), OUTPUT_SCHEMAS[0][1])]
        if document.labels is not None:
            try:
                labels = self._labels_record(document, document.labels, adaptation, y, name)
            except InferenceError as error:
                self._encoding.check(error)
                rejected = Rejected("inference-failed", "encode", "the encoder fails on the labels")
                return self.reject(document.source, rejected)
            values.append((LABELS, codec.encode_record(labels), OUTPUT_SCHEMAS[1][1]))
        return published(
            document.source,
            values,
            max_output_bytes=self._policy.max_output_bytes,
            now=self._now(),
            truncated=tokens.dropped > 0,
            observed=self._observed(document, x) if self._is_followed(document) else None,
        )

    def _is_followed(self, document: Document) -> bool:
        align = document.record.align
        return self._policy.follows and (align is None or align.follow is not False)

    @staticmethod
    def _observed(document: Document, x: Vector32) -> ObservedText:
        evidence = document.adapter.evidence(x, document.record.language)
        source = document.source
        return ObservedText(
            origin=Origin(source.topic, source.partition, source.offset),
            tenant=document.record.tenant,
            vector=codec.float16_field(x),
            language=document.record.language,
            nearest_language=evidence.nearest_language,
            contradicts_tag=evidence.contradicts_tag,
            key=key_hash(source.key),
        )

    def _vector_record(
        self,
        document: Document,
        adaptation: QueryAdaptation | None,
        tokens: Tokens,
        x: Vector32,
        y: Vector32,
        *,
        name: str,
    ) -> VectorAlignedV1:
        applied = adaptation if self._is_followed(document) else None
        hubness = None
        if applied is not None and is_whole(document.context):
            hubness = applied.hubness(y, _key(document.record.language))
        explain = self._explanation(document, x, y) if document.record.explain else None
        return VectorAlignedV1(
            id=document.id,
            tenant=document.record.tenant,
            vector=codec.vector_field(y, self._policy.vector_encoding),
            encoding=self._policy.vector_encoding,
            dim=self._encoder.dim,
            encoder=self._encoder.fingerprint,
            adapter=document.adapter_name,
            adapter_version=document.adapter.version,
            space=name,
            tokens=len(tokens.input_ids),
            tokens_dropped=tokens.dropped,
            truncated=tokens.dropped > 0,
            tenant_map=UNSET
            if adaptation is None or adaptation.map_version is None
            else adaptation.map_version,
            epoch=0 if applied is None else applied.epoch.number,
            query_vector=UNSET
            if applied is None
            else codec.float16_field(applied.query(x, document.context)),
            hubness=UNSET if hubness is None else round(hubness, HUBNESS_DECIMALS),
            language=UNSET if document.record.language is None else document.record.language,
            explain=UNSET if explain is None else explain,
            metadata=document.record.metadata,
            raw_vector=codec.float16_field(x) if self._policy.raw_vector else UNSET,
        )

    @staticmethod
    def _explanation(document: Document, x: Vector32, y: Vector32) -> Explanation:
        tuned = document.adapter.tune(document.context)
        return Explanation(
            adapter=document.adapter_name,
            adapter_version=document.adapter.version,
            adapter_from=document.adapter_from,
            strength=tuned.strength.value,
            strength_from="worker" if document.context.strength is None else "message",
            hyper_parameters={
                name: Applied(value=choice.value, reason=choice.reason)
                for name, choice in (
                    ("strength", tuned.strength),
                    ("shrinkage", tuned.shrinkage),
                    ("temperature", tuned.temperature),
                )
            },
            languages=[
                LanguageWeight(language=language, weight=round(weight, 6))
                for language, weight in document.adapter.nearest_languages(x)
            ],
            steps=document.adapter.describe(),
            cosine_to_raw=round(float(x.astype(np.float64) @ y.astype(np.float64)), 6),
        )

    def _labels_record(
        self,
        document: Document,
        request: LabelRequest,
        adaptation: QueryAdaptation | None,
        y: Vector32,
        name: str,
    ) -> LabelsZeroShotV1:
        adapter, context = document.adapter, document.context
        common = adapter.common_direction(context)
        fitted = request.fitted
        if fitted is not None and not fitted.serves(adapter, request.template, context):
            fitted = None
        prototypes: Matrix = (
            fitted.matrix
            if fitted is not None
            else self._prototypes.prototypes(request.labels, request.template, adapter, context)
        )
        tenant_prototypes = None
        if adaptation is not None and request.label_set is not None and is_whole(context):
            tenant_prototypes = self._tenant_labels.find(adaptation).prototypes(
                request.label_set,
                request.labels,
                prototypes,
                template=request.template,
                context=context,
                is_fitted=fitted is not None,
                steady_mix=request.steady_mix,
            )
        prediction = predict_one(
            y,
            prototypes if tenant_prototypes is None else tenant_prototypes,
            request.labels,
            multi_label=request.multi_label,
            common=common,
            fitted=fitted,
        )
        return LabelsZeroShotV1(
            id=document.id,
            tenant=document.record.tenant,
            label=prediction.label,
            scores=list(itertools.starmap(Score, zip(prediction.labels, prediction.scores, strict=True))),
            label_set=request.label_set,
            template=request.template,
            multi_label=request.multi_label,
            space=name,
            epoch=0 if tenant_prototypes is None or adaptation is None else adaptation.epoch.number,
        )


def _aligned(document: Document, adaptation: QueryAdaptation | None, x: Vector32) -> Vector32:
    if adaptation is None:
        return document.adapter.transform_one(x, document.context)
    return adaptation.vector(x, document.context)


def _key(tag: str | None) -> str | None:
    return language_key(tag) if tag else None
