"""The page of the metrics: those of every process, and those of the learner, with the alerts that watch them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from markdown_table import code, table
from prometheus_client import CollectorRegistry

from alignstream.streams.learner.metrics import LearnerMetrics
from alignstream.streams.observe.sensors import Metrics

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "ops/deploy/prometheus/alerts.yml"
_HEAD: Final = """\
# Metrics

Worker and learner serve them for Prometheus under `/metrics` (`ALIGNSTREAM_METRICS_HOST`, `ALIGNSTREAM_METRICS_PORT`),
beside `/livez` and `/readyz`. Units are base units, labels have bounded values, and a tenant is never a label. The
dashboard and the alerts in `ops/deploy` use them; an alert names its [runbook](../how-to/runbooks/index.md).
"""
#: What Prometheus fills into the summary of an alert.
_VARIABLE: Final = re.compile(r"\{\{ \$(?:labels\.(\w+)|value[^}]*) \}\}")
_PROCESS: Final = (
    "`process_*` (CPU time, memory, open files, time of the start) come from the Prometheus client."
)


def collectors(registry: CollectorRegistry) -> list[Any]:
    """Return the metrics of ours in a registry, in the order in which they were made."""
    # The library tells names of series alone; what a metric is, it keeps to itself.
    return [item for item in registry._collector_to_names if hasattr(item, "_labelnames")]  # noqa: SLF001


def worker_metrics() -> list[Any]:
    """Return the metrics that every process has."""
    return collectors(Metrics().registry)


def learner_metrics() -> list[Any]:
    """Return the metrics that the learner alone has."""
    registry = CollectorRegistry()
    LearnerMetrics(registry)
    return collectors(registry)


def _link(runbook: str) -> str:
    page = Path(runbook)
    return f"[{page.stem}](../how-to/runbooks/{page.name})"


def render() -> str:
    """Return the page."""
    rules = [
        rule
        for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    lines = [_HEAD]
    for title, metrics in (
        ("Worker and learner", worker_metrics()),
        ("Learner", learner_metrics()),
    ):
        lines += [f"## {title}", ""]
        lines += table(("metric, type and labels", "meaning", "alerts"), _rows(metrics, rules))
    lines += ["## Process", "", _PROCESS, ""]
    lines += ["## Alerts", ""]
    lines += table(
        ("alert", "when", "severity", "runbook"),
        (
            (
                code(rule["alert"]),
                _VARIABLE.sub(lambda match: f"*{match[1] or 'value'}*", rule["annotations"]["summary"]),
                rule["labels"]["severity"],
                _link(rule["annotations"]["runbook"]),
            )
            for rule in rules
        ),
    )
    return "\n".join(lines)


def _rows(metrics: Sequence[Any], rules: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    for metric in metrics:
        name, kind = metric._name, metric._type  # noqa: SLF001 (as above)
        shown = f"{name}_total" if kind == "counter" else name
        series = re.compile(rf"\b{re.escape(name)}(_total|_bucket|_sum|_count)?\b")
        used = [rule["alert"] for rule in rules if series.search(rule["expr"])]
        labels = " ".join(code(label) for label in metric._labelnames)  # noqa: SLF001 (as above)
        yield (
            f"{code(shown)}<br>{kind}" + (f" by {labels}" if labels else ""),
            f"{metric._documentation}.",  # noqa: SLF001 (as above)
            " ".join(code(alert) for alert in dict.fromkeys(used)),
        )
