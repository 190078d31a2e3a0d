"""Child processes: started, awaited, ended, never left behind."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from bounded import ended, program, read_line
from child_servers import DEAF, SLEEPER, server, until

from alignstream.models.errors import ProcessError
from alignstream.ops.local.processes import Identity, end_process
from alignstream.ops.local.server import Server


def test_a_server_is_started_awaited_and_stopped_and_leaves_its_log(tmp_path: Path) -> None:
    with server(tmp_path / "new") as child:
        process = psutil.Process(child.pid)
        assert child.is_running
        assert os.getsid(child.pid) == child.pid, "a session of its own: Ctrl-C does not reach it"
        assert process.cmdline()[: len(SLEEPER)] == list(SLEEPER), "the pid is that of the program itself"
    assert child.exit_code == -signal.SIGTERM
    assert not process.is_running()
    assert (tmp_path / "new" / "child.log").read_text().strip() == "ready"


def test_a_server_that_dies_fails_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = (sys.executable, "-S", "-c", "raise SystemExit('the disk is full')")
    started = time.monotonic()
    with pytest.raises(
        ProcessError, match=r"(?s)child ended with code 1 .*child\.log says:\nthe disk is full"
    ):
        server(tmp_path, command).start()
    assert time.monotonic() - started < 10


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no-such-program"):
        server(tmp_path, ("/no-such-program",)).start()


def test_a_server_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    child = Server("child", SLEEPER, folder=tmp_path, is_ready=lambda _: False, ready_seconds=0.3)
    with pytest.raises(ProcessError, match=r"(?s)not ready within 0\.3 s"):
        child.start()
    assert child.exit_code == -signal.SIGKILL


def test_a_server_that_ignores_a_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = server(tmp_path, DEAF, stop_seconds=0.3).start()
    assert child.stop() == -signal.SIGKILL


def test_a_frozen_server_still_stops_in_order(tmp_path: Path) -> None:
    child = server(tmp_path).start()
    child.freeze()
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    assert child.is_running
    child.thaw()
    until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
    child.freeze()
    assert child.stop() == -signal.SIGTERM


def test_a_restart_is_a_new_process_that_waits_for_its_own_log(tmp_path: Path) -> None:
    child = server(tmp_path).start()
    first = child.pid
    child.kill()
    assert child.exit_code == -signal.SIGKILL
    with child.restart():
        assert child.pid != first
        assert child.log().split() == ["ready"]
        with pytest.raises(ProcessError, match="is running already"):
            child.spawn()
    assert child.log_path.read_text().split() == ["ready", "ready"]


def test_stopping_twice_or_before_a_start_does_nothing(tmp_path: Path) -> None:
    child = server(tmp_path)
    assert child.stop() is None
    assert child.kill() is None
    with pytest.raises(ProcessError, match="was not started"):
        _ = child.pid
    child.start()
    assert child.stop() == child.stop() == -signal.SIGTERM


PARENT = """
import sys, threading, time
from pathlib import Path
from alignstream.ops.local.server import Server
def start():
    child = Server("child", sys.argv[3:], folder=Path(sys.argv[1]), is_ready=lambda it: "ready" in it.log(),
                   is_detached=sys.argv[2] == "detached").start()
    print(child.pid, flush=True)
    globals()["child"] = child
thread = threading.Thread(target=start); thread.start(); thread.join(60)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["attached", "detached"])
def test_a_child_dies_with_its_killed_parent_unless_it_is_detached(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-P", "-c", PARENT, str(tmp_path), kind, *SLEEPER]
    with program(command) as parent:
        identity = Identity.of(int(read_line(parent, "the parent has started its child")))
        assert identity is not None
        try:
            # The thread that asked for the child has ended: that alone must not end the child.
            time.sleep(0.2)
            assert identity.is_running()
            parent.kill()
            ended(parent, "the killed parent ends")
            if kind == "attached":
                until(lambda: not identity.is_running())
            else:
                time.sleep(0.3)
                assert identity.is_running()
        finally:
            end_process(identity)
    assert not identity.is_running()
