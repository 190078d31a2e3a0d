"""The vectors of a ``vectors.aligned.v1`` record as arrays."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from alignstream.models.arrays import Vector32
from alignstream.models.errors import RecordError
from alignstream.streams.wire.codec import read_float16


def decode_vector(record_json: Mapping[str, Any]) -> Vector32:
    """Return the vector of a decoded record.

    Returns
    -------
    ndarray of shape (dim,), float32

    Raises
    ------
    RecordError
        The encoding is unknown, or the number of values is not ``dim``.
    """
    return vector_array(record_json.get("vector"), str(record_json.get("encoding")), record_json.get("dim"))


def vector_array(vector: object, encoding: str, dim: object) -> Vector32:
    """Return the array of a record's ``vector``, ``encoding`` and ``dim``; see ``decode_vector``."""
    try:
        if encoding == "base64-f32le" and isinstance(vector, str):
            array = np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4").astype(np.float32)
        elif encoding == "json" and isinstance(vector, list):
            array = np.asarray(vector, dtype=np.float32)
        else:
            raise RecordError(f"a vector in encoding {encoding!r} cannot be decoded")
    except (binascii.Error, ValueError, TypeError) as error:
        raise RecordError(f"a vector is not what its encoding {encoding!r} says: {error}") from error
    if array.shape != (dim,):
        raise RecordError(f"a vector holds {array.size} values, but its record says dim={dim}")
    return array


def raw_vector_array(raw_vector: object, dim: object) -> Vector32 | None:
    """Return the vector before any adapter, from a record's ``raw_vector`` and ``dim``.

    Returns
    -------
    ndarray of shape (dim,), float32, or None
        A unit vector, exact to float16; None if the record has none (``ALIGNSTREAM_RAW_VECTOR`` was off).

    Raises
    ------
    RecordError
        It is damaged.
    """
    if raw_vector is None or raw_vector is msgspec.UNSET:
        return None
    if not isinstance(raw_vector, str) or not isinstance(dim, int):
        raise RecordError("a raw vector must be base64 text, and dim a number")
    try:
        return read_float16(raw_vector, dim)
    except ValueError as error:
        raise RecordError(f"a raw vector is damaged: {error}") from error
