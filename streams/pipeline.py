"""The whole way of a batch, from bytes to bytes, without I/O: clock, encoder and catalogue are passed in.

``bytes → DocumentV1 → Document → Tokens → embeddings → aligned → Prediction → bytes``. The worker runs it in
its inference thread, ``alignstream encode`` runs it over a file: the same records in, the same records out.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

import numpy as np
from msgspec import UNSET

from alignstream.models.alignment.adapter import space
from alignstream.models.alignment.members import Matrix, Vector32
from alignstream.models.encoder.artifact import GOLDEN_TEXTS
from alignstream.models.encoder.onnx import Encoder, InferenceError
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.registry.follower import Catalogue
from alignstream.models.tasks.zero_shot import PrototypeCache, predict_one
from alignstream.streams import codec
from alignstream.streams.admission import Document, Policy, admit
from alignstream.streams.codec import Rejected, SourceRecord
from alignstream.streams.deadletter import dead_letter_headers
from alignstream.streams.records import (
    Applied,
    Explanation,
    LabelsZeroShotV1,
    LanguageWeight,
    Score,
    VectorAlignedV1,
)
from alignstream.streams.topics import (
    DEAD_LETTERS,
    HEADER_CONTENT_TYPE,
    HEADER_SCHEMA,
    HEADER_SOURCE_OFFSET,
    HEADER_SOURCE_PARTITION,
    HEADER_SOURCE_TOPIC,
    LABELS,
    VECTORS,
    Headers,
)

StageName = Literal["decode", "tokenize", "encode", "align", "classify"]
#: Headers of other systems that travel from the input to every output.
PASSED_HEADERS: Final = ("traceparent", "tracestate")
CLOUD_EVENT_PREFIX: Final = "ce_"
#: Kafka's and the record batch's own bytes around one record, generously.
RECORD_OVERHEAD_BYTES: Final = 512


class Observer(Protocol):
    """Told what the pipeline does; called from the thread that runs it, must return at once."""

    def stage(self, name: StageName, seconds: float) -> None:
        """Take note of the time that a stage took for one batch."""

    def tokens(self, count: int) -> None:
        """Take note of the tokens of one batch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """A record to publish: ``topic`` without prefix."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source record: what to publish, and what to count."""

    source: SourceRecord
    outputs: tuple[Output, ...]
    rejected: Rejected | None = None
    truncated: bool = False
    tombstone: bool = False


class EncoderFailed(RuntimeError):  # noqa: N818 (names what happened)
    """The encoder failed on everything, even on a text that it encoded before: not a record's fault."""


class Pipeline:
    """The stages in order. Used from one thread at a time.

    Parameters
    ----------
    encoder : Encoder
        Texts to unit vectors.
    policy : Policy
        What the settings say about messages.
    clock : callable
        Seconds, monotonic, for the durations of stages.
    now : callable
        Seconds since 1970, for dead letters.
    observer : Observer
        Told about durations.
    """

    def __init__(
        self,
        encoder: Encoder,
        policy: Policy,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._encoder = encoder
        self._policy = policy
        self._clock = clock
        self._now = now
        self._observer = observer
        self._prototypes = PrototypeCache(lambda texts: encoder.encode(encoder.tokenize(texts)))

    def run(self, records: Sequence[SourceRecord], catalogue: Catalogue) -> list[Outcome]:
        """Process one batch under one catalogue: no batch mixes versions.

        Returns
        -------
        list of Outcome
            One a record, in order. Every record has at least one output, but a tombstone without a key: it
            names nothing, and no client can send one.

        Raises
        ------
        EncoderFailed
            The encoder fails on everything: the caller must not dead-letter good records for it.
        """
        start = self._clock()
        outcomes: list[Outcome | None] = [None] * len(records)
        documents: list[tuple[int, Document]] = []
        for position, record in enumerate(records):
            if record.value is None:
                outcomes[position] = self._tombstone(record)
                continue
            document = self._admit(record, catalogue)
            if isinstance(document, Rejected):
                outcomes[position] = self.reject(record, document)
            else:
                documents.append((position, document))
        self._observer.stage("decode", self._clock() - start)
        if documents:
            results = self._process([document for _, document in documents])
            for (position, _), outcome in zip(documents, results, strict=True):
                outcomes[position] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _admit(self, record: SourceRecord, catalogue: Catalogue) -> Document | Rejected:
        decoded = codec.decode_document(
            record, max_bytes=self._policy.max_document_bytes, max_depth=self._policy.max_depth
        )
        if isinstance(decoded, Rejected):
            return decoded
        return admit(record, decoded, catalogue=catalogue, policy=self._policy)

    def reject(self, record: SourceRecord, rejected: Rejected) -> Outcome:
        """Return the outcome of a record that is refused: its original bytes as a dead letter."""
        headers = dead_letter_headers(record, rejected, now=self._now())
        return Outcome(
            source=record,
            outputs=(Output(DEAD_LETTERS, record.key, record.value, headers),),
            rejected=rejected,
        )

    @staticmethod
    def _tombstone(record: SourceRecord) -> Outcome:
        outputs = tuple(
            Output(topic, record.key, None, output_headers(record, schema))
            for topic, schema in OUTPUT_SCHEMAS
            if record.key is not None
        )
        return Outcome(source=record, outputs=outputs, tombstone=True)

    def _process(self, documents: Sequence[Document]) -> list[Outcome]:
        clock, start = self._clock, self._clock()
        tokens = self._encoder.tokenize([document.record.text for document in documents])
        self._observer.tokens(sum(len(item.input_ids) for item in tokens))
        tokenized = clock()
        self._observer.stage("tokenize", tokenized - start)
        X = self._encode(tokens)
        encoded = clock()
        self._observer.stage("encode", encoded - tokenized)
        Y = [
            None if x is None else document.adapter.transform_one(x, document.context)
            for document, x in zip(documents, X, strict=True)
        ]
        aligned = clock()
        self._observer.stage("align", aligned - encoded)
        outcomes = []
        for document, item, x, y in zip(documents, tokens, X, Y, strict=True):
            if x is None or y is None:
                rejected = Rejected("inference-failed", "encode", "the encoder fails on this text alone")
                outcomes.append(self.reject(document.source, rejected))
            else:
                outcomes.append(self._outcome(document, item, x, y))
        self._observer.stage("classify", clock() - aligned)
        return outcomes

    def _encode(self, tokens: Sequence[Tokens]) -> list[Vector32 | None]:
        """Encode; the texts that fail alone are None."""
        found, error = self._bisect(tokens)
        if error is not None and all(x is None for x in found):
            self._check_encoder(error)
        return found

    def _bisect(self, tokens: Sequence[Tokens]) -> tuple[list[Vector32 | None], InferenceError | None]:
        """Encode; on failure halve until the texts that fail stand alone. Return the first error as well."""
        try:
            return list(self._encoder.encode(tokens)), None
        except InferenceError as error:
            if len(tokens) == 1:
                return [None], error
            middle = len(tokens) // 2
            return [*self._bisect(tokens[:middle])[0], *self._bisect(tokens[middle:])[0]], error

    def _check_encoder(self, error: InferenceError) -> None:
        """Raise unless the encoder still works on a text that it encoded when it was loaded."""
        try:
            self._encoder.encode(self._encoder.tokenize(GOLDEN_TEXTS[:1]))
        except InferenceError:
            raise EncoderFailed(f"the encoder fails on every text: {error}") from error

    def _outcome(self, document: Document, tokens: Tokens, x: Vector32, y: Vector32) -> Outcome:
        name = space(self._encoder.fingerprint, document.adapter.version, document.context)
        values = [(VECTORS, codec.encode_record(self._vector_record(document, tokens, x, y, name)))]
        if document.labels is not None:
            try:
                labels = self._labels_record(document, y, name)
            except InferenceError as error:
                self._check_encoder(error)
                rejected = Rejected("inference-failed", "encode", "the encoder fails on the labels")
                return self.reject(document.source, rejected)
            values.append((LABELS, codec.encode_record(labels)))
        outputs = []
        for (topic, value), schema in zip(values, (item[1] for item in OUTPUT_SCHEMAS), strict=False):
            headers = output_headers(document.source, schema)
            if record_bytes(document.source.key, value, headers) > self._policy.max_output_bytes:
                limit = self._policy.max_output_bytes
                message = f"the record for {topic} takes {len(value)} bytes, {limit} are allowed"
                return self.reject(document.source, Rejected("output-too-large", "publish", message))
            outputs.append(Output(topic, document.source.key, value, headers))
        return Outcome(source=document.source, outputs=tuple(outputs), truncated=tokens.dropped > 0)

    def _vector_record(
        self, document: Document, tokens: Tokens, x: Vector32, y: Vector32, name: str
    ) -> VectorAlignedV1:
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
            language=UNSET if document.record.language is None else document.record.language,
            explain=UNSET if explain is None else explain,
            metadata=document.record.metadata,
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
            steps=document.adapter.steps(),
            cosine_to_raw=round(float(x.astype(np.float64) @ y.astype(np.float64)), 6),
        )

    def _labels_record(self, document: Document, y: Vector32, name: str) -> LabelsZeroShotV1:
        request = document.labels
        if request is None:
            raise ValueError("no labels were asked for")
        fitted = request.fitted
        if fitted is not None and not fitted.serves(document.adapter, request.template, document.context):
            fitted = None
        prototypes: Matrix = (
            fitted.matrix
            if fitted is not None
            else self._prototypes.prototypes(
                request.labels, request.template, document.adapter, document.context
            )
        )
        prediction = predict_one(
            y,
            prototypes,
            request.labels,
            multi_label=request.multi_label,
            common=document.adapter.common_direction(document.context),
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
        )


OUTPUT_SCHEMAS: Final = ((VECTORS, b"vectors.aligned/1"), (LABELS, b"labels.zero-shot/1"))


def output_headers(source: SourceRecord, schema: bytes) -> Headers:
    """Return the headers of an output: where it came from, what it is, and what travels along."""
    passed = tuple(
        item
        for item in source.headers
        if item[0] in PASSED_HEADERS or item[0].lower().startswith(CLOUD_EVENT_PREFIX)
    )
    return (
        *passed,
        (HEADER_SOURCE_TOPIC, source.topic.encode()),
        (HEADER_SOURCE_PARTITION, str(source.partition).encode()),
        (HEADER_SOURCE_OFFSET, str(source.offset).encode()),
        (HEADER_SCHEMA, schema),
        (HEADER_CONTENT_TYPE, b"application/json"),
    )


def record_bytes(key: bytes | None, value: bytes, headers: Headers) -> int:
    """Return about what a record takes on the wire, uncompressed, in bytes; never less than it does."""
    own = sum(len(name) + len(content or b"") + 10 for name, content in headers)
    return len(key or b"") + len(value) + own + RECORD_OVERHEAD_BYTES
