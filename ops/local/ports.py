"""Loopback ports for the servers of the local stack."""

import secrets
import socket
from pathlib import Path
from typing import Final

from alignstream.models.errors import ProcessError

LOOPBACK: Final = "127.0.0.1"
#: Services that really run on a machine have their usual ports below this.
LOWEST_PORT: Final = 15_000

_used_ports: set[int] = set()


def free_port() -> int:
    """Return a loopback TCP port that is free and that this process has not returned before.

    It lies below the range from which the kernel takes ports for outgoing connections. Such a connection could take
    the port while a server is down, and a client could even connect to itself on it.

    Raises
    ------
    ProcessError
        No free port was found.
    """
    try:
        outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        highest = int(outgoing.split()[0])
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
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # the port of a closed server counts as free
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def is_port_open(port: int) -> bool:
    """Say whether a server listens on a loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False
