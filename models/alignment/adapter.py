"""The adapter: a value that maps unit vectors of one encoder to aligned unit vectors, and its file.

``y = n((1 - s) x + s f(x))`` with f the chain of members, s the strength (1 unless a message asks for less)
and n division by the length. What a message says about its text (``context``) steers the members. The file is
safetensors with a JSON manifest in its header: nothing in it runs, and its sha256 is its version. float64
inside, float32 out.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from alignstream.models.alignment.context import NEUTRAL, Context, HyperParameters, State, choose
from alignstream.models.alignment.kinds import member
from alignstream.models.alignment.members import Matrix, Member, Tuning, Vector32, Vector64
from alignstream.models.alignment.prototypes import LanguageCentre, PrototypeAttention
from alignstream.models.errors import AdapterCorrupt, AdapterMismatch

FORMAT: Final = "alignstream.adapter/1"
IDENTITY: Final = "identity"
#: Larger than any adapter of one encoder; a bound on what is fetched and parsed.
MAX_ADAPTER_BYTES: Final = 8 * 1024 * 1024
#: Hexadecimal digits of the sha256 that name a version: 48 bits among the few versions of one adapter.
VERSION_DIGITS: Final = 12
#: float64 inside, float32 out: what another machine may differ by on the golden vector.
GOLDEN_TOLERANCE: Final = 1e-5
#: Shorter than this, a vector has no direction left to speak of.
MIN_NORM: Final = 1e-9

#: A worker meets as many contexts as its messages have tags and overrides.
_REMEMBERED_CONTEXTS: Final = 4096

_MANIFEST_KEY: Final = "alignstream"
_GOLDEN_IN: Final = "golden.input"
_GOLDEN_OUT: Final = "golden.output"


class _MemberEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    tensors: dict[str, str]
    parameters: dict[str, Any] = {}


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["alignstream.adapter/1"]
    encoder: str
    dim: int
    members: list[_MemberEntry]
    report: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """An immutable chain of members for one encoder. Two adapters are the same if their versions are.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder whose vectors it maps.
    dim : int
        Numbers of a vector.
    members : tuple of Member
        Applied in order; none is the identity.
    report : mapping
        What the fit found, kept with the file: JSON values only.
    """

    encoder: str
    dim: int
    members: tuple[Member, ...] = ()
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.members:
            if item.dim != self.dim:
                raise AdapterCorrupt(
                    f"adapter member {item.kind!r} maps {item.dim} numbers, the adapter {self.dim}"
                )

    @functools.cached_property
    def blob(self) -> bytes:
        """The adapter's file; equal adapters have equal bytes."""
        return _to_bytes(self)

    @functools.cached_property
    def sha256(self) -> str:
        """The sha256 of the file, in hexadecimal."""
        return hashlib.sha256(self.blob).hexdigest()

    @property
    def version(self) -> str:
        """The first digits of the sha256."""
        return self.sha256[:VERSION_DIGITS]

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every vector as it is."""
        return not self.members

    def tune(self, context: Context = NEUTRAL) -> HyperParameters:
        """Return the hyper-parameters that a context leads to, each with its reason."""
        return self._tuned(context)[0]

    @functools.cached_property
    def _tuned(self) -> Callable[[Context], tuple[HyperParameters, Tuning]]:
        # Contexts are as few as languages, texts are many.
        return functools.lru_cache(maxsize=_REMEMBERED_CONTEXTS)(self._tune)

    def _tune(self, context: Context) -> tuple[HyperParameters, Tuning]:
        state = State()
        for item in self.members:
            if isinstance(item, PrototypeAttention | LanguageCentre):
                position = item.table.find(context.language)  # type: ignore[union-attr]
                state = State(
                    language=None if position is None else item.languages[position],
                    n_texts=0 if position is None else item.counts[position],
                    temperature=item.temperature if isinstance(item, PrototypeAttention) else 1.0,
                )
        found = choose(context, state)
        tuning = Tuning(
            language=context.language, shrinkage=found.shrinkage.value, temperature=context.temperature
        )
        return found, tuning

    def transform_one(
        self, x: Vector32, context: Context = NEUTRAL, shift: Vector64 | None = None
    ) -> Vector32:
        """Align one vector.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            A unit vector of the adapter's encoder; not changed.
        context : Context
            What is known about the text: its language, and what its message overrides.
        shift : ndarray of shape (dim,), float64, optional
            Subtracted from x first: how far texts of its stream lie from where the adapter expects them.

        Returns
        -------
        ndarray of shape (dim,), float32
            A unit vector. Where nothing is left of x (it lies in what the adapter removes), x itself.
        """
        return self._apply(x, *self._tuned(context), shift)

    def transform_many(self, X: Matrix, context: Context = NEUTRAL) -> Matrix:
        """Align a batch of shape (n, dim) in one context, row by row: the same bytes as one by one."""
        if len(X) == 0:
            return X.copy()
        tuned, tuning = self._tuned(context)
        return np.stack([self._apply(x, tuned, tuning) for x in X])

    def _apply(
        self, x: Vector32, tuned: HyperParameters, tuning: Tuning, shift: Vector64 | None = None
    ) -> Vector32:
        strength = tuned.strength.value
        if self.is_identity or strength == 0.0:
            return x.copy()
        wide: Vector64 = x.astype(np.float64)
        if shift is not None:
            wide = wide - shift
        y = wide
        for item in self.members:
            y = item.transform_one(y, tuning)
        if strength != 1.0:
            y = (1.0 - strength) * wide + strength * y
        norm = math.sqrt(float(y @ y))
        if norm < MIN_NORM:
            return x.copy()
        aligned: Vector32 = (y / norm).astype(np.float32)
        return aligned

    def common_direction(self, context: Context = NEUTRAL) -> Vector64 | None:
        """Return the unit direction that all aligned texts share, shape (dim,); None if the adapter keeps none.

        Similarities need it, labels do not: how near a text is to every label alike says nothing.
        """
        if self._common is None:
            return None
        start, direction = self._common
        strength = self.tune(context).strength.value
        mixed = (1.0 - strength) * start + strength * direction
        norm = float(np.sqrt(mixed @ mixed))
        return None if norm < MIN_NORM else mixed / norm

    @functools.cached_property
    def _common(self) -> tuple[Vector64, Vector64] | None:
        """What all texts share, as encoded and as the members leave it."""
        found: tuple[Vector64, Vector64] | None = None
        for item in self.members:
            if found is not None:
                found = found[0], item.transform_one(found[1])
            elif isinstance(item, PrototypeAttention) and item.common > 0.0:
                found = item.kept_centre / item.common, item.kept_centre
        return found

    def nearest_languages(self, x: Vector32, n: int = 3) -> list[tuple[str, float]]:
        """Return the n languages that a vector resembles most and their attention, whatever its tag says."""
        for item in self.members:
            if isinstance(item, PrototypeAttention):
                return item.nearest(x.astype(np.float64), n)
        return []

    def steps(self) -> list[str]:
        """Describe the members, in order, for people."""
        return [item.describe() for item in self.members] or ["identity: vectors stay as encoded"]


def identity(encoder: str, dim: int) -> Adapter:
    """Return the adapter that changes nothing."""
    return Adapter(encoder=encoder, dim=dim)


def space(
    encoder: str, adapter_version: str, context: Context = NEUTRAL, tenant_map: str | None = None
) -> str:
    """Return the short name of a space: equal names, exactly comparable vectors.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder.
    adapter_version : str
        Version of the adapter that was applied.
    context : Context
        Its overrides count; a language does not, as texts of all languages share a space.
    tenant_map : str, optional
        Version of the tenant's own map that was applied after the adapter.
    """
    parts: dict[str, Any] = {"adapter": adapter_version, "encoder": encoder}
    if tenant_map is not None:
        parts["map"] = tenant_map
    for name, value in context.overrides.items():
        if (name, value) != ("strength", 1.0):
            parts[name] = repr(value)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _golden_input(dim: int) -> Vector32:
    # Any fixed direction would do; this one touches every coordinate and needs no random generator.
    x = np.cos(np.arange(1, dim + 1, dtype=np.float64) ** 2)
    golden: Vector32 = (x / np.sqrt(x @ x)).astype(np.float32)
    return golden


def _to_bytes(adapter: Adapter) -> bytes:
    tensors: dict[str, Matrix] = {}
    entries = []
    for position, item in enumerate(adapter.members):
        names = {}
        for name, tensor in item.tensors().items():
            names[name] = f"{position}.{name}"
            tensors[names[name]] = np.ascontiguousarray(tensor)
        entries.append(_MemberEntry(kind=item.kind, tensors=names, parameters=dict(item.parameters())))
    tensors[_GOLDEN_IN] = _golden_input(adapter.dim)
    tensors[_GOLDEN_OUT] = adapter.transform_one(tensors[_GOLDEN_IN])
    manifest = _Manifest(
        format=FORMAT, encoder=adapter.encoder, dim=adapter.dim, members=entries, report=dict(adapter.report)
    )
    # One metadata key only: the library writes several in no fixed order, and equal adapters have equal bytes.
    text = json.dumps(msgspec.to_builtins(manifest), sort_keys=True, ensure_ascii=False)
    blob: bytes = safetensors.numpy.save(tensors, metadata={_MANIFEST_KEY: text})
    return blob


def from_bytes(blob: bytes, *, encoder: str | None = None) -> Adapter:
    """Read an adapter and verify everything about it.

    Parameters
    ----------
    blob : bytes
        A file written by this module.
    encoder : str, optional
        Fingerprint of the encoder in use.

    Raises
    ------
    AdapterCorrupt
        Size, layout, shapes, numbers or the golden vector are wrong.
    AdapterMismatch
        It was fitted on another encoder.
    """
    if len(blob) > MAX_ADAPTER_BYTES:
        raise AdapterCorrupt(
            f"an adapter of {len(blob)} bytes is larger than the limit of {MAX_ADAPTER_BYTES}"
        )
    manifest, tensors = _read(blob)
    if encoder is not None and manifest.encoder != encoder:
        raise AdapterMismatch(
            f"the adapter was fitted on encoder {manifest.encoder[:12]}, but {encoder[:12]} is in use; "
            "fit one for this encoder with 'alignstream fit default'"
        )
    members = []
    used = {_GOLDEN_IN, _GOLDEN_OUT}
    for entry in manifest.members:
        used |= set(entry.tensors.values())
        members.append(
            member(
                entry.kind,
                {name: _tensor(tensors, key) for name, key in entry.tensors.items()},
                entry.parameters,
            )
        )
    if surplus := set(tensors) - used:
        raise AdapterCorrupt(f"the adapter holds tensors that nothing uses: {sorted(surplus)}")
    adapter = Adapter(
        encoder=manifest.encoder, dim=manifest.dim, members=tuple(members), report=manifest.report
    )
    golden, expected = _tensor(tensors, _GOLDEN_IN), _tensor(tensors, _GOLDEN_OUT)
    if golden.shape != (adapter.dim,) or expected.shape != (adapter.dim,):
        raise AdapterCorrupt(f"the golden vector of the adapter does not have {adapter.dim} numbers")
    difference = float(np.abs(adapter.transform_one(golden) - expected).max())
    if not difference <= GOLDEN_TOLERANCE:
        raise AdapterCorrupt(f"the adapter gives another golden vector (largest difference {difference:.2g})")
    # The version is that of the bytes that were read, whoever wrote them.
    adapter.__dict__["blob"] = blob
    return adapter


def _tensor(tensors: Mapping[str, Matrix], key: str) -> Matrix:
    if key not in tensors:
        raise AdapterCorrupt(f"the adapter has no tensor {key!r}")
    return tensors[key]


def _read(blob: bytes) -> tuple[_Manifest, Mapping[str, Matrix]]:
    try:
        tensors = safetensors.numpy.load(blob)
        # The library gives metadata of files only; the header's layout is fixed: u64 length, then JSON.
        size = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + size])
        text = header["__metadata__"][_MANIFEST_KEY]
        return msgspec.json.decode(text, type=_Manifest), tensors
    except (
        safetensors.SafetensorError, ValueError, KeyError, TypeError, msgspec.DecodeError, RecursionError
    ) as error:  # fmt: skip
        raise AdapterCorrupt(f"not an adapter file ({FORMAT}): {str(error)[:200]}") from error
