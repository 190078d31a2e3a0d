"""One server of the local stack as a child process: started with a log file, awaited until ready, ended by pid.

A child runs in its own session, so that Ctrl-C in a terminal reaches only the parent, which then ends its children in
order. Unless a child is detached, the kernel kills it when its parent dies, however that happens. Linux only.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final, Self

from alignstream.models.errors import ProcessError
from alignstream.ops.local.ports import is_port_free
from alignstream.ops.local.processes import POLL_SECONDS

#: Of the log, in an error message.
TAIL_BYTES: Final = 4096

# Runs in the child between fork and exec, as a program of its own: a ``preexec_fn`` can deadlock in programs with
# threads. 1 is PR_SET_PDEATHSIG; the parent may have died before the call.
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

# "Parent" means the *thread* that started the child (prctl(2)): when a thread ends, the children that it started are
# killed. This thread lives as long as the process.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="alignstream-launcher")


class Server:
    """One program of the local stack, run as a child process; it can be started again after a stop.

    Parameters
    ----------
    name : str
        Its name in messages and of its log file, ``<folder>/<name>.log``, which is appended to.
    command : sequence of str
        Program and arguments.
    folder : Path
        Where the log goes; created if missing.
    is_ready : callable
        Called every 50 ms after a start, from the waiting thread, until it returns True.
    ports : sequence of int
        The loopback ports that it will listen on. It is not started while one is taken, because the other program's
        answers would pass for its own.
    ready_seconds, stop_seconds : float
        How long to wait after a start, and between SIGTERM and SIGKILL.
    environment : mapping, optional
        The child's whole environment; None copies this process's.
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
        """Whether the process is running; a frozen one counts."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return what was logged since the last start."""
        with contextlib.suppress(FileNotFoundError), self.log_path.open("rb") as file:
            file.seek(self._log_start_bytes)
            return file.read().decode("utf-8", errors="replace")
        return ""

    def log_tail(self) -> str:
        """Return the end of what was logged since the last start."""
        return self.log()[-TAIL_BYTES:].strip()

    def spawn(self) -> Self:
        """Start the process and return without waiting for it to be ready.

        Raises
        ------
        ProcessError
            It is running already, one of its ports is taken, or the system cannot start it.
        """
        if self.is_running:
            raise ProcessError(f"{self.name} is running already (pid {self.pid})")
        for port in self._ports:
            if not is_port_free(port):
                raise ProcessError(f"cannot start {self.name}: port {port} is taken by another program")
        launched = _LAUNCHER.submit(self._launch)
        try:
            launched.result()
        except OSError as error:
            raise ProcessError(f"cannot start {self.name} ({self.command[0]}): {error.strerror}") from error
        except BaseException:  # Ctrl-C: learn the child's pid before raising, or nobody would end it
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
        """Wait until the started process is ready; raise at once if it ends instead.

        Raises
        ------
        ProcessError
            It ended, or was not ready in time (default: ``ready_seconds``). It is left as it is.
        """
        seconds = self._ready_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while True:
            # In this order, because another process may answer on the port that a dead child wanted.
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
        """Start the process and wait until it is ready; kill it if that fails.

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
        """Stop the process in its tracks (SIGSTOP): its connections stay open, and nothing answers."""
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
        """Let a detached process run on its own; this object forgets it."""
        if self._process is not None:
            self._process.returncode = 0  # else Popen would warn that nobody waited for it
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        # The whole group, as a server may have forked. Until we reap it, no other group can have this number.
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        if not self.is_running:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
