"""A producer beside the way of documents: what it cannot deliver is dropped and counted, and no document waits for it.

It has a thread and a client of its own (kafka-python): a topic that cannot be written, or only slowly, holds up neither
the service's event loop nor its deliveries nor its commits.
"""

import concurrent.futures
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from alignstream.streams.observe.sensors import Drop
from alignstream.streams.wire.topics import Headers

logger = logging.getLogger(__name__)

#: Bytes of values that wait or are in flight: some 12,000 texts as vectors of 384 dimensions.
MAX_BYTES: Final = 16 * 1024 * 1024
#: Seconds between log lines about what is dropped: the counter has the rest.
LOG_SECONDS: Final = 60.0


class Client(Protocol):
    """What is needed of ``kafka.KafkaProducer``."""

    def send(self, topic: str, *, value: bytes, headers: list[tuple[str, bytes | None]]) -> Any:  # noqa: ANN401 (untyped library)
        """Start a delivery; return a future with ``add_callback`` and ``add_errback``."""

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all deliveries have ended."""

    def close(self, timeout: float | None = None) -> None:
        """Close the connections."""


class SideProducer:
    """Publishes to one topic from a thread of its own.

    Parameters
    ----------
    open_client : callable
        Opens a client. Called in the thread, and again for the next value if it fails.
    topic : str
        Name on the broker.
    headers : Headers
        Of every record.
    on_drop : callable
        Called, from any thread, with why a value was dropped.
    max_bytes : int
        Bytes of values that may wait or be in flight; further ones that are offered are dropped.

    Notes
    -----
    Nothing raises to the caller, whatever the client raises.
    """

    def __init__(
        self,
        open_client: Callable[[], Client],
        topic: str,
        headers: Headers,
        *,
        on_drop: Callable[[Drop], object],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._open_client = open_client
        self._topic = topic
        self._headers = list(headers)
        self._on_drop = on_drop
        self._max_bytes = max_bytes
        self._values: queue.SimpleQueue[tuple[bytes, concurrent.futures.Future[bool]] | None] = (
            queue.SimpleQueue()
        )
        self._lock = threading.Lock()
        self._held_bytes = 0
        self._logged_at = -LOG_SECONDS
        self._thread = threading.Thread(target=self._run, name="side-producer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, values: Sequence[bytes]) -> None:
        """Publish values if they can be published; never wait."""
        for value in values:
            with self._lock:
                is_full = self._held_bytes + len(value) > self._max_bytes
            if is_full:
                self._dropped("full", f"{self._max_bytes} bytes wait for it already")
            else:
                self._put(value)

    def deliver(self, values: Sequence[bytes]) -> list[concurrent.futures.Future[bool]]:
        """Publish values, and return for each a future of whether the broker has confirmed it.

        What is waited for needs no bound: whoever waits sends nothing more.
        """
        return [self._put(value) for value in values]

    def close(self, seconds: float) -> None:
        """Deliver what waits, for at most so many seconds, and end the thread."""
        self._values.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def held_bytes(self) -> int:
        """Bytes of values that wait or are in flight."""
        return self._held_bytes

    # -- the thread ------------------------------------------------------------------------------------

    def _put(self, value: bytes) -> concurrent.futures.Future[bool]:
        confirmed: concurrent.futures.Future[bool] = concurrent.futures.Future()
        # Whoever stops waiting cancels what it waits for; a result set after that would raise, and end the thread.
        confirmed.set_running_or_notify_cancel()
        with self._lock:
            self._held_bytes += len(value)
        self._values.put((value, confirmed))
        return confirmed

    def _run(self) -> None:
        client: Client | None = None
        while (entry := self._values.get()) is not None:
            value, confirmed = entry
            try:
                if client is None:
                    client = self._open_client()
                sent = client.send(self._topic, value=value, headers=self._headers)
                sent.add_callback(functools.partial(self._confirmed, value, confirmed))
                sent.add_errback(functools.partial(self._failed, value, confirmed))
            except Exception as error:  # noqa: BLE001 (whatever it is, no document may wait for it)
                self._failed(value, confirmed, error)
        if client is not None:
            client.flush()
            client.close(timeout=0)

    def _confirmed(self, value: bytes, confirmed: concurrent.futures.Future[bool], _: object = None) -> None:
        self._release(value)
        confirmed.set_result(True)

    def _failed(self, value: bytes, confirmed: concurrent.futures.Future[bool], error: BaseException) -> None:
        self._release(value)
        confirmed.set_result(False)
        self._dropped("failed", f"{type(error).__name__}: {error}")

    def _release(self, value: bytes) -> None:
        with self._lock:
            self._held_bytes -= len(value)

    def _dropped(self, why: Drop, detail: str) -> None:
        self._on_drop(why)
        now = time.monotonic()
        with self._lock:
            is_due = now - self._logged_at >= LOG_SECONDS
            if is_due:
                self._logged_at = now
        if is_due:
            logger.error("records for %s are dropped (%s); documents go on without it", self._topic, detail)
