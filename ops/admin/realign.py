"""Move a stored vector to another space: a value of ``vectors.aligned.v1`` in, a value or a refusal out.

Pure: the target space is passed in (``Destination``); files and topics are the caller's. The output is what the
pipeline would write under the new adapter if the encoder returned the vector in ``raw_vector``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec
import numpy as np

from alignstream.models.adapter.adapter import Adapter, space
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Vector32
from alignstream.models.encoder.artifact import decode_vector
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.streams.wire import codec
from alignstream.streams.wire.records import VectorAlignedV1

RefusalReason = Literal[
    "bad-json",
    "not-a-vector",
    "damaged-vector",
    "other-encoder",
    "overridden",
    "no-raw-vector",
]

#: Fields that describe the old adapter, or a moment of the stream under it. They would be wrong beside the new vector.
DROPPED_FIELDS: Final = ("explain", "query_vector", "hubness", "epoch")


@dataclasses.dataclass(frozen=True, slots=True)
class VectorSpace:
    """What a record says about the space of its vector."""

    adapter: str
    adapter_version: str
    space: str
    #: Version of the tenant's own map, applied after the adapter; None: there is none.
    tenant_map: str | None = None


class Destination(Protocol):
    """The space that vectors move to. Called once per record, in order, from one thread; must not fail.

    Only ``space_of`` names the space, and only ``align`` computes the vector in it. Steps after the adapter (the map
    of the record's tenant) belong in both.
    """

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder whose vectors are accepted."""

    @property
    def dim(self) -> int:
        """Embedding dimension."""

    def space_of(self, record: VectorAlignedV1) -> VectorSpace:
        """Return the space that this record's vector moves to."""

    def align(self, x: Vector32, record: VectorAlignedV1) -> Vector32:
        """Map a unit vector of the encoder, shape (dim,), float32, to a unit vector of the space; keep x as it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class AdapterSpace:
    """The space of one adapter version and the tenants' own maps, for messages without overrides.

    Parameters
    ----------
    name : str
        Name of the adapter in records.
    adapter : Adapter
        Applied to every vector.
    tenant_maps : mapping of str to TenantMap
        Map applied after the adapter, by tenant. As in a worker, maps for other adapter versions are skipped.
    """

    name: str
    adapter: Adapter
    tenant_maps: Mapping[str, TenantMap] = dataclasses.field(default_factory=dict)

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder whose vectors are accepted."""
        return self.adapter.encoder

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return self.adapter.dim

    def _map(self, record: VectorAlignedV1) -> TenantMap | None:
        tenant_map = self.tenant_maps.get(record.tenant)
        return (
            tenant_map
            if tenant_map is not None and tenant_map.adapter_version == self.adapter.version
            else None
        )

    def space_of(self, record: VectorAlignedV1) -> VectorSpace:
        """Return the space that this record's vector moves to; it is the same for all records of a tenant."""
        version, own_map = self.adapter.version, self._map(record)
        tenant_map = None if own_map is None else own_map.version
        name = space(self.adapter.encoder, version, tenant_map=tenant_map)
        return VectorSpace(self.name, version, name, tenant_map)

    def align(self, x: Vector32, record: VectorAlignedV1) -> Vector32:
        """Align with the context that the worker had: the record's language tag."""
        language = record.language if isinstance(record.language, str) else None
        y, own_map = self.adapter.transform_one(x, Context(language=language)), self._map(record)
        return y if own_map is None else own_map.moved(y, language)


@dataclasses.dataclass(frozen=True, slots=True)
class Realigned:
    """The value with its vector in the new space."""

    value: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Unchanged:
    """The vector is already in the space; the value is unchanged, byte for byte."""

    value: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Why a record cannot be moved: a reason from the closed list, and a message without payload."""

    reason: RefusalReason
    message: str


_RECORD: Final = msgspec.json.Decoder(VectorAlignedV1, strict=True)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def realign(value: bytes, destination: Destination) -> Realigned | Unchanged | Refused:
    """Move one stored vector to another space.

    ``vector``, ``adapter``, ``adapter_version``, ``space`` and ``tenant_map`` are replaced, and ``DROPPED_FIELDS``
    removed. Every other field stays byte for byte, including unknown ones. The new vector keeps the encoding of the
    old one.

    Parameters
    ----------
    value : bytes
        A value of ``vectors.aligned.v1``, as written by the worker, ``alignstream encode`` or this function.
    destination : Destination
        The space to move to.

    Returns
    -------
    Realigned, Unchanged or Refused
        Moving a value a second time leaves it unchanged.

    Notes
    -----
    The vector equals, byte for byte, what the worker would write for the vector that ``codec.read_float16`` reads
    from ``raw_vector``. It differs slightly from what the worker wrote for the float32 original. A record does not
    hold the overrides of its message: it is recognised by its ``space``, and refused.
    """
    record = _decode(value)
    if isinstance(record, Refused):
        return record
    if record.encoder != destination.encoder:
        return Refused(
            "other-encoder",
            f"its encoder is {record.encoder[:12]!r}, but the adapter is for {destination.encoder[:12]!r}; choose an "
            "adapter for its encoder, or encode the text again with 'alignstream encode'",
        )
    damage = _damage(record, destination.dim)
    if damage is not None:
        return Refused("damaged-vector", damage)
    target = destination.space_of(record)
    if record.space == target.space:
        return Unchanged(value)
    own_map = record.tenant_map if isinstance(record.tenant_map, str) else None
    if record.space != space(record.encoder, record.adapter_version, tenant_map=own_map):
        return Refused(
            "overridden",
            "its message overrode strength, shrinkage or temperature, and the record does not hold the values; "
            "encode the text again with 'alignstream encode'",
        )
    if not isinstance(record.raw_vector, str):
        return Refused(
            "no-raw-vector",
            "it has no raw_vector; set ALIGNSTREAM_RAW_VECTOR=true and encode the text again with 'alignstream encode'",
        )
    try:
        x = codec.read_float16(record.raw_vector, record.dim)
    except ValueError as error:
        return Refused("damaged-vector", f"its raw_vector cannot be used: {error}")
    y = destination.align(x, record)
    fields = {name: raw for name, raw in _FIELDS.decode(value).items() if name not in DROPPED_FIELDS}
    changed = {"vector": codec.vector_field(y, record.encoding), **dataclasses.asdict(target)}
    if target.tenant_map is None:
        del changed["tenant_map"]
        fields.pop("tenant_map", None)
    return Realigned(msgspec.json.encode(fields | changed))


def _decode(value: bytes) -> VectorAlignedV1 | Refused:
    try:
        value.decode("utf-8")  # the decoder does not check fields that it passes on
        return _RECORD.decode(value)
    except msgspec.ValidationError as error:
        return Refused("not-a-vector", f"not a record of vectors.aligned.v1: {error}")
    except UnicodeDecodeError as error:
        return Refused("bad-json", f"byte {error.start} is not UTF-8")
    except RecursionError:
        return Refused("bad-json", "nested too deeply")
    except msgspec.DecodeError as error:
        return Refused("bad-json", f"not JSON: {error}")


def _damage(record: VectorAlignedV1, dim: int) -> str | None:
    """Return what is wrong with the stored vector, or None."""
    if record.dim != dim:
        return f"it has dim={record.dim}, but vectors of this encoder have {dim} numbers"
    if isinstance(record.vector, str) != (record.encoding == "base64-f32le"):
        return f"its vector does not match its encoding {record.encoding!r}"
    try:
        vector = np.asarray(
            decode_vector(record.vector) if isinstance(record.vector, str) else record.vector,
            dtype=np.float64,
        )
    except ValueError:  # its message may quote the vector
        return "its vector is not base64 of 32-bit floats"
    if vector.shape != (dim,):
        return f"its vector holds {vector.size} numbers instead of {dim}"
    with np.errstate(all="ignore"):
        norm = float(np.sqrt(vector @ vector))
    if not abs(norm - 1.0) <= codec.MAX_LENGTH_ERROR:
        return f"the length of its vector is {norm:.4g} instead of 1"
    return None
