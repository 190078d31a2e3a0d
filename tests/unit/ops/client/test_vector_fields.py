"""Vectors come out of a record as they were put in, or not at all."""

import base64

import numpy as np
import pytest

from alignstream.models.errors import RecordError
from alignstream.ops.client.vector_fields import decode_vector, raw_vector_array

VECTOR = np.array([0.1, -0.2, 0.97], dtype=np.float32)
ENCODED = base64.b64encode(VECTOR.astype("<f4").tobytes()).decode()


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
