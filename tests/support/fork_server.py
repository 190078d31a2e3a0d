"""Runs commands of ``alignstream`` in forks of a process that has imported what takes time.

A command spends a second on imports, and tests run hundreds of them. Each still is a process of its own, with its own
environment, folder, output and exit code. Run as a script, this module is the server; ``ForkServer`` starts it.
"""

import array
import contextlib
import importlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

#: Only what reads no environment and starts no thread when it is imported.
IMPORTED = (
    "numpy", "kafka", "kafka.admin", "msgspec", "pydantic", "pydantic_settings", "redis", "rich.console", "rich.table",
    "typer", "onnx", "safetensors.numpy", "tokenizers", "alignstream.streams.settings",
    "alignstream.models.registry.redis_store", "alignstream.models.adapter.shipped",
    "alignstream.ops.client.producer", "alignstream.ops.client.reader",
)  # fmt: skip
READY_SECONDS = 60.0


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class ForkServer:
    """The server as a child of the tests; it ends with them. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "commands.sock"
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One thread: what others do is not in a fork.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        has_come, _, _ = select.select([self._process.stdout], [], [], READY_SECONDS)
        assert has_come, f"the server of commands was not ready within {READY_SECONDS:g} s"
        assert self._process.stdout.readline() == b"ready\n", "the server of commands did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def run(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], stdin: bytes = b"", timeout: float
    ) -> Done:
        """Run ``alignstream`` with some arguments in this folder, and wait for its end."""
        with contextlib.ExitStack() as stack:
            given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin)
            given.seek(0)
            files = [file.fileno() for file in (given, out, err)]
            code = ask(self._path, arguments, environment=environment, files=files, timeout=timeout)
            return Done(code, _whole(out), _whole(err))

    def write_command(self, folder: Path) -> Path:
        """Write a program ``alignstream`` that has its commands run here; return it."""
        command = folder / "alignstream"
        words = [sys.executable, "-I", "-S", __file__, str(self._path)]
        command.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$0" "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        return command


def ask(
    path: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    files: Sequence[int],
    timeout: float | None = None,
) -> int:
    """Have a command run with these files as input, output and errors; return its exit code."""
    message = json.dumps(
        {"arguments": list(arguments), "environment": dict(environment), "folder": str(Path.cwd())}
    ).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(timeout)
        connection.sendall(len(message).to_bytes(4, "big"))
        connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        connection.sendall(message)
        pid = int.from_bytes(_read(connection, 4), "big")
        try:
            return int.from_bytes(_read(connection, 4), "big", signed=True)
        except BaseException:  # too late, or Ctrl-C
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        assert part, "the server of commands is gone"
        found += part
    return found


# -- in the server --------------------------------------------------------------------------------------------


def _next_command(listening: socket.socket) -> dict[str, Any] | None:
    """Return a command to run, in a fork of its own; None in the server itself, when the tests are over."""
    while True:
        asked, _, _ = select.select([listening, sys.stdin], [], [])
        if listening not in asked:
            return None
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return _forked(connection)
        connection.close()


def _forked(connection: socket.socket) -> dict[str, Any]:
    """Return a command in the process that is to run it; its parent, a fork too, tells how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size = int.from_bytes(_read(connection, 4), "big")
    _, control, _, _ = connection.recvmsg(1, socket.CMSG_LEN(3 * array.array("i").itemsize))
    files = array.array("i")
    files.frombytes(control[0][2])
    command: dict[str, Any] = json.loads(_read(connection, size))
    pid = os.fork()
    if pid:
        connection.sendall(pid.to_bytes(4, "big"))
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # nobody waits any more
            connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
        os._exit(0)
    connection.close()
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    return command


def serve(path: str) -> int:
    """Serve commands until standard input ends; in a fork, return the exit code of its command."""
    for name in IMPORTED:
        importlib.import_module(name)
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    assert n_threads == 1, f"{n_threads} threads: a fork would have one of them"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks need no waiting for
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        command = _next_command(listening)
    if command is None:
        return 0
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    sys.argv = ["alignstream", *command["arguments"]]
    # Here, not above: its consoles look at the environment and at the output.
    from alignstream.ops.cli import main  # noqa: PLC0415

    main()
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        code = ask(Path(sys.argv[1]), sys.argv[3:], environment=os.environ, files=(0, 1, 2))
        sys.exit(code if code >= 0 else 128 - code)
    sys.exit(serve(sys.argv[1]))
