"""Members that know languages: hard centring by tag, and attention over language prototypes.

Both subtract an estimate of where the language of a text lies. The first believes the tag; the second asks
the vector, and takes the tag as evidence.
"""

import dataclasses
import math
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
#: Languages differ in their spread by tens of percent; unit vectors lie at most 2 apart.
MIN_SPREAD: Final = 0.01
MAX_SPREAD: Final = 2.0


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
        object.__setattr__(self, "_squares", np.einsum("ij,ij->i", wide, wide).astype(np.float32))
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
    """Subtract the language part that attention over prototypes finds: ``s̄ P (x - Σ_k a_k μ_k) / Σ_k a_k s_k + c G``.

    ``a = softmax(cos(x - G, μ_k - G) / τ + s β [k is the tagged language])`` with G the mean of the means, τ the
    temperature, s the shrinkage that the context gives and β the evidence of a tag. A language that has no
    prototype is met by those it resembles; a wrong tag is outvoted by the vector. P removes what is left along G,
    and the share c of G, the same for every text, takes its place: beside it the length of the rest keeps how
    specific a text is, without which similarities within one language lose meaning (``docs/alignment.md``). The
    spread s of a language is how far its texts lie from its prototype, s̄ the mean over languages: an encoder
    spreads a language that it hardly knows less, and beside c G all of its texts would seem unspecific.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        μ: the prototypes.
    languages : tuple of str
        Their keys (``languages.language_key``).
    counts : tuple of int
        Texts behind each prototype.
    spreads : ndarray of shape (n_languages,), float32
        s: the mean length of what is left of a language's texts (``fit_spreads``); all the same, they change nothing.
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
    spreads: Matrix
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
        check_tensor(f"{self.kind} spreads", self.spreads, 1)
        if len(self.spreads) != len(self.means) or not np.all(
            (self.spreads >= MIN_SPREAD) & (self.spreads <= MAX_SPREAD)
        ):
            raise AdapterCorrupt(
                f"{self.kind} needs a spread from {MIN_SPREAD} to {MAX_SPREAD} for each of {len(self.means)} languages"
            )
        wide = self.means.astype(np.float64)
        centre = wide.mean(axis=0)
        keys = wide - centre
        norms = np.linalg.norm(keys, axis=1, keepdims=True)
        object.__setattr__(self, "_values", wide)
        object.__setattr__(self, "_squares", np.einsum("ij,ij->i", wide, wide).astype(np.float32))
        object.__setattr__(self, "_relative", (spreads := self.spreads.astype(np.float64)) / spreads.mean())
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_kept", self.common * centre)
        length = float(np.linalg.norm(centre))
        object.__setattr__(self, "_axis", centre / max(length, _MIN_NORM))
        object.__setattr__(self, "_kept_length", self.common * length)
        # Similarities weigh prototypes: float32 tells them apart, and is read twice as fast.
        object.__setattr__(self, "_keys", (keys / np.maximum(norms, _MIN_NORM)).astype(np.float32))
        object.__setattr__(self, "table", LanguageTable(self.languages))

    @property
    def dim(self) -> int:
        """Count the numbers of a vector that it maps."""
        return int(self.means.shape[1])

    @property
    def centre(self) -> Vector64:
        """The mean of the prototypes, G, shape (dim,)."""
        centre: Vector64 = self.__dict__["_centre"]
        return centre

    @property
    def kept_centre(self) -> Vector64:
        """What of the mean of means stays in every vector, shape (dim,)."""
        kept: Vector64 = self.__dict__["_kept"]
        return kept

    def weights(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return the attention over the prototypes, shape (n_languages,); it sums to 1."""
        query = x - self.__dict__["_centre"]
        norm = max(math.sqrt(float(query @ query)), _MIN_NORM)
        temperature = self.temperature if tuning.temperature is None else tuning.temperature
        keys: Matrix = self.__dict__["_keys"]
        logits: Vector64 = (keys @ query.astype(np.float32)).astype(np.float64)
        logits /= norm * temperature
        position = self.__dict__["table"].find(tuning.language)
        if position is not None:
            logits[position] += tuning.shrinkage * self.tag_evidence
        logits -= logits.max()
        weights: Vector64 = np.exp(logits)
        weights /= weights.sum()
        return weights

    def transform_one(self, x: Vector64, tuning: Tuning = UNTUNED) -> Vector64:
        """Return x less the attended prototype, over the attended spread, with what stays: shape (dim,)."""
        own = self.__dict__
        weights, axis = self.weights(x, tuning), own["_axis"]
        rest: Vector64 = x - weights @ own["_values"]
        rest /= float(weights @ own["_relative"])
        # What is left along the common direction is replaced in one step.
        rest += (own["_kept_length"] - float(rest @ axis)) * axis
        return rest

    def nearest(self, x: Vector64, n: int, tuning: Tuning = UNTUNED) -> list[tuple[str, float]]:
        """Return the n languages that are attended to most, with their weights."""
        weights = self.weights(x, tuning)
        order = np.argsort(-weights, kind="stable")[:n]
        return [(self.languages[position], float(weights[position])) for position in order]

    def tensors(self) -> Mapping[str, Matrix]:
        """Return ``means`` and ``spreads``."""
        return {"means": self.means, "spreads": self.spreads}

    def parameters(self) -> Mapping[str, Any]:
        """Return languages, counts, temperature, evidence of a tag and the common share."""
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
            "languages finds of them in the text, and divide by their spread"
        )


def nearest_mean(
    member: LanguageCentre | PrototypeAttention, x: Matrix, language: str | None = None
) -> tuple[str, float]:
    """Return the language whose mean lies nearest to a vector, and how much farther that of a tag lies.

    Parameters
    ----------
    member : LanguageCentre or PrototypeAttention
    x : ndarray of shape (dim,), float32
        A vector as encoded.
    language : str, optional
        A tag.

    Returns
    -------
    language : str
    gap : float
        Difference of the squared distances; 0 without a tag that the member knows.
    """
    # ‖x - μ‖² less ‖x‖², which is the same for all.
    distances: Matrix = member.__dict__["_squares"] - 2.0 * (member.means @ x)
    nearest = int(distances.argmin())
    position = member.__dict__["table"].find(language)
    gap = 0.0 if position is None else float(distances[position] - distances[nearest])
    return member.languages[nearest], gap


def fit_spreads(attention: PrototypeAttention, texts: Mapping[str, Matrix]) -> dict[str, float]:
    """Measure how far the texts of languages lie from what attention finds of their languages in them.

    Parameters
    ----------
    attention : PrototypeAttention
        Its own spreads and common share do not count.
    texts : mapping of str to ndarray of shape (n, dim), float32
        Raw vectors by tag, at least one of each.

    Returns
    -------
    dict of str to float
        By tag, the mean length of what is left of a text, within the bounds of a spread.

    Notes
    -----
    O(n_languages · dim) a text. Texts of one kind differ less in it than languages do, but kinds differ too:
    compare languages on texts of one kind.
    """
    plain = dataclasses.replace(
        attention, common=0.0, spreads=np.ones(len(attention.means), dtype=np.float32)
    )
    found = {}
    for language, X in texts.items():
        tuning = Tuning(language=language, shrinkage=1.0)
        lengths = [np.linalg.norm(plain.transform_one(x.astype(np.float64), tuning)) for x in X]
        found[language] = float(np.clip(np.mean(lengths), MIN_SPREAD, MAX_SPREAD))
    return found
