"""Read a sentence-transformers folder by its ``modules.json``: where the encoder is and what follows it.

The library itself is not needed. A folder that asks for something that a graph cannot hold is an error,
since leaving it out would give vectors that look right and are not the model's.
"""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

from alignstream.export.encoders.pooling import ACTIVATIONS, Activation
from alignstream.models.encoder.artifact import Pooling
from alignstream.models.errors import ExportError

MODULES: Final = "modules.json"
CONFIG: Final = "config.json"
_POOLING_KEYS: Final[dict[str, Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


class DenseFolder(NamedTuple):
    """A dense layer on disk: its folder, whether it has a bias, and its activation."""

    folder: Path
    has_bias: bool
    activation: Activation


class Recipe(NamedTuple):
    """The content of a folder: the encoder's own folder, its pooling, and the dense layers after it, in order."""

    encoder: Path
    pooling: Pooling | None
    dense: tuple[DenseFolder, ...]
    lowers_case: bool
    prompt: str | None


def read_recipe(folder: Path) -> Recipe:
    """Read the steps of a model folder after its last layer.

    Parameters
    ----------
    folder : Path
        A folder with ``modules.json``, or a plain transformers folder (which asks for nothing).

    Raises
    ------
    ExportError
        A file is not what sentence-transformers writes, or asks for something that is not supported.
    """
    if not (folder / MODULES).is_file():
        return Recipe(encoder=folder, pooling=None, dense=(), lowers_case=False, prompt=None)
    modules = _read_json(folder / MODULES)
    if not isinstance(modules, list) or not modules:
        raise ExportError(f"{folder / MODULES} is not a list of modules")
    steps = [(str(module.get("type", "")).rsplit(".", 1)[-1], _inside(folder, module)) for module in modules]
    kinds = [kind for kind, _ in steps]
    if kinds[0] != "Transformer" or "Pooling" not in kinds[1:2]:
        raise ExportError(
            f"{folder / MODULES} must begin with Transformer and Pooling, not {', '.join(kinds)}: "
            "the model cannot be exported"
        )
    dense: list[DenseFolder] = []
    for kind, path in steps[2:]:
        if kind == "Dense":
            dense.append(_dense(path))
        elif kind not in {"Normalize", "Dropout"}:
            raise ExportError(f"{folder / MODULES} has a module {kind}, which is not supported")
    encoder = steps[0][1]
    settings = encoder / "sentence_bert_config.json"
    lowers_case = settings.is_file() and bool(_read_json(settings).get("do_lower_case"))
    return Recipe(
        encoder=encoder,
        pooling=_pooling(steps[1][1]),
        dense=tuple(dense),
        lowers_case=lowers_case,
        prompt=_default_prompt(folder),
    )


def _pooling(folder: Path) -> Pooling:
    config = _read_json(folder / CONFIG)
    wanted = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if "pooling_mode" in config:  # newer releases name the mode instead
        wanted = [
            f"pooling_mode_{config['pooling_mode']}_{'token' if config['pooling_mode'] == 'cls' else 'tokens'}"
        ]
    if len(wanted) != 1 or wanted[0] not in _POOLING_KEYS:
        raise ExportError(
            f"{folder / CONFIG} asks for {', '.join(wanted) or 'no pooling'}; "
            f"supported is one of {', '.join(_POOLING_KEYS)}"
        )
    return _POOLING_KEYS[wanted[0]]


def _dense(folder: Path) -> DenseFolder:
    config = _read_json(folder / CONFIG)
    name = (
        str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1].lower()
    )
    for activation in ACTIVATIONS:
        if activation == name:
            return DenseFolder(folder=folder, has_bias=bool(config.get("bias", True)), activation=activation)
    raise ExportError(
        f"{folder / CONFIG} asks for the activation {name}; supported: {', '.join(ACTIVATIONS)}"
    )


def _default_prompt(folder: Path) -> str | None:
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return None
    config = _read_json(path)
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    return str(prompts[name]) if name in prompts else None


def _inside(folder: Path, module: dict[str, Any]) -> Path:
    path = folder / str(module.get("path", ""))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{folder / MODULES} points outside its folder: {module.get('path')}")
    return path


def _read_json(path: Path) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
