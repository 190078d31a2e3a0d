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
from alignstream.ops.admin.encoder_choice import open_encoder
from alignstream.ops.demo import measure
from alignstream.ops.local.ports import LOOPBACK
from alignstream.ops.local.stack import Stack
from alignstream.streams.observe.sensors import STAGES
from tests.bench import naive, service
from tests.bench.quiet import Others
from tests.bench.report import Figure, median_ratio
from tests.bench.service import BenchFailed, Emitted, Probe
from tests.bench.workload import Item, items

#: Rounds that count: those in which others disturbed least.
ROUNDS: Final = 6
#: Rounds that are made at most, until that many were quiet.
MOST_ROUNDS: Final = 10
#: Others' share of the cores in a quiet round: the kernel alone takes one or two hundredths.
QUIET_SHARE: Final = 0.05
#: Texts of a bare batch: as many as the worker takes at once.
BATCH: Final = 64
#: The service's first batches (the first one is not full) and its last are not steady.
SKIPPED_BATCHES: Final = 2
#: Messages of the naive agent before its clock starts.
SKIPPED_MESSAGES: Final = 16
LEAST_TEXTS: Final = 5 * BATCH
#: The naive agent gets the first texts of a round, so that it takes no longer than the others.
NAIVE_TEXTS: Final = 112
#: Same weights, same pooling: float32 differs in the last bits between torch and ONNX Runtime.
LEAST_COSINE: Final = 0.9999


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """Tokens a second of each, and the largest share of the cores that others took meanwhile."""

    bare: float
    service: float
    naive: float | None
    others: float


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """The rounds that count, and what the worker says about its stages: seconds of each, over all rounds."""

    rounds: list[Round]
    n_rounds_made: int
    stages: dict[str, float]
    texts_per_round: int
    tokens_per_text: float


class _Naive(msgspec.Struct):
    vector: list[float]


def compare(stack: Stack, *, seconds: float, with_naive: bool) -> Rates:
    """Run everything in turn, each for about so many seconds in all."""
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
        made: list[Round] = []
        while len(made) < MOST_ROUNDS and sum(item.others <= QUIET_SHARE for item in made) < ROUNDS:
            texts = items(f"r{len(made)}", n_texts)
            made.append(_round(encoder, probe, naive_probe, texts, is_bare_first=len(made) % 2 == 0))
            sys.stderr.write(f"  {_described(made[-1])}\n")
        after = _stages(worker.metrics_port)
        texts = items("r0", n_texts)
        n_tokens = sum(_token_counts(encoder, texts).values())
    quietest = sorted(range(len(made)), key=lambda number: made[number].others)[:ROUNDS]
    return Rates(
        rounds=[made[number] for number in sorted(quietest)],
        n_rounds_made=len(made),
        stages={name: after[name] - before[name] for name in after},
        texts_per_round=n_texts,
        tokens_per_text=n_tokens / n_texts,
    )


def _round(
    encoder: OnnxEncoder,
    probe: Probe,
    naive_probe: Probe | None,
    texts: Sequence[Item],
    *,
    is_bare_first: bool,
) -> Round:
    n_tokens = _token_counts(encoder, texts)
    rates: dict[str, float] = {}
    others = []

    def bare() -> None:
        rates["bare"] = sum(n_tokens.values()) / _seconds(encoder, texts)

    def served() -> None:
        rates["service"] = _service_rate(probe, texts, n_tokens)

    def simple() -> None:
        if naive_probe is not None:
            rates["naive"] = _naive_rate(naive_probe, texts, n_tokens, encoder)

    # Who goes first alternates, so that a machine that drifts favours nobody.
    for run in (bare, served, simple) if is_bare_first else (served, bare, simple):
        with Others() as meanwhile:
            run()
        others.append(meanwhile.share)
    return Round(rates["bare"], rates["service"], rates.get("naive"), max(others))


def _token_counts(encoder: OnnxEncoder, texts: Sequence[Item]) -> dict[str, int]:
    tokens = encoder.tokenize([item.text for item in texts])
    return {item.identifier: len(found.input_ids) for item, found in zip(texts, tokens, strict=True)}


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


def _naive_rate(
    probe: Probe, texts: Sequence[Item], n_tokens: Mapping[str, int], encoder: OnnxEncoder
) -> float:
    some = texts[:NAIVE_TEXTS]
    probe.send(some)
    emitted = probe.collect(some)
    _check_same(encoder, some, emitted)
    return _rate(emitted[SKIPPED_MESSAGES:], emitted[SKIPPED_MESSAGES - 1].at, n_tokens)


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


def _described(made: Round) -> str:
    naive_rate = "" if made.naive is None else f", naive {made.naive:.0f}"
    return (
        f"tokens a second: bare {made.bare:.0f}, service {made.service:.0f}{naive_rate}; "
        f"others took {made.others:.0%} of the cores"
    )


def figures(rates: Rates) -> list[Figure]:
    """Return what the rates say."""
    bare = [item.bare for item in rates.rounds]
    served = [item.service for item in rates.rounds]
    simple = [item.naive for item in rates.rounds if item.naive is not None]
    n_texts = rates.texts_per_round * len(rates.rounds)
    others = f"at most {max(item.others for item in rates.rounds):.0%} of the cores"
    per_second = {
        name: statistics.median(values) / rates.tokens_per_text
        for name, values in (("bare", bare), ("service", served), ("naive", simple))
        if values
    }
    value, rounds = median_ratio(served, bare)
    found = [
        Figure(
            name="service",
            what="service over the bare ONNX Runtime loop",
            value=value, unit="", goal="≥ 0.90", is_met=value >= 0.90, rounds=rounds,
            details={
                "texts": n_texts,
                "tokens a text": rates.tokens_per_text,
                "texts a second": per_second,
                "rounds made": rates.n_rounds_made,
                "others took": others,
            },
        )
    ]  # fmt: skip
    if simple:
        value, rounds = median_ratio(served, simple)
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
