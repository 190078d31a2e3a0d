"""Refine a map without pairs: it learns to deceive a discriminator that tells the two languages apart.

Needs torch (the ``export`` extra). Hardly ever better than self-learning and often useless (Søgaard et al.
2018): it is here to be measured, and its map must beat the start on development pairs like the others.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alignstream.export.data.texts import evenly_spaced
from alignstream.export.train import judge, loop, losses
from alignstream.export.train.loop import OnPass, Refined
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TrainingError
from alignstream.models.fit.self_learning import N_NEIGHBOURS, mutual_neighbours

#: Fewer texts of a side than this say nothing of where its language lies.
MIN_TEXTS: Final = 20
#: Texts of each side that the choice of the pass looks at.
_CHOICE_TEXTS: Final = 3000
_LEAK: Final = 0.2
CSLS: Final = "csls"


@dataclasses.dataclass(frozen=True)
class AdversarialConfig:
    """Settings of training without pairs.

    Parameters
    ----------
    passes : int
        Passes at most.
    batch_size : int
        Texts of either side in a step.
    lr : float
        Learning rate of the map's Adam.
    discriminator_lr : float
        Learning rate of the discriminator's.
    discriminator_steps : int
        Steps of the discriminator for each step of the map.
    hidden : int
        Units of its two hidden layers.
    dropout : float
        Share of its inputs that are left out.
    smoothing : float
        Smoothing of its labels.
    beta : float
        Size of the pull toward an orthogonal map after each step.
    patience : int
        Passes without improvement after which it stops.
    seed : int
    """

    passes: int = 20
    batch_size: int = 64
    lr: float = 1e-4
    discriminator_lr: float = 1e-3
    discriminator_steps: int = 5
    hidden: int = 256
    dropout: float = 0.1
    smoothing: float = 0.1
    beta: float = 0.01
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not (
            self.passes >= 0
            and min(self.batch_size, self.discriminator_steps, self.hidden, self.patience) >= 1
        ):
            raise TrainingError(
                "passes must be at least 0; the batch, the discriminator and the patience at least 1"
            )
        if not (0 < self.lr < float("inf") and 0 < self.discriminator_lr < float("inf")):
            raise TrainingError("the steps (--lr) must be positive")
        if not (0 <= self.dropout < 1 and 0 <= self.smoothing < 0.5 and 0 <= self.beta < 0.5):
            raise TrainingError(
                "dropout must be below 1, smoothing and beta below 0.5, all of them at least 0"
            )

    def fixed(self) -> dict[str, Any]:
        """Return the settings that define a run: all except ``passes``, so a run can be extended."""
        settings = dataclasses.asdict(self)
        del settings["passes"]
        return {"loss": "adversarial", **settings}


def refine_unpaired(
    X: Matrix,
    Y: Matrix,
    dev_X: Matrix,
    dev_Y: Matrix,
    *,
    config: AdversarialConfig = AdversarialConfig(),
    device: str | None = None,
    checkpoint: Path | None = None,
    on_pass: OnPass = lambda _: None,
) -> Refined:
    """Refine ``x W`` from the identity on two sets that nothing pairs.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim) and (m, dim), float32
        Centred vectors of texts in either language, at least 20 of each.
    dev_X, dev_Y : ndarray of shape (k, dim), float32
        Development pairs that the result is judged on. They do not choose the pass: the mean CSLS similarity
        of mutual neighbours does, without labels.
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
    Conneau et al. 2018, "Word Translation Without Parallel Data": the map is kept close to orthogonal. A
    pass is as many steps as batches of the longer side.
    """
    dim = X.shape[-1]
    X = judge.check_vectors("source texts", X, dim=dim, least=MIN_TEXTS)
    Y = judge.check_vectors("target texts", Y, dim=dim, least=MIN_TEXTS)
    dev_X, dev_Y = judge.check_pairs("development pairs", dev_X, dev_Y, dim=dim)
    start = np.eye(dim, dtype=np.float32)
    keeper = loop.open_checkpoint(checkpoint, config.fixed(), [X, Y, dev_X, dev_Y, start])
    chosen = loop.pick_device(device)
    some_X, some_Y = (V[evenly_spaced(len(V), _CHOICE_TEXTS)] for V in (X, Y))

    def measure(W: Matrix) -> dict[str, float]:
        return {
            CSLS: mean_csls(some_X @ W, some_Y),
            "orthogonality": losses.orthogonality_error(torch.from_numpy(W)),
        }

    with loop.deterministic():
        return loop.run(
            _AdversarialRefiner(X, Y, start, config, chosen),
            loop.Judge(dev_X, dev_Y, measure=measure, rank=lambda figures: (figures[CSLS],)),
            start,
            passes=config.passes,
            patience=config.patience,
            checkpoint=keeper,
            on_pass=on_pass,
        )


def mean_csls(X: Matrix, Y: Matrix) -> float:
    """Return the mean CSLS similarity of texts that are each other's nearest; -2 if there are none.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim) and (m, dim), float32
        Mapped vectors of any length.

    Notes
    -----
    ``2 cos(x, y) - r(x) - r(y)``, r the mean cosine with the ten nearest of the other side.
    """
    A, B = judge.unit(X).astype(np.float64), judge.unit(Y).astype(np.float64)
    pairs = mutual_neighbours(A, B)
    if len(pairs.source) == 0:
        return -2.0
    k = min(N_NEIGHBOURS, len(A), len(B))
    cosines = np.einsum("ij,ij->i", A[pairs.source], B[pairs.target])
    near_a = np.partition(A[pairs.source] @ B.T, -k, axis=1)[:, -k:].mean(axis=1)
    near_b = np.partition(B[pairs.target] @ A.T, -k, axis=1)[:, -k:].mean(axis=1)
    return float((2.0 * cosines - near_a - near_b).mean())


class _AdversarialRefiner:
    """Adam on the discriminator and on the map, in turn."""

    def __init__(
        self, X: Matrix, Y: Matrix, start: Matrix, config: AdversarialConfig, device: torch.device
    ) -> None:
        # Numbers of a unit vector are small; a layer with weights of the usual size needs them around 1.
        scale = float(np.sqrt(X.shape[1]))
        self._X, self._Y = (torch.from_numpy(judge.unit(V) * scale).to(device) for V in (X, Y))
        self._W = torch.from_numpy(start.copy()).to(device).requires_grad_()
        self._config, self._device = config, device
        self._generator = torch.Generator().manual_seed(config.seed)
        sizes = (X.shape[1], config.hidden, config.hidden, 1)
        self._weights = [
            (torch.randn(a, b, generator=self._generator) * (2.0 / a) ** 0.5).to(device).requires_grad_()
            for a, b in itertools.pairwise(sizes)
        ]
        self._biases = [torch.zeros(b, device=device, requires_grad=True) for b in sizes[1:]]
        self._on_map = torch.optim.Adam([self._W], lr=config.lr, betas=(0.5, 0.999))
        self._on_discriminator = torch.optim.Adam(
            [*self._weights, *self._biases], lr=config.discriminator_lr, betas=(0.5, 0.999)
        )

    def run_pass(self) -> dict[str, float]:
        config = self._config
        steps = -(-max(len(self._X), len(self._Y)) // config.batch_size)
        of_map = of_discriminator = 0.0
        for _ in range(steps):
            for _ in range(config.discriminator_steps):
                source, target = self._batch()
                self._on_discriminator.zero_grad()
                loss = losses.discriminator_loss(
                    self._says((source @ self._W).detach()), self._says(target), smoothing=config.smoothing
                )
                loss.backward()  # type: ignore[no-untyped-call]
                self._on_discriminator.step()
                of_discriminator += float(loss.detach()) / config.discriminator_steps
            source, target = self._batch()
            self._on_map.zero_grad()
            map_loss = losses.map_loss(
                self._says(source @ self._W), self._says(target), smoothing=config.smoothing
            )
            map_loss.backward()  # type: ignore[no-untyped-call]
            self._on_map.step()
            with torch.no_grad():
                self._W.copy_(losses.orthogonalise(self._W, config.beta))
            of_map += float(map_loss.detach())
        return {"loss": of_map / steps, "discriminator": of_discriminator / steps}

    def matrix(self) -> Matrix:
        W: Matrix = self._W.detach().cpu().numpy().copy()
        return W

    def tensors(self) -> dict[str, Tensor]:
        named = {"map": self._W, "generator": self._generator.get_state()}
        for position, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            named |= {f"weight.{position}": weight, f"bias.{position}": bias}
        return (
            named
            | loop.optimiser_tensors("adam-map", self._on_map)
            | loop.optimiser_tensors("adam-discriminator", self._on_discriminator)
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self._W.copy_(tensors["map"])
            for position, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
                weight.copy_(tensors[f"weight.{position}"])
                bias.copy_(tensors[f"bias.{position}"])
        self._generator.set_state(tensors["generator"])
        loop.restore_optimiser("adam-map", self._on_map, tensors)
        loop.restore_optimiser("adam-discriminator", self._on_discriminator, tensors)

    def _batch(self) -> tuple[Tensor, Tensor]:
        n = self._config.batch_size
        source, target = (
            V[torch.randint(len(V), (n,), generator=self._generator).to(self._device)]
            for V in (self._X, self._Y)
        )
        return source, target

    def _says(self, X: Tensor) -> Tensor:
        """Return the discriminator's logits of vectors of shape (n, dim), shape (n,)."""
        keep = 1.0 - self._config.dropout
        # All randomness comes from the one generator that is kept in the checkpoint.
        mask = (torch.rand(X.shape, generator=self._generator) < keep).to(self._device)
        H = X * mask / keep
        for position, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            H = H @ weight + bias
            if position < len(self._weights) - 1:
                H = functional.leaky_relu(H, _LEAK)
        return H[:, 0]
