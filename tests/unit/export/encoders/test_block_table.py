"""A table in 4-bit blocks gives the bits that the float32 table gives, and only a table is replaced."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from alignstream.export.encoders.block_table import OPERATOR, use_blocks
from alignstream.export.encoders.weights import BLOCK, Blocks, dequantise
from alignstream.models.errors import ExportError

N_ROWS, DIM = 50, 3 * BLOCK


@pytest.fixture
def blocks() -> Blocks:
    rng = np.random.default_rng(5)
    made = np.zeros(N_ROWS * DIM // BLOCK, dtype=[("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
    made["scale"] = rng.standard_normal(len(made))
    made["scale"][:3] = (0.0, -0.5, np.float16(6e-8))  # nothing, negative, subnormal
    made["nibbles"] = rng.integers(0, 256, size=(len(made), BLOCK // 2))
    return made


def graph(
    table: np.ndarray[Any, np.dtype[np.float32]], operators: tuple[str, ...] = ("Gather",)
) -> onnx.ModelProto:
    nodes, outputs = [], []
    for number, operator in enumerate(operators):
        inputs = ["table", "ids"] if operator == "Gather" else ["table"]
        nodes.append(helper.make_node(operator, inputs, [f"rows{number}"], name=f"node{number}"))
        outputs.append(helper.make_tensor_value_info(f"rows{number}", TensorProto.FLOAT, None))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [None, None])
    initializers = [numpy_helper.from_array(table, "table")]
    made = helper.make_graph(nodes, "g", [ids], outputs, initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def rows(model: onnx.ModelProto, ids: list[list[int]]) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"ids": np.array(ids, dtype=np.int64)})[0]


def test_every_row_has_the_bits_of_the_float32_table(blocks: Blocks) -> None:
    table = dequantise(blocks).reshape(N_ROWS, DIM)
    model = graph(table)
    ids = [list(range(N_ROWS)), list(reversed(range(N_ROWS)))]
    before = rows(model, ids)
    n_bytes = len(model.SerializeToString())
    use_blocks(model, "table", blocks)
    after = rows(model, ids)
    assert [node.op_type for node in model.graph.node] == [OPERATOR]
    assert after.tobytes() == before.tobytes() == table[np.array(ids)].tobytes()
    assert len(model.SerializeToString()) < n_bytes / 5


@pytest.mark.parametrize("operators", [("Gather", "Gather"), ("Gather", "Neg"), ("Neg",)])
def test_what_is_not_read_as_a_table_is_left_as_it_is(blocks: Blocks, operators: tuple[str, ...]) -> None:
    model = graph(dequantise(blocks).reshape(N_ROWS, DIM), operators)
    before = model.SerializeToString()
    with pytest.raises(ExportError, match="one Gather"):
        use_blocks(model, "table", blocks)
    assert model.SerializeToString() == before


def test_blocks_of_another_shape_are_refused(blocks: Blocks) -> None:
    model = graph(dequantise(blocks).reshape(N_ROWS, DIM))
    with pytest.raises(ExportError, match="50 x 96, the blocks hold 4768 elements"):
        use_blocks(model, "table", blocks[:-1])
