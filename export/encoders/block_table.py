"""A graph's word table in 4-bit blocks: the rows that a text needs become float32 while the graph runs.

The numbers are the same bits as those of the float32 table, which takes seven times the memory.
"""

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from alignstream.export.encoders.weights import BLOCK, Blocks
from alignstream.models.errors import ExportError

#: onnxruntime's own operators: its documentation of GatherBlockQuantized, version 1.
DOMAIN: Final = "com.microsoft"
OPERATOR: Final = "GatherBlockQuantized"


def pack(blocks: Blocks) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return blocks as the operator reads them.

    Parameters
    ----------
    blocks : structured ndarray of shape (n_blocks,)
        See ``weights.dequantise``.

    Returns
    -------
    packed : ndarray of shape (n_blocks * 16,), uint8
        Signed 4-bit elements in order, two to a byte, the first in the low half.
    scales : ndarray of shape (n_blocks,), float32

    Examples
    --------
    >>> block = np.zeros(1, dtype=[("scale", "<f2"), ("nibbles", "u1", (16,))])
    >>> block["scale"], block["nibbles"] = 0.5, 0x98  # sixteen times 8 - 8 = 0, then sixteen times 9 - 8 = 1
    >>> packed, scales = pack(block)
    >>> packed.tobytes().hex(), scales.tolist()
    ('00000000000000001111111111111111', [0.5])
    """
    nibbles = blocks["nibbles"]
    elements = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=1)
    elements ^= 8  # from an offset of 8 to two's complement
    packed: NDArray[np.uint8] = elements[:, 0::2] | (elements[:, 1::2] << 4)
    return packed.reshape(-1), blocks["scale"].astype(np.float32)


def use_blocks(model: onnx.ModelProto, table: str, blocks: Blocks) -> None:
    """Keep a table of a graph in blocks: its ``Gather`` is replaced, in place.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    table : str
        The initializer, of shape (n_rows, dim); its data is not read.
    blocks : structured ndarray of shape (n_rows * dim / 32,)
        The same numbers, row by row.

    Raises
    ------
    ExportError
        The graph reads the table otherwise than by one ``Gather``, or the blocks are not its shape.
    """
    graph = model.graph
    readers = [(place, node) for place, node in enumerate(graph.node) if table in node.input]
    (initializer,) = [one for one in graph.initializer if one.name == table]
    n_rows, dim = initializer.dims
    if len(readers) != 1 or readers[0][1].op_type != "Gather" or dim % BLOCK:
        raise ExportError(f"{table} is not a table that one Gather reads in rows of whole blocks")
    if len(blocks) * BLOCK != n_rows * dim:
        raise ExportError(f"{table} is {n_rows} x {dim}, the blocks hold {len(blocks) * BLOCK} elements")
    packed, scales = pack(blocks)
    elements, scale = f"{table}.int4", f"{table}.scales"
    ((place, gather),) = readers
    node = helper.make_node(
        OPERATOR, [elements, gather.input[1], scale], list(gather.output), name=gather.name,
        domain=DOMAIN, block_size=BLOCK, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    graph.node.remove(gather)
    graph.node.insert(place, node)
    graph.initializer.remove(initializer)
    graph.initializer.append(
        onnx.TensorProto(
            name=elements, data_type=onnx.TensorProto.INT4, dims=[n_rows, dim], raw_data=packed.tobytes()
        )
    )
    graph.initializer.append(numpy_helper.from_array(scales.reshape(n_rows, dim // BLOCK), scale))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
