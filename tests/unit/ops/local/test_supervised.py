"""Supervision restarts what fails, later and later, and gives up on what was never ready."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from child_servers import WEB, server, until
from started_servers import start_worker

from alignstream.models.errors import ProcessError
from alignstream.ops.local.ports import free_port
from alignstream.ops.local.server import Server
from alignstream.ops.local.supervised import Supervised, answers_ready

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


def test_a_supervised_server_that_is_killed_starts_again(tmp_path: Path) -> None:
    with Supervised(server(tmp_path)) as supervised:
        child = supervised.wait_ready(20).server
        for restarts in (1, 2):
            before = child.pid
            os.kill(before, signal.SIGKILL)
            until(lambda n=restarts, pid=before: supervised.restarts == n and child.pid != pid)  # type: ignore[misc]
        until(lambda: child.is_running and "ready" in child.log())
    assert child.exit_code == -signal.SIGTERM
    assert not psutil.pid_exists(child.pid)


def test_a_server_that_keeps_failing_is_started_later_and_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Supervised(server(tmp_path, (sys.executable, "-S", "-c", "raise SystemExit(7)"))) as supervised:
        until(lambda: supervised.restarts >= 2)
    said = capfd.readouterr().err
    assert "ended with code 7; restarting it in 0.2 s" in said
    assert "restarting it in 0.4 s" in said


def test_supervision_gives_up_on_what_was_never_ready(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-S", "-c", "raise SystemExit('error: unknown setting')")
    with Supervised(server(tmp_path, command), attempts=2) as supervised:
        with pytest.raises(ProcessError, match="unknown setting"):
            supervised.wait_ready(20)
        assert supervised.has_given_up
        assert supervised.restarts == 1
    assert "error: unknown setting" in capfd.readouterr().err


def test_a_server_that_is_done_is_not_started_again(tmp_path: Path) -> None:
    with Supervised(server(tmp_path, (sys.executable, "-S", "-c", "print('done')"))) as supervised:
        until(lambda: supervised.server.exit_code == 0)
    assert supervised.restarts == 0


def test_the_supervising_process_restarts_its_worker_and_takes_it_along(tmp_path: Path) -> None:
    port = free_port()
    supervisor = Server(
        "supervisor",
        [
            *MODULE,
            str(tmp_path),
            sys.executable,
            "-P",
            "-c",
            WEB,
        ],
        folder=tmp_path,
        is_ready=lambda _: answers_ready(port),
        environment={**os.environ, "ALIGNSTREAM_METRICS_PORT": str(port), "ALIGNSTREAM_GROUP": "g"},
    )
    with supervisor:
        (child,) = psutil.Process(supervisor.pid).children()
        child.kill()
        until(lambda: not child.is_running())
        supervisor.wait_ready()
        (second,) = psutil.Process(supervisor.pid).children()
        assert second.pid != child.pid
        assert supervisor.stop() == 0
        assert not second.is_running()
        supervisor.start()
        (third,) = psutil.Process(supervisor.pid).children()
        supervisor.kill()
        until(lambda: not third.is_running())
