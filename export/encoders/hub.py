"""Fetch a model's files from the hub, at one commit, and nothing that is not needed to export it."""

from pathlib import Path
from typing import Final

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from alignstream.models.errors import ExportError

_PATTERNS: Final = ("*.json", "*.txt", "*.model", "model*.safetensors", "*/model.safetensors")
_PICKLED: Final = ("pytorch_model*.bin", "*/pytorch_model.bin")
#: Other forms of the same weights.
_IGNORED: Final = ("onnx/*", "openvino/*", "tf_*", "flax_*", "rust_*", "original/*")


def download(name: str) -> tuple[Path, str]:
    """Return the folder of a hub model, and its commit. A model that was fetched before is not fetched again.

    Raises
    ------
    ExportError
        The model does not exist, or the hub cannot be reached and the model was never fetched.
    """
    try:
        return _snapshot(name, _patterns(name))
    except (HfHubHTTPError, HFValidationError) as error:
        raise ExportError(
            f"{name!r} is neither a folder here nor a model on the hub: {_first_line(error)}"
        ) from error
    except OSError as error:  # every failure of a connection is one, in this library and below it
        try:
            return _snapshot(name, (*_PATTERNS, *_PICKLED), is_local=True)
        except (OSError, ValueError):
            raise ExportError(
                f"{name!r} is not a folder here, and the model hub cannot be reached ({type(error).__name__}); "
                "check the network, give a folder, or use --model embedded"
            ) from error


def _patterns(name: str) -> tuple[str, ...]:
    files = [sibling.rfilename for sibling in huggingface_hub.HfApi().model_info(name).siblings or ()]
    has_safetensors = any(file.endswith(".safetensors") and "/" not in file for file in files)
    dense_pickled = [file for file in files if "_Dense/" in file and file.endswith(".bin")]
    return (*_PATTERNS, *dense_pickled) if has_safetensors else (*_PATTERNS, *_PICKLED)


def _snapshot(name: str, patterns: tuple[str, ...], *, is_local: bool = False) -> tuple[Path, str]:
    folder = Path(
        huggingface_hub.snapshot_download(
            name, allow_patterns=list(patterns), ignore_patterns=list(_IGNORED), local_files_only=is_local
        )
    )
    return folder, folder.name


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
