"""The whole local stack: a broker and a Redis for one block of code, or left running by ``up``.

``Stack`` ends what it started, however its block is left. ``up`` records which processes it leaves running, and
``down`` ends exactly those.
"""

import contextlib
import fcntl
import functools
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from alignstream.models.errors import StackError
from alignstream.models.files import replace_file
from alignstream.ops.local.brokers import Broker, kafka, tansu
from alignstream.ops.local.ports import free_port
from alignstream.ops.local.processes import Identity, end_process
from alignstream.ops.local.redis import RedisServer, redis_server
from alignstream.ops.local.server import Server
from alignstream.ops.local.supervised import (
    LEARNER_COMMAND,
    METRICS_PORT,
    READY_SECONDS,
    STOP_SECONDS,
    WORKER_COMMAND,
    answers_ready,
)
from alignstream.streams.settings import PREFIX, Settings, load

STATE_FILE: Final = "stack.json"
#: Kafka's own default; Tansu needs less.
KAFKA_SESSION_TIMEOUT_SECONDS: Final = 45.0


class Stack:
    """A broker and a Redis on free loopback ports.

    Parameters
    ----------
    folder : Path, optional
        Where data and logs go and stay. Default: a temporary folder, removed at the end.
    kafka_home : Path, optional
        An Apache Kafka distribution to run. Default: Tansu.
    is_detached : bool
        Let the processes outlive this one unless ``stop`` is called.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        kafka_home: Path | None = None,
        is_detached: bool = False,
    ) -> None:
        self._kafka_home = kafka_home
        self._is_detached = is_detached
        self._is_temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="alignstream-"))
        self.metrics_port = free_port()
        self.servers: list[Server] = []

    @functools.cached_property
    def broker(self) -> Broker:
        """The broker; prepared at the first use, and running once the stack was started.

        Raises
        ------
        ProcessError
            Its program is missing.
        """
        folder = self.folder / "broker"
        if self._kafka_home is None:
            return tansu(folder, is_detached=self._is_detached)
        return kafka(self._kafka_home, folder, is_detached=self._is_detached)

    @functools.cached_property
    def redis(self) -> RedisServer:
        """The Redis; prepared at the first use, and running once the stack was started.

        Raises
        ------
        ProcessError
            Its program is missing.
        """
        return redis_server(self.folder / "redis", is_detached=self._is_detached)

    def start(self, on_spawn: Callable[[Server], None] | None = None) -> Self:
        """Start broker and Redis side by side and wait until both are ready; if one fails, end both.

        Parameters
        ----------
        on_spawn : callable, optional
            Called with each server as soon as its process exists.

        Raises
        ------
        ProcessError
            One of them cannot be started; the message ends with its log.
        """
        try:
            for server in (self.broker, self.redis):
                self.add(server, on_spawn)
            self.broker.wait_ready()
            self.redis.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def add(self, server: Server, on_spawn: Callable[[Server], None] | None = None) -> None:
        """Start one more process, which this stack will end before the earlier ones.

        Raises
        ------
        ProcessError
            It cannot be started.
        """
        self.servers.append(server)
        server.spawn()
        if on_spawn is not None:
            on_spawn(server)

    def environment(self) -> dict[str, str]:
        """Return the ``ALIGNSTREAM_*`` variables by which a worker or a client uses this stack."""
        needs = self.broker.settings
        session_seconds = needs.get("session_timeout_seconds", KAFKA_SESSION_TIMEOUT_SECONDS)
        return {
            f"{PREFIX}BROKER": self.broker.address,
            f"{PREFIX}REDIS_URL": self.redis.url,
            f"{PREFIX}IDEMPOTENCE": str(needs.get("idempotence", True)).lower(),
            f"{PREFIX}SESSION_TIMEOUT_SECONDS": f"{session_seconds:g}",
            f"{PREFIX}METRICS_PORT": str(self.metrics_port),
        }

    def stop(self) -> None:
        """End every process, the last started first, and remove the folder if it is temporary."""
        with contextlib.ExitStack() as cleanup:
            if self._is_temporary:
                cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for server in self.servers:  # the exit stack runs backwards, and goes on if one fails
                cleanup.callback(server.stop)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class ProcessRecord(msgspec.Struct, frozen=True):
    """One process that ``up`` left running; ``started`` tells it from a later one with the same pid."""

    name: str
    pid: int
    started: str

    @property
    def identity(self) -> Identity:
        """The process itself."""
        return Identity(self.pid, self.started)


class StackState(msgspec.Struct, frozen=True):
    """What ``up`` left running: processes in the order of their start, and how to reach them."""

    folder: str
    environment: dict[str, str]
    processes: tuple[ProcessRecord, ...]
    is_complete: bool

    def running(self) -> list[ProcessRecord]:
        """Return the processes that are still running."""
        return [process for process in self.processes if process.identity.is_running()]

    def exports(self) -> str:
        """Return the environment as shell commands, one a line."""
        return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in self.environment.items())


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Return the settings by which this process uses a stack, from the stack's environment."""
    values: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items()}
    return load(**values)


def up(
    settings: Settings,
    *,
    prepare: Callable[[Stack], None],
    kafka_home: Path | None = None,
    with_worker: bool = True,
    with_learner: bool = True,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> StackState:
    """Start the local stack and leave it running, with worker and learner under supervision.

    Parameters
    ----------
    settings : Settings
        ``state_dir`` holds the state file and the stack's folder with data and logs.
    prepare : callable
        Called when the stack is up and before the worker starts: creates topics, pushes adapters.
    kafka_home : Path, optional
        An Apache Kafka distribution to run on the data of the last run. Default: Tansu.
    with_worker : bool
        Start a worker, and restart it when it fails.
    with_learner : bool
        Start a learner beside the worker, under the same supervision.
    worker_command : sequence of str
        What to run as worker.

    Raises
    ------
    StackError
        One is running already, or another ``up`` or ``down`` is at work.
    ProcessError
        Something did not start; everything started before it was ended.
    """
    with _locked(settings.state_dir):
        state = read_state(settings.state_dir)
        if state is not None and state.running():
            names = ", ".join(f"{process.name} (pid {process.pid})" for process in state.running())
            raise StackError(f"a local stack is running: {names}; 'alignstream down' ends it")
        path = settings.state_dir / STATE_FILE
        stack = Stack(settings.state_dir / "stack", kafka_home=kafka_home, is_detached=True)

        def write(*, is_complete: bool) -> StackState:
            records = []
            for server in stack.servers:
                identity = Identity.of(server.pid)
                if identity is not None:
                    records.append(ProcessRecord(server.name, identity.pid, identity.started))
            state = StackState(str(stack.folder), stack.environment(), tuple(records), is_complete)
            replace_file(path, msgspec.json.format(msgspec.json.encode(state)))
            return state

        # Written after each start, so that 'down' knows what to end even if this process is killed half-way.
        def note(_: Server) -> None:
            write(is_complete=False)

        try:
            stack.start(note)
            prepare(stack)
            supervisors = (
                _supervisors(stack, worker_command, with_learner=with_learner) if with_worker else []
            )
            for supervisor in supervisors:
                stack.add(supervisor, note)
            for supervisor in supervisors:
                supervisor.wait_ready()
            state = write(is_complete=True)
        except BaseException:
            stack.stop()
            path.unlink(missing_ok=True)
            raise
        for server in stack.servers:
            server.release()
        return state


def _supervisors(stack: Stack, worker_command: Sequence[str], *, with_learner: bool) -> list[Server]:
    supervisors = [_supervisor(stack, "worker", worker_command, stack.metrics_port)]
    if with_learner:
        supervisors.append(_supervisor(stack, "learner", LEARNER_COMMAND, free_port()))
    return supervisors


def _supervisor(stack: Stack, name: str, command: Sequence[str], metrics_port: int) -> Server:
    module = "alignstream.ops.local.supervised"
    folder = stack.folder / name
    return Server(
        f"{name}-supervisor",
        [sys.executable, "-P", "-m", module, str(folder), *command],
        folder=folder,
        is_ready=lambda _: answers_ready(metrics_port),
        ready_seconds=READY_SECONDS,
        stop_seconds=STOP_SECONDS + 10.0,  # it waits for the process that it supervises
        environment={**os.environ, **stack.environment(), METRICS_PORT: str(metrics_port)},
        is_detached=True,
    )


def down(settings: Settings) -> list[ProcessRecord]:
    """End the stack that ``up`` left running, and nothing else. Return the processes that were ended.

    Raises
    ------
    StackError
        The state file cannot be read, or another ``up`` or ``down`` is at work.
    ProcessError
        A process cannot be ended; the state file stays.
    """
    with _locked(settings.state_dir):
        state = read_state(settings.state_dir)
        if state is None:
            return []
        ended = [
            process
            for process in reversed(state.processes)
            if end_process(process.identity, grace_seconds=STOP_SECONDS + 10.0)
        ]
        (settings.state_dir / STATE_FILE).unlink(missing_ok=True)
        return ended


def read_state(state_dir: Path) -> StackState | None:
    """Return the record of the last ``up``; None if nothing was left running.

    Raises
    ------
    StackError
        The file exists and cannot be read.
    """
    path = state_dir / STATE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=StackState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(
            f"cannot read {path} ({error}): end the processes of the local stack yourself, then remove the file"
        ) from error


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "stack.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError("another 'alignstream up' or 'down' is at work: wait for it to end") from None
        yield
