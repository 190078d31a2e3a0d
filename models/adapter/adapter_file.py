"""The file of an adapter: safetensors with a JSON manifest in its header, and nothing executable.

Each tensor is named after the position of its step, such as ``0.means``. A golden vector and the adapter's output
for it are stored beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from alignstream.models.adapter.steps.kinds import make_step
from alignstream.models.adapter.steps.step import Step
from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.errors import AdapterCorrupt, PackedCorrupt
from alignstream.models.packed import pack, unpack

FORMAT: Final = "alignstream.adapter/1"
#: Larger than any adapter; limits what is fetched and parsed.
MAX_ADAPTER_BYTES: Final = 8 * 1024 * 1024

_GOLDEN_IN: Final = "golden.input"
_GOLDEN_OUT: Final = "golden.output"


class _StepEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    tensors: dict[str, str]
    parameters: dict[str, Any] = {}


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["alignstream.adapter/1"]
    encoder: str
    dim: int
    steps: list[_StepEntry]
    report: dict[str, Any]


class GoldenVector(NamedTuple):
    """A vector of shape (dim,), float32, and the output that the adapter must give for it."""

    given: Vector32
    expected: Vector32


class Parts(NamedTuple):
    """The content of an adapter file; the golden vector is not checked yet."""

    encoder: str
    dim: int
    steps: tuple[Step, ...]
    report: Mapping[str, Any]
    golden: GoldenVector


def to_bytes(parts: Parts) -> bytes:
    """Serialise an adapter; equal adapters give equal bytes."""
    tensors: dict[str, Matrix] = {_GOLDEN_IN: parts.golden.given, _GOLDEN_OUT: parts.golden.expected}
    entries = []
    for position, step in enumerate(parts.steps):
        names = {name: f"{position}.{name}" for name in step.tensors()}
        tensors |= {names[name]: tensor for name, tensor in step.tensors().items()}
        entries.append(_StepEntry(kind=step.kind, tensors=names, parameters=dict(step.parameters())))
    manifest = _Manifest(
        format=FORMAT, encoder=parts.encoder, dim=parts.dim, steps=entries, report=dict(parts.report)
    )
    return pack(msgspec.to_builtins(manifest), tensors)


def from_bytes(blob: bytes) -> Parts:
    """Read an adapter and check everything except its golden vector.

    Raises
    ------
    AdapterCorrupt
        Size, layout, shapes or numbers are wrong, or a tensor is unused.
    """
    try:
        values, tensors = unpack(blob, what="an adapter", max_bytes=MAX_ADAPTER_BYTES)
        manifest = msgspec.convert(values, _Manifest, strict=True)
    except (PackedCorrupt, msgspec.ValidationError) as error:
        raise AdapterCorrupt(f"not an adapter file ({FORMAT}): {str(error)[:200]}") from error
    names = [_GOLDEN_IN, _GOLDEN_OUT, *(key for entry in manifest.steps for key in entry.tensors.values())]
    if missing := [name for name in names if name not in tensors]:
        raise AdapterCorrupt(f"the adapter file lacks tensor {missing[0]!r}")
    if surplus := set(tensors) - set(names):
        raise AdapterCorrupt(f"the adapter file has unused tensors: {sorted(surplus)}")
    golden = GoldenVector(tensors[_GOLDEN_IN], tensors[_GOLDEN_OUT])
    if {vector.shape for vector in golden} != {(manifest.dim,)}:
        raise AdapterCorrupt(f"the golden vector of the adapter does not have dimension {manifest.dim}")
    return Parts(manifest.encoder, manifest.dim, _steps(manifest.steps, tensors), manifest.report, golden)


def _steps(entries: Sequence[_StepEntry], tensors: Mapping[str, Matrix]) -> tuple[Step, ...]:
    return tuple(
        make_step(entry.kind, {name: tensors[key] for name, key in entry.tensors.items()}, entry.parameters)
        for entry in entries
    )


def golden_input(dim: int) -> Vector32:
    """Return the golden input of a dimension: a fixed unit vector of shape (dim,), float32."""
    # Any fixed direction would do; this one touches every coordinate and needs no random generator.
    x = np.cos(np.arange(1, dim + 1, dtype=np.float64) ** 2)
    golden: Vector32 = (x / np.sqrt(x @ x)).astype(np.float32)
    return golden
