"""Resident memory of what the learner knows: 10,000 means of a tenant's language, in a process of its own."""

import subprocess
import sys
from typing import Final

import numpy as np
import psutil

from alignstream.streams.learner.learning import Learning
from alignstream.streams.wire.codec import float16_field
from alignstream.streams.wire.observations import ObservationsV1, ObservedText, Origin, encode
from tests.bench.report import Figure

N_MEANS: Final = 10_000
DIM: Final = 384
ALLOWED_MB: Final = 100
#: Languages of a tenant: many small tenants, and few that write in many languages, each with a bank and epochs.
SHAPES: Final = (1, 50)
MB: Final = 1e6


def figures() -> list[Figure]:
    """Measure each shape in a new process, so that none inherits what another left behind."""
    found = {n: _in_new_process(n) for n in SHAPES}
    most = max(found.values())
    return [
        Figure(
            name="means",
            what=f"resident memory of {N_MEANS:,} means in the learner",
            value=most,
            unit="MB",
            goal=f"≤ {ALLOWED_MB} MB",
            is_met=most <= ALLOWED_MB,
            details={f"{N_MEANS // n:,} tenants of {n} languages": f"{mb:.0f} MB" for n, mb in found.items()},
        )
    ]


def _in_new_process(n_languages: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.means", str(n_languages)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def grown_mb(n_languages: int) -> float:
    """Return by how many megabytes this process grows when it learns ``N_MEANS`` means."""
    letters = "abcdefghij"
    tags = [one + other for one in letters for other in letters][:n_languages]
    rng = np.random.default_rng(0)
    learning = Learning(lambda _encoder, _dim: None, max_tenants=N_MEANS + 1)

    def learn(tenant: int) -> None:
        texts = []
        for row, tag in enumerate(tags):
            x = rng.standard_normal(DIM)
            vector = float16_field((x / np.linalg.norm(x)).astype(np.float32))
            origin = Origin("documents.v1", 0, tenant * n_languages + row)
            texts.append(ObservedText(origin, f"t{tenant}", vector, tag, key=f"{row:016x}"))
        learning.take(tenant, 0, encode(ObservationsV1(encoder="e" * 64, dim=DIM, texts=tuple(texts))))

    process = psutil.Process()
    learn(0)  # what is loaded once
    before = process.memory_info().rss
    for tenant in range(1, N_MEANS // n_languages + 1):
        learn(tenant)
    return float((process.memory_info().rss - before) / MB)


if __name__ == "__main__":
    sys.stdout.write(f"{grown_mb(int(sys.argv[1]))}\n")
