"""The loop that every refiner runs in: passes over the texts, early stopping, checkpoints, the verdict.

A *pass* takes every text once: what machine learning calls an epoch, a word that names something else here.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor

from alignstream.export.train.checkpoint import Checkpoint, Run, Saved, data_sha256
from alignstream.export.train.curves import Point
from alignstream.export.train.judge import ACCURACY, MARGIN, Figures, dev_rank, figures
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TrainingError

_BEST: Final = "best"
OnPass = Callable[[Point], None]


@dataclasses.dataclass(frozen=True)
class Refined:
    """Result of training.

    Parameters
    ----------
    matrix : ndarray of shape (dim, dim), float32
        The best pass's map if it was accepted, else the start.
    curves : tuple of Point
        Pass 0 (the start) to the last that ran.
    accepted : bool
        Whether development pairs improved.
    reason : str
        In a sentence, with its figures.
    best_pass : int
        The pass that was judged; 0 where none was better than the start.
    """

    matrix: Matrix
    curves: tuple[Point, ...]
    accepted: bool
    reason: str
    best_pass: int


class Refiner(Protocol):
    """One loss with its weights, its optimisers and its random generator."""

    def run_pass(self) -> dict[str, float]:
        """Train on every text once; return ``loss`` and what else it measured."""

    def matrix(self) -> Matrix:
        """Return a copy of the current map, shape (dim, dim)."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the next pass depends on."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what ``tensors`` returned."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """How maps are compared.

    Parameters
    ----------
    dev_X, dev_Y : ndarray of shape (n, dim), float32
        Development pairs.
    both_sides : bool
        Whether targets go through the map too.
    measure : callable
        Further figures of a map, by name.
    rank : callable
        Turns figures into a value that is highest for the best pass. Default: accuracy, then margin, on
        development pairs.
    """

    dev_X: Matrix  # noqa: N815 (a matrix)
    dev_Y: Matrix  # noqa: N815 (a matrix)
    both_sides: bool = False
    measure: Callable[[Matrix], Mapping[str, float]] = lambda _: {}
    rank: Callable[[Figures], tuple[float, ...]] = dev_rank

    def figures(self, W: Matrix) -> dict[str, float]:
        """Return the figures of a map."""
        target = self.dev_Y @ W if self.both_sides else self.dev_Y
        return figures(self.dev_X @ W, target) | dict(self.measure(W))


def run(
    refiner: Refiner,
    judge: Judge,
    start: Matrix,
    *,
    passes: int,
    patience: int,
    checkpoint: Checkpoint | None = None,
    on_pass: OnPass = lambda _: None,
) -> Refined:
    """Train until nothing improves any more, and say whether the best pass beats the start.

    Parameters
    ----------
    start : ndarray of shape (dim, dim), float32
        Pass 0.
    passes : int
        Passes at most.
    patience : int
        Passes without a better one after which it stops.
    checkpoint : Checkpoint, optional
        Where the run resumes from and is saved after each pass.
    on_pass : callable
        Called after every pass, when it is on disk.

    Raises
    ------
    TrainingError
        The checkpoint is of another run, damaged, or cannot be written.
    """
    saved = checkpoint.load() if checkpoint is not None else None
    points = list(saved.points) if saved is not None else [Point(0, judge.figures(start))]
    best_pass, best = 0, start
    if saved is not None:
        best_pass = saved.best_pass
        best = _restore(refiner, saved)
    diverged = False
    while len(points) <= passes and len(points) - 1 - best_pass < patience:
        measured = refiner.run_pass()
        W = refiner.matrix()
        if not (all(map(math.isfinite, measured.values())) and np.all(np.isfinite(W))):
            diverged = True
            break
        point = Point(len(points), measured | judge.figures(W))
        if judge.rank(point.figures) > judge.rank(points[best_pass].figures):
            best_pass, best = point.number, W
        points.append(point)
        if checkpoint is not None:
            tensors = refiner.tensors() | {_BEST: torch.from_numpy(best)}
            checkpoint.save(Saved(tuple(points), best_pass, tensors))
        on_pass(point)
    return _verdict(judge, points, best_pass, best, start, diverged=diverged)


def open_checkpoint(
    folder: Path | None, config: Mapping[str, Any], arrays: list[Matrix]
) -> Checkpoint | None:
    """Return the checkpoint of a run, named by its settings and all its numbers; None without a folder."""
    return None if folder is None else Checkpoint(folder, Run(config, data_sha256(arrays)))


def pick_device(name: str | None) -> torch.device:
    """Return the device of that name; by default a GPU if there is one, else the CPU.

    Raises
    ------
    TrainingError
        The device does not exist.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"{name!r} is not a device; 'cpu' and 'cuda' are") from error
    if device.type not in {"cpu", "cuda"}:
        raise TrainingError(f"{name!r} is not supported; 'cpu' and 'cuda' are")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(f"there is no device {name!r} here; leave --device out, or use 'cpu'")
    return device


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Let torch use deterministic algorithms only, and restore its setting at the end."""
    # cuBLAS reads this when it starts; without it torch refuses matrix products there.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns_only)


def optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's moments and step counts by name."""
    return {
        f"{prefix}.{position}.{name}": tensor
        for position, state in optimiser.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def restore_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimiser_tensors`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(f"{prefix}."):
            _, position, name = key.rsplit(".", 2)
            state.setdefault(int(position), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _restore(refiner: Refiner, saved: Saved) -> Matrix:
    try:
        refiner.restore(saved.tensors)
        best: Matrix = saved.tensors[_BEST].numpy()
    except (KeyError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"the checkpoint lacks tensors of this run ({str(error)[:100]}); delete it and start again"
        ) from error
    return best


def _verdict(
    judge: Judge, points: list[Point], best_pass: int, best: Matrix, start: Matrix, *, diverged: bool
) -> Refined:
    before, after = points[0].figures, points[best_pass].figures
    n = f"{len(judge.dev_X)} development pairs"
    accepted = best_pass > 0 and dev_rank(after) > dev_rank(before)
    if accepted:
        reason = f"pass {best_pass}: on {n} {change(before, after)}"
    elif best_pass > 0:
        reason = f"pass {best_pass} was chosen, but on {n} it does not beat pass 0: {change(before, after)}"
    else:
        reason = (
            f"none of {len(points) - 1} passes beats pass 0, judged with {n}: "
            f"accuracy {before[ACCURACY]:.1f}, margin {before[MARGIN]:.4f}"
        )
    if diverged:
        reason += f"; pass {len(points)} diverged (its numbers are not finite)"
    return Refined((best if accepted else start).copy(), tuple(points), accepted, reason, best_pass)


def change(before: Figures, after: Figures) -> str:
    """Say how the figures on development pairs change."""
    return (
        f"accuracy goes from {before[ACCURACY]:.1f} to {after[ACCURACY]:.1f}, "
        f"the margin from {before[MARGIN]:.4f} to {after[MARGIN]:.4f}"
    )
