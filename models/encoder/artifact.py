"""The encoder on disk: a folder that describes itself, and whose files are verified before they are parsed.

::

    model.onnx       the graph, pooling and normalisation included
    tokenizer.json   as the source model publishes it
    manifest.json    what the other two are (``Manifest``)

The layout is fixed: every file of the folder is named and checked here, and nothing else is read.
"""

import base64
import hashlib
import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.models.errors import ArtifactCorrupt, ArtifactIncomplete, ArtifactMismatch
from alignstream.models.files import replace_file

MANIFEST: Final = "manifest.json"
MODEL: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
FORMAT: Final = "alignstream.encoder/1"
#: A larger manifest is not one of ours, and is not read.
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
#: Between machines, float32 arithmetic differs in the last bits; a wrong pooling or layer differs in the first.
GOLDEN_MIN_COSINE: Final = 0.9999
GOLDEN_TEXTS: Final = ("The cat sits on the mat.", "Die Katze sitzt auf der Matte.", "猫坐在垫子上。")

Pooling = Literal["mean", "cls", "pooler"]


class FileEntry(msgspec.Struct, frozen=True):
    """The expected sha256 and size of a file."""

    sha256: str
    size_bytes: int


class GoldenText(msgspec.Struct, frozen=True):
    """A text and its expected vector, in base64 of little-endian float32."""

    text: str
    vector: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an artifact is, where it comes from, and which vectors it must give.

    ``layer`` counts transformer layers from 1; None is the last one. ``dense`` names the activation of the
    dense layer after pooling that sentence-transformers models such as LaBSE have, or is None.
    ``parity`` is the report of the comparison with torch, if there was one.
    """

    format: Literal["alignstream.encoder/1"]
    source: str
    revision: str
    family: str
    layer: int | None
    pooling: Pooling
    dense: str | None
    prefix: str
    dim: int
    max_tokens: int
    precision: Literal["fp32"]
    opset: int
    weights_sha256: str
    files: dict[str, FileEntry]
    golden: list[GoldenText]
    fingerprint: str
    created_by: str
    parity: dict[str, Any] | None = None


def fingerprint(
    *,
    weights_sha256: str,
    tokenizer_sha256: str,
    layer: int | None,
    pooling: Pooling,
    dense: str | None,
    prefix: str,
    precision: str,
    max_tokens: int,
) -> str:
    """Return the sha256 over everything that changes the vector space, which the bytes of the graph do not.

    Two graphs with the same weights, one assembled and one exported, are the same encoder.
    """
    parts = {
        "weights": weights_sha256,
        "tokenizer": tokenizer_sha256,
        "layer": layer,
        "pooling": pooling,
        "dense": dense,
        "prefix": prefix,
        "precision": precision,
        "max_tokens": max_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def weights_sha256(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return one sha256 over named tensors: name, shape, then float32 bytes, sorted by name.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Checkpoint tensors by their checkpoint names; only those that the encoder uses.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name], dtype="<f4")
        digest.update(f"{name}:{','.join(map(str, tensor.shape))};".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def encode_vector(x: NDArray[np.float32]) -> str:
    """Encode a vector as base64 of little-endian float32.

    Examples
    --------
    >>> decode_vector(encode_vector(np.array([0.5, 2.0], dtype=np.float32)))
    array([0.5, 2. ], dtype=float32)
    """
    return base64.b64encode(np.ascontiguousarray(x, dtype="<f4").tobytes()).decode("ascii")


def decode_vector(text: str) -> NDArray[np.float32]:
    """Decode a vector written by ``encode_vector``.

    Raises
    ------
    ValueError
        The text is not base64, or not a whole number of float32 values.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)


def _plain_file(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise ArtifactIncomplete(
            f"encoder artifact {folder}: {name} is missing ({error.strerror}); "
            "create it again with 'alignstream export'"
        ) from error
    if not stat.S_ISREG(mode):
        raise ArtifactIncomplete(
            f"encoder artifact {folder}: {name} is not a plain file (links are refused); copy the file itself there"
        )
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest, without reading the files that it names.

    Raises
    ------
    ArtifactIncomplete
        There is no manifest, or it is a link.
    ArtifactCorrupt
        It is not a manifest of this format.
    ArtifactMismatch
        Its fingerprint does not match its fields.
    """
    path = _plain_file(folder, MANIFEST)
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactCorrupt(
            f"encoder artifact {folder}: {MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes"
        )
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactCorrupt(
            f"encoder artifact {folder}: {MANIFEST} is not a {FORMAT} manifest: {error}"
        ) from error
    if set(manifest.files) != {MODEL, TOKENIZER}:
        raise ArtifactCorrupt(
            f"encoder artifact {folder}: the manifest must name {MODEL} and {TOKENIZER}, not {sorted(manifest.files)}"
        )
    expected = fingerprint(
        weights_sha256=manifest.weights_sha256,
        tokenizer_sha256=manifest.files[TOKENIZER].sha256,
        layer=manifest.layer,
        pooling=manifest.pooling,
        dense=manifest.dense,
        prefix=manifest.prefix,
        precision=manifest.precision,
        max_tokens=manifest.max_tokens,
    )
    if expected != manifest.fingerprint:
        raise ArtifactMismatch(
            f"encoder artifact {folder}: the manifest was changed after the export: its fingerprint "
            f"{manifest.fingerprint[:12]} does not match its layer ({manifest.layer}), pooling "
            f"({manifest.pooling}), prefix, weights and tokenizer; export the encoder again"
        )
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Verify every file against the manifest, before anything parses it.

    Raises
    ------
    ArtifactIncomplete
        A file is missing, or is a link.
    ArtifactCorrupt
        A size or sha256 differs.
    """
    for name, entry in manifest.files.items():
        path = _plain_file(folder, name)
        size_bytes = path.stat().st_size
        if size_bytes != entry.size_bytes:
            raise ArtifactCorrupt(
                f"encoder artifact {folder}: {name} has {size_bytes} bytes, but the manifest says {entry.size_bytes}; "
                "it was replaced or cut short: export or copy it again"
            )
        if file_sha256(path) != entry.sha256:
            raise ArtifactCorrupt(
                f"encoder artifact {folder}: the sha256 of {name} differs from the manifest; "
                "it was changed or damaged: export or copy it again"
            )


def golden_problems(manifest: Manifest, vectors: Iterable[NDArray[np.float32]]) -> list[str]:
    """Compare vectors of the golden texts with the manifest's, and describe the differences."""
    problems = []
    for golden, vector in zip(manifest.golden, vectors, strict=True):
        expected = decode_vector(golden.vector)
        if expected.shape != vector.shape:
            problems.append(
                f"{golden.text!r} gives a vector of dimension {vector.shape[0]} instead of {expected.shape[0]}"
            )
            continue
        cosine = float(expected.astype(np.float64) @ vector.astype(np.float64))
        if not cosine >= GOLDEN_MIN_COSINE:
            problems.append(f"{golden.text!r} gives a different vector (cosine {cosine:.4f})")
    return problems


def seal(folder: Path, **fields: Any) -> Manifest:  # noqa: ANN401 (fields of Manifest)
    """Write the manifest of a folder that holds ``model.onnx`` and ``tokenizer.json``; return it.

    Parameters
    ----------
    folder : Path
        The folder of the two files.
    **fields
        The fields of ``Manifest`` except ``format``, ``files`` and ``fingerprint``, which are computed.
    """
    files = {}
    for name in (MODEL, TOKENIZER):
        path = _plain_file(folder, name)
        files[name] = FileEntry(sha256=file_sha256(path), size_bytes=path.stat().st_size)
    manifest = Manifest(
        format=FORMAT,
        files=files,
        fingerprint=fingerprint(
            weights_sha256=fields["weights_sha256"],
            tokenizer_sha256=files[TOKENIZER].sha256,
            layer=fields["layer"],
            pooling=fields["pooling"],
            dense=fields["dense"],
            prefix=fields["prefix"],
            precision=fields["precision"],
            max_tokens=fields["max_tokens"],
        ),
        **fields,
    )
    replace_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return manifest
