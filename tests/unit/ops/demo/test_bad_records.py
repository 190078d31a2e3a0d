"""The bad records of the demonstration are bad in the way that they declare."""

import base64
import json
from importlib import resources
from typing import Any

import msgspec
import pytest

from alignstream.models.labels import label_set as labels
from alignstream.streams.wire import records, topics

#: Made at run time, decided by the worker's own settings, or not caused by a value.
NOT_IN_BAD_RECORDS = {
    "learner-unreachable",
    "too-large",
    "tenant-not-allowed",
    "inference-failed",
    "output-too-large",
}


def load(room: str, name: str) -> dict[str, Any]:
    content = resources.files(f"alignstream.ops.{room}").joinpath(name).read_text(encoding="utf-8")
    decoded: dict[str, Any] = json.loads(content)
    return decoded


BAD_RECORDS: list[dict[str, Any]] = load("demo", "bad-records.json")["records"]


def named(name: str) -> dict[str, Any]:
    return next(record for record in BAD_RECORDS if record["name"] == name)


def value(record: dict[str, Any]) -> bytes:
    return base64.b64decode(record["value_base64"], validate=True)


def nesting(x: object) -> int:
    depth = 0
    while isinstance(x, list):
        depth, x = depth + 1, x[0] if x else None
    return depth


def test_every_bad_record_has_a_value_and_a_known_reason() -> None:
    for record in BAD_RECORDS:
        assert value(record), record["name"]  # an empty value would be read as a tombstone by some clients
        assert record["reason"] in topics.REASONS
        said = set(record["why"].lower().split())
        assert len(said - set(record["name"].split("-"))) >= 3, "it says more than its name"


def test_the_bad_records_have_names_of_their_own() -> None:
    assert len({record["name"] for record in BAD_RECORDS}) == len(BAD_RECORDS)


def test_the_bad_records_cover_every_reason_that_a_value_alone_can_cause() -> None:
    reasons = {record["reason"] for record in BAD_RECORDS}
    assert reasons == set(topics.REASONS) - NOT_IN_BAD_RECORDS


def test_a_bad_record_is_readable_up_to_the_point_of_its_reason() -> None:
    for record in BAD_RECORDS:
        reason, content = record["reason"], value(record)
        if reason == "bad-utf8":
            with pytest.raises(UnicodeDecodeError):
                content.decode()
        elif reason == "bad-json":
            with pytest.raises(msgspec.DecodeError):
                msgspec.json.decode(content)
        elif reason == "bad-schema":
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(content, type=records.DocumentV1)
        else:
            assert msgspec.json.decode(content, type=records.DocumentV1).id, record["name"]


def test_a_bad_record_is_bad_in_the_way_that_its_reason_says() -> None:
    decoder = msgspec.json.Decoder(records.DocumentV1)
    assert named("schema-of-the-future")["headers"] == {topics.HEADER_SCHEMA: "documents/9"}
    assert nesting(json.loads(value(named("nested-too-deep")))["metadata"]) == 200
    assert not decoder.decode(value(named("text-empty"))).text
    assert decoder.decode(value(named("text-blank"))).text.isspace()
    assert len(decoder.decode(value(named("too-many-labels"))).labels or ()) == labels.MAX_LABELS + 1
    assert decoder.decode(value(named("label-set-unknown"))).label_set
    align = decoder.decode(value(named("adapter-unknown"))).align
    assert align is not None
    assert align.adapter
