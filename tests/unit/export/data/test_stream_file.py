"""Streams of people's own: read in the order of their lines, refused by their line."""

from pathlib import Path
from typing import Any

import pytest
from toy_streams import write_records

from alignstream.export.data.stream_file import read_stream
from alignstream.models.errors import TextError

GOOD = [
    {"text": "one", "language": "en", "group": 1, "id": "x"},
    {"text": "eins", "language": "de", "group": "1"},
    {"text": "zwei", "language": "de"},
]


def test_a_stream_is_read_in_the_order_of_its_lines(tmp_path: Path) -> None:
    found = read_stream(
        write_records(tmp_path / "s.jsonl", [*GOOD, "", {"text": "drei", "segment": "later"}])
    )
    assert [item.text for item in found] == ["one", "eins", "zwei", "drei"]
    assert [item.group for item in found] == ["1", "1", None, None]
    assert [item.segment for item in found] == ["stream", "stream", "stream", "later"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "line 4: not JSON"),
        ([], "line 4: an object with a string 'text' is needed"),
        ({"text": " "}, "line 4: an object with a string 'text' is needed"),
        ({"text": "\ud800"}, "line 4: the text holds a lone surrogate"),
        ({"text": "a", "language": "<de>"}, "line 4: '<de>' is not a language tag"),
        ({"text": "a", "language": 7}, "line 4: 'language' is not a text"),
        ({"text": "a", "group": " "}, "line 4: 'group' is not a text, or blank"),
        ({"text": "a", "group": True}, "line 4: 'group' is not a text"),
    ],
)
def test_a_malformed_stream_is_refused_with_its_line(record: Any, message: str, tmp_path: Path) -> None:
    path = write_records(tmp_path / "s.jsonl", [*GOOD, record])
    with pytest.raises(TextError, match=message) as refused:
        read_stream(path)
    assert str(refused.value).startswith(str(path))


def test_a_segment_stands_together_and_something_has_a_translation(tmp_path: Path) -> None:
    apart = [GOOD[0] | {"segment": "a"}, GOOD[1] | {"segment": "b"}]
    with pytest.raises(TextError, match="no text has a translation in its segment"):
        read_stream(write_records(tmp_path / "s.jsonl", apart))
    with pytest.raises(TextError, match="line 3: segment 'a' appears again"):
        read_stream(write_records(tmp_path / "s.jsonl", [*apart, GOOD[0] | {"segment": "a"}]))
