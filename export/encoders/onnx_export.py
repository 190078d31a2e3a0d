"""Export an encoder from torch to an artifact, through optimum. Needs the ``export`` extra.

optimum writes the graph up to the token vectors; pooling, dense layers and normalisation are appended to
it, the result is compared with torch, and only what agrees takes the name that was asked for.
"""

import contextlib
import dataclasses
import gc
import importlib.metadata
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import numpy as np
import onnx
import optimum.utils.logging
import safetensors.torch
import torch
import transformers
from optimum.exporters.onnx import onnx_export_from_model

from alignstream.export.encoders import hub, parity, weights
from alignstream.export.encoders.artifact_folder import check_output, new_folder
from alignstream.export.encoders.parity_texts import parity_texts
from alignstream.export.encoders.pooling import Dense, append_pooling
from alignstream.export.encoders.sentence_transformers import DenseFolder, Recipe, read_recipe
from alignstream.export.encoders.word_table import set_aside, write_graph
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import Manifest, Pooling
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import ExportError

#: What pooling.py writes needs 18 (axes of ReduceL2 as an input); optimum's BERT needs 14.
OPSET: Final = 18
#: Longer texts are cut; the models meant here were trained on at most this many tokens.
MAX_TOKENS: Final = 512
PRECISIONS: Final = ("fp32",)
#: Families whose layers are ``model.encoder.layer``, and whether positions count from pad_token_id + 1.
_FAMILIES: Final = {"bert": False, "roberta": True, "camembert": True, "xlm-roberta": True}
#: A protobuf message holds at most 2 GiB; the graph without the weights takes a few hundred kB.
_MAX_WEIGHT_BYTES: Final = 2 * 1024**3 - 16 * 1024**2

Warn = Callable[[str], None]
#: transformers annotates some of its functions and not others; taken as untyped throughout.
_library: Any = transformers


@dataclasses.dataclass(frozen=True)
class _Source:
    """A model folder and its name in the manifest."""

    folder: Path
    name: str
    revision: str
    default_prefix: str


def export_onnx(
    model: str,
    output: Path,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    prefix: str | None = None,
    precision: str = "fp32",
    overwrite: bool = False,
    warn: Warn | None = None,
) -> Manifest:
    """Export a model to an artifact folder.

    Parameters
    ----------
    model : str
        A local folder (transformers or sentence-transformers), a hub name, or ``"embedded"``.
    output : Path
        The folder to write; takes its name only when everything in it has been checked.
    layer : int, optional
        Transformer layers to keep, from 1. Default: all.
    pooling : {"mean", "cls", "pooler"}, optional
        Default: the pooling of the sentence-transformers folder, else mean.
    prefix : str, optional
        Text in front of every text. Default: ``"query: "`` for e5 models, else the folder's, else none.
    precision : str
        ``"fp32"``, the only one so far.
    overwrite : bool
        Replace an artifact that is there already.
    warn : callable, optional
        Takes each warning. Default: writes to standard error.

    Raises
    ------
    ExportError
        The model cannot be read or exported, or ``output`` must not be written.
    ParityError
        The exported graph does not give torch's vectors.
    """
    warn = warn or _warn_on_stderr
    if precision not in PRECISIONS:
        raise ExportError(f"unknown precision {precision!r}; supported: {', '.join(PRECISIONS)}")
    if pooling is not None and pooling not in get_args(Pooling):
        raise ExportError(f"unknown pooling {pooling!r}; supported: {', '.join(get_args(Pooling))}")
    output = Path(output)
    check_output(output, overwrite=overwrite)
    with _quiet(), _source(model) as source:
        recipe = read_recipe(source.folder)
        if prefix is None:
            prefix = source.default_prefix or recipe.prompt or ""
        options = _Options(layer, pooling or recipe.pooling or "mean", prefix, warn)
        with new_folder(output, overwrite=overwrite) as folder:
            fields, expected = _write(source, recipe, options, folder)
            # The torch model goes before the exported one comes: each may take gigabytes.
            gc.collect()
            artifact.seal(folder, **fields)
            report = parity.compare(OnnxEncoder(folder), expected)
            return artifact.seal(folder, **fields, parity=report)


class _Options(NamedTuple):
    layer: int | None
    pooling: Pooling
    prefix: str
    warn: Warn


@dataclasses.dataclass(frozen=True)
class _Loaded:
    reference: parity.Reference
    layer: int | None
    encoder_folder: Path


def _load(source: _Source, recipe: Recipe, options: _Options) -> _Loaded:
    """Load the torch model, cut at its layer, with its tokenizer."""
    folder, (layer, pooling, prefix, warn) = recipe.encoder, options
    # Without this file transformers guesses the family from the folder's name.
    if not (folder / "config.json").is_file():
        raise ExportError(f"{source.name}: no config.json in {folder}; is it a transformers model?")
    try:
        config = _library.AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = _library.AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except Exception as error:  # transformers raises any error of its parts
        raise ExportError(f"{source.name}: no readable config and tokenizer in {folder}: {error}") from error
    family = config.model_type
    if family not in _FAMILIES:
        raise ExportError(f"{source.name} is a {family} model; supported are {', '.join(_FAMILIES)}")
    n_layers = int(config.num_hidden_layers)
    if layer is not None and not 1 <= layer <= n_layers:
        raise ExportError(f"{source.name} has the layers 1 to {n_layers}; there is no layer {layer}")
    if layer == n_layers:
        layer = None
    is_raw = not recipe.pooling and any(name.endswith("ForMaskedLM") for name in config.architectures or ())
    if is_raw and layer is None:
        warn(
            f"{source.name} was trained to fill in words, not to compare texts: its last layer is a poor "
            f"default. Its middle layers align languages best; try --layer {max(1, round(n_layers * 2 / 3))}."
        )
    if pooling == "pooler" and layer is not None:
        warn(f"the pooler of {source.name} was trained on its last layer, not on layer {layer}")
    if recipe.lowers_case and _tells_case_apart(tokenizer):
        raise ExportError(
            f"{source.name} lowercases texts before its tokenizer (do_lower_case), which an artifact cannot; "
            "put a Lowercase normaliser into its tokenizer.json"
        )
    encoder, pooler = _load_model(source, folder, layer=layer, with_pooler=pooling == "pooler")
    offset = int(config.pad_token_id) + 1 if _FAMILIES[family] else 0
    return _Loaded(
        reference=parity.Reference(
            model=encoder,
            tokenizer=tokenizer,
            pooler=pooler,
            pooling=pooling,
            dense=tuple(map(_read_dense, recipe.dense)),
            prefix=prefix,
            max_tokens=min(MAX_TOKENS, int(config.max_position_embeddings) - offset),
        ),
        layer=layer,
        encoder_folder=folder,
    )


def _load_model(source: _Source, folder: Path, *, layer: int | None, with_pooler: bool) -> tuple[Any, Any]:
    """Return the model without its pooler, and the pooler where it is wanted."""
    try:
        model, info = _library.AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            add_pooling_layer=with_pooler,
            # Eager attention exports to a graph that onnxruntime runs 8 % faster than that of sdpa.
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ExportError(f"{source.name}: the weights in {folder} cannot be loaded: {error}") from error
    # transformers fills missing weights with random numbers and says so in a log line only.
    missing = sorted(info["missing_keys"])
    if missing:
        what = "has no pooler; choose --pooling mean or cls" if "pooler" in missing[0] else "is incomplete"
        raise ExportError(f"the checkpoint of {source.name} {what} (missing: {', '.join(missing[:3])})")
    model.eval()
    if layer is not None:
        model.encoder.layer = model.encoder.layer[:layer]
        model.config.num_hidden_layers = layer
    pooler, model.pooler = model.pooler, None
    weight_bytes = sum(parameter.numel() * 4 for parameter in model.parameters())
    if weight_bytes > _MAX_WEIGHT_BYTES:
        raise ExportError(
            f"{source.name} has {weight_bytes / 1024**3:.1f} GiB of float32 weights; one ONNX file holds less "
            "than 2 GiB, and an artifact keeps everything in one file: use --layer N or a smaller model"
        )
    return model, pooler


def _write(
    source: _Source, recipe: Recipe, options: _Options, folder: Path
) -> tuple[dict[str, Any], list[parity.Expected]]:
    """Write graph and tokenizer; return the manifest's fields, golden vectors included, and what torch gives."""
    loaded = _load(source, recipe, options)
    reference = loaded.reference
    model: Any = reference.model
    pooler = _pooler_dense(reference.pooler) if reference.pooler is not None else None
    # optimum copies the tokenizer of the folder that a model remembers; it is not needed here.
    model.config._name_or_path = ""  # noqa: SLF001 (transformers has no other way)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch,
        set_aside(model) as word_table,
    ):
        onnx_export_from_model(
            model, Path(scratch), task="feature-extraction", opset=OPSET, do_validation=False, device="cpu"
        )
        graph = onnx.load(str(Path(scratch) / artifact.MODEL))
    dim = append_pooling(graph, pooling=reference.pooling, pooler=pooler, dense=reference.dense)
    write_graph(graph, word_table, folder / artifact.MODEL)
    del graph
    _write_tokenizer(loaded, folder)
    fields: dict[str, Any] = {
        "source": source.name,
        "revision": source.revision,
        "family": model.config.model_type,
        "layer": loaded.layer,
        "pooling": reference.pooling,
        "dense": "+".join(layer.activation for layer in reference.dense) or None,
        "prefix": reference.prefix,
        "dim": dim,
        "max_tokens": reference.max_tokens,
        "precision": "fp32",
        "opset": OPSET,
        "weights_sha256": artifact.weights_sha256(_used_tensors(reference)),
        "golden": [
            artifact.GoldenText(
                text=text, vector=artifact.encode_vector(reference.encode(reference.token_ids(text))[0])
            )
            for text in artifact.GOLDEN_TEXTS
        ],
        "created_by": created_by("torch", "transformers", "optimum", "optimum-onnx"),
    }
    return fields, parity.expected(reference)


def _used_tensors(reference: parity.Reference) -> dict[str, Any]:
    """Return the parameters that the vector depends on, by checkpoint name; no buffers."""
    model = reference.model
    tensors = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    if reference.pooler is not None:
        tensors |= {
            f"pooler.{name}": parameter.detach().numpy()
            for name, parameter in reference.pooler.named_parameters()
        }
    for number, layer in enumerate(reference.dense):
        tensors[f"dense.{number}.weight"] = layer.weight
        if layer.bias is not None:
            tensors[f"dense.{number}.bias"] = layer.bias
    return tensors


def _pooler_dense(pooler: Any) -> Dense:  # noqa: ANN401 (BertPooler and its kin)
    return Dense(pooler.dense.weight.detach().numpy(), pooler.dense.bias.detach().numpy(), "tanh")


def _read_dense(wanted: DenseFolder) -> Dense:
    safe, pickled = wanted.folder / "model.safetensors", wanted.folder / "pytorch_model.bin"
    try:
        if safe.is_file():
            tensors = safetensors.torch.load_file(safe)
        else:
            # weights_only: tensors and nothing else, so no code of the file runs.
            tensors = torch.load(pickled, map_location="cpu", weights_only=True)
        weight = tensors["linear.weight"].float().numpy()
        bias = tensors["linear.bias"].float().numpy() if wanted.has_bias else None
    except Exception as error:  # three libraries, each with its own error types
        raise ExportError(f"{wanted.folder}: the dense layer cannot be read: {error}") from error
    return Dense(np.ascontiguousarray(weight), bias, wanted.activation)


def _tells_case_apart(tokenizer: Any) -> bool:  # noqa: ANN401 (transformers has no types)
    return bool(tokenizer("HARBOUR")["input_ids"] != tokenizer("harbour")["input_ids"])


def _write_tokenizer(loaded: _Loaded, folder: Path) -> None:
    """Copy the published ``tokenizer.json``; write transformers' own if none exists or they differ."""
    tokenizer = loaded.reference.tokenizer
    published = loaded.encoder_folder / artifact.TOKENIZER
    target = folder / artifact.TOKENIZER
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(
            f"{loaded.encoder_folder} has a tokenizer that cannot be written as {artifact.TOKENIZER}"
        )
    if published.is_file():
        shutil.copyfile(published, target)
        plain = _library.PreTrainedTokenizerFast(tokenizer_file=str(target))
        texts = [text for _, text in parity_texts()]
        if plain(texts)["input_ids"] == tokenizer(texts)["input_ids"]:
            return
    backend.no_padding()
    backend.no_truncation()
    backend.save(str(target))


@contextlib.contextmanager
def _source(model: str) -> Iterator[_Source]:
    """Give the folder of a name."""
    if model == weights.EMBEDDED:
        with tempfile.TemporaryDirectory(prefix="alignstream-") as scratch:
            weights.write_checkpoint(Path(scratch))
            yield _Source(Path(scratch), weights.SOURCE, weights.revision(), weights.PREFIX)
        return
    folder = Path(model)
    if folder.is_dir():
        folder = folder.resolve()
        name, revision = folder.name, "local"
    else:
        (folder, revision), name = hub.download(model), model
    yield _Source(folder, name, revision, weights.e5_prefix(name))


def created_by(*distributions: str) -> str:
    """Name this version and those of the libraries that took part."""
    names = ("alignstream", *distributions)
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _warn_on_stderr(message: str) -> None:
    sys.stderr.write(f"warning: {message}\n")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' tracing warnings and progress bars; errors are still raised."""
    before = _library.logging.get_verbosity(), optimum.utils.logging.get_verbosity()
    had_bars = _library.logging.is_progress_bar_enabled()
    _library.logging.set_verbosity_error()
    _library.logging.disable_progress_bar()
    optimum.utils.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _library.logging.set_verbosity(before[0])
        optimum.utils.logging.set_verbosity(before[1])
        if had_bars:
            _library.logging.enable_progress_bar()
