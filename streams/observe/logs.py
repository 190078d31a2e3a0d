"""Logs: one JSON object a line, or text for people. Never a text, a key or a vector of the stream."""

import collections
import contextlib
import datetime as dt
import json
import logging
import sys
from collections.abc import Iterator
from typing import Final, Literal

#: Enough for the attempts of one connection.
MAX_OVERHEARD: Final = 50


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON; line breaks in messages cannot forge another line."""
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
    """Set up logging of the process, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Faust writes payloads into warnings of failed sends and into debug messages of topics and agents.
    for name in ("faust.topics", "faust.agents.agent"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("aiokafka", "faust", "mode"):
        if logging.getLogger(name).level < logging.WARNING:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class Overheard(logging.Handler):
    """Keeps what a library logged as warnings and errors, and the kind of exception that each was about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        #: Message and kind, the last ones; not the exceptions themselves, on which sockets may hang.
        self.said: collections.deque[tuple[str, type[BaseException]]] = collections.deque(
            maxlen=MAX_OVERHEARD
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a record."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        kind = next((type(item) for item in arguments if isinstance(item, BaseException)), Exception)
        self.said.append((" ".join(record.getMessage().split()), kind))

    def about(self, *kinds: type[BaseException], naming: str = "\n") -> str | None:
        """Return the last message that was about one of these exceptions, or names a word; or None."""
        messages = [message for message, kind in self.said if issubclass(kind, kinds) or naming in message]
        return messages[-1] if messages else None


@contextlib.contextmanager
def overheard(name: str) -> Iterator[Overheard]:
    """Listen to a library's logger meanwhile: some say only there why they could not connect."""
    handler = Overheard()
    logging.getLogger(name).addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger(name).removeHandler(handler)
