import datetime as dt

import pytest

from alignstream.models.errors import SelectionError
from alignstream.ops.client.dead_letters import DeadLetter, DeadLetterSelection, parse_moment
from alignstream.ops.client.record import Record
from alignstream.streams.wire.topics import Headers

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def letter(reason: str, moment: dt.datetime, extra: Headers = ()) -> DeadLetter:
    headers: Headers = (
        ("alignstream.error.reason", reason.encode()),
        ("alignstream.error.message", "größer".encode()),
        ("alignstream.error.topic", b"documents.v1"),
        ("alignstream.error.partition", b"1"),
        ("alignstream.error.offset", b"5"),
        *extra,
    )
    return DeadLetter.of(Record("dead", 0, 3, int(moment.timestamp() * 1000), b"k", b"\xff", headers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - dt.timedelta(seconds=90)),
        ("2h", NOW - dt.timedelta(hours=2)),
        ("1.5d", NOW - dt.timedelta(hours=36)),
        ("2026-05-01T08:00:00Z", NOW - dt.timedelta(hours=4)),
        ("2026-05-01T10:00:00+02:00", NOW - dt.timedelta(hours=4)),
    ],
)
def test_a_moment_is_a_time_with_its_zone_or_so_long_ago(text: str, expected: dt.datetime) -> None:
    assert parse_moment(text, now=NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "2 hours", "2026-05-01T08:00:00", "-2h", ""])
def test_a_moment_that_is_unclear_is_refused(text: str) -> None:
    with pytest.raises(SelectionError):
        parse_moment(text, now=NOW)


def test_a_selection_holds_reasons_and_a_half_open_span_of_time() -> None:
    selection = DeadLetterSelection(frozenset({"bad-utf8"}), since=NOW, until=NOW + dt.timedelta(hours=1))
    assert selection.holds(letter("bad-utf8", NOW))
    assert not selection.holds(letter("bad-json", NOW))
    assert not selection.holds(letter("bad-utf8", NOW - dt.timedelta(seconds=1)))
    assert not selection.holds(letter("bad-utf8", NOW + dt.timedelta(hours=1)))


def test_an_unknown_reason_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SelectionError, match="bad-utf8"):
        DeadLetterSelection(frozenset({"bad-utf-8"}))


def test_a_dead_letter_reads_its_headers() -> None:
    found = letter("bad-utf8", NOW)
    assert (found.reason, found.message) == ("bad-utf8", "größer")
    assert (found.topic, found.partition, found.offset) == ("documents.v1", 1, 5)
    assert not found.is_replaced
    assert found.as_json()["error"]["reason"] == "bad-utf8"
    assert letter("too-large", NOW, (("alignstream.error.value-replaced", b"true"),)).is_replaced


def test_a_record_without_our_headers_is_a_dead_letter_of_unknown_reason() -> None:
    found = DeadLetter.of(Record("dead", 0, 0, 0, None, b"", ()))
    assert (found.reason, found.topic, found.partition) == ("unknown", None, None)
