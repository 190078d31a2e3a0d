"""Refine a map on translations by a contrastive or a ranking loss. Needs torch (the ``export`` extra)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from alignstream.export.train import judge, loop, losses
from alignstream.export.train.loop import OnPass, Refined
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TrainingError

PairLoss = Literal["contrastive", "ranking"]


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """Settings of training on pairs.

    Parameters
    ----------
    passes : int
        Passes at most.
    batch_size : int
        Pairs of a step; all others of the batch are negatives.
    lr : float
        Step of Adam, in units of the map's numbers.
    temperature : float
        Divides cosines.
    margin : float
        By which a translation must win; ranking only.
    hard_negatives : int
        Nearest wrong targets of each source, found with the start; ranking only.
    patience : int
        Passes without improvement after which it stops.
    seed : int
    both_sides : bool
        Whether targets go through the map too, as they do in an adapter whose map is for all texts.
    """

    passes: int = 30
    batch_size: int = 256
    lr: float = 1e-4
    temperature: float = 0.05
    margin: float = 0.3
    hard_negatives: int = 5
    patience: int = 5
    seed: int = 0
    both_sides: bool = False

    def __post_init__(self) -> None:
        if not (
            self.passes >= 0 and self.batch_size >= 2 and self.patience >= 1 and self.hard_negatives >= 0
        ):
            raise TrainingError(
                "passes and hard negatives must be at least 0, the patience at least 1 and a batch at least 2 pairs"
            )
        if not (0 < self.lr < float("inf") and 0 < self.temperature < float("inf") and 0 <= self.margin <= 2):
            raise TrainingError(
                "the step (--lr) and the temperature must be positive, the margin between 0 and 2"
            )

    def fixed(self, loss: str) -> dict[str, Any]:
        """Return the settings that define a run: all except ``passes``, so a run can be extended."""
        settings = dataclasses.asdict(self)
        del settings["passes"]
        return {"loss": loss, **settings}


def refine(
    X: Matrix,
    Y: Matrix,
    dev_X: Matrix,
    dev_Y: Matrix,
    *,
    start: Matrix,
    loss: PairLoss,
    config: PairConfig = PairConfig(),
    device: str | None = None,
    checkpoint: Path | None = None,
    on_pass: OnPass = lambda _: None,
) -> Refined:
    """Refine ``x W`` on pairs; the start is kept unless development pairs improve.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        Centred vectors, row by row translations; n >= 2.
    dev_X, dev_Y : ndarray of shape (m, dim), float32
        Others, to choose the best pass and to judge on; m >= 2.
    start : ndarray of shape (dim, dim)
        W of pass 0: a closed form.
    loss : {"contrastive", "ranking"}
        Symmetric InfoNCE, or translation ranking with a margin and hard negatives.
    device : str, optional
        Default: a GPU if there is one, else the CPU.
    checkpoint : Path, optional
        Folder to save the run to and resume from.
    on_pass : callable
        Called after every pass.

    Raises
    ------
    TrainingError
        Vectors are malformed, a setting is out of range, or the checkpoint is of another run.

    Notes
    -----
    O(n · (dim² + batch_size · dim)) a pass. Same numbers, settings and device: same bytes.
    """
    start = judge.check_vectors("start", start, dim=start.shape[-1], least=start.shape[-1])
    dim = len(start)
    X, Y = judge.check_pairs("pairs", X, Y, dim=dim)
    dev_X, dev_Y = judge.check_pairs("development pairs", dev_X, dev_Y, dim=dim)
    keeper = loop.open_checkpoint(checkpoint, config.fixed(loss), [X, Y, dev_X, dev_Y, start])
    chosen = loop.pick_device(device)
    with loop.deterministic():
        return loop.run(
            _PairRefiner(X, Y, start, loss, config, chosen),
            loop.Judge(dev_X, dev_Y, both_sides=config.both_sides),
            start,
            passes=config.passes,
            patience=config.patience,
            checkpoint=keeper,
            on_pass=on_pass,
        )


class _PairRefiner:
    """Adam on the map; batches in an order of their own each pass."""

    def __init__(  # noqa: PLR0917 (private, called once)
        self, X: Matrix, Y: Matrix, start: Matrix, loss: PairLoss, config: PairConfig, device: torch.device
    ) -> None:
        self._X, self._Y = torch.from_numpy(X).to(device), torch.from_numpy(Y).to(device)
        self._W = torch.from_numpy(start.copy()).to(device).requires_grad_()
        self._optimiser = torch.optim.Adam([self._W], lr=config.lr)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._loss, self._config, self._device = loss, config, device
        self._wrong: Tensor | None = None
        if loss == "ranking" and config.hard_negatives > 0:
            target = Y @ start if config.both_sides else Y
            self._wrong = torch.from_numpy(judge.nearest_wrong(X @ start, target, config.hard_negatives)).to(
                device
            )

    def run_pass(self) -> dict[str, float]:
        order = torch.randperm(len(self._X), generator=self._generator).to(self._device)
        total, n = 0.0, 0
        for rows in torch.split(order, self._config.batch_size):
            if len(rows) < 2:  # a pair without negatives has nothing to tell
                continue
            self._optimiser.zero_grad()
            value = self._value(rows)
            value.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            total += float(value.detach()) * len(rows)
            n += len(rows)
        return {"loss": total / n}

    def matrix(self) -> Matrix:
        W: Matrix = self._W.detach().cpu().numpy().copy()
        return W

    def tensors(self) -> dict[str, Tensor]:
        return {
            "map": self._W,
            "generator": self._generator.get_state(),
            **loop.optimiser_tensors("adam", self._optimiser),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self._W.copy_(tensors["map"])
        self._generator.set_state(tensors["generator"])
        loop.restore_optimiser("adam", self._optimiser, tensors)

    def _value(self, rows: Tensor) -> Tensor:
        config = self._config
        source, target = self._X[rows] @ self._W, self._target(self._Y[rows])
        if self._loss == "contrastive":
            return losses.info_nce(source, target, temperature=config.temperature)
        hard = None if self._wrong is None else self._target(self._Y[self._wrong[rows]])
        return losses.translation_ranking(
            source, target, margin=config.margin, temperature=config.temperature, hard=hard
        )

    def _target(self, Y: Tensor) -> Tensor:
        return Y @ self._W if self._config.both_sides else Y
