"""The demonstration as a person runs it: it ends by itself with a report, and leaves nothing behind on Ctrl-C."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from bounded import program, wait_until

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-c", "from alignstream.ops.cli import main; main()", "demo"]
#: A loaded machine of two cores takes two minutes.
PATIENCE_SECONDS = 400.0


@contextlib.contextmanager
def demo(output: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "--output", str(output), *options]
    with program(command, stderr=subprocess.STDOUT, start_new_session=True) as process:
        yield process


def test_the_demo_shows_that_alignment_and_following_help_and_writes_report_and_pictures(
    tmp_path: Path,
) -> None:
    with demo(tmp_path, "--texts", "1") as process:
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, printed
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["n_languages"] >= 20
    assert report["n_scripts"] >= 8
    assert report["n_topics"] == 7
    figures = report["figures"]
    assert figures["aligned"]["r_precision"] > figures["raw"]["r_precision"]
    assert figures["aligned"]["english_counterpart"] >= figures["raw"]["english_counterpart"] - 0.01
    assert figures["aligned"]["label_accuracy"] > 0.7
    assert all(letter["as_expected"] for letter in report["dead_letters"])
    assert len(report["dead_letters"]) >= 12
    assert report["space"]["raw"] != report["space"]["aligned"]
    assert {"encode", "align", "publish", "end to end"} <= set(report["latency_seconds"])
    for name in ("vectors.png", "following.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    check_second_act(report["following"])
    assert "What to try next" in printed


def check_second_act(report: dict[str, Any]) -> None:
    assert report["n_stored_vectors_moved"] == 0
    assert [epoch["number"] for epoch in report["epochs"]] == list(range(1, len(report["epochs"]) + 1))
    assert report["epochs"][0]["reason"] == "doubling"
    assert report["n_drifts"] == 1
    assert report["refused"] == {}
    assert report["suspended"] is None
    served = [row["epoch"] for row in report["by_epoch"]]
    assert len(set(served) - {0}) >= 4
    assert sum(row["n_queries"] for row in report["by_epoch"]) == report["n_texts"]
    everyday, clinic = (report["by_domain"][name]["r_precision"] for name in ("everyday", "clinic"))
    assert everyday["following"] > everyday["static"] - 0.01
    assert clinic["following"] > clinic["static"] + 0.02
    assert report["by_newcomer"]["r_precision"]["n"] == 80


def test_ctrl_c_ends_the_demo_and_everything_it_started(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        watched = psutil.Process(process.pid)
        children: list[psutil.Process] = []

        def is_up() -> bool:
            assert process.poll() is None, process.communicate(timeout=10)[0]
            children[:] = watched.children(recursive=True)
            return len(children) >= 4

        wait_until(is_up, "broker, Redis, worker and learner run", PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
