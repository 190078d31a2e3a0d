"""Service, bare loop and naive agent in turn, on the same texts: how fast each of them is.

Rates are tokens a second, so that runs over different texts compare. One runs at a time: the others wait
for messages meanwhile.
"""

import contextlib
import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.ops.demo import measure
from alignstream.ops.embedded.processes import LOOPBACK
from alignstream.ops.embedded.stack import Stack
from alignstream.ops.encoder import open_encoder
from alignstream.streams.sensors import STAGES
from tests.bench import naive, service
from tests.bench.report import Figure, median_ratio
from tests.bench.service import BenchFailed, Emitted, Probe
from tests.bench.workload import Item, items

ROUNDS: Final = 6
#: Texts of a bare batch: as many as the worker takes at once.
BATCH: Final = 64
#: The service's first batches (the first one is not full) and its last are not steady.
SKIPPED_BATCHES: Final = 2
#: Messages of the naive agent before its clock starts.
SKIPPED_MESSAGES: Final = 16
LEAST_TEXTS: Final = 5 * BATCH
#: The naive agent gets a part of the texts, so that it takes about as long as the others.
NAIVE_SHARE: Final = 0.25
#: Same weights, same pooling: float32 differs in the last bits between torch and ONNX Runtime.
LEAST_COSINE: Final = 0.9999


@dataclasses.dataclass
class Rates:
    """Tokens a second of each run, round by round, and what the worker says about its stages."""

    bare: list[float] = dataclasses.field(default_factory=list)
    service: list[float] = dataclasses.field(default_factory=list)
    naive: list[float] = dataclasses.field(default_factory=list)
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    n_texts: int = 0
    tokens_per_text: float = 0.0


class _Naive(msgspec.Struct):
    vector: list[float]


def compare(stack: Stack, *, seconds: float, with_naive: bool) -> Rates:
    """Run everything in turn, each for about so many seconds in all."""
    rates = Rates()
    with contextlib.ExitStack() as cleanup:
        settings, worker = cleanup.enter_context(service.running(stack, "speed"))
        # The naive agent knows no topic prefix.
        plain = settings.model_copy(update={"topic_prefix": ""})
        if with_naive:
            cleanup.enter_context(naive.running(stack, plain))
        encoder = open_encoder(settings)
        probe = Probe(settings)
        cleanup.callback(probe.close)
        naive_probe = Probe(plain, source=naive.SOURCE, target=naive.TARGET) if with_naive else None
        if naive_probe is not None:
            cleanup.callback(naive_probe.close)
        per_second = BATCH / _seconds(encoder, items("warm", BATCH))
        n_texts = max(LEAST_TEXTS, int(per_second * seconds / ROUNDS) // BATCH * BATCH)
        before = _stages(worker.metrics_port)
        for number in range(ROUNDS):
            _round(rates, encoder, probe, naive_probe, number=number, n_texts=n_texts)
            _say(rates)
        after = _stages(worker.metrics_port)
        rates.stages = {name: after[name] - before[name] for name in after}
    return rates


def _round(
    rates: Rates, encoder: OnnxEncoder, probe: Probe, naive_probe: Probe | None, *, number: int, n_texts: int
) -> None:
    texts = items(f"r{number}", n_texts)
    n_tokens = {
        item.identifier: len(tokens.input_ids)
        for item, tokens in zip(texts, encoder.tokenize([item.text for item in texts]), strict=True)
    }
    rates.n_texts += n_texts
    rates.tokens_per_text = sum(n_tokens.values()) / n_texts

    def bare() -> None:
        rates.bare.append(sum(n_tokens.values()) / _seconds(encoder, texts))

    def served() -> None:
        rates.service.append(_service_rate(probe, texts, n_tokens))

    # Who goes first alternates, so that a machine that drifts favours nobody.
    for run in (bare, served) if number % 2 == 0 else (served, bare):
        run()
    if naive_probe is not None:
        some = texts[: max(3 * SKIPPED_MESSAGES, int(n_texts * NAIVE_SHARE))]
        naive_probe.send(some)
        emitted = naive_probe.collect(some)
        if number == 0:
            _check_same(encoder, some, emitted)
        rates.naive.append(_rate(emitted[SKIPPED_MESSAGES:], emitted[SKIPPED_MESSAGES - 1].at, n_tokens))


def _seconds(encoder: OnnxEncoder, texts: Sequence[Item]) -> float:
    """Encode texts as fast as one can: no broker, nothing written, nothing but tokenizer and graph."""
    started = time.perf_counter()
    for start in range(0, len(texts), BATCH):
        encoder.encode(encoder.tokenize([item.text for item in texts[start : start + BATCH]]))
    return time.perf_counter() - started


def _service_rate(probe: Probe, texts: Sequence[Item], n_tokens: Mapping[str, int]) -> float:
    probe.send(texts)
    batches = service.batches(probe.collect(texts))
    steady = batches[SKIPPED_BATCHES:-1]
    if len(steady) < 1:
        raise BenchFailed(f"{len(texts)} texts came in {len(batches)} batches: too few to be steady")
    emitted = [item for batch in steady for item in batch]
    return _rate(emitted, batches[SKIPPED_BATCHES - 1][-1].at, n_tokens)


def _rate(emitted: Sequence[Emitted], since: float, n_tokens: Mapping[str, int]) -> float:
    return sum(n_tokens[item.identifier] for item in emitted) / (emitted[-1].at - since)


def _check_same(encoder: OnnxEncoder, texts: Sequence[Item], emitted: Sequence[Emitted]) -> None:
    by_id = {item.identifier: item.text for item in texts}
    sample = emitted[:SKIPPED_MESSAGES]
    X = encoder.encode_texts([by_id[item.identifier] for item in sample])
    Y = np.array([msgspec.json.decode(item.value, type=_Naive).vector for item in sample])
    lowest = float((X * Y).sum(axis=1).min())
    if not lowest >= LEAST_COSINE:
        raise BenchFailed(f"the naive agent computes something else: lowest cosine {lowest:.4f}")


def _stages(port: int) -> dict[str, float]:
    """Return the seconds that the worker spent in each stage so far."""
    text = measure.scrape(LOOPBACK, port)
    return {
        stage: measure.counter(text, "alignstream_stage_duration_seconds_sum", stage=stage)
        for stage in STAGES
    }


def _say(rates: Rates) -> None:
    parts = [f"{name} {values[-1]:.0f}" for name, values in _runs(rates).items() if values]
    sys.stderr.write(f"  tokens a second: {', '.join(parts)}\n")


def _runs(rates: Rates) -> dict[str, list[float]]:
    return {"bare": rates.bare, "service": rates.service, "naive": rates.naive}


def figures(rates: Rates) -> list[Figure]:
    """Return what the rates say."""
    details = {
        "texts": rates.n_texts,
        "tokens a text": rates.tokens_per_text,
        "texts a second": {
            name: statistics.median(values) / rates.tokens_per_text
            for name, values in _runs(rates).items()
            if values
        },
    }
    value, rounds = median_ratio(rates.service, rates.bare)
    found = [
        Figure(
            name="service",
            what="service over the bare ONNX Runtime loop",
            value=value, unit="", goal="≥ 0.90", is_met=value >= 0.90, rounds=rounds, details=details,
        )
    ]  # fmt: skip
    if rates.naive:
        value, rounds = median_ratio(rates.service, rates.naive)
        found.append(
            Figure(
                name="naive",
                what="service over a naive Faust agent with torch",
                value=value, unit="", goal="≥ 2", is_met=value >= 2, rounds=rounds,
            )
        )  # fmt: skip
    # Waiting in the queue is no work: a record waits while the batch before it is encoded.
    work = {stage: spent for stage, spent in rates.stages.items() if stage != "queue"}
    total = sum(work.values())
    share = work["align"] / total
    found.append(
        Figure(
            name="adapter",
            what="adapter, share of a batch's time",
            value=share, unit="%", goal="≤ 1 %", is_met=share <= 0.01,
            details={stage: f"{100 * spent / total:.2f} %" for stage, spent in work.items()},
        )
    )  # fmt: skip
    return found
