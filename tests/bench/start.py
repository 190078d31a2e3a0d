"""How long a worker takes from nothing to its first result, and where the time goes."""

import datetime as dt
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from alignstream.ops.admin.encoder_choice import artifact_folder
from alignstream.ops.local.stack import Stack
from alignstream.ops.local.supervised import worker
from alignstream.streams.settings import load
from tests.bench import service
from tests.bench.report import Figure, median_ratio
from tests.bench.service import BenchFailed, Probe
from tests.bench.workload import items

ROUNDS: Final = 3
#: What the worker logs at the end of each step of its start.
_IMPORTED: Final = "probes and metrics on"
_LOADED: Final = "loaded in"
_ADAPTED: Final = "is live (from"

#: The least that gives a vector: no broker, no checks.
_BARE: Final = """
import sys, numpy, onnxruntime, tokenizers
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
ids = numpy.array([tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json").encode("query: Hello.").ids])
session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})
"""


def figures(stack: Stack) -> list[Figure]:
    """Start a bare script and a worker in turn; the artifact is in the cache, the processes are new."""
    folder = artifact_folder(load())
    bare, starts = [], []
    for number in range(ROUNDS):
        bare.append(_bare_seconds(folder))
        starts.append(_start(stack, f"start-{number}"))
    totals = [sum(steps.values()) for steps in starts]
    ratio, rounds = median_ratio(totals, bare)
    return [
        Figure(
            name="start",
            what="worker start to first result",
            value=statistics.median(totals),
            unit="s",
            rounds=tuple(totals),
            details={step: f"{statistics.median(s[step] for s in starts):.1f} s" for step in starts[0]},
        ),
        Figure(
            name="start-ratio",
            what="the same over a bare script that opens the same graph and encodes one text",
            value=ratio,
            unit="",
            rounds=rounds,
            details={"bare script": f"{statistics.median(bare):.1f} s"},
        ),
    ]


def _bare_seconds(folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _BARE, str(folder)], check=True)
    return time.perf_counter() - started


def _start(stack: Stack, name: str) -> dict[str, float]:
    """Start a worker on a topic that holds one text; return the seconds of each step."""
    values = service.environment(stack, name)
    settings = service.prepare(values)
    wanted = items(name, 1)
    probe = Probe(settings)
    try:
        probe.send(wanted)
        started = time.time()
        with worker(values, stack.folder / "workers", name=name) as process:
            (first,) = probe.collect(wanted)
            log = process.log()
    finally:
        probe.close()
    imported, loaded, adapted = (_logged_at(log, words) for words in (_IMPORTED, _LOADED, _ADAPTED))
    return {
        "interpreter and imports": imported - started,
        "encoder": loaded - imported,
        "adapter": adapted - loaded,
        "joining the group, first batch": first.at - adapted,
    }


def _logged_at(log: str, words: str) -> float:
    for line in log.splitlines():
        if words in line:
            return dt.datetime.fromisoformat(json.loads(line)["time"]).timestamp()
    raise BenchFailed(f"the worker's log does not say {words!r}:\n{log[-2000:]}")
