"""Child processes: started, awaited, ended, never left behind; and supervision."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from alignstream.models.errors import ProcessError
from alignstream.ops.local import supervised as worker_module
from alignstream.ops.local.processes import (
    Identity,
    Server,
    end_process,
    free_port,
    is_port_free,
    is_port_open,
    wheel_file,
)
from alignstream.ops.local.supervised import Supervised, environment_of, start_worker
from alignstream.streams.settings import Settings, load

SLEEPER = (sys.executable, "-S", "-c", "import time; print('ready', flush=True); time.sleep(600)")
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
DEAF = (*SLEEPER[:-1], IGNORE + SLEEPER[-1])
#: Serves /readyz as a worker does.
WEB = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print(os.environ["ALIGNSTREAM_GROUP"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["ALIGNSTREAM_METRICS_PORT"])), Handler).serve_forever()
"""


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def server(folder: Path, command: tuple[str, ...] = SLEEPER, stop_seconds: float = 10.0) -> Server:
    return Server(
        "child",
        command,
        folder=folder,
        is_ready=lambda it: "ready" in it.log(),
        stop_seconds=stop_seconds,
    )


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
        with pytest.raises(ProcessError, match="runs already"):
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
from alignstream.ops.local.processes import Server
def start():
    child = Server("child", sys.argv[3:], folder=Path(sys.argv[1]), is_ready=lambda it: "ready" in it.log(),
                   is_detached=sys.argv[2] == "detached").start()
    print(child.pid, flush=True)
    globals()["child"] = child
thread = threading.Thread(target=start); thread.start(); thread.join()
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["attached", "detached"])
def test_a_child_dies_with_its_killed_parent_unless_it_is_detached(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-P", "-c", PARENT, str(tmp_path), kind, *SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        identity = Identity.of(int(parent.stdout.readline()))
        assert identity is not None
        try:
            # The thread that asked for the child has ended: that alone must not end the child.
            time.sleep(0.2)
            assert identity.is_running()
            parent.kill()
            parent.wait()
            if kind == "attached":
                until(lambda: not identity.is_running())
            else:
                time.sleep(0.3)
                assert identity.is_running()
        finally:
            end_process(identity)
    assert not identity.is_running()


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


def test_free_ports_differ_are_free_and_lie_below_those_of_outgoing_connections() -> None:
    ports = [free_port() for _ in range(20)]
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == len(ports)
    assert all(is_port_free(port) and not is_port_open(port) for port in ports)
    assert lowest < 16_000 or all(port < lowest for port in ports)


def test_a_missing_wheel_says_what_to_install() -> None:
    with pytest.raises(ProcessError, match=r"pip install 'alignstream\[embedded\]'"):
        wheel_file("no-such-distribution", "bin/x")
    with pytest.raises(ProcessError, match="holds no bin/x"):
        wheel_file("alignstream", "bin/x")


def test_a_worker_is_ready_when_readyz_says_so_and_has_its_settings(tmp_path: Path) -> None:
    command = (sys.executable, "-P", "-c", WEB)
    settings = {"ALIGNSTREAM_GROUP": "g1", "ALIGNSTREAM_METRICS_PORT": "0"}
    with start_worker(settings, tmp_path, name="worker-1", command=command) as one:
        with start_worker(settings, tmp_path, name="worker-2", command=command) as two:
            assert one.metrics_port != two.metrics_port
            assert worker_module.answers_ready(two.metrics_port)
        assert not worker_module.answers_ready(two.metrics_port)
        assert one.log().splitlines()[0] == "g1"


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-S", "-c", "raise SystemExit('error: no broker at 127.0.0.1:1')")
    with pytest.raises(ProcessError, match=r"no broker at 127\.0\.0\.1:1"):
        start_worker({}, tmp_path, command=command)


def test_settings_survive_the_way_through_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ALIGNSTREAM_")]:
        monkeypatch.delenv(name)
    settings = Settings(
        broker="127.0.0.1:1,127.0.0.1:2",
        idempotence=False,
        session_timeout_seconds=6,
        tenants=("a", "b"),
        redis_password="secret",  # noqa: S106 (a test's)
        label_set=None,
        state_dir=tmp_path,
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load() == settings


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
    assert "ended with code 7: starting it again in 0.2 s" in said
    assert "again in 0.4 s" in said


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
        [sys.executable, "-P", "-m", worker_module.__name__, str(tmp_path), sys.executable, "-P", "-c", WEB],
        folder=tmp_path,
        is_ready=lambda _: worker_module.answers_ready(port),
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
