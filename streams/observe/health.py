"""``/livez``, ``/readyz`` and ``/metrics`` on their own thread: they answer even if the event loop is blocked."""

import http.server
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from alignstream.models.errors import AlignstreamError
from alignstream.streams.observe.sensors import Metrics

logger = logging.getLogger(__name__)

#: Seconds without a turn of the event loop after which the process counts as dead.
MAX_LOOP_AGE_SECONDS: Final = 15.0
#: What a worker needs before it is ready, and the initial problem of each.
WORKER_CONDITIONS: Final[Mapping[str, str]] = {
    "encoder": "loading",
    "adapter": "loading",
    "broker": "not connected",
}


class Health:
    """The state behind the probes. The service writes it; the server's threads read it.

    Parameters
    ----------
    conditions : mapping of str to str
        Conditions for being ready, and the initial problem of each.
    """

    def __init__(self, conditions: Mapping[str, str] = WORKER_CONDITIONS) -> None:
        self._conditions: dict[str, str | None] = dict(conditions)
        self._lock = threading.Lock()
        self._loop_turned_at: float | None = None
        self.stalled: str | None = None

    def set(self, condition: str, problem: str | None) -> None:
        """Set the problem that keeps a condition from being met; None: it is met."""
        with self._lock:
            self._conditions[condition] = problem

    def loop_turned(self) -> None:
        """Record that the event loop is running."""
        self._loop_turned_at = time.monotonic()

    def problems(self) -> dict[str, str]:
        """Return the conditions that are not met, and the problem of each."""
        with self._lock:
            return {name: problem for name, problem in self._conditions.items() if problem is not None}

    @property
    def is_ready(self) -> bool:
        """Whether all conditions are met."""
        return not self.problems()

    def death(self) -> str | None:
        """Return why the process should be restarted, or None."""
        if self.stalled is not None:
            return self.stalled
        turned_at = self._loop_turned_at
        if turned_at is not None and time.monotonic() - turned_at > MAX_LOOP_AGE_SECONDS:
            return f"the event loop has been blocked for {time.monotonic() - turned_at:.0f} s"
        return None


class HealthServer:
    """An HTTP server for the probes and metrics; it runs until closed.

    Parameters
    ----------
    host, port
        Address to listen on; port 0 takes a free one (see ``port``).
    health, metrics
        What to serve.
    before_scrape : callable
        Called before each scrape, to refresh gauges.

    Raises
    ------
    AlignstreamError
        The address is in use, or does not belong to this machine.
    """

    def __init__(
        self, host: str, port: int, *, health: Health, metrics: Metrics, before_scrape: Callable[[], None]
    ) -> None:
        handler = _handler(health, metrics, before_scrape)
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise AlignstreamError(
                f"cannot listen on {host}:{port} for metrics ({error.strerror}); "
                "set ALIGNSTREAM_METRICS_PORT to a free port (0 takes any)"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a failed request, usually from a client that disconnected early."""
        del request
        logger.debug("request from %s failed", client_address)


def _handler(
    health: Health, metrics: Metrics, before_scrape: Callable[[], None]
) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        #: Seconds. A client that sends nothing must not hold a thread forever.
        timeout = 5.0

        def do_GET(self) -> None:
            if self.path == "/livez":
                death = health.death()
                self._answer(503 if death else 200, {"alive": death is None, "reason": death})
            elif self.path == "/readyz":
                self._answer(
                    200 if health.is_ready else 503, {"ready": health.is_ready, "waiting": health.problems()}
                )
            elif self.path == "/metrics":
                before_scrape()
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
            else:
                self._answer(404, {"paths": ["/livez", "/readyz", "/metrics"]})

        def _answer(self, status: int, body: dict[str, object]) -> None:
            self._send(status, "application/json", json.dumps(body).encode() + b"\n")

        def _send(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the parent's signature)
            logger.debug(format, *args)

    return Handler
