"""Processes that need not be our children: told apart from later ones with the same pid, and ended by it."""

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Final, Self

from alignstream.models.errors import ProcessError

POLL_SECONDS: Final = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A process, and no later one that gets the same pid: the pid and when it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the process that has this pid now; None if there is none, or only a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        state, *rest = stat[stat.rindex(")") + 2 :].split()
        if state in "ZX":
            return None
        # Ticks since boot, and which boot: setting the clock changes neither, unlike a wall-clock time.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid, f"{boot}/{rest[18]}")

    def is_running(self) -> bool:
        """Say whether this very process is still running."""
        return Identity.of(self.pid) == self


def end_process(identity: Identity, *, grace_seconds: float = 30.0) -> bool:
    """End a process: SIGTERM, a bounded wait, SIGKILL. It need not be our child.

    Returns
    -------
    bool
        False if it had ended before; another process with its pid is left alone.

    Raises
    ------
    ProcessError
        It still runs ten seconds after SIGKILL, or belongs to another user.
    """
    if not identity.is_running():
        return False
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        try:
            os.kill(identity.pid, number)
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
    raise ProcessError(f"process {identity.pid} is still running, even after SIGKILL")
