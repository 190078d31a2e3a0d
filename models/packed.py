"""Arrays and JSON values in one block of bytes: safetensors with one key of metadata. Nothing in it runs."""

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
    """Write JSON values and arrays; equal contents give equal bytes."""
    # One metadata key only: the library writes several in no fixed order.
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    blob: bytes = safetensors.numpy.save(ordered, metadata={_KEY: text})
    return blob


def unpack(blob: bytes, *, what: str, max_bytes: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what ``pack`` wrote.

    Parameters
    ----------
    blob : bytes
    what : str
        What it should be, for the message.
    max_bytes : int
        Larger ones are refused unread.

    Raises
    ------
    PackedCorrupt
        It is too large, or not of this layout.
    """
    if len(blob) > max_bytes:
        raise PackedCorrupt(f"{what} of {len(blob)} bytes is larger than the limit of {max_bytes}")
    try:
        arrays = safetensors.numpy.load(blob)
        # The library gives metadata of files only; the header's layout is fixed: u64 length, then JSON.
        size = int.from_bytes(blob[:8], "little")
        values = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"][_KEY])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackedCorrupt(f"not {what}: {str(error)[:200]}") from error
    if not isinstance(values, dict):
        raise PackedCorrupt(f"not {what}: its values are no object")
    return values, arrays
