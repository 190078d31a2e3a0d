"""What following the stream costs: the worker a text, and the learner a worker at full speed."""

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from alignstream.models.adapter.context import Context
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import AlignstreamError
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.ops.admin.gate_texts import load_texts
from alignstream.streams.learner.learning import Learning, Opened
from alignstream.streams.wire import codec
from alignstream.streams.wire.observations import ObservedText, Origin, key_hash, packed
from tests.bench.report import Figure

#: Texts that go through the learner: enough for seven epochs by doubling.
STREAM_TEXTS: Final = 4096
BATCH: Final = 64
ROUNDS: Final = 5


def figures(encoder: OnnxEncoder) -> list[Figure]:
    """Measure on the demonstration's texts, all in one thread but the encoder, which has its own."""
    adapter = packaged_adapter(encoder.fingerprint)
    if adapter is None:
        raise AlignstreamError("the embedded encoder has no packaged adapter")
    texts = [(language, text.text[language]) for text in load_texts().texts for language in text.text]
    started = time.perf_counter()
    X = np.concatenate(
        [
            encoder.encode(encoder.tokenize([content for _, content in texts[start : start + BATCH]]))
            for start in range(0, len(texts), BATCH)
        ]
    )
    encoding = (time.perf_counter() - started) / len(texts)

    def observed(number: int) -> ObservedText:
        row = number % len(texts)
        language, x = texts[row][0], X[row]
        found = adapter.evidence(x, language)
        return ObservedText(
            origin=Origin("documents.v1", 0, number), tenant="bench", vector=codec.float16_field(x),
            language=language, nearest_language=found.nearest_language, contradicts_tag=found.contradicts_tag,
            key=key_hash(f"{row}".encode()),
        )  # fmt: skip

    def observe() -> list[bytes]:
        items = [observed(number) for number in range(STREAM_TEXTS)]
        return [
            value
            for start in range(0, STREAM_TEXTS, BATCH)
            for value in packed(items[start : start + BATCH], encoder=encoder.fingerprint, dim=encoder.dim)
        ]

    def learn() -> tuple[Learning, Epoch]:
        learning = Learning(lambda *_: adapter, max_tenants=10)
        opened = [
            decision
            for offset, value in enumerate(values)
            for decision in learning.take(offset, 0, value)
            if isinstance(decision, Opened)
        ]
        return learning, opened[-1].epoch

    values = observe()
    _, epoch = learn()
    following = QueryAdaptation(adapter, epoch)
    aligned = [
        adapter.transform_one(x, Context(language=language))
        for x, (language, _) in zip(X, texts, strict=True)
    ]

    def serve() -> None:
        for x, y, (language, _) in zip(X, aligned, texts, strict=True):
            codec.float16_field(following.query(x, Context(language=language)))
            following.hubness(y, language)

    observing = _seconds(observe) / STREAM_TEXTS
    serving = _seconds(serve) / len(texts)
    learning_seconds = _seconds(learn) / STREAM_TEXTS
    making = _seconds(lambda: QueryAdaptation(adapter, epoch))
    return [
        Figure(
            "observing", "observing a text for the learner, share of encoding it", observing / encoding, "%",
            "≤ 1 %", observing / encoding <= 0.01, details={"microseconds a text": 1e6 * observing},
        ),
        Figure(
            "querying", "query vector and hubness of a text, share of encoding it", serving / encoding, "%",
            details={
                "microseconds a text": 1e6 * serving,
                "bank": f"{len(epoch.bank)} texts",
                "taking up an epoch": f"{1e3 * making:.0f} ms",
            },
        ),
        Figure(
            "learning", "the learner beside one worker at full speed, share of a core",
            learning_seconds / encoding, "%", "≤ 5 %", learning_seconds / encoding <= 0.05,
            details={"microseconds a text": 1e6 * learning_seconds, "epochs": epoch.number, "texts": STREAM_TEXTS},
        ),
    ]  # fmt: skip


def _seconds(run: Callable[[], object]) -> float:
    """Return the median time of a few runs."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return statistics.median(found)
