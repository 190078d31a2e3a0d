"""What the bench found: a table for people, JSON for machines, a section of the page on speed and memory."""

import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import rich.console
import rich.table

BEGIN: Final = "<!-- written by: python -m tests.bench --document docs/pages/measurements/performance.md -->"
END: Final = "<!-- end -->"
_VERSIONS: Final = ("onnxruntime", "tokenizers", "faust-streaming", "aiokafka", "numpy")


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    ``goal`` is what it must reach, in words; ``is_met`` is None where there is no goal. ``rounds`` holds the
    figure of each pair of runs, ``details`` whatever explains it.
    """

    name: str
    what: str
    value: float
    unit: str
    goal: str = ""
    is_met: bool | None = None
    rounds: tuple[float, ...] = ()
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.unit == "%":
            return f"{100 * self.value:.2f} %"
        return f"{_number(self.value)} {self.unit}".strip()

    @property
    def spread(self) -> str:
        """The smallest and the largest round."""
        return f"{_number(min(self.rounds))} to {_number(max(self.rounds))}" if len(self.rounds) > 1 else ""

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        return {True: "met", False: "missed", None: ""}[self.is_met]


def median_ratio(
    numerators: Sequence[float], denominators: Sequence[float]
) -> tuple[float, tuple[float, ...]]:
    """Return the median of the ratios pair by pair, and the ratios: a drifting machine moves both of a pair."""
    ratios = tuple(a / b for a, b in zip(numerators, denominators, strict=True))
    return statistics.median(ratios), ratios


def machine() -> dict[str, Any]:
    """Describe the machine in words: never its name."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "memory_gb": round(memory_bytes / 1e9),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _VERSIONS},
        "load_before": round(os.getloadavg()[0], 2),
    }


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = rich.table.Table("measure", "figure", "rounds", "goal", "")
    for figure in figures:
        table.add_row(
            f"[bold]{figure.name}[/]\n{figure.what}", figure.shown, figure.spread, figure.goal, figure.verdict
        )
    rich.console.Console().print(table)


def write_json(path: Path, about: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Write everything that was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"machine": about, "figures": [dataclasses.asdict(figure) for figure in figures]}
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_document(path: Path, about: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Replace what stands between the markers of a document."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{_section(about, figures)}{END}{after}", encoding="utf-8")


def _section(about: dict[str, Any], figures: Sequence[Figure]) -> str:
    software = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    machine_line = (
        f"Machine: {about['cores']} cores of an {about['cpu']}, {about['memory_gb']} GB of memory, "
        f"Python {about['python']}, {software}. Broker: {about['broker']}, on the same cores. "
        f"Load average before the start: {about['load_before']}."
    )
    lines = [
        "",
        machine_line,
        "",
        "| measure | figure | single rounds | goal | |",
        "|---|---|---|---|---|",
        *(f"| {f.what} | **{f.shown}** | {f.spread} | {f.goal} | {f.verdict} |" for f in figures),
        "",
    ]
    for figure in figures:
        if figure.details:
            details = "; ".join(f"{key} {_short(value)}" for key, value in figure.details.items())
            lines.append(f"* {figure.name}: {details}.")
    return "\n".join([*lines, "", ""])


def _short(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(item)}" for key, item in value.items()) + ")"
    return str(value)


def _number(value: float) -> str:
    """Write three digits, and no more than two behind the point."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
