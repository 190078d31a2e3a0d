"""Keep a model's word table out of the way while its graph is exported, and write it into the finished file.

In multilingual models it is most of the weights, and each of the exporter's steps makes a copy of all of them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from alignstream.export.encoders.weights import WORD_TABLE

#: Rows of what stands for the table: as many as the exporter's example texts may name.
_N_ROWS: Final = 16
#: Protobuf's tags of length-delimited fields: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data.
_GRAPH: Final = bytes([7 << 3 | 2])
_INITIALIZER: Final = bytes([5 << 3 | 2])
_RAW_DATA: Final = bytes([9 << 3 | 2])


@contextlib.contextmanager
def set_aside(model: Any) -> Iterator[NDArray[np.float32]]:  # noqa: ANN401 (a transformers model)
    """Give the word table, and keep a few rows of it in the model meanwhile.

    Yields
    ------
    ndarray of shape (n_tokens, dim), float32
    """
    embeddings, config = model.embeddings, model.config
    whole, n_tokens = embeddings.word_embeddings, config.vocab_size
    rows = whole.weight.detach()[:_N_ROWS].clone()
    embeddings.word_embeddings = torch.nn.Embedding(len(rows), rows.shape[1], padding_idx=0, _weight=rows)
    config.vocab_size = len(rows)
    try:
        yield whole.weight.detach().numpy()
    finally:
        embeddings.word_embeddings, config.vocab_size = whole, n_tokens


def write_graph(graph: onnx.ModelProto, table: NDArray[np.float32], path: Path) -> None:
    """Write a graph that was exported without its word table, with it.

    Serialised messages that follow one another are one message, by protobuf's rules: the table, the graph's first
    initializer, is written from where it lies, without a copy of it.

    Parameters
    ----------
    graph : onnx.ModelProto
        Loses what stands for the table.
    table : ndarray of shape (n_tokens, dim), float32
    path : Path
    """
    (placeholder,) = [item for item in graph.graph.initializer if item.name == WORD_TABLE]
    graph.graph.initializer.remove(placeholder)
    content = np.ascontiguousarray(table, dtype="<f4")
    tensor = onnx.TensorProto(name=WORD_TABLE, data_type=onnx.TensorProto.FLOAT, dims=table.shape)
    head = tensor.SerializeToString() + _RAW_DATA + _varint(content.nbytes)
    initializer = _INITIALIZER + _varint(len(head) + content.nbytes) + head
    with path.open("wb") as file:
        file.write(_GRAPH + _varint(len(initializer) + content.nbytes) + initializer)
        file.write(content.data)
        file.write(graph.SerializeToString())


def _varint(number: int) -> bytes:
    """Encode a length as protobuf does: seven bits to a byte, the lowest first."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
