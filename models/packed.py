"""Arrays and JSON values in one block of bytes: safetensors with one metadata key, and nothing executable."""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from alignstream.models.errors import PackedCorrupt

_KEY: Final = "alignstream"


def pack(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Pack JSON values and arrays into bytes; equal contents give equal bytes.

    Examples
    --------
    >>> blob = pack({"n": 1}, {"x": np.array([0.5, 2.0])})
    >>> unpack(blob, what="an example", max_bytes=1000)
    ({'n': 1}, {'x': array([0.5, 2. ])})
    """
    # Only one metadata key: the library writes several in no fixed order.
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    blob: bytes = safetensors.numpy.save(ordered, metadata={_KEY: text})
    return blob


def unpack(blob: bytes, *, what: str, max_bytes: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Unpack what ``pack`` wrote.

    Parameters
    ----------
    blob : bytes
    what : str
        What the block should be, for error messages: ``"an adapter"``.
    max_bytes : int
        Larger blocks are refused without parsing.

    Raises
    ------
    PackedCorrupt
        The block is too large, or has another layout.
    """
    if len(blob) > max_bytes:
        raise PackedCorrupt(f"{what} has {len(blob)} bytes, more than the limit of {max_bytes}")
    try:
        arrays = safetensors.numpy.load(blob)
        # The library reads metadata from files only, so parse the fixed header here: u64 length, then JSON.
        size = int.from_bytes(blob[:8], "little")
        values = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"][_KEY])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackedCorrupt(f"not {what}: {str(error)[:200]}") from error
    if not isinstance(values, dict):
        raise PackedCorrupt(f"not {what}: its values are not a JSON object")
    return values, arrays
