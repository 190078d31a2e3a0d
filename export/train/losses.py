"""Losses of the refiners: pure functions of torch tensors, each a scalar that gradients flow through.

Rows are vectors of any length; every loss normalises them itself.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from alignstream.models.unit_vectors import MIN_NORM

#: Shorter than this, a vector has no direction.
#: From this cosine on two rows are the same text, whose translations are right for both.
_SAME: Final = 1.0 - 1e-5


def unit(A: Tensor) -> Tensor:
    """Return vectors along the last axis divided by their lengths."""
    return functional.normalize(A, dim=-1, eps=MIN_NORM)


def info_nce(A: Tensor, B: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Symmetric InfoNCE: the cross-entropy of finding the translation in the batch, averaged over both ways.

    Parameters
    ----------
    A, B : Tensor of shape (n, dim)
        Row i of one translates row i of the other; every row of another text is a negative.
    temperature : float
        Divides cosines; above 0.

    Returns
    -------
    Tensor of shape ()

    Notes
    -----
    van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"; both ways as in
    Radford et al. 2021.
    """
    return translation_ranking(A, B, margin=0.0, temperature=temperature)


def translation_ranking(
    A: Tensor, B: Tensor, *, margin: float = 0.3, temperature: float = 0.05, hard: Tensor | None = None
) -> Tensor:
    """Rank translations with an additive margin: a translation must win by the margin, both ways.

    Parameters
    ----------
    A, B : Tensor of shape (n, dim)
        Row i of one translates row i of the other; every row of another text is a negative.
    margin : float
        Taken from the cosine of a translation.
    temperature : float
        Divides cosines; above 0.
    hard : Tensor of shape (n, k, dim), optional
        Wrong targets of each source: further negatives from A to B.

    Returns
    -------
    Tensor of shape ()

    Notes
    -----
    Yang et al. 2019, "Improving Multilingual Sentence Embedding using Bi-directional Dual Encoder with
    Additive Margin Softmax", as in LaBSE (Feng et al. 2022).
    """
    A, B = unit(A), unit(B)
    scores = A @ B.T
    scores = scores - margin * torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    own = scores.diagonal() / temperature
    # One sentence in two languages, or one that occurs twice: its translation is right for both.
    same = ((A @ A.T >= _SAME) | (B @ B.T >= _SAME)).fill_diagonal_(False)
    scores = scores.masked_fill(same, float("-inf"))
    forward, backward = scores / temperature, scores.T / temperature
    if hard is not None:
        wrong = torch.einsum("nd,nkd->nk", A, unit(hard)) / temperature
        forward = torch.cat([forward, wrong], dim=1)
    to_b = torch.logsumexp(forward, dim=1) - own
    to_a = torch.logsumexp(backward, dim=1) - own
    return (to_b.mean() + to_a.mean()) / 2.0


def discriminator_loss(source: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of telling mapped source vectors (1) from target vectors (0).

    Parameters
    ----------
    source, target : Tensor of shape (n,)
        The discriminator's output for each: logits of "this is a source".
    smoothing : float
        Labels are 1 - smoothing and smoothing; from 0 to below 0.5.

    Returns
    -------
    Tensor of shape ()
        The mean of both sides; log 2 where the discriminator cannot tell.
    """
    on_source = functional.binary_cross_entropy_with_logits(source, torch.full_like(source, 1.0 - smoothing))
    on_target = functional.binary_cross_entropy_with_logits(target, torch.full_like(target, smoothing))
    return (on_source + on_target) / 2.0


def map_loss(source: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of the opposite labels: low where the discriminator takes sources for targets."""
    return discriminator_loss(-source, -target, smoothing=smoothing)


def orthogonalise(W: Tensor, beta: float = 0.01) -> Tensor:
    """Take one step toward the nearest orthogonal matrix: ``(1 + b) W - b W Wᵀ W``, shape (dim, dim).

    Notes
    -----
    Cisse et al. 2017, "Parseval Networks". It converges where singular values are between 0 and
    ``sqrt(1 + 2 / b)``.
    """
    return (1.0 + beta) * W - beta * (W @ W.T @ W)


def orthogonality_error(W: Tensor) -> float:
    """Return the largest difference of ``W Wᵀ`` from the identity."""
    gram = W.double() @ W.double().T
    return float((gram - torch.eye(len(W), dtype=gram.dtype, device=gram.device)).abs().max())
