import json
from collections.abc import Iterable
from typing import Any

import pytest

from alignstream.ops.client.document_lines import LineReader, RejectedLine, detect_format
from alignstream.ops.client.producer import DOCUMENT_HEADERS


def read(reader: LineReader, lines: Iterable[bytes]) -> tuple[list[Any], list[RejectedLine]]:
    rejected: list[RejectedLine] = []
    return list(reader.read(lines, rejected.append)), rejected


def test_json_lines_pass_byte_for_byte() -> None:
    line = b'{ "text" : "\\u00e9",  "metadata": {"n": 1.50}, "text": "last" }'
    (record,), rejected = read(LineReader("jsonl"), [line + b"\r\n"])
    assert record == (None, line, ())
    assert not rejected


def test_a_line_that_has_every_field_is_left_alone() -> None:
    line = b'{"language":  "de", "text": "x"}'
    (record,), _ = read(LineReader("jsonl", {"language": "en"}), [line])
    assert record[1] == line


def test_missing_fields_are_filled_in_and_given_values_keep_their_bytes() -> None:
    line = b'{"text": "x", "metadata": {"n": 1.50}}'
    (record,), _ = read(LineReader("jsonl", {"language": "en", "tenant": "a"}), [line])
    assert json.loads(record[1]) == {"text": "x", "metadata": {"n": 1.5}, "language": "en", "tenant": "a"}
    assert b'{"n": 1.50}' in record[1]


@pytest.mark.parametrize("own", [{"labels": ["a"]}, {"label_set": "own"}])
def test_a_line_with_labels_of_its_own_keeps_them(own: dict[str, Any]) -> None:
    line = json.dumps({"text": "x", **own}).encode()
    (record,), _ = read(LineReader("jsonl", {"label_set": "news"}), [line])
    assert json.loads(record[1]) == {"text": "x", **own}


def test_what_is_not_json_is_rejected_with_its_line_and_the_rest_goes_on() -> None:
    lines = [b'{"text": "a"}', b"", b"not json", b'{"text": "\xff"}', b"[" * 100_000, b"[1, 2]"]
    records, rejected = read(LineReader("jsonl"), lines)
    assert [record[1] for record in records] == [b'{"text": "a"}', b"[1, 2]"]
    assert [item.line for item in rejected] == [3, 4, 5]


def test_raw_sends_every_line_unseen() -> None:
    records, rejected = read(LineReader("jsonl", is_raw=True), [b"not json", b"\xff"])
    assert [record[1] for record in records] == [b"not json", b"\xff"]
    assert not rejected


def test_the_key_is_taken_from_a_field_as_text_or_as_json() -> None:
    lines = [b'{"user": "anna"}', b'{"user": 7}', b"{}"]
    records, rejected = read(LineReader("jsonl", key_field="user"), lines)
    assert [record[0] for record in records] == [b"anna", b"7"]
    assert rejected == [RejectedLine(3, "there is no field 'user' to take the key from")]


def test_plain_text_becomes_a_document_a_line() -> None:
    lines = ['\ufeffGrüße \\ "x"\n'.encode(), b"\n", b"\xff\n"]
    records, rejected = read(LineReader("text", {"language": "de"}, key=b"k"), lines)
    assert [(key, json.loads(value), headers) for key, value, headers in records] == [
        (b"k", {"text": 'Grüße \\ "x"', "language": "de"}, DOCUMENT_HEADERS)
    ]
    assert rejected == [RejectedLine(3, "not UTF-8")]


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("a.jsonl", b"anything", "jsonl"),
        ("a.txt", b'{"text": "x"}', "text"),
        ("-", b'{"text": "x"}', "jsonl"),
        ("-", b"12", "text"),
        ("-", b"Guten Tag", "text"),
        ("-", b"", "text"),
        ("-", b"\xff", "text"),
    ],
)
def test_the_format_is_told_by_the_ending_or_the_first_line(name: str, first: bytes, expected: str) -> None:
    assert detect_format(name, first) == expected
