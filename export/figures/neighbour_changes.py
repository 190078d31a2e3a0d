"""Changes of vectors to judge the measure of neighbours by: good adapters, and damage of every degree.

Each is a transform of raw vectors, or of vectors as the shipped adapter leaves them. Random numbers have a fixed seed.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from alignstream.export.evaluate.measures import Transform, transform_of
from alignstream.export.fit.default_adapter import default_rank, fit_adapter
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.errors import AlignstreamError
from alignstream.models.unit_vectors import unit_rows

#: Dimensions that a collapse leaves, of 384.
COLLAPSED_DIMS: Final = (128, 64, 32, 8)
#: Standard deviations of noise in each of 384 dimensions; at 0.05 it is as long as the unit vector itself.
NOISES: Final = (0.01, 0.02, 0.03, 0.05)
SEED: Final = 0


class VectorChange(NamedTuple):
    """One change of vectors: its name, and what makes unit vectors of raw ones of a language."""

    name: str
    transform: Transform


def vector_changes(shipped: Adapter, languages: Sequence[str]) -> Iterator[VectorChange]:
    """Yield changes by the shipped adapter, by adapters that were fitted otherwise, and by damaged ones.

    Parameters
    ----------
    shipped : Adapter
        Attention over the prototypes of languages, then more.
    languages : sequence of str
        The tags that vectors come with: a wrong tag is the next one.

    Raises
    ------
    AlignstreamError
        The adapter has no prototypes.
    """
    placed = shipped.find(PrototypeAttention)
    if placed is None:
        raise AlignstreamError("the shipped adapter has no prototypes of languages")
    position, attention = placed
    aligned = transform_of(shipped)
    yield VectorChange("shipped", aligned)
    yield VectorChange("shipped, without tags", lambda X, _: aligned(X, None))
    following = dict(zip(languages, [*languages[1:], *languages[:1]], strict=True))
    yield VectorChange("shipped, with wrong tags", lambda X, tag: aligned(X, following.get(tag or "", tag)))
    for name, adapter in _fitted(shipped, attention, position):
        yield VectorChange(name, transform_of(adapter))
    rng = np.random.default_rng(SEED)
    for n_dims in COLLAPSED_DIMS:
        basis = np.linalg.qr(rng.standard_normal((shipped.dim, n_dims)))[0]
        yield VectorChange(f"collapsed to {n_dims} dimensions", _mapped(aligned, basis @ basis.T))
    yield VectorChange("mapped at random", _mapped(aligned, rng.standard_normal((shipped.dim, shipped.dim))))
    yield VectorChange("dimensions shuffled, for each language anew", functools.partial(_shuffled, aligned))
    for sigma in NOISES:
        noisy = functools.partial(_noisy, aligned, sigma, np.random.default_rng(SEED))
        yield VectorChange(f"noise of {sigma:g} a dimension", noisy)
    swapped = functools.partial(_swapped, aligned, np.random.default_rng(SEED))
    yield VectorChange("each text with the vector of another", swapped)


def _fitted(shipped: Adapter, attention: PrototypeAttention, position: int) -> Iterator[tuple[str, Adapter]]:
    """Yield adapters that other methods fit to the same means, and the shipped one with parts changed."""
    means = attention.means
    rank = default_rank(len(means))
    centre = LanguageCentre(means, attention.languages, attention.counts)
    yield "mean of the tagged language removed", dataclasses.replace(shipped, steps=(centre,))
    yield (
        f"mean of all and {rank} directions removed",
        fit_adapter(means.astype(np.float64), rank=rank, encoder=shipped.encoder),
    )
    yield "attention over prototypes alone", dataclasses.replace(shipped, steps=(attention,))
    bare = dataclasses.replace(attention, common=0.0)
    yield "shipped, nothing kept of the common part", shipped.replace_step(position, bare)
    order = np.random.default_rng(SEED).permutation(len(means))
    mistaken = dataclasses.replace(attention, means=means[order])
    yield "shipped, prototypes shuffled among languages", shipped.replace_step(position, mistaken)
    placed = shipped.find(LinearMap)
    if placed is not None:
        position, pooled = placed
        n_dims = COLLAPSED_DIMS[-1]
        left, sizes, right = np.linalg.svd(pooled.matrix.astype(np.float64))
        low = ((left[:, :n_dims] * sizes[:n_dims]) @ right[:n_dims]).astype(np.float32)
        yield f"shipped, its map of rank {n_dims}", shipped.replace_step(position, LinearMap(matrix=low))


def _mapped(aligned: Transform, W: Array64) -> Transform:
    return lambda X, language: as_unit(aligned(X, language).astype(np.float64) @ W)


def _shuffled(aligned: Transform, X: Matrix, language: str | None) -> Matrix:
    rng = np.random.default_rng([SEED, *(language or "").encode()])
    return aligned(X, language)[:, rng.permutation(X.shape[1])]


def _noisy(
    aligned: Transform, sigma: float, rng: np.random.Generator, X: Matrix, language: str | None
) -> Matrix:
    return as_unit(aligned(X, language) + sigma * rng.standard_normal(X.shape))


def _swapped(aligned: Transform, rng: np.random.Generator, X: Matrix, language: str | None) -> Matrix:
    return aligned(X, language)[rng.permutation(len(X))]


def as_unit(X: Array64) -> Matrix:
    """Return rows of shape (n, dim) at length 1."""
    unit: Matrix = unit_rows(X).astype(np.float32)
    return unit
