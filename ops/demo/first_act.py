"""The first act of the demonstration: text in many languages goes through a real broker, worker and Redis.

Every text is sent twice, once as the worker aligns it and once with the identity adapter, so that raw and aligned
vectors come from the same service. Then both are read back, measured, drawn and reported.
"""

import datetime as dt
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from alignstream.models.adapter.adapter import IDENTITY
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.errors import DemoFailed
from alignstream.models.labels.label_set import LabelSet
from alignstream.ops.admin.gate_texts import GateTexts
from alignstream.ops.admin.registry import current_pointer, push_label_set
from alignstream.ops.client.producer import produce_documents
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record
from alignstream.ops.client.vector_fields import vector_array
from alignstream.ops.demo import measure, picture
from alignstream.ops.demo.demo_documents import (
    BadRecord,
    bad_documents,
    document_id,
    documents,
    load_bad_records,
)
from alignstream.streams.observe.sensors import STAGES
from alignstream.streams.settings import Settings
from alignstream.streams.wire.records import LabelsZeroShotV1, VectorAlignedV1
from alignstream.streams.wire.topics import DEAD_LETTERS, LABELS, VECTORS

LABEL_SET: Final = "demo-topics"
PIVOT: Final = "en"
#: If no new record arrives within this time, something is wrong.
PATIENCE_SECONDS: Final = 60.0
#: The label set is pushed while the worker runs: a hint reaches it at once, else it polls within six seconds.
SWAP_SECONDS: Final = 15.0

#: Called with the number of results that have arrived, and of all that will.
OnProgress = Callable[[int, int], None]


class FirstActResults:
    """The service's outputs by document id; of several the last one counts, as for any consumer."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.vectors: dict[str, VectorAlignedV1] = {}
        self.labels: dict[str, LabelsZeroShotV1] = {}
        self.dead: dict[str, tuple[str, str]] = {}
        self.first_at: float | None = None
        self.last_at = 0.0

    def take(self, record: Record) -> None:
        """Take in one output record."""
        if record.topic.endswith(VECTORS) and record.value is not None:
            vector = msgspec.json.decode(record.value, type=VectorAlignedV1)
            if vector.id.startswith(f"{self._run}/"):
                self.vectors[vector.id] = vector
                self.first_at = self.first_at or record.timestamp_ms / 1000
                self.last_at = max(self.last_at, record.timestamp_ms / 1000)
        elif record.topic.endswith(LABELS) and record.value is not None:
            labels = msgspec.json.decode(record.value, type=LabelsZeroShotV1)
            if labels.id.startswith(f"{self._run}/"):
                self.labels[labels.id] = labels
        elif record.topic.endswith(DEAD_LETTERS) and (record.key or b"").startswith(b"bad:"):
            reason = record.header("alignstream.error.reason") or "?"
            self.dead[(record.key or b"")[4:].decode()] = (
                reason,
                record.header("alignstream.error.message") or "",
            )

    def __len__(self) -> int:
        return len(self.vectors) + len(self.labels) + len(self.dead)


def play(settings: Settings, texts: GateTexts, output: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Run the first act on a running stack; draw the picture and return the report.

    Raises
    ------
    DemoFailed
        Results are missing, and no new one has arrived for a minute.
    """
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    run = f"demo-{secrets.token_hex(4)}"
    bad = load_bad_records(settings.max_document_bytes)
    _push_labels(settings, texts)
    produced = [
        *documents(texts, run=run, kind="aligned", label_set=LABEL_SET, adapter=None),
        *bad_documents(bad),
        *documents(texts, run=run, kind="raw", label_set=LABEL_SET, adapter=IDENTITY),
    ]
    results = FirstActResults(run)
    n_documents = len(produced) - len(bad)
    expected = 2 * n_documents + len(bad)
    with Reader(settings, [VECTORS, LABELS, DEAD_LETTERS]) as reader:
        report = produce_documents(settings, produced)
        if report.failed:
            raise DemoFailed(f"the broker refused {len(report.failed)} records: {report.failed[0].reason}")
        _collect(reader, results, expected, on_progress)
    raw, languages, topics, meaning = _matrix(results, texts, run, "raw")
    aligned, *_ = _matrix(results, texts, run, "aligned")
    is_pivot = np.array([language == PIVOT for language in languages])
    figures = {
        name: {
            "r_precision": measure.r_precision(X, meaning),
            "english_counterpart": measure.counterpart_accuracy(X, meaning, is_pivot),
            "label_accuracy": _label_accuracy(results, texts, run, name),
        }
        for name, X in (("raw", raw), ("aligned", aligned))
    }
    png = output / "vectors.png"
    captions = tuple(
        f"{name}: {figures[name]['r_precision']:.0%} of the nearest texts are translations"
        for name in figures
    )
    picture.draw(
        png,
        raw=raw,
        aligned=aligned,
        languages=languages,
        topics=topics,
        captions=(captions[0], captions[1]),
    )
    seconds = max(results.last_at - (results.first_at or results.last_at), 1e-3)
    metrics = measure.scrape("127.0.0.1", settings.metrics_port)
    return {
        "time": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
        "run": run,
        "broker": settings.broker,
        "n_languages": len(set(languages)),
        "n_scripts": len({language.script for language in texts.languages.values()}),
        "n_topics": len(texts.labels),
        "n_texts": len(texts.texts) * len(set(languages)),
        "n_documents": n_documents,
        "space": {kind: _space(results, run, kind) for kind in ("raw", "aligned")},
        "figures": figures,
        "dead_letters": _dead_letters(results, bad),
        "throughput_documents_per_second": n_documents / seconds,
        "latency_seconds": _latency(metrics),
        "examples": _examples(results, texts, run),
        "picture": str(png),
        "seconds": time.monotonic() - started,
    }


def write_report(output: Path, report: dict[str, Any]) -> None:
    """Write the report of both acts as JSON."""
    (output / "report.json").write_text(
        json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )


def _push_labels(settings: Settings, texts: GateTexts) -> None:
    before = _swaps(settings)
    labels = LabelSet(labels=texts.labels, template=texts.template)
    current = current_pointer(settings, "labels", LABEL_SET)
    if current is not None and current.version == labels.version:
        return
    push_label_set(settings, LABEL_SET, labels, note="labels of the demonstration")
    deadline = time.monotonic() + SWAP_SECONDS
    while _swaps(settings) <= before:
        if time.monotonic() > deadline:
            raise DemoFailed(f"the worker did not load label set {LABEL_SET!r} within {SWAP_SECONDS:.0f} s")
        time.sleep(0.1)


def _swaps(settings: Settings) -> float:
    text = measure.scrape("127.0.0.1", settings.metrics_port)
    return measure.counter(text, "alignstream_registry_swaps_total", kind="labels")


def _collect(reader: Reader, results: FirstActResults, expected: int, on_progress: OnProgress) -> None:
    arrived_at = time.monotonic()
    while len(results) < expected:
        before = len(results)
        for record in reader.poll(0.5):
            results.take(record)
        on_progress(len(results), expected)
        if len(results) > before:
            arrived_at = time.monotonic()
        elif time.monotonic() - arrived_at > PATIENCE_SECONDS:
            raise DemoFailed(
                f"{len(results)} of {expected} results arrived, then none for {PATIENCE_SECONDS:.0f} s; see the "
                "worker's log and 'alignstream doctor'"
            )


def _ordered(texts: GateTexts) -> Iterator[tuple[int, str, str, str]]:
    for number, text in enumerate(texts.texts):
        for language in text.text:
            yield number, text.key, language, text.topic


def _matrix(
    results: FirstActResults, texts: GateTexts, run: str, kind: str
) -> tuple[Matrix, list[str], list[str], Indices]:
    rows, languages, topics, meaning = [], [], [], []
    for number, key, language, topic in _ordered(texts):
        vector = results.vectors[document_id(run, kind, key, language)]
        rows.append(vector_array(vector.vector, vector.encoding, vector.dim))
        languages.append(language)
        topics.append(topic)
        meaning.append(number)
    return np.stack(rows), languages, topics, np.array(meaning)


def _label_accuracy(results: FirstActResults, texts: GateTexts, run: str, kind: str) -> float:
    hits = [
        results.labels[document_id(run, kind, key, language)].label == topic
        for _, key, language, topic in _ordered(texts)
    ]
    return float(np.mean(hits))


def _space(results: FirstActResults, run: str, kind: str) -> str:
    spaces = {v.space for name, v in results.vectors.items() if name.startswith(f"{run}/{kind}/")}
    if len(spaces) != 1:
        raise DemoFailed(
            f"the {kind} vectors are in {len(spaces)} spaces; was an adapter pushed in the meantime?"
        )
    return spaces.pop()


def _dead_letters(results: FirstActResults, bad: list[BadRecord]) -> list[dict[str, Any]]:
    letters = []
    for record in bad:
        reason, message = results.dead[record.name]
        letters.append(
            {
                "name": record.name,
                "why": record.why,
                "expected": record.reason,
                "reason": reason,
                "message": message,
                "as_expected": reason == record.reason,
            }
        )
    return letters


def _latency(metrics: str) -> dict[str, dict[str, float]]:
    latencies = {}
    for stage in STAGES:
        p50, p99, count = measure.quantiles(metrics, "alignstream_stage_duration_seconds", stage=stage)
        if count:
            latencies[stage] = {"p50": p50, "p99": p99, "batches": count}
    p50, p99, count = measure.quantiles(metrics, "alignstream_end_to_end_latency_seconds")
    if count:
        latencies["end to end"] = {"p50": p50, "p99": p99, "records": count}
    return latencies


def _examples(results: FirstActResults, texts: GateTexts, run: str) -> list[dict[str, Any]]:
    """Return one example for each language, going through the texts in order."""
    examples = []
    for position, language in enumerate(texts.languages):
        text = texts.texts[position % len(texts.texts)]
        labels = results.labels[document_id(run, "aligned", text.key, language)]
        examples.append(
            {
                "language": texts.languages[language].name,
                "text": text.text[language],
                "label": labels.label,
                "score": labels.scores[0].score,
                "topic": text.topic,
            }
        )
    return examples
