"""Logs: one object a line whatever is in a message, and no library that writes payloads."""

import json
import logging
from collections.abc import Iterator

import pytest

from alignstream.streams.observe import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    names = ("", "faust.topics", "faust.agents.agent", "aiokafka", "faust", "mode")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_record_is_one_json_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    logging.getLogger("alignstream.x").info('a "b"\n{"level": "CRITICAL"} %s', "é")
    (line,) = capsys.readouterr().err.splitlines()
    body = json.loads(line)
    assert (body["level"], body["logger"]) == ("INFO", "alignstream.x")
    assert body["message"] == 'a "b"\n{"level": "CRITICAL"} é'
    assert body["time"].endswith("+00:00")


def test_an_exception_travels_inside_its_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    try:
        int("why")
    except ValueError:
        logging.getLogger("alignstream.x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logging.getLogger("alignstream.x").warning("careful")
    assert capsys.readouterr().err.rstrip().endswith("WARNING alignstream.x: careful")


def test_a_level_below_the_setting_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING", "json")
    logging.getLogger("alignstream.x").info("quiet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
def test_the_loggers_that_write_payloads_stay_silent_at_every_level(
    level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level, "json")
    for name in ("faust.topics", "faust.agents.agent"):
        logging.getLogger(name).warning("payload: s3cret")
    for name in ("aiokafka.producer.producer", "faust.transport", "mode"):
        logging.getLogger(name).debug("payload: s3cret")
    assert capsys.readouterr().err == ""


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    logs.configure("INFO", "json")
    logging.getLogger("alignstream.x").info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1
