"""The embedded encoder's graph as the repository keeps it: every node without weights, and what fills them.

``graph.onnx`` and ``map.json`` are written by ``alignstream.export.figures.embedded_graph``; ``embedded`` reads them,
without torch.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from alignstream.models.encoder.artifact import GoldenText, Pooling

GRAPH: Final = "graph.onnx"
MAP: Final = "map.json"
#: Where the package keeps the two files.
FOLDER: Final = Path(__file__).with_name("embedded_graph")


class Filling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What fills one initializer: a checkpoint tensor, transposed or as it is."""

    initializer: str
    tensor: str
    is_transposed: bool


class GraphMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The facts kept with the graph: all of a manifest that the weights do not say.

    ``graph_sha256`` is that of ``graph.onnx``, so that the two files cannot come from different exports.
    """

    graph_sha256: str
    source: str
    revision: str
    family: str
    pooling: Pooling
    prefix: str
    dim: int
    max_tokens: int
    opset: int
    weights_sha256: str
    exported_by: str
    golden: list[GoldenText]
    fillings: list[Filling]
    parity: dict[str, Any]
