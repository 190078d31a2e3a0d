"""Small programs that stand in for servers, and a wait for what they do."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from bounded import wait_until

from alignstream.ops.local.server import Server

#: Says that it is ready, and does nothing.
SLEEPER = (sys.executable, "-S", "-c", "import time; print('ready', flush=True); time.sleep(600)")
_IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
#: Ignores SIGTERM.
DEAF = (*SLEEPER[:-1], _IGNORE + SLEEPER[-1])
#: Serves /readyz as a worker does, and prints its group.
WEB = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print(os.environ["ALIGNSTREAM_GROUP"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["ALIGNSTREAM_METRICS_PORT"])), Handler).serve_forever()
"""


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds; fail with its source if it does not in time."""
    what = inspect.getsource(condition).strip()
    wait_until(condition, what, seconds, poll_seconds=0.02)


def server(folder: Path, command: tuple[str, ...] = SLEEPER, stop_seconds: float = 10.0) -> Server:
    """Return a server that is ready when its log says so."""
    return Server(
        "child",
        command,
        folder=folder,
        is_ready=lambda it: "ready" in it.log(),
        stop_seconds=stop_seconds,
    )
