"""Records as tools show and name them."""

import base64

import numpy as np

from alignstream.ops.client.record import Record, as_json, record_ids
from alignstream.ops.client.vector_fields import decode_vector
from alignstream.streams.wire.topics import Headers

VECTOR = np.array([0.1, -0.2, 0.97], dtype=np.float32)
ENCODED = base64.b64encode(VECTOR.astype("<f4").tobytes()).decode()


def record(value: bytes | None, *, key: bytes | None = None, headers: Headers = ()) -> Record:
    return Record("documents.v1", 2, 17, 1_700_000_000_123, key, value, headers)


def test_json_shows_the_shortest_digits_that_name_the_same_vector() -> None:
    value = f'{{"id": "a", "vector": "{ENCODED}", "encoding": "base64-f32le", "dim": 3}}'.encode()
    shown = as_json(record(value))["value"]
    assert shown["vector"] == [0.1, -0.2, 0.97]
    np.testing.assert_array_equal(decode_vector(shown), VECTOR)


def test_json_shows_every_kind_of_value() -> None:
    assert as_json(record(None, key=b"k"))["tombstone"] is True
    assert as_json(record(b"null"))["value"] is None
    assert as_json(record(b"plain"))["value_text"] == "plain"
    assert as_json(record(b"\xff"))["value_base64"] == "/w=="
    shown = as_json(record(b"{}", headers=(("h", b"x"), ("none", None))))
    assert shown["headers"] == {"h": "x", "none": None}
    assert shown["timestamp"] == "2023-11-14T22:13:20.123Z"


def test_a_record_is_found_by_its_id_its_place_or_its_key() -> None:
    assert record_ids(record(b'{"id": "a"}')) == {"a", "documents.v1-2-17"}
    assert record_ids(record(b"not json")) == {"documents.v1-2-17"}
    assert record_ids(record(None, key=b"a")) == {"a", "documents.v1-2-17"}


def test_a_dead_letter_is_found_by_the_place_of_the_record_that_it_was() -> None:
    headers = tuple(
        (f"alignstream.error.{name}", value)
        for name, value in (("topic", b"in"), ("partition", b"1"), ("offset", b"5"))
    )
    assert record_ids(record(b"\xff", headers=headers)) == {"in-1-5"}
