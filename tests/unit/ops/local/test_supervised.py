"""Supervision restarts what fails, later and later, and gives up on what was never ready."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from child_servers import WEB, server, until
from started_servers import start_worker

from alignstream.models.errors import ProcessError
from alignstream.ops.local.ports import free_port
from alignstream.ops.local.server import Server
from alignstream.ops.local.supervised import answers_ready, supervise

#: How ``alignstream up`` runs it.
MODULE = (sys.executable, "-P", "-m", "alignstream.ops.local.supervised")


def test_a_worker_is_ready_when_readyz_says_so_and_has_its_settings(tmp_path: Path) -> None:
    command = (sys.executable, "-P", "-c", WEB)
    settings = {"ALIGNSTREAM_GROUP": "g1", "ALIGNSTREAM_METRICS_PORT": "0"}
    with start_worker(settings, tmp_path, name="worker-1", command=command) as one:
        with start_worker(settings, tmp_path, name="worker-2", command=command) as two:
            assert one.metrics_port != two.metrics_port
            assert answers_ready(two.metrics_port)
        assert not answers_ready(two.metrics_port)
        assert one.log().splitlines()[0] == "g1"


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-S", "-c", "raise SystemExit('error: no broker at 127.0.0.1:1')")
    with pytest.raises(ProcessError, match=r"no broker at 127\.0\.0\.1:1"):
        start_worker({}, tmp_path, command=command)


def test_a_server_that_keeps_failing_is_restarted_later_and_later_and_given_up_if_it_was_never_ready(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-S", "-c", "raise SystemExit('error: unknown setting')")
    assert not supervise(server(tmp_path, command), attempts=3)
    said = capfd.readouterr().err
    assert "ended with code 1; restarting it in 0.2 s" in said
    assert "restarting it in 0.4 s" in said
    assert "restarting it in 0.8 s" not in said
    assert "failed 3 times" in said
    assert "error: unknown setting" in said


def test_a_server_that_is_done_is_not_restarted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervise(server(tmp_path, (sys.executable, "-S", "-c", "print('done')")), attempts=1)
    assert capfd.readouterr().err == ""


def test_a_server_that_was_ready_is_restarted_however_often_it_is_killed_and_ends_with_its_supervisor(
    tmp_path: Path,
) -> None:
    port = free_port()
    supervisor = Server(
        "supervisor",
        [*MODULE, str(tmp_path), sys.executable, "-P", "-c", WEB],
        folder=tmp_path,
        is_ready=lambda _: answers_ready(port),
        environment={**os.environ, "ALIGNSTREAM_METRICS_PORT": str(port), "ALIGNSTREAM_GROUP": "g"},
    )
    with supervisor:
        # The second answer is the one that the supervisor itself has asked for.
        until(lambda: sum(log.read_text().count('" 200 -') for log in tmp_path.glob("*.log")) > 1)
        (child,) = psutil.Process(supervisor.pid).children()
        for _ in range(3):
            killed = child
            killed.kill()
            until(lambda killed=killed: not killed.is_running())  # type: ignore[misc]
            supervisor.wait_ready()
            (child,) = psutil.Process(supervisor.pid).children()
            assert child.pid != killed.pid
        assert supervisor.stop() == 0
        assert not child.is_running()
        supervisor.start()
        (child,) = psutil.Process(supervisor.pid).children()
        supervisor.kill()
        until(lambda: not child.is_running())
