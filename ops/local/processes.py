"""Child processes of the local stack: started with a log file, awaited until ready, ended by pid.

A child runs in a session of its own, so that Ctrl-C in a terminal reaches only its parent, which then
ends it in order. Unless it is detached the kernel kills it when its parent dies, however that happens.
Imports nothing of ours but the errors. Linux only.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Self

from alignstream.models.errors import ProcessError

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.05
TAIL_BYTES = 4096
#: Below it live the services that a machine may really run on their usual ports.
LOWEST_PORT = 15_000

# Runs between fork and exec of a child, in a process of its own: the same as a ``preexec_fn``, without
# its deadlocks in programs with threads. 1 is PR_SET_PDEATHSIG; the parent may have died before the call.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, 9):
    sys.exit("prctl(PR_SET_PDEATHSIG) failed: " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died first")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would hand that on
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit("cannot run " + sys.argv[2] + ": " + error.strerror)
"""

# "Parent" means the *thread* that started the child (prctl(2)): a child started from a thread that ends
# would be killed with it. This thread lives as long as the process.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="alignstream-launcher")

_used_ports: set[int] = set()


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """One process and no later one that happens to get its number: pid, and when it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return who has this pid now; None when nobody has, or only a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        state, *rest = stat[stat.rindex(")") + 2 :].split()
        if state in "ZX":
            return None
        # Ticks since boot, and which boot: unlike a wall-clock time they never change when a clock is set.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid, f"{boot}/{rest[18]}")

    def is_running(self) -> bool:
        """Say whether this very process still runs."""
        return Identity.of(self.pid) == self


def end_process(identity: Identity, *, grace_seconds: float = 30.0) -> bool:
    """End a process that need not be a child: SIGTERM, a bounded wait, SIGKILL.

    Returns
    -------
    bool
        False when that process was gone already; another one with its pid is left alone.

    Raises
    ------
    ProcessError
        It outlived even SIGKILL by ten seconds, or belongs to another user.
    """
    if not identity.is_running():
        return False
    for last, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        try:
            os.kill(identity.pid, last)
            os.kill(identity.pid, signal.SIGCONT)  # a frozen process takes no SIGTERM
        except ProcessLookupError:
            return True
        except PermissionError as error:
            raise ProcessError(f"process {identity.pid} belongs to another user: end it yourself") from error
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not identity.is_running():
                return True
            time.sleep(POLL_SECONDS)
    raise ProcessError(f"process {identity.pid} does not end, not even by SIGKILL")


def free_port() -> int:
    """Return a loopback TCP port that nobody uses and that this process has not returned before.

    It lies below the range from which the kernel takes the ports of outgoing connections: one of those
    could hold the port while a server is down, and a client could even connect to itself on it.

    Raises
    ------
    ProcessError
        No free port was found.
    """
    try:
        local = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        highest = int(local.split()[0])
    except OSError:
        highest = 32_768
    if highest < LOWEST_PORT + 1000:
        highest = 65_536
    for _ in range(200):
        port = LOWEST_PORT + secrets.randbelow(highest - LOWEST_PORT)
        if port not in _used_ports and is_port_free(port):
            _used_ports.add(port)
            return port
    raise ProcessError(f"no free port on {LOOPBACK} between {LOWEST_PORT} and {highest}")


def is_port_free(port: int) -> bool:
    """Say whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed server's port is free
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def is_port_open(port: int) -> bool:
    """Say whether somebody listens on a loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False


def wheel_file(distribution: str, path: str) -> Path:
    """Return an executable file of an installed distribution, without importing its package.

    Raises
    ------
    ProcessError
        The distribution or the file is missing, or the file cannot be made executable.
    """
    try:
        file = Path(str(importlib.metadata.distribution(distribution).locate_file(path)))
    except importlib.metadata.PackageNotFoundError as error:
        raise ProcessError(f"{distribution} is not installed: pip install 'alignstream[embedded]'") from error
    if not file.is_file():
        raise ProcessError(f"{distribution} holds no {path}: is there a wheel of it for this platform?")
    if not os.access(file, os.X_OK):
        try:
            file.chmod(file.stat().st_mode | 0o111)
        except OSError as error:
            raise ProcessError(f"{file} is not executable: chmod +x it") from error
    return file


class Server:
    """One program of the local stack, run as a child process, again after a stop if asked.

    Parameters
    ----------
    name : str
        What messages and the log file (``<folder>/<name>.log``, appended to) call it.
    command : sequence of str
        Program and arguments.
    folder : Path
        Where the log goes; made when missing.
    is_ready : callable
        Asked every 50 ms after a start, from the thread that waits, until it says True.
    ports : sequence of int
        The loopback ports that it will listen on. A start is refused while one is taken: the other program's
        answers would pass for this one's.
    ready_seconds, stop_seconds : float
        How long to wait after a start, and between SIGTERM and SIGKILL.
    environment : mapping, optional
        The child's whole environment; None for a copy of this process's.
    is_detached : bool
        Let it outlive this process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        is_ready: Callable[["Server"], bool],
        ports: Sequence[int] = (),
        ready_seconds: float = 30.0,
        stop_seconds: float = 10.0,
        environment: Mapping[str, str] | None = None,
        is_detached: bool = False,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self._is_ready = is_ready
        self._ports = tuple(ports)
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._environment = environment
        self._is_detached = is_detached
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    @property
    def pid(self) -> int:
        """The process id of the last start.

        Raises
        ------
        ProcessError
            It was never started.
        """
        if self._process is None:
            raise ProcessError(f"{self.name} was not started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last start, negative for a signal; None while it runs or before a start."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether the process runs; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return what the last start has written so far."""
        with contextlib.suppress(FileNotFoundError), self.log_path.open("rb") as file:
            file.seek(self._log_start_bytes)
            return file.read().decode("utf-8", errors="replace")
        return ""

    def log_tail(self) -> str:
        """Return the end of what the last start has written."""
        return self.log()[-TAIL_BYTES:].strip()

    def spawn(self) -> Self:
        """Start the process and return without waiting for it to be ready.

        Raises
        ------
        ProcessError
            It runs already, one of its ports is taken, or the system cannot start it.
        """
        if self.is_running:
            raise ProcessError(f"{self.name} runs already (pid {self.pid})")
        for port in self._ports:
            if not is_port_free(port):
                raise ProcessError(f"cannot start {self.name}: port {port} is taken by another program")
        launched = _LAUNCHER.submit(self._launch)
        try:
            launched.result()
        except OSError as error:
            raise ProcessError(f"cannot start {self.name} ({self.command[0]}): {error.strerror}") from error
        except BaseException:  # Ctrl-C: know the child before passing it on, or nobody would end it
            wait([launched])
            raise
        return self

    def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = list(self.command)
        if not self._is_detached:
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        with self.log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,
            )

    def wait_ready(self, seconds: float | None = None) -> Self:
        """Wait until the started process is ready; at once an error when it ends instead.

        Raises
        ------
        ProcessError
            It ended, or was not ready in time (``ready_seconds`` where none is given). It is left as it is.
        """
        seconds = self._ready_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while True:
            # Asked in this order: another process may answer on the port that a dead child wanted.
            is_ready = self.check_ready()
            if not self.is_running:
                raise ProcessError(self._describe(f"ended with code {self.exit_code} instead of starting"))
            if is_ready:
                return self
            if time.monotonic() > deadline:
                raise ProcessError(self._describe(f"was not ready within {seconds:g} s"))
            time.sleep(POLL_SECONDS)

    def check_ready(self) -> bool:
        """Ask once whether the server is ready."""
        return self._is_ready(self)

    def _describe(self, problem: str) -> str:
        return f"{self.name} {problem}; {self.log_path} says:\n{self.log_tail() or '(nothing)'}"

    def start(self) -> Self:
        """Start the process and wait until it is ready; where that fails, it is killed.

        Raises
        ------
        ProcessError
            It could not be started, ended, or was not ready in time.
        """
        self.spawn()
        try:
            return self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self, grace_seconds: float | None = None) -> int | None:
        """End the process: SIGTERM, a bounded wait, SIGKILL. Return its exit code; None if never started."""
        if self._process is None:
            return None
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a frozen process takes no SIGTERM
        try:
            return self._process.wait(self._stop_seconds if grace_seconds is None else grace_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """End the process by SIGKILL, as a crash would. Return its exit code; None if never started."""
        self._signal(signal.SIGKILL)
        return None if self._process is None else self._process.wait(10.0)

    def freeze(self) -> None:
        """Stop the process in its tracks (SIGSTOP): its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def restart(self) -> Self:
        """Start again with the same command, ports and folder; a running process is stopped first.

        Raises
        ------
        ProcessError
            It could not be started, ended, or was not ready in time.
        """
        self.stop()
        return self.start()

    def release(self) -> None:
        """Leave a detached process to itself; this object no longer knows it."""
        if self._process is not None:
            self._process.returncode = 0  # nobody waits for it here: no warning that it still runs
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        # The whole group: a server may have forked. While it is unreaped its group cannot be another's.
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        if not self.is_running:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
