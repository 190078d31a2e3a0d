"""Logs: one JSON object a line, or text for people. Never a text, a key or a vector of the stream."""

import datetime as dt
import json
import logging
import sys
from typing import Literal


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
