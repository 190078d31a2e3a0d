"""Strip the embedded encoder's exported graph of its weights, so that it can be kept in the repository.

``make export-graph`` exports the embedded encoder through optimum and
writes ``graph.onnx`` (every node, no weights) and ``map.json`` (which checkpoint tensor fills which
initializer, and the manifest's fields, golden vectors from torch included). Needs the ``export`` extra to
run; ``embedded`` reads what it writes, without torch.
"""

import hashlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from alignstream.export.encoders import weights
from alignstream.export.encoders.graph_map import FOLDER, GRAPH, MAP, Filling, GraphMap
from alignstream.export.encoders.onnx_export import export_onnx
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import Manifest
from alignstream.models.errors import ExportError
from alignstream.models.files import replace_file

#: Smaller initializers are constants of the graph and stay in it; every weight is larger.
MAX_CONSTANT_ELEMENTS: Final = 256


def strip(model: onnx.ModelProto, tensors: Mapping[str, NDArray[np.float32]]) -> list[Filling]:
    """Empty every large initializer of a graph, and say which tensor it held.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place: large initializers keep name, type and shape, and lose their data.
    tensors : mapping of str to ndarray, float32
        The checkpoint, by name.

    Raises
    ------
    ExportError
        An initializer equals no tensor, or several, or a tensor is not used.
    """
    by_content: dict[tuple[tuple[int, ...], bytes], list[tuple[str, bool]]] = {}
    for name, tensor in tensors.items():
        by_content.setdefault(_content(tensor), []).append((name, False))
        if tensor.ndim == 2:
            by_content.setdefault(_content(tensor.T), []).append((name, True))
    fillings = []
    for initializer in model.graph.initializer:
        value = numpy_helper.to_array(initializer)
        if value.size <= MAX_CONSTANT_ELEMENTS:
            continue
        matches = by_content.get(_content(value), [])
        if len(matches) != 1:
            raise ExportError(
                f"initializer {initializer.name} equals {len(matches)} checkpoint tensors, not one"
            )
        fillings.append(Filling(initializer.name, matches[0][0], matches[0][1]))
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
    unused = set(tensors) - {filling.tensor for filling in fillings}
    if unused:
        raise ExportError(
            f"{len(unused)} checkpoint tensors are not in the graph: {', '.join(sorted(unused)[:3])}"
        )
    return fillings


def _content(tensor: NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    return tensor.shape, hashlib.sha256(np.ascontiguousarray(tensor).data).digest()


def write_template(exported: Path, folder: Path) -> GraphMap:
    """Write ``graph.onnx`` and ``map.json`` from an exported artifact of the embedded encoder.

    Raises
    ------
    ExportError
        The graph does not hold exactly the embedded weights.
    """
    manifest: Manifest = artifact.read_manifest(exported)
    model = onnx.load(str(exported / artifact.MODEL))
    fillings = strip(model, weights.read_tensors())
    data = model.SerializeToString(deterministic=True)
    graph_map = GraphMap(
        graph_sha256=hashlib.sha256(data).hexdigest(),
        source=manifest.source,
        revision=manifest.revision,
        family=manifest.family,
        pooling=manifest.pooling,
        prefix=manifest.prefix,
        dim=manifest.dim,
        max_tokens=manifest.max_tokens,
        opset=manifest.opset,
        weights_sha256=manifest.weights_sha256,
        exported_by=manifest.created_by,
        golden=manifest.golden,
        fillings=fillings,
        parity=manifest.parity or {},
    )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / GRAPH, data)
    replace_file(folder / MAP, msgspec.json.format(msgspec.json.encode(graph_map), indent=1) + b"\n")
    return graph_map


def main(arguments: list[str]) -> None:
    """Export the embedded encoder afresh and write its template."""
    folder = Path(arguments[0]) if arguments else FOLDER
    with tempfile.TemporaryDirectory(prefix="alignstream-") as scratch:
        exported = Path(scratch) / "artifact"
        export_onnx(weights.EMBEDDED, exported)
        graph_map = write_template(exported, folder)
    sys.stdout.write(
        f"{folder / GRAPH}: {(folder / GRAPH).stat().st_size} bytes, {len(graph_map.fillings)} weights mapped\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
