"""The adapter: an immutable value that maps unit vectors of one encoder to aligned unit vectors.

``y = n((1 - s) x + s f(x))``, where f is the chain of steps, s the strength (1 unless a message asks for less)
and n divides by the length. What a message says about its text (``context``) tunes the steps. The version is the
start of the sha256 of the adapter's file (``adapter_file``). Computed in float64, returned as float32.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from alignstream.models.adapter import adapter_file
from alignstream.models.adapter.context import NEUTRAL, Context, HyperParameters, KnownLanguage, choose
from alignstream.models.adapter.steps.language_means import LanguageMeans
from alignstream.models.adapter.steps.step import Step, Tuning
from alignstream.models.arrays import Matrix, Vector32, Vector64
from alignstream.models.errors import AdapterCorrupt, AdapterMismatch
from alignstream.models.unit_vectors import MIN_NORM

AnyStep = TypeVar("AnyStep", bound=Step)

IDENTITY: Final = "identity"
#: Hexadecimal digits of the sha256 in a version: 48 bits are ample for the few versions of one adapter.
VERSION_DIGITS: Final = 12
#: Largest difference on the golden vector between machines: computed in float64, returned as float32.
GOLDEN_TOLERANCE: Final = 1e-5

#: A tag is doubted if another language's prototype is nearer by more than this squared distance. That holds for 0 to
#: 3 of 100 correctly tagged texts, and for 91 of 100 Swahili texts tagged as German.
DOUBT: Final = 0.03

#: Contexts cached: a worker sees one for each combination of tag and overrides in its messages.
_REMEMBERED_CONTEXTS: Final = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """An immutable chain of steps for one encoder. Compare adapters by ``version``.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder whose vectors it maps.
    dim : int
        Embedding dimension.
    steps : tuple of Step
        Applied in order; an empty tuple is the identity.
    report : mapping
        Results of the fit, stored in the file: JSON values only.

    Examples
    --------
    >>> from alignstream.models.adapter.steps.linear import LinearMap
    >>> swap = LinearMap(np.array([[0, 1], [1, 0]], dtype=np.float32))
    >>> adapter = Adapter("fingerprint", 2, (swap,))
    >>> adapter.transform_one(np.array([0.6, 0.8], dtype=np.float32))
    array([0.8, 0.6], dtype=float32)
    >>> adapter.transform_one(np.array([0.6, 0.8], dtype=np.float32), Context(strength=0.0))
    array([0.6, 0.8], dtype=float32)
    """

    encoder: str
    dim: int
    steps: tuple[Step, ...] = ()
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            if step.dim != self.dim:
                raise AdapterCorrupt(
                    f"adapter step {step.kind!r} has dimension {step.dim}, but the adapter has {self.dim}"
                )

    @functools.cached_property
    def blob(self) -> bytes:
        """The adapter's file; equal adapters have equal bytes."""
        given = adapter_file.golden_input(self.dim)
        golden = adapter_file.GoldenVector(given, self.transform_one(given))
        return adapter_file.to_bytes(
            adapter_file.Parts(self.encoder, self.dim, self.steps, self.report, golden)
        )

    @functools.cached_property
    def sha256(self) -> str:
        """The sha256 of the file, in hexadecimal."""
        return hashlib.sha256(self.blob).hexdigest()

    @property
    def version(self) -> str:
        """The first digits of the sha256."""
        return self.sha256[:VERSION_DIGITS]

    @property
    def is_identity(self) -> bool:
        """Whether every vector stays unchanged."""
        return not self.steps

    def tune(self, context: Context = NEUTRAL) -> HyperParameters:
        """Choose the hyper-parameters for a context, each with its reason."""
        return self._tuned(context)[0]

    @functools.cached_property
    def _tuned(self) -> Callable[[Context], tuple[HyperParameters, Tuning]]:
        # Texts are many, contexts few.
        return functools.lru_cache(maxsize=_REMEMBERED_CONTEXTS)(self._tune)

    def _tune(self, context: Context) -> tuple[HyperParameters, Tuning]:
        known = KnownLanguage()
        for means in self.known_languages:
            position = means.find(context.language)
            known = KnownLanguage(
                language=None if position is None else means.languages[position],
                n_texts=0 if position is None else means.counts[position],
                temperature=means.temperature,
            )
        chosen = choose(context, known)
        tuning = Tuning(
            language=context.language, shrinkage=chosen.shrinkage.value, temperature=context.temperature
        )
        return chosen, tuning

    @functools.cached_property
    def known_languages(self) -> list[LanguageMeans]:
        """The language means of the steps, in order; empty if no step knows languages."""
        known = [step.language_means for step in self.steps]
        return [means for means in known if means is not None and means.languages]

    def transform_one(
        self, x: Vector32, context: Context = NEUTRAL, shift: Vector64 | None = None
    ) -> Vector32:
        """Align one vector.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            A unit vector of the adapter's encoder; not changed.
        context : Context
            The language of the text, and the overrides of its message.
        shift : ndarray of shape (dim,), float64, optional
            Subtracted from x first: the offset of the stream's texts from where the adapter expects them.

        Returns
        -------
        ndarray of shape (dim,), float32
            A unit vector; x itself if the adapter would remove all of it.
        """
        return self._apply(x, *self._tuned(context), shift)

    def transform_many(self, X: Matrix, context: Context = NEUTRAL) -> Matrix:
        """Align a batch of shape (n, dim) in one context; the bytes equal those of ``transform_one``."""
        if len(X) == 0:
            return X.copy()
        tuned, tuning = self._tuned(context)
        return np.stack([self._apply(x, tuned, tuning) for x in X])

    def _apply(
        self, x: Vector32, tuned: HyperParameters, tuning: Tuning, shift: Vector64 | None = None
    ) -> Vector32:
        strength = tuned.strength.value
        if self.is_identity or strength == 0.0:
            return x.copy()
        x64: Vector64 = x.astype(np.float64)
        if shift is not None:
            x64 = x64 - shift
        y = x64
        for step in self.steps:
            y = step.transform_one(y, tuning)
        if strength != 1.0:
            y = (1.0 - strength) * x64 + strength * y
        norm = math.sqrt(float(y @ y))
        if norm < MIN_NORM:
            return x.copy()
        aligned: Vector32 = (y / norm).astype(np.float32)
        return aligned

    def common_direction(self, context: Context = NEUTRAL) -> Vector64 | None:
        """Return the unit direction that all aligned texts share, shape (dim,); None if there is none.

        Similarities need it. Labels do not: it brings a text equally near to every label.
        """
        if self._common is None:
            return None
        start, direction = self._common
        strength = self.tune(context).strength.value
        mixed = (1.0 - strength) * start + strength * direction
        norm = float(np.sqrt(mixed @ mixed))
        return None if norm < MIN_NORM else mixed / norm

    @functools.cached_property
    def _common(self) -> tuple[Vector64, Vector64] | None:
        """The part that all texts share, as encoded and after the steps."""
        shared: tuple[Vector64, Vector64] | None = None
        for step in self.steps:
            if shared is not None:
                shared = shared[0], step.transform_one(shared[1])
            elif step.common_part is not None:
                shared = step.common_part
        return shared

    def expected_mean(self, language: str | None, around: Vector64) -> Vector64 | None:
        """Return the expected mean of a language's texts, shape (dim,); None if no step expects one.

        Parameters
        ----------
        language : str or None
            A tag or key.
        around : ndarray of shape (dim,), float64
            The mean that was observed: for an unknown language, attention at this point gives the expected one.
        """
        known = (step.language_means for step in self.steps)
        means = next((means for means in known if means is not None), None)
        return None if means is None else means.expected(language, around)

    def evidence(self, x: Vector32, language: str | None = None) -> "LanguageEvidence":
        """Tell which language an encoded vector of shape (dim,) resembles, and whether its tag is credible."""
        nearest = next((means.nearest(x, language) for means in self.known_languages), None)
        if nearest is None:
            return LanguageEvidence(None, contradicts_tag=False)
        return LanguageEvidence(nearest[0], nearest[1] > DOUBT)

    def nearest_languages(self, x: Vector32, n: int = 3) -> list[tuple[str, float]]:
        """Return the n languages that a vector attends to most, with their attention, whatever its tag."""
        attended = (means.attention(x.astype(np.float64)) for means in self.known_languages)
        return list(next((weights for weights in attended if weights), {}).items())[:n]

    def find(self, kind: type[AnyStep]) -> tuple[int, AnyStep] | None:
        """Return the position of the first step of a kind, and the step; None if there is none."""
        return next(((i, step) for i, step in enumerate(self.steps) if isinstance(step, kind)), None)

    def replace_step(self, position: int, step: Step) -> "Adapter":
        """Return a copy with another step at a position; the report stays."""
        steps = (*self.steps[:position], step, *self.steps[position + 1 :])
        return dataclasses.replace(self, steps=steps)

    def describe(self) -> list[str]:
        """Describe the steps in order, for people to read."""
        return [step.describe() for step in self.steps] or ["identity: vectors stay as encoded"]


@dataclasses.dataclass(frozen=True, slots=True)
class LanguageEvidence:
    """What a vector itself says about its language.

    Parameters
    ----------
    nearest_language : str or None
        Key of the language with the nearest mean; None if the adapter knows no languages.
    contradicts_tag : bool
        That mean is so much nearer than the tagged language's that the tag is not believed.
    """

    nearest_language: str | None
    contradicts_tag: bool


def identity(encoder: str, dim: int) -> Adapter:
    """Return the adapter that changes nothing."""
    return Adapter(encoder=encoder, dim=dim)


def space(
    encoder: str, adapter_version: str, context: Context = NEUTRAL, tenant_map: str | None = None
) -> str:
    """Return the short name of a vector space: vectors with equal names are exactly comparable.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder.
    adapter_version : str
        Version of the adapter that was applied.
    context : Context
        Only its overrides count: texts of all languages share a space.
    tenant_map : str, optional
        Version of the tenant's own map that was applied after the adapter.
    """
    parts: dict[str, Any] = {"adapter": adapter_version, "encoder": encoder}
    if tenant_map is not None:
        parts["map"] = tenant_map
    for name, value in context.overrides.items():
        if (name, value) != ("strength", 1.0):
            parts[name] = repr(value)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def from_bytes(blob: bytes, *, encoder: str | None = None) -> Adapter:
    """Read an adapter and verify it completely.

    Parameters
    ----------
    blob : bytes
        An adapter's file, as in ``Adapter.blob``.
    encoder : str, optional
        Fingerprint of the encoder in use.

    Raises
    ------
    AdapterCorrupt
        Size, layout, shapes, numbers or the golden vector are wrong.
    AdapterMismatch
        It was fitted on another encoder.
    """
    parts = adapter_file.from_bytes(blob)
    if encoder is not None and parts.encoder != encoder:
        raise AdapterMismatch(
            f"the adapter was fitted on encoder {parts.encoder[:12]}, but {encoder[:12]} is in use; "
            "fit one for this encoder with 'alignstream fit attention'"
        )
    adapter = Adapter(parts.encoder, parts.dim, parts.steps, parts.report)
    difference = float(np.abs(adapter.transform_one(parts.golden.given) - parts.golden.expected).max())
    if not difference <= GOLDEN_TOLERANCE:
        raise AdapterCorrupt(
            f"the adapter does not reproduce its golden vector (largest difference {difference:.2g})"
        )
    # Keep the bytes that were read: the version is theirs, even if another program wrote them.
    adapter.__dict__["blob"] = blob
    return adapter
