"""A real encoder artifact that loads at once: for tests of everything but the vectors' meaning."""

from pathlib import Path

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

from alignstream.export.encoders.pooling import append_pooling
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import GoldenText

DIM = 16
MAX_TOKENS = 64
N_WORDS = 500
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
#: Width of the layers that take time; with it a layer takes about 10 µs a token on two cores.
WORK_WIDTH = 4096
TABLE = np.random.default_rng(3).standard_normal((len(SPECIAL) + N_WORDS, DIM)).astype(np.float32)
GOLDEN = "w1 w2 w3"


def text_of(number: int, n_words: int = 6) -> str:
    """Return a text of known words; another one for every number."""
    draw = np.random.default_rng(number)
    return " ".join(f"w{word}" for word in draw.integers(N_WORDS, size=n_words))


def write_artifact(folder: Path, *, n_work_layers: int = 0, weights_sha256: str = "0" * 64) -> Path:
    """Write an artifact whose token vectors are rows of a table.

    With ``n_work_layers`` an inference takes time in proportion to its tokens, and gives the same vectors. Another
    ``weights_sha256`` makes it an encoder of another fingerprint.
    """
    folder.mkdir()
    onnx.save(_graph(n_work_layers), str(folder / artifact.MODEL))
    _write_tokenizer(folder / artifact.TOKENIZER)
    artifact.seal(
        folder,
        source="tiny",
        revision="1",
        family="bert",
        layer=None,
        pooling="mean",
        dense=None,
        prefix="",
        dim=DIM,
        max_tokens=MAX_TOKENS,
        precision="fp32",
        opset=18,
        weights_sha256=weights_sha256,
        golden=[GoldenText(GOLDEN, artifact.encode_vector(_golden()))],
        created_by="a test",
    )
    return folder


def _golden() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the golden text's vector, by numpy alone."""
    ids = [2, *(len(SPECIAL) + int(word[1:]) for word in GOLDEN.split()), 3]
    mean = TABLE[ids].astype(np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def _write_tokenizer(path: Path) -> None:
    words = [*SPECIAL, *(f"w{number}" for number in range(N_WORDS))]
    vocabulary = {word: position for position, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 (a word)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))


def _graph(n_work_layers: int) -> onnx.ModelProto:
    draw = np.random.default_rng(5)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["looked_up"], axis=0)]
    tensors = [numpy_helper.from_array(TABLE, "table")]
    last = "looked_up"
    if n_work_layers:
        for name, shape in (("widen", (DIM, WORK_WIDTH)), ("narrow", (WORK_WIDTH, DIM))):
            # Numbers keep their size from layer to layer: those next to nothing take a hundred times as long.
            matrix = draw.standard_normal(shape) / np.sqrt(shape[0])
            tensors.append(numpy_helper.from_array(matrix.astype(np.float32), name))
        tensors.append(numpy_helper.from_array(np.zeros(1, dtype=np.float32), "nothing"))
        for layer in range(n_work_layers):
            nodes += [
                helper.make_node("MatMul", [last, "widen"], [f"wide{layer}"]),
                helper.make_node("Tanh", [f"wide{layer}"], [f"bent{layer}"]),
                helper.make_node("MatMul", [f"bent{layer}", "narrow"], [f"worked{layer}"]),
            ]
            last = f"worked{layer}"
        # What was worked out counts for nothing, but has to be worked out.
        nodes.append(helper.make_node("Mul", [last, "nothing"], ["ignored"]))
        last = "ignored"
        nodes.append(helper.make_node("Add", ["looked_up", last], ["hidden"]))
    else:
        nodes.append(helper.make_node("Identity", ["looked_up"], ["hidden"]))
    axes = ["batch_size", "sequence_length"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, axes)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*axes, DIM])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    append_pooling(model, pooling="mean", pooler=None, dense=())
    return model
