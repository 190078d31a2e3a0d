"""A worker or a learner as a child process, and the supervision that restarts it when it fails.

Run as a module (``python -m alignstream.ops.local.supervised FOLDER``) it is the small process that ``alignstream up``
leaves running to supervise one of them.
"""

import http.client
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignstream.ops.local.ports import LOOPBACK, free_port
from alignstream.ops.local.processes import POLL_SECONDS
from alignstream.ops.local.server import Server
from alignstream.streams.settings import PREFIX

#: -P keeps the working directory off the import path.
_COMMAND = (sys.executable, "-P", "-c", "from alignstream.ops.cli import main; main()")
WORKER_COMMAND = (*_COMMAND, "worker")
LEARNER_COMMAND = (*_COMMAND, "learner")
#: Loading the encoder takes seconds, and the very first start assembles it.
READY_SECONDS = 180.0
#: A worker finishes the batch in hand, waits for its deliveries and commits.
STOP_SECONDS = 40.0
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
METRICS_PORT = f"{PREFIX}METRICS_PORT"


class Worker(Server):
    """A worker or a learner; ``metrics_port`` serves ``/livez``, ``/readyz`` and ``/metrics``."""

    def __init__(self, name: str, metrics_port: int, command: Sequence[str], **options: Any) -> None:  # noqa: ANN401 (of Server)
        super().__init__(name, command, **options)
        self.metrics_port = metrics_port


def worker(
    environment: Mapping[str, str],
    folder: Path,
    *,
    name: str = "worker",
    command: Sequence[str] = WORKER_COMMAND,
    ready_seconds: float = READY_SECONDS,
) -> Worker:
    """Prepare a worker or a learner, not yet started; it is ready when ``/readyz`` says so.

    Parameters
    ----------
    environment : mapping of str
        Settings, on top of this process's environment. ``ALIGNSTREAM_METRICS_PORT`` is a free port if it is missing
        or 0.
    folder : Path
        Where its log goes, as ``<name>.log``.
    name : str
        One for each process in a folder.
    command : sequence of str
        What to run; another program that serves ``/readyz`` on that port will do.
    ready_seconds : float
        How long it may take.
    """
    port = int(environment.get(METRICS_PORT, "0")) or free_port()
    return Worker(
        name,
        port,
        command,
        folder=folder,
        ports=[port],
        is_ready=lambda _: answers_ready(port),
        ready_seconds=ready_seconds,
        stop_seconds=STOP_SECONDS,
        # Unbuffered, because an error message shows the end of the log.
        environment={**os.environ, **environment, METRICS_PORT: str(port), "PYTHONUNBUFFERED": "1"},
    )


def answers_ready(port: int) -> bool:
    """Say whether ``/readyz`` on a loopback port answers 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)  # urllib would go through a proxy
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def supervise(server: Server, *, attempts: int) -> bool:
    """Keep a server running: restart it when it fails, after longer and longer delays while it keeps failing.

    The first delay is 0.2 s and doubles up to 10 s; after a run longer than that it is 0.2 s again. A server that ends
    with code 0 is done and is not restarted. Whatever ends supervision also ends the server.

    Parameters
    ----------
    server : Server
        Not yet started.
    attempts : int
        Give up after this many failures if the server was never ready: a wrong setting does not mend itself.

    Returns
    -------
    bool
        True if the server is done, False if it was given up.
    """
    was_ready = False
    n_failures = 0
    delay_seconds = FIRST_DELAY_SECONDS
    try:
        while True:
            started = time.monotonic()
            server.spawn()
            while (code := server.exit_code) is None:
                time.sleep(POLL_SECONDS)
                was_ready = was_ready or server.check_ready()
            if code == 0:
                return True
            n_failures += 1
            if not was_ready and n_failures == attempts:
                _say(f"{server.name} failed {attempts} times, the last with code {code}; its log:")
                _say(server.log_tail())
                return False
            if time.monotonic() - started > LONGEST_DELAY_SECONDS:
                delay_seconds = FIRST_DELAY_SECONDS
            _say(f"{server.name} ended with code {code}; restarting it in {delay_seconds:g} s")
            time.sleep(delay_seconds)
            delay_seconds = min(2 * delay_seconds, LONGEST_DELAY_SECONDS)
    finally:
        server.stop()


def _say(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {message}\n")
    sys.stderr.flush()


def _leave(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # once is enough: let the worker end in order
    raise SystemExit(0)


def main(folder: str, *command: str) -> int:
    """Supervise one worker or learner until SIGTERM or SIGINT; return 1 if it never became ready.

    Its log goes into the folder, and it is named after the folder.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    path = Path(folder)
    server = worker(os.environ, path, name=path.name, command=command or WORKER_COMMAND)
    return 0 if supervise(server, attempts=3) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
