"""Logs: one JSON object per line, or plain text. They never contain a text, a key or a vector from the stream."""

import collections
import contextlib
import datetime as dt
import json
import logging
import sys
from collections.abc import Iterator
from typing import Final, Literal

#: Messages kept: enough for all attempts to make one connection.
MAX_OVERHEARD: Final = 50


class JsonFormatter(logging.Formatter):
    """A formatter that writes one JSON object per line: time, level, logger, message and any exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as JSON; a line break in a message cannot forge a log line."""
        body = {
            "time": dt.datetime.fromtimestamp(record.created, tz=dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body, ensure_ascii=False)


def configure(level: str, format: Literal["json", "text"]) -> None:  # noqa: A002 (as the setting is named)
    """Set up logging for the process, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Faust puts payloads into warnings about failed sends and into debug messages of topics and agents.
    for name in ("faust.topics", "faust.agents.agent"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("aiokafka", "faust", "mode"):
        if logging.getLogger(name).level < logging.WARNING:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class LogCapture(logging.Handler):
    """A handler that keeps a library's warnings and errors, with the type of exception that each reports."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        #: The latest messages and their exception types. The exceptions themselves may hold sockets.
        self.said: collections.deque[tuple[str, type[BaseException]]] = collections.deque(
            maxlen=MAX_OVERHEARD
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        kind = next((type(error) for error in arguments if isinstance(error, BaseException)), Exception)
        self.said.append((" ".join(record.getMessage().split()), kind))

    def about(self, *kinds: type[BaseException], naming: str = "\n") -> str | None:
        """Return the latest message that reports one of these exceptions or contains ``naming``, or None."""
        messages = [message for message, kind in self.said if issubclass(kind, kinds) or naming in message]
        return messages[-1] if messages else None


@contextlib.contextmanager
def captured_log(name: str) -> Iterator[LogCapture]:
    """Listen to a library's logger: some libraries say only there why they could not connect."""
    handler = LogCapture()
    logging.getLogger(name).addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger(name).removeHandler(handler)
