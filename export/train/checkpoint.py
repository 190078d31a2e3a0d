"""Save a training run after each pass, and resume it as if it had never stopped.

A folder holds ``checkpoint.json`` (pass, curves, identity of the run) and the tensors it names, safetensors. The
tensors are written first under a new name and JSON takes its place last: a crash leaves the pass before.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from alignstream.export.train.curves import Point, from_json, to_json
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TrainingError
from alignstream.models.files import replace_file

FORMAT: Final = "alignstream.training/1"
_JSON: Final = "checkpoint.json"
_TENSORS: Final = "pass-{:06d}.safetensors"


@dataclasses.dataclass(frozen=True)
class Run:
    """The identity of a run: two runs of one ``Run`` give the same bytes on the same device.

    Parameters
    ----------
    config : mapping
        The loss and its settings, without those that may change between stops: JSON values only.
    data_sha256 : str
        Hash of all vectors and of the start (``data_sha256``).
    """

    config: Mapping[str, Any]
    data_sha256: str

    @property
    def config_sha256(self) -> str:
        """The sha256 of the settings."""
        return hashlib.sha256(json.dumps(dict(self.config), sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Saved:
    """A run after a pass.

    Parameters
    ----------
    points : tuple of Point
        Pass 0 to the last.
    best_pass : int
    tensors : mapping of str to Tensor
        Weights, moments of the optimisers, the state of the random generator, the best map.
    """

    points: tuple[Point, ...]
    best_pass: int
    tensors: Mapping[str, Tensor]


def data_sha256(arrays: Sequence[Matrix]) -> str:
    """Return the sha256 of arrays, their shapes and their order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class Checkpoint:
    """The folder of one run.

    Parameters
    ----------
    folder : Path
        Made when it is first written to. Nothing else in it is touched.
    run : Run
        The run that will be trained.
    """

    def __init__(self, folder: Path, run: Run) -> None:
        self._folder = folder
        self._run = run

    def load(self) -> Saved | None:
        """Return where the run stopped, or None where it has not begun.

        Raises
        ------
        TrainingError
            It is the checkpoint of another run, or damaged.
        """
        path = self._folder / _JSON
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TrainingError(f"cannot read {path}: {error.strerror or error}") from error
        try:
            state = json.loads(text)
            if state["format"] != FORMAT:
                raise TrainingError(f"{path} has format {state['format']!r}, not {FORMAT}")
            sums = state["config_sha256"], state["data_sha256"]
            points, best = from_json(state["curves"]), int(state["best_pass"])
            name, expected, config = state["tensors"], state["tensors_sha256"], dict(state["config"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged(f"{_JSON}: {type(error).__name__}") from error
        self._check_same(sums, config)
        if name != _TENSORS.format(len(points) - 1) or not 0 <= best < len(points):
            raise self._damaged(f"{_JSON} contradicts itself")
        try:
            blob = (self._folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(f"{name}: {error.strerror or error}") from error
        if hashlib.sha256(blob).hexdigest() != expected:
            raise self._damaged(f"{name} has another sha256 than {_JSON} says")
        try:
            return Saved(points, best, safetensors.torch.load(blob))
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise self._damaged(f"{name}: {str(error)[:100]}") from error

    def save(self, saved: Saved) -> None:
        """Save the run.

        Raises
        ------
        TrainingError
            The disk refuses.
        """
        name = _TENSORS.format(len(saved.points) - 1)
        tensors = {key: value.detach().cpu().contiguous() for key, value in saved.tensors.items()}
        blob: bytes = safetensors.torch.save(tensors)
        state = {
            "format": FORMAT,
            "pass": len(saved.points) - 1,
            "best_pass": saved.best_pass,
            "config": dict(self._run.config),
            "config_sha256": self._run.config_sha256,
            "data_sha256": self._run.data_sha256,
            "tensors": name,
            "tensors_sha256": hashlib.sha256(blob).hexdigest(),
            "curves": to_json(saved.points),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / name, blob)
            replace_file(self._folder / _JSON, (json.dumps(state, indent=1) + "\n").encode())
            for earlier in range(len(saved.points) - 1):
                (self._folder / _TENSORS.format(earlier)).unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(
                f"cannot write the checkpoint {self._folder}: {error.strerror or error}"
            ) from error

    def _check_same(self, sums: tuple[str, str], config: Mapping[str, Any]) -> None:
        if sums[0] != self._run.config_sha256:
            names = sorted(
                name
                for name in {*config, *self._run.config}
                if config.get(name) != self._run.config.get(name)
            )
            raise TrainingError(
                f"the checkpoint {self._folder} is of a run with other settings ({', '.join(names)}); "
                "name another folder, or delete this one"
            )
        if sums[1] != self._run.data_sha256:
            raise TrainingError(
                f"the checkpoint {self._folder} is of a run on other texts, another encoder or another start; "
                "name another folder, or delete this one"
            )

    def _damaged(self, what: str) -> TrainingError:
        return TrainingError(f"the checkpoint {self._folder} is damaged ({what}); delete it and start again")
