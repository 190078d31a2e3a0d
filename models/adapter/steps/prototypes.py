"""Attention over language prototypes: the vector tells which language a text is in; the tag is only evidence."""

import dataclasses
import functools
import math
from typing import ClassVar, Final, Self

import numpy as np

from alignstream.models.adapter.steps.language_means import LanguageMeans, check_languages
from alignstream.models.adapter.steps.step import (
    EXAMPLE_LANGUAGES,
    UNTUNED,
    CommonPart,
    Step,
    Tuning,
    check_number,
    check_tensor,
    example_counts,
    example_rows,
)
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import AdapterCorrupt
from alignstream.models.unit_vectors import MIN_NORM

#: Spreads differ by tens of percent between languages; two unit vectors are at most 2 apart.
MIN_SPREAD: Final = 0.01
MAX_SPREAD: Final = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class PrototypeAttention(Step):
    """Subtract the language part found by attention over prototypes: ``s̄ P (x - Σ_k a_k μ_k) / Σ_k a_k s_k + c G``.

    ``a = softmax(cos(x - G, μ_k - G) / τ + s β [k is the tagged language])``, where G is the mean of the prototypes,
    τ the temperature, s the shrinkage from the context and β the evidence of a tag. A language without a prototype is
    represented by those it resembles; the vector outvotes a wrong tag.

    P removes what is left along G, and the share c of G, the same for every text, replaces it. Beside this constant,
    the length of the rest says how specific a text is; without it, similarities within one language lose their meaning
    (``docs/pages/measurements/alignment.md``). The spread s_k is how far texts of language k lie from its prototype, s̄
    the mean over languages. Texts of a language that the encoder hardly knows are spread less, and would all seem
    unspecific beside c G if they were not divided by their spread.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        μ: the prototypes.
    languages : tuple of str
        Their keys (``languages.language_key``).
    counts : tuple of int
        Number of texts behind each prototype.
    spreads : ndarray of shape (n_languages,), float32
        s_k: mean length of what is left of a language's texts (``fit.spreads``). Equal spreads change nothing.
    temperature : float
        τ > 0.
    tag_evidence : float
        β >= 0, in units of the logits.
    common : float
        c, from 0 (subtract all of G) to 1 (subtract only what differs between languages).

    Notes
    -----
    O(n_languages · dim) per vector. Scaled dot-product attention (Vaswani et al. 2017) with the text as the query and
    the prototypes as keys and values, in closed form: nothing is trained.

    Examples
    --------
    >>> attention = PrototypeAttention(
    ...     means=np.eye(2, dtype=np.float32), languages=("de-Latn", "fr-Latn"), counts=(9, 9),
    ...     spreads=np.ones(2, dtype=np.float32), temperature=0.1, tag_evidence=0.0,
    ... )
    >>> attention.weights(np.array([0.9, 0.1])).round(3)
    array([1., 0.])
    """

    means: Matrix
    languages: tuple[str, ...]
    counts: tuple[int, ...]
    spreads: Matrix
    temperature: float
    tag_evidence: float
    common: float = 0.0
    kind: ClassVar[str] = "prototype-attention"
    tensor_names: ClassVar[tuple[str, ...]] = ("means", "spreads")

    def __post_init__(self) -> None:
        check_tensor(f"{self.kind} means", self.means, 2)
        check_languages(self.kind, self.languages, len(self.means), self.counts)
        check_number(f"{self.kind} temperature", self.temperature, 1e-6, 1e6)
        check_number(f"{self.kind} tag evidence", self.tag_evidence, 0.0, 1e6)
        check_number(f"{self.kind} common share", self.common, 0.0, 1.0)
        check_tensor(f"{self.kind} spreads", self.spreads, 1)
        if len(self.spreads) != len(self.means) or not np.all(
            (self.spreads >= MIN_SPREAD) & (self.spreads <= MAX_SPREAD)
        ):
            raise AdapterCorrupt(
                f"{self.kind} needs a spread from {MIN_SPREAD} to {MAX_SPREAD} for each of {len(self.means)} languages"
            )

    @functools.cached_property
    def language_means(self) -> LanguageMeans:
        """The prototypes; for a language without one, attention over them."""
        return LanguageMeans(
            self.means, self.languages, self.counts, attend=self.weights, temperature=self.temperature
        )

    @functools.cached_property
    def common_part(self) -> CommonPart | None:
        """The mean of the prototypes, and the share of it that every vector keeps."""
        return None if self.common == 0.0 else CommonPart(self.centre, self._kept)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return int(self.means.shape[1])

    @property
    def centre(self) -> Vector64:
        """The mean of the prototypes, G, shape (dim,)."""
        return self.language_means.mean

    @functools.cached_property
    def _kept(self) -> Vector64:
        return self.common * self.centre

    @functools.cached_property
    def _kept_length(self) -> float:
        return self.common * float(np.linalg.norm(self.centre))

    @functools.cached_property
    def _axis(self) -> Vector64:
        return self.centre / max(float(np.linalg.norm(self.centre)), MIN_NORM)

    @functools.cached_property
    def _relative_spreads(self) -> Vector64:
        spreads = self.spreads.astype(np.float64)
        relative: Vector64 = spreads / spreads.mean()
        return relative

    @functools.cached_property
    def _keys(self) -> Matrix:
        keys = self.language_means.means64 - self.centre
        norms = np.linalg.norm(keys, axis=1, keepdims=True)
        # float32 is exact enough for attention weights, and is read twice as fast.
        unit: Matrix = (keys / np.maximum(norms, MIN_NORM)).astype(np.float32)
        return unit

    def weights(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return the attention over the prototypes, shape (n_languages,); it sums to 1."""
        query = x - self.centre
        norm = max(math.sqrt(float(query @ query)), MIN_NORM)
        temperature = self.temperature if tuning.temperature is None else tuning.temperature
        logits: Vector64 = (self._keys @ query.astype(np.float32)).astype(np.float64)
        logits /= norm * temperature
        position = self.language_means.find(tuning.language)
        if position is not None:
            logits[position] += tuning.shrinkage * self.tag_evidence
        logits -= logits.max()
        weights: Vector64 = np.exp(logits)
        weights /= weights.sum()
        return weights

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x minus the attended prototype, over the attended spread, plus the common part: shape (dim,)."""
        weights, axis = self.weights(x, tuning), self._axis
        rest: Vector64 = x - weights @ self.language_means.means64
        rest /= float(weights @ self._relative_spreads)
        # One addition removes what is left along G and adds the share of it that stays.
        rest += (self._kept_length - float(rest @ axis)) * axis
        return rest

    def describe(self) -> str:
        """Describe the step in a few words."""
        return (
            f"prototype-attention: subtract the language part found by attention over {len(self.languages)} "
            "language prototypes, and divide by their spread"
        )

    @classmethod
    def example(cls, dim: int, seed: int) -> Self:
        """Return a step with random prototypes."""
        n = len(EXAMPLE_LANGUAGES)
        return cls(
            means=example_rows(dim, n, seed),
            languages=EXAMPLE_LANGUAGES,
            counts=example_counts(seed),
            spreads=np.random.Generator(np.random.PCG64(seed)).uniform(0.5, 2.0, n).astype(np.float32),
            temperature=0.05 + seed % 7 / 10,
            tag_evidence=float(seed % 5),
            common=seed % 3 / 2,
        )
