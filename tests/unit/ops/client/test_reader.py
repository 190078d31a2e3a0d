import base64

import numpy as np
import pytest

from alignstream.models.errors import RecordError
from alignstream.ops.client.client import aligned_vector
from alignstream.ops.client.reader import Record, as_json, decode_vector, raw_vector_array, record_ids
from alignstream.streams.wire.topics import Headers

VECTOR = np.array([0.1, -0.2, 0.97], dtype=np.float32)
ENCODED = base64.b64encode(VECTOR.astype("<f4").tobytes()).decode()


def record(value: bytes | None, *, key: bytes | None = None, headers: Headers = ()) -> Record:
    return Record("documents.v1", 2, 17, 1_700_000_000_123, key, value, headers)


@pytest.mark.parametrize(
    "fields",
    [
        {"vector": ENCODED, "encoding": "base64-f32le", "dim": 3},
        {"vector": VECTOR.tolist(), "encoding": "json", "dim": 3},
    ],
)
def test_a_vector_is_decoded_to_the_very_same_floats(fields: dict[str, object]) -> None:
    decoded = decode_vector(fields)
    assert decoded.dtype == np.float32
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, VECTOR)


@pytest.mark.parametrize(
    "fields",
    [
        {"vector": ENCODED, "encoding": "base64-f32le", "dim": 4},
        {"vector": ENCODED[:-4], "encoding": "base64-f32le", "dim": 3},
        {"vector": "*", "encoding": "base64-f32le", "dim": 3},
        {"vector": ENCODED, "encoding": "json", "dim": 3},
        {"vector": [0.1, "x", 0.2], "encoding": "json", "dim": 3},
        {"vector": ENCODED, "encoding": "float8", "dim": 3},
        {},
    ],
)
def test_a_vector_that_is_not_what_it_says_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        decode_vector(fields)


def test_a_raw_vector_is_given_as_an_array_or_not_at_all() -> None:
    x = VECTOR / np.linalg.norm(VECTOR)
    half = base64.b64encode(x.astype("<f2").tobytes()).decode()
    raw = raw_vector_array(half, 3)
    assert raw is not None
    np.testing.assert_allclose(raw, x, atol=1e-3)
    assert raw_vector_array(None, 3) is None
    for damaged, dim in ((half, 4), (half, "3"), ("*", 3), (7, 3), ("", 3)):
        with pytest.raises(RecordError, match="raw vector"):
            raw_vector_array(damaged, dim)


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


def test_a_vector_record_gives_its_fields_and_its_metadata() -> None:
    value = (
        f'{{"id": "a", "tenant": "t", "vector": "{ENCODED}", "encoding": "base64-f32le", "dim": 3, "encoder": "e",'
        '"adapter": "default", "adapter_version": "1", "space": "s", "tokens": 5, "tokens_dropped": 0,'
        '"truncated": false, "metadata": {"n": [1]}, "from_a_later_version": 1}'
    ).encode()
    vector = aligned_vector(record(value))
    assert (vector.id, vector.tenant, vector.language, vector.space) == ("a", "t", None, "s")
    assert vector.metadata == {"n": [1]}
    np.testing.assert_array_equal(vector.array, VECTOR)
    assert vector.raw_array is None
    half = base64.b64encode(np.array([0, -1, 0], dtype="<f2").tobytes()).decode()
    with_raw = aligned_vector(record(value[:-1] + f',"raw_vector":"{half}"}}'.encode()))
    assert with_raw.raw_array is not None
    np.testing.assert_array_equal(with_raw.raw_array, np.array([0, -1, 0], dtype=np.float32))
    with pytest.raises(RecordError, match=r"documents\.v1 2 17"):
        aligned_vector(record(b'{"id": "a"}'))
