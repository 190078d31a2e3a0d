"""Append pooling, dense layers and L2 normalisation to an encoder's graph. onnx and numpy; never torch."""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from alignstream.models.encoder.artifact import Pooling
from alignstream.models.encoder.onnx import SENTENCE, TOKEN
from alignstream.models.errors import ExportError

Activation = Literal["tanh", "relu", "sigmoid", "gelu", "identity"]

#: How each activation is written in a graph of opset 18; gelu (20) is composed below.
_OPERATORS: Final = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}
ACTIVATIONS: Final[tuple[Activation, ...]] = ("tanh", "relu", "sigmoid", "gelu", "identity")
#: torch.nn.functional.normalize divides by at least this.
MIN_NORM: Final = 1e-12
#: In front of every name that is added here, so that none meets a name of the encoder's own graph.
SCOPE: Final = "/pooling"


class Dense(NamedTuple):
    """A dense layer on the pooled vector: ``activation(weight @ x + bias)``.

    ``weight`` has shape (out, in) as torch keeps it, ``bias`` (out,) or is None; both float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    activation: Activation


class _Chain:
    """Nodes that follow one another, each reading what the one before it wrote."""

    def __init__(self, graph: onnx.GraphProto, start: str) -> None:
        self.graph = graph
        self.value = start

    def then(self, operator: str, *others: str, name: str, **attributes: Any) -> str:  # noqa: ANN401
        output = f"{SCOPE}/{name}"
        self.graph.node.append(
            helper.make_node(
                operator, [self.value, *others], [output], name=f"{output}/{operator}", **attributes
            )
        )
        self.value = output
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        full_name = f"{SCOPE}/{name}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), full_name))
        return full_name


def append_pooling(
    model: onnx.ModelProto,
    *,
    pooling: Pooling,
    pooler: Dense | None,
    dense: Sequence[Dense],
) -> int:
    """Turn an encoder's graph with one output into one with token and sentence vectors; return the dim.

    The vector of a text depends on its own tokens alone, bit for bit. onnxruntime's ReduceSum adds in
    groups of four and its MatMul in blocks, so zeros of padding move the grouping and change last bits
    (measured: up to 4e-5 on sums of 512 numbers around 1); CumSum adds one row after the other, and trailing
    zeros change nothing. It costs less than a millisecond for 2,048 tokens.

    Parameters
    ----------
    model : onnx.ModelProto
        Inputs ``input_ids`` and ``attention_mask``; one output of shape (batch, tokens, dim). Changed in place.
    pooling : {"mean", "cls", "pooler"}
        How token vectors become one.
    pooler : Dense or None
        The model's own pooler, for ``pooling="pooler"``.
    dense : sequence of Dense
        What follows pooling, in order.

    Raises
    ------
    ExportError
        The graph is not an encoder's, or it has no pooler.
    """
    graph = model.graph
    if len(graph.output) != 1 or "attention_mask" not in {value.name for value in graph.input}:
        raise ExportError("the exported graph must have an attention mask and one output: is it an encoder?")
    dim = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    _rename(graph, graph.output[0].name, TOKEN)
    chain = _Chain(graph, TOKEN)
    if pooling == "mean":
        _append_mean(chain)
    else:
        chain.then("Gather", chain.constant("first", np.array(0)), name="cls", axis=1)
    layers = list(dense)
    if pooling == "pooler":
        if pooler is None:
            raise ExportError("this model has no pooler; choose --pooling mean or cls")
        layers.insert(0, pooler)
    for number, layer in enumerate(layers):
        _append_dense(chain, layer, f"dense{number}")
        dim = layer.weight.shape[0]
    norm = _append_norm(chain)
    # The output's own name, without the scope.
    graph.node.append(
        helper.make_node("Div", [chain.value, norm], [SENTENCE], name=f"{SCOPE}/{SENTENCE}/Div")
    )
    graph.output.append(
        helper.make_tensor_value_info(SENTENCE, onnx.TensorProto.FLOAT, ["batch_size", int(dim)])
    )
    return int(dim)


def _append_mean(chain: _Chain) -> None:
    tokens = chain.value
    chain.value = "attention_mask"
    chain.then("ReduceSum", chain.constant("token_axis", np.array([1])), name="whole_count", keepdims=1)
    count = chain.then("Cast", name="count", to=onnx.TensorProto.FLOAT)
    chain.value = "attention_mask"
    chain.then("Cast", name="mask", to=onnx.TensorProto.FLOAT)
    mask = chain.then("Unsqueeze", chain.constant("last_axis", np.array([2])), name="mask_column")
    chain.value = tokens
    chain.then("Mul", mask, name="masked")
    chain.then("CumSum", chain.constant("along_tokens", np.array(1)), name="running_sum")
    chain.then("Gather", chain.constant("last", np.array(-1)), name="sum", axis=1)
    chain.then("Div", count, name="mean")


def _append_dense(chain: _Chain, layer: Dense, name: str) -> None:
    chain.then("MatMul", chain.constant(f"{name}.weight", layer.weight.T), name=f"{name}/product")
    if layer.bias is not None:
        chain.then("Add", chain.constant(f"{name}.bias", layer.bias), name=f"{name}/sum")
    if layer.activation in _OPERATORS:
        chain.then(_OPERATORS[layer.activation], name=f"{name}/activation")
    elif layer.activation == "gelu":
        x = chain.value
        chain.then("Mul", chain.constant(f"{name}/half_root", _scalar(0.5**0.5)), name=f"{name}/scaled")
        chain.then("Erf", name=f"{name}/erf")
        chain.then("Add", chain.constant(f"{name}/one", _scalar(1.0)), name=f"{name}/shifted")
        chain.then("Mul", x, name=f"{name}/twice")
        chain.then("Mul", chain.constant(f"{name}/half", _scalar(0.5)), name=f"{name}/activation")


def _append_norm(chain: _Chain) -> str:
    vector = chain.value
    axis = chain.constant("vector_axis", np.array([1]))
    chain.then("ReduceL2", axis, name="length", keepdims=1)
    smallest = chain.constant("min_norm", _scalar(MIN_NORM))
    norm = chain.then("Max", smallest, name="length_or_more")
    chain.value = vector
    return norm


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
    for value in (*graph.output, *graph.value_info):
        if value.name == old:
            value.name = new


def _scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, dtype=np.float32)
