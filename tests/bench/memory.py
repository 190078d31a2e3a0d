"""Resident memory of a worker: after the longest texts, and over many short ones."""

import sys
import time
from typing import Final

import numpy as np
import psutil

from alignstream.models.encoder.artifact import MODEL
from alignstream.ops.admin.encoder_choice import artifact_folder
from alignstream.ops.demo import measure
from alignstream.ops.local.ports import LOOPBACK
from alignstream.ops.local.stack import Stack
from alignstream.ops.local.supervised import Worker
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import VECTORS
from tests.bench import service
from tests.bench.report import Figure
from tests.bench.service import PATIENCE_SECONDS, BenchFailed
from tests.bench.workload import Item, long_items, short_items

LONG_TEXTS: Final = 3 * 64
SHORT_TEXTS: Final = 20_000
SAMPLE_TEXTS: Final = 1000
#: Beside the weights: interpreter, libraries, packed matrices, the largest batch.
ALLOWED_MB: Final = 700
#: The first samples still hold what the long texts left behind.
SKIPPED_SAMPLES: Final = 4
#: A line needs some samples more.
MIN_SHORT_TEXTS: Final = (SKIPPED_SAMPLES + 4) * SAMPLE_TEXTS
#: Growth per 1,000 texts that counts as none: 50 bytes a text, below what the page size resolves.
FLAT_MB: Final = 0.05
POLL_SECONDS: Final = 0.25
MB: Final = 1e6


def figures(stack: Stack, *, n_short: int = SHORT_TEXTS) -> list[Figure]:
    """Send texts at the length limit, then short ones, through a worker, and watch its memory."""
    with service.running(stack, "memory") as (settings, worker):
        weights_mb = (artifact_folder(settings) / MODEL).stat().st_size / MB
        started_mb = _resident_mb(worker)
        long = _watch(settings, worker, long_items("long", LONG_TEXTS), every=16)
        short = _watch(settings, worker, short_items("short", n_short), every=SAMPLE_TEXTS)
    most_mb = max(mb for _, mb in long)
    texts, resident = np.array(short[SKIPPED_SAMPLES:]).T
    slope, error = _slope(texts / SAMPLE_TEXTS, resident)
    return [
        Figure(
            name="memory",
            what="resident memory after texts at the length limit, beside the weights",
            value=most_mb - weights_mb,
            unit="MB",
            goal=f"≤ {ALLOWED_MB} MB",
            is_met=most_mb - weights_mb <= ALLOWED_MB,
            details={
                "texts": LONG_TEXTS,
                "weights": f"{weights_mb:.0f} MB",
                "resident when ready": f"{started_mb:.0f} MB",
                "most": f"{most_mb:.0f} MB",
            },
        ),
        Figure(
            name="memory-slope",
            what=f"growth over {n_short:,} short texts",
            value=slope,
            unit="MB per 1,000 texts",
            goal=f"0, give or take {FLAT_MB}",
            is_met=slope <= FLAT_MB,
            details={
                "standard error": error,
                "resident from": f"{resident[0]:.1f} MB",
                "to": f"{resident[-1]:.1f} MB",
            },
        ),
    ]


def _watch(settings: Settings, worker: Worker, items: list[Item], *, every: int) -> list[tuple[int, float]]:
    """Send texts; return (texts done, resident MB) after every so many of them."""
    start = done = _published(worker)
    service.send(settings, items)
    samples: list[tuple[int, float]] = []
    moved = time.monotonic()
    while done - start < len(items):
        time.sleep(POLL_SECONDS)
        now = _published(worker)
        if now > done:
            moved = time.monotonic()
        elif time.monotonic() - moved > PATIENCE_SECONDS:
            raise BenchFailed(f"the worker stands still after {done - start} of {len(items)} texts")
        if (now - start) // every > (done - start) // every:
            samples.append((now - start, _resident_mb(worker)))
        done = now
    sys.stderr.write(f"  {len(items)} texts, {samples[-1][1]:.0f} MB resident\n")
    return samples


def _published(worker: Worker) -> int:
    text = measure.scrape(LOOPBACK, worker.metrics_port)
    return int(measure.counter(text, "alignstream_records_published_total", topic=VECTORS))


def _resident_mb(worker: Worker) -> float:
    return float(psutil.Process(worker.pid).memory_info().rss / MB)


def _slope(
    x: "np.ndarray[tuple[int], np.dtype[np.float64]]", y: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> tuple[float, float]:
    """Fit a line; return its slope and the slope's standard error."""
    wide = x - x.mean()
    slope = float(wide @ (y - y.mean()) / (wide @ wide))
    rest = y - y.mean() - slope * wide
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (wide @ wide)))
