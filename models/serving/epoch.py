"""An epoch: what was learned from a tenant's stream up to a position of the log, as an immutable value and its file.

Workers serve with it, beside an adapter. Its vectors are as encoded, before any adapter, so that it stays valid when
the adapter is replaced. Only a map from pairs belongs to one adapter version, and says which.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.arrays import Matrix, Matrix16
from alignstream.models.errors import AdapterCorrupt, PackedCorrupt
from alignstream.models.packed import pack, unpack
from alignstream.models.serving.tenant_map import TenantMap

FORMAT: Final = "alignstream.epoch/1"
MAX_EPOCH_BYTES: Final = 8 * 1024 * 1024
VERSION_DIGITS: Final = 12

_WHAT: Final = "an epoch"


class MeanKey(NamedTuple):
    """The mean of a stream that a text counts for.

    Parameters
    ----------
    language : str
        Key of a language; "" if unknown.
    is_inferred : bool
        The text has no tag, and this is the language that its vector resembles.

    Examples
    --------
    >>> str(MeanKey("de-Latn")), str(MeanKey("de-Latn", is_inferred=True))
    ('de-Latn', '~de-Latn')
    """

    language: str = ""
    is_inferred: bool = False

    def __str__(self) -> str:
        """Return the key for people to read: an inferred language starts with ``~``."""
        return f"~{self.language}" if self.is_inferred else self.language


@dataclasses.dataclass(frozen=True, eq=False)
class TaggedVectors:
    """Vectors as encoded, with the language of each.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float16
    languages : tuple of str
        Key of each row's language; "" if unknown.
    """

    vectors: Matrix16
    languages: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.languages)


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """Translations that the tenant vouches for: by row a source, its target, an id, and the start of both texts."""

    sources: TaggedVectors
    targets: TaggedVectors
    ids: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class LabelExamples:
    """Texts and the labels that the tenant gave them."""

    rows: TaggedVectors
    label_sets: tuple[str, ...]
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Epoch:
    """What one tenant's workers serve with, beside an adapter.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder.
    tenant : str
    number : int
        Rises with every epoch of the tenant, and is never reused.
    dim : int
        Embedding dimension.
    reason : str
        Why it was opened: ``doubling``, ``drift``, ``feedback``, ``interval``, ``manual`` or ``reset``.
    languages : tuple of MeanKey
        Keys of the means.
    means : ndarray of shape (n_languages, dim), float32
        Means of the stream's texts.
    weights : tuple of float
        Weight of each mean, in texts.
    dependence : float
        How many consecutive texts of this stream tell as much as one independent text; at least 1.
    n_keys : int
        Number of distinct message keys behind the recent texts, as far as is remembered.
    is_steady : bool
        False while a change of the stream is being examined.
    bank : TaggedVectors
        Recent texts.
    memory : Memory
    examples : LabelExamples
    tenant_map : TenantMap, optional
    """

    encoder: str
    tenant: str
    number: int
    dim: int
    reason: str
    languages: tuple[MeanKey, ...]
    means: Matrix
    weights: tuple[float, ...]
    dependence: float
    n_keys: int
    is_steady: bool
    bank: TaggedVectors
    memory: Memory
    examples: LabelExamples
    tenant_map: TenantMap | None = None

    @functools.cached_property
    def blob(self) -> bytes:
        """The epoch's file; equal epochs have equal bytes."""
        return _to_bytes(self)

    @functools.cached_property
    def sha256(self) -> str:
        """The sha256 of the file, in hexadecimal."""
        return hashlib.sha256(self.blob).hexdigest()

    @property
    def version(self) -> str:
        """The first digits of the sha256."""
        return self.sha256[:VERSION_DIGITS]


def _to_bytes(epoch: Epoch) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        "means": epoch.means,
        "bank": epoch.bank.vectors,
        "memory.sources": epoch.memory.sources.vectors,
        "memory.targets": epoch.memory.targets.vectors,
        "examples": epoch.examples.rows.vectors,
    }
    values: dict[str, Any] = {
        "format": FORMAT,
        "encoder": epoch.encoder,
        "tenant": epoch.tenant,
        "number": epoch.number,
        "dim": epoch.dim,
        "reason": epoch.reason,
        "languages": epoch.languages,
        "weights": epoch.weights,
        "dependence": epoch.dependence,
        "n_keys": epoch.n_keys,
        "is_steady": epoch.is_steady,
        "bank": epoch.bank.languages,
        "memory": {
            "sources": epoch.memory.sources.languages,
            "targets": epoch.memory.targets.languages,
            "ids": epoch.memory.ids,
            "texts": epoch.memory.texts,
        },
        "examples": {
            "languages": epoch.examples.rows.languages,
            "label_sets": epoch.examples.label_sets,
            "labels": epoch.examples.labels,
        },
    }
    if epoch.tenant_map is not None:
        arrays |= {"map.left": epoch.tenant_map.maps.left, "map.right": epoch.tenant_map.maps.right}
        values["map"] = {
            "languages": epoch.tenant_map.maps.languages,
            "adapter_version": epoch.tenant_map.adapter_version,
        }
    return pack(values, arrays)


def from_bytes(blob: bytes, *, encoder: str | None = None) -> Epoch:
    """Read and check an epoch.

    Parameters
    ----------
    blob : bytes
    encoder : str, optional
        Fingerprint of the encoder in use.

    Raises
    ------
    PackedCorrupt
        It is not an epoch, belongs to another encoder, or its parts do not match.
    """
    values, arrays = unpack(blob, what=_WHAT, max_bytes=MAX_EPOCH_BYTES)
    try:
        if values["format"] != FORMAT:
            raise PackedCorrupt(f"not {_WHAT} of this version: its format is {str(values['format'])[:40]!r}")
        epoch = _read(values, arrays)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, AdapterCorrupt) as error:
        raise PackedCorrupt(f"not {_WHAT}: {type(error).__name__}: {str(error)[:200]}") from error
    if encoder is not None and epoch.encoder != encoder:
        raise PackedCorrupt(
            f"the epoch belongs to encoder {epoch.encoder[:12]}, but {encoder[:12]} is in use"
        )
    epoch.__dict__["blob"] = blob
    return epoch


def _read(values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Epoch:
    dim = int(values["dim"])
    memory, examples, map_values = values["memory"], values["examples"], values.get("map")
    bank = TaggedVectors(_checked(arrays, "bank", dim, np.float16), _names(values["bank"]))
    sources = TaggedVectors(_checked(arrays, "memory.sources", dim, np.float16), _names(memory["sources"]))
    targets = TaggedVectors(_checked(arrays, "memory.targets", dim, np.float16), _names(memory["targets"]))
    rows = TaggedVectors(_checked(arrays, "examples", dim, np.float16), _names(examples["languages"]))
    tenant_map = None
    if map_values is not None:
        maps = LanguageMaps(
            left=arrays["map.left"], right=arrays["map.right"], languages=tuple(map_values["languages"])
        )
        if maps.dim != dim:
            raise PackedCorrupt(f"not {_WHAT}: its map has dimension {maps.dim}, not {dim}")
        tenant_map = TenantMap(maps, str(map_values["adapter_version"]))
    epoch = Epoch(
        encoder=str(values["encoder"]),
        tenant=str(values["tenant"]),
        number=int(values["number"]),
        dim=dim,
        reason=str(values["reason"]),
        languages=tuple(_mean_key(*key) for key in values["languages"]),
        means=_checked(arrays, "means", dim, np.float32),
        weights=tuple(float(weight) for weight in values["weights"]),
        dependence=float(values["dependence"]),
        n_keys=int(values["n_keys"]),
        is_steady=bool(values["is_steady"]),
        bank=bank,
        memory=Memory(
            sources,
            targets,
            _names(memory["ids"]),
            tuple((str(source), str(target)) for source, target in memory["texts"]),
        ),
        examples=LabelExamples(rows, _names(examples["label_sets"]), _names(examples["labels"])),
        tenant_map=tenant_map,
    )
    _check_lengths(epoch)
    _check_numbers(epoch)
    return epoch


def _names(stored: Iterable[Any]) -> tuple[str, ...]:
    names = tuple(stored)
    if isinstance(stored, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("a list of names holds a value that is not a string")
    return names


def _mean_key(language: Any, is_inferred: Any) -> MeanKey:  # noqa: ANN401 (JSON)
    if not (isinstance(language, str) and isinstance(is_inferred, bool)):
        raise TypeError("the key of a mean is not a language and a flag")
    return MeanKey(language, is_inferred)


def _check_numbers(epoch: Epoch) -> None:
    if epoch.number < 1:
        raise PackedCorrupt(f"not {_WHAT}: its number is {epoch.number}, not 1 or higher")
    if not (math.isfinite(epoch.dependence) and epoch.dependence >= 1.0):
        raise PackedCorrupt(f"not {_WHAT}: its dependence is {epoch.dependence}, not 1 or higher")
    if not all(math.isfinite(weight) and weight >= 0.0 for weight in epoch.weights):
        raise PackedCorrupt(f"not {_WHAT}: a weight of its means is negative or not finite")
    if len(set(epoch.languages)) < len(epoch.languages):
        raise PackedCorrupt(f"not {_WHAT}: it lists a language twice")


def _check_lengths(epoch: Epoch) -> None:
    memory, examples = epoch.memory, epoch.examples
    for name, lengths in {
        "means": {len(epoch.means), len(epoch.languages), len(epoch.weights)},
        "bank": {len(epoch.bank.vectors), len(epoch.bank)},
        "memory": {
            len(memory.sources.vectors), len(memory.targets.vectors), len(memory.sources), len(memory.targets),
            len(memory.ids), len(memory.texts),
        },
        "examples": {len(examples.rows.vectors), len(examples.rows), len(examples.label_sets), len(examples.labels)},
    }.items():  # fmt: skip
        if len(lengths) > 1:
            raise PackedCorrupt(f"not {_WHAT}: the parts of its {name} differ in length: {sorted(lengths)}")


def _checked(arrays: dict[str, NDArray[Any]], name: str, dim: int, kind: type) -> NDArray[Any]:
    array = arrays[name]
    if array.ndim != 2 or array.shape[1] != dim or array.dtype != kind:
        raise PackedCorrupt(f"not {_WHAT}: its {name} have shape {array.shape} and type {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise PackedCorrupt(f"not {_WHAT}: its {name} hold numbers that are not finite")
    return array
