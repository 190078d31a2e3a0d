"""The demonstration as a person runs it: it ends by itself with a report, and leaves nothing behind on Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-c", "from alignstream.ops.cli import main; main()", "demo"]
#: A loaded machine of two cores takes a minute.
PATIENCE_SECONDS = 300.0


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--output", str(output), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_demo_shows_that_alignment_helps_and_writes_report_and_picture(tmp_path: Path) -> None:
    process = start(tmp_path, "--texts", "1")
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
    assert (tmp_path / "vectors.png").read_bytes().startswith(b"\x89PNG")
    assert "What to try next" in printed


def test_ctrl_c_ends_the_demo_and_everything_it_started(tmp_path: Path) -> None:
    process = start(tmp_path)
    watched = psutil.Process(process.pid)
    deadline = time.monotonic() + PATIENCE_SECONDS
    children: list[psutil.Process] = []
    while len(children) < 3:  # broker, Redis, worker
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
        children = watched.children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
