"""An aligned vector as the typed client gives it."""

import base64

import numpy as np
import pytest

from alignstream.models.errors import RecordError
from alignstream.ops.client.record import Record
from alignstream.ops.client.results import aligned_vector
from alignstream.streams.wire.topics import Headers

VECTOR = np.array([0.1, -0.2, 0.97], dtype=np.float32)
ENCODED = base64.b64encode(VECTOR.astype("<f4").tobytes()).decode()


def record(value: bytes | None, *, key: bytes | None = None, headers: Headers = ()) -> Record:
    return Record("documents.v1", 2, 17, 1_700_000_000_123, key, value, headers)


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
