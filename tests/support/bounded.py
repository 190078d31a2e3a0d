"""Waits that end: each has a time, and says what it waited for."""

import contextlib
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

POLL_SECONDS = 0.05
#: For what takes a moment on a machine that has nothing else to do.
SECONDS = 30.0


def wait_until(
    condition: Callable[[], object],
    what: str,
    seconds: float = SECONDS,
    *,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Ask until it holds; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(poll_seconds)


@contextlib.contextmanager
def program(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program and yield it; it is killed at the end of the block if it still runs."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str], what: str, seconds: float = 60.0) -> str:
    """Return the first line that a program prints; fail if it prints none, or ends before."""
    assert process.stdout is not None
    has_come, _, _ = select.select([process.stdout], [], [], seconds)
    assert has_come, f"not within {seconds:g} s: {what}"
    line = process.stdout.readline()
    assert line, f"the program ended with {process.wait(10)} instead: {what}"
    return line


def ended(process: subprocess.Popen[str], what: str, seconds: float = SECONDS) -> int:
    """Return the exit code of a program that is about to end."""
    wait_until(lambda: process.poll() is not None, what, seconds)
    assert process.returncode is not None
    return process.returncode


def join(threads: Iterable[threading.Thread], what: str, seconds: float = SECONDS) -> None:
    """Wait for threads that are about to end."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), f"not within {seconds:g} s: {what}"
