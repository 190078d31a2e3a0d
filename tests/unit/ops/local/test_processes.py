"""Processes are told from later ones with the same pid, and ended by it."""

import signal
from pathlib import Path

from child_servers import DEAF, server

from alignstream.ops.local.processes import Identity, end_process


def test_a_process_is_ended_by_pid_and_start_and_never_a_later_one_with_its_pid(tmp_path: Path) -> None:
    with server(tmp_path) as child:
        identity = Identity.of(child.pid)
        assert identity is not None
        earlier = Identity(child.pid, identity.started.rpartition("/")[0] + "/1")
        assert not earlier.is_running()
        assert not end_process(earlier)
        assert child.is_running
        assert end_process(identity)
        assert not identity.is_running()
        assert not end_process(identity)


def test_a_process_that_ignores_its_end_is_killed(tmp_path: Path) -> None:
    with server(tmp_path, DEAF) as child:
        identity = Identity.of(child.pid)
        assert identity is not None
        child.freeze()
        assert end_process(identity, grace_seconds=0.2)
        assert child.exit_code == -signal.SIGKILL


def test_nobody_has_no_identity() -> None:
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert Identity.of(pid_max + 1) is None
