"""Members that know languages: hard centring by tag, and attention over language prototypes.

Both subtract an estimate of where the language of a text lies. The first believes the tag; the second asks
the vector, and takes the tag as evidence.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from alignstream.models.alignment.languages import LanguageTable
from alignstream.models.alignment.members import (
    UNTUNED,
    Matrix,
    Tuning,
    Vector64,
    check_tensor,
)
from alignstream.models.errors import AdapterCorrupt

#: A direction shorter than this says nothing.
_MIN_NORM: Final = 1e-9


def _check_languages(kind: str, means: Matrix, languages: Sequence[str], counts: Sequence[int]) -> None:
    check_tensor(f"{kind} means", means, 2)
    if not (len(means) == len(languages) == len(counts) > 0):
        raise AdapterCorrupt(
            f"{kind} has {len(means)} means, {len(languages)} languages and {len(counts)} counts; it needs as many"
        )
    if any(not isinstance(name, str) for name in languages) or any(
        not isinstance(count, int) or isinstance(count, bool) or count < 0 for count in counts
    ):
        raise AdapterCorrupt(f"{kind} needs names of languages and counts of texts")
    if len(set(languages)) < len(languages):
        raise AdapterCorrupt(f"{kind} names a language twice")


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageCentre:
    """Subtract the mean of the language that the tag names: ``x - μ_l``; without a known tag, the global mean.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        Mean vector of each language.
    languages : tuple of str
        Their keys (``languages.language_key``).
    counts : tuple of int
        Texts behind each mean.

    Notes
    -----
    O(dim). It believes the tag whatever the vector says: see ``PrototypeAttention`` for one that does not.
    """

    means: Matrix
    languages: tuple[str, ...]
    counts: tuple[int, ...]
    kind: ClassVar[str] = "language-centre"

    def __post_init__(self) -> None:
        _check_languages(self.kind, self.means, self.languages, self.counts)
        wide = self.means.astype(np.float64)
        object.__setattr__(self, "_wide", wide)
        object.__setattr__(self, "_global", wide.mean(axis=0))
        object.__setattr__(self, "table", LanguageTable(self.languages))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.means.shape[1])

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x less its language's mean, shape (dim,)."""
        position = self.__dict__["table"].find(tuning.language)
        mean: Vector64 = self.__dict__["_global"] if position is None else self.__dict__["_wide"][position]
        return x - mean

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``means``."""
        return {"means": self.means}

    def parameters(self) -> Mapping[str, Any]:
        """Return ``languages`` and ``counts``."""
        return {"languages": list(self.languages), "counts": list(self.counts)}

    def describe(self) -> str:
        """Say in a few words what it does."""
        return f"language-centre: subtract the mean of the tagged language, one of {len(self.languages)}"


@dataclasses.dataclass(frozen=True, eq=False)
class PrototypeAttention:
    """Subtract the language part that attention over prototypes finds: ``x - Σ_k a_k μ_k + c G``.

    ``a = softmax(cos(x - G, μ_k - G) / τ + s β [k is the tagged language])`` with G the mean of the means, τ the
    temperature, s the shrinkage that the context gives and β the evidence of a tag. A language that has no
    prototype is met by those it resembles; a wrong tag is outvoted by the vector. The share c of what all texts
    have in common stays: it keeps how specific a text is, without which similarities within one language lose
    meaning (``docs/alignment.md``).

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        μ: the prototypes.
    languages : tuple of str
        Their keys (``languages.language_key``).
    counts : tuple of int
        Texts behind each prototype.
    temperature : float
        τ > 0.
    tag_evidence : float
        β >= 0, in units of the logits.
    common : float
        c, from 0 (all of the mean of means is subtracted) to 1 (only what differs between languages is).

    Notes
    -----
    O(n_languages · dim) a vector. One query, the prototypes are keys and values: scaled dot-product attention
    (Vaswani et al. 2017) in closed form, with nothing trained.
    """

    means: Matrix
    languages: tuple[str, ...]
    counts: tuple[int, ...]
    temperature: float
    tag_evidence: float
    common: float = 0.0
    kind: ClassVar[str] = "prototype-attention"

    def __post_init__(self) -> None:
        _check_languages(self.kind, self.means, self.languages, self.counts)
        for name, value, least, most in (
            ("temperature", self.temperature, 1e-6, 1e6),
            ("tag evidence", self.tag_evidence, 0.0, 1e6),
            ("common share", self.common, 0.0, 1.0),
        ):
            if not (isinstance(value, float) and least <= value <= most):
                raise AdapterCorrupt(f"{self.kind} has a {name} of {value!r}")
        wide = self.means.astype(np.float64)
        centre = wide.mean(axis=0)
        keys = wide - centre
        norms = np.linalg.norm(keys, axis=1, keepdims=True)
        # The weights sum to 1, so that a share of the centre that stays is a share taken from every value.
        object.__setattr__(self, "_values", wide - self.common * centre)
        object.__setattr__(self, "_centre", centre)
        # Similarities weigh prototypes: float32 tells them apart, and is read twice as fast.
        object.__setattr__(self, "_keys", (keys / np.maximum(norms, _MIN_NORM)).astype(np.float32))
        object.__setattr__(self, "table", LanguageTable(self.languages))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.means.shape[1])

    @property
    def kept_centre(self) -> Vector64:
        """What of the mean of means stays in every vector, shape (dim,)."""
        centre: Vector64 = self.__dict__["_centre"]
        return self.common * centre

    def weights(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return the attention over the prototypes, shape (n_languages,); it sums to 1."""
        query = x - self.__dict__["_centre"]
        norm = float(np.sqrt(query @ query))
        temperature = self.temperature if tuning.temperature is None else tuning.temperature
        keys: Matrix = self.__dict__["_keys"]
        cosines = keys @ (query / max(norm, _MIN_NORM)).astype(np.float32)
        logits = cosines.astype(np.float64) / temperature
        position = self.__dict__["table"].find(tuning.language)
        if position is not None:
            logits[position] += tuning.shrinkage * self.tag_evidence
        weights = np.exp(logits - logits.max())
        normalised: Vector64 = weights / weights.sum()
        return normalised

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x less the attended prototype, shape (dim,)."""
        values: Vector64 = self.__dict__["_values"]
        return x - self.weights(x, tuning) @ values

    def nearest(self, x: Vector64, n: int, tuning: Tuning = UNTUNED) -> list[tuple[str, float]]:
        """Return the n languages that are attended to most, with their weights."""
        weights = self.weights(x, tuning)
        order = np.argsort(-weights, kind="stable")[:n]
        return [(self.languages[position], float(weights[position])) for position in order]

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``means``."""
        return {"means": self.means}

    def parameters(self) -> Mapping[str, Any]:
        """Return languages, counts, temperature and evidence of a tag."""
        return {
            "languages": list(self.languages),
            "counts": list(self.counts),
            "temperature": self.temperature,
            "tag_evidence": self.tag_evidence,
            "common": self.common,
        }

    def describe(self) -> str:
        """Say in a few words what it does."""
        return (
            f"prototype-attention: subtract what attention over the prototypes of {len(self.languages)} "
            "languages finds of them in the text"
        )
