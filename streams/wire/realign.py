"""A stored vector to another space: one value of ``vectors.aligned.v1`` in, a value or the reason against it out.

Pure: where vectors are moved to is passed in (``Destination``), files and topics are the caller's. What comes out
is what the pipeline writes under the new adapter for an encoder that gives the vector in ``raw_vector``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final, Literal, Protocol, get_args

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
REFUSAL_REASONS: Final[tuple[RefusalReason, ...]] = get_args(RefusalReason)

#: Fields that belong to the old adapter, or to a moment of the stream under it: they would be untrue beside the
#: new vector.
DROPPED_FIELDS: Final = ("explain", "query_vector", "hubness", "epoch")


@dataclasses.dataclass(frozen=True, slots=True)
class VectorSpace:
    """What a record says about the space that its vector is in."""

    adapter: str
    adapter_version: str
    space: str
    #: Version of the tenant's own map that follows the adapter; None: there is none.
    tenant_map: str | None = None


class Destination(Protocol):
    """Where vectors are moved to. Called once a record, in order, from one thread; must not fail.

    ``space_of`` is the only source of the name of a space, and ``align`` of the vector in it: whatever steps follow
    the adapter (a map of the record's tenant) belong into both.
    """

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder whose vectors are taken."""

    @property
    def dim(self) -> int:
        """Numbers of a vector."""

    def space_of(self, record: VectorAlignedV1) -> VectorSpace:
        """Say where this record's vector goes."""

    def align(self, x: Vector32, record: VectorAlignedV1) -> Vector32:
        """Map a unit vector of the encoder, shape (dim,), float32, to a unit vector there; x is not changed."""


@dataclasses.dataclass(frozen=True, eq=False)
class AdapterSpace:
    """The space of one adapter version and of the tenants' own maps, as a message reaches it that overrides nothing.

    Parameters
    ----------
    name : str
        Name under which records know the adapter.
    adapter : Adapter
        What is applied.
    tenant_maps : mapping of str to TenantMap
        What follows it, by tenant; maps of other adapter versions are not applied, as a worker would not.
    """

    name: str
    adapter: Adapter
    tenant_maps: Mapping[str, TenantMap] = dataclasses.field(default_factory=dict)

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder whose vectors are taken."""
        return self.adapter.encoder

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.adapter.dim

    def _map(self, record: VectorAlignedV1) -> TenantMap | None:
        tenant_map = self.tenant_maps.get(record.tenant)
        return (
            tenant_map
            if tenant_map is not None and tenant_map.adapter_version == self.adapter.version
            else None
        )

    def space_of(self, record: VectorAlignedV1) -> VectorSpace:
        """Say where this record's vector goes: the same for all of a tenant."""
        version, own = self.adapter.version, self._map(record)
        tenant_map = None if own is None else own.version
        name = space(self.adapter.encoder, version, tenant_map=tenant_map)
        return VectorSpace(self.name, version, name, tenant_map)

    def align(self, x: Vector32, record: VectorAlignedV1) -> Vector32:
        """Align with the context that the worker had: the language tag of the record."""
        language = record.language if isinstance(record.language, str) else None
        y, own = self.adapter.transform_one(x, Context(language=language)), self._map(record)
        return y if own is None else own.moved(y, language)


@dataclasses.dataclass(frozen=True, slots=True)
class Realigned:
    """The value with its vector in the new space."""

    value: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Unchanged:
    """The vector is in the space already; the value stays as it is, to the byte."""

    value: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Why a record cannot be moved: a reason of the closed list, and a message without payload."""

    reason: RefusalReason
    message: str


_RECORD: Final = msgspec.json.Decoder(VectorAlignedV1, strict=True)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def realign(value: bytes, destination: Destination) -> Realigned | Unchanged | Refused:
    """Move one stored vector to another space.

    ``vector``, ``adapter``, ``adapter_version`` and ``space`` are replaced, ``DROPPED_FIELDS`` go; every other
    field stays byte for byte, those that this version does not know included. The new vector is written in the
    encoding of the old one.

    Parameters
    ----------
    value : bytes
        A value of ``vectors.aligned.v1``, as the worker, ``alignstream encode`` or this function wrote it.
    destination : Destination
        Where to.

    Returns
    -------
    Realigned, Unchanged or Refused
        Moving a value that was moved there before leaves it unchanged.

    Notes
    -----
    The vector equals, byte for byte, what the worker writes for the vector that ``codec.read_half_vector`` reads
    from ``raw_vector``; it differs a little from the one that the worker wrote from the float32 original. What a
    message overrode is not in its record: such a record is known by its ``space``, and refused.
    """
    record = _decode(value)
    if isinstance(record, Refused):
        return record
    if record.encoder != destination.encoder:
        return Refused(
            "other-encoder",
            f"made by encoder {record.encoder[:12]!r}, the adapter is for {destination.encoder[:12]!r}: choose an "
            "adapter of that encoder, or encode the texts again with 'alignstream encode'",
        )
    damage = _damage(record, destination.dim)
    if damage is not None:
        return Refused("damaged-vector", damage)
    target = destination.space_of(record)
    if record.space == target.space:
        return Unchanged(value)
    own = record.tenant_map if isinstance(record.tenant_map, str) else None
    if record.space != space(record.encoder, record.adapter_version, tenant_map=own):
        return Refused(
            "overridden",
            "its message overrode strength, shrinkage or temperature, and no record says how: encode the text "
            "again with 'alignstream encode'",
        )
    if not isinstance(record.raw_vector, str):
        return Refused(
            "no-raw-vector",
            "it holds no raw_vector: set ALIGNSTREAM_RAW_VECTOR=true before texts are encoded; here, encode the "
            "text again with 'alignstream encode'",
        )
    try:
        x = codec.read_half_vector(record.raw_vector, record.dim)
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
        value.decode("utf-8")  # the decoder does not look into fields that it passes on
        return _RECORD.decode(value)
    except msgspec.ValidationError as error:
        return Refused("not-a-vector", f"no record of vectors.aligned.v1: {error}")
    except UnicodeDecodeError as error:
        return Refused("bad-json", f"byte {error.start} is not UTF-8")
    except RecursionError:
        return Refused("bad-json", "nested too deep")
    except msgspec.DecodeError as error:
        return Refused("bad-json", f"not JSON: {error}")


def _damage(record: VectorAlignedV1, dim: int) -> str | None:
    """Say what is wrong with the vector as it stands; None: nothing."""
    if record.dim != dim:
        return f"it says dim={record.dim}, but vectors of this encoder have {dim} numbers"
    if isinstance(record.vector, str) != (record.encoding == "base64-f32le"):
        return f"its vector is not in the encoding {record.encoding!r} that it names"
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
