"""Query adaptation: how a worker serves with an epoch. Queries follow the tenant's stream; stored vectors do not.

``query = f(x - c)``, where f is the adapter and ``c = δ / 4 + (d_l - δ)``. δ is how far the tenant's texts lie from
where the adapter expects them, pooled over languages; d_l is the same for the text's own language, shrunk toward δ.
Stored vectors are not corrected: a stream's mean mixes language, domain and topic, and what is stored, classified or
fed to a head must not chase it.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import NEUTRAL, Context
from alignstream.models.adapter.languages import LanguageTable, language_key
from alignstream.models.arrays import Matrix, Vector32, Vector64
from alignstream.models.serving.epoch import Epoch, MeanKey, TaggedVectors
from alignstream.models.serving.hubness import HubnessBank
from alignstream.models.serving.label_feedback import corrected_prototypes
from alignstream.models.serving.memory_attention import MemoryAttention
from alignstream.models.unit_vectors import MIN_NORM

#: Weight of a language's expected mean against its mean in the stream, in texts.
PRIOR_TEXTS: Final = 20.0
#: Most texts of one language that count for the tenant's shift, so that no language outweighs the others.
MAX_SHIFT_TEXTS: Final = 200.0
#: Share of δ that is subtracted from a query. All of it finds more from English and less to English; a quarter loses
#: nothing in either direction.
SHIFT_SHARE: Final = 0.25
#: Largest length of either correction; changes of domain were 0.1 to 0.25 long.
MAX_SHIFT: Final = 0.3
#: Adaptations cached: 2 MB each, and 8 MB more with all the feedback that a tenant may keep.
MAX_ADAPTATIONS: Final = 64


class QueryAdaptation:
    """One adapter combined with one epoch; immutable, and cheap to query.

    Parameters
    ----------
    adapter : Adapter
    epoch : Epoch
        An epoch of the same encoder.

    Notes
    -----
    Made once per adapter version and epoch: O(n_bank · dim²). A query costs one more pass through the adapter, a
    hubness O(n_bank · dim).
    """

    def __init__(self, adapter: Adapter, epoch: Epoch) -> None:
        self.adapter = adapter
        self.epoch = epoch
        #: How far each language's texts lie from where the adapter expects them, and the weight of that in texts.
        differences: dict[MeanKey, tuple[Vector64, float]] = {}
        for key, mean, weight in zip(epoch.languages, epoch.means, epoch.weights, strict=True):
            mean64 = mean.astype(np.float64)
            expected = adapter.expected_mean(key.language or None, mean64)
            if expected is not None:
                differences[key] = (mean64 - expected, weight / epoch.dependence)
        self.shift = _shift(differences, epoch.dim)
        #: Subtracted from every query.
        self.common = SHIFT_SHARE * self.shift
        self._corrections: dict[MeanKey, Vector64] = {}
        for key, (difference, weight) in differences.items():
            own = _clipped(weight / (weight + PRIOR_TEXTS) * (difference - self.shift))
            self._corrections[key] = self.common + own
        # Means without a language, and those of inferred ones, cannot be looked up by tag.
        self._table = LanguageTable(
            tuple(key.language for key in self._corrections if key.language and not key.is_inferred)
        )
        tenant_map = epoch.tenant_map
        self.tenant_map = (
            tenant_map if tenant_map is not None and tenant_map.adapter_version == adapter.version else None
        )
        memory, examples = epoch.memory, epoch.examples
        self._memory = MemoryAttention(
            _each(memory.sources, self.vector), _each(memory.targets, self.vector), memory.sources.languages
        )
        self._examples = _each(examples.rows, self.vector)
        self._hubness = HubnessBank(_each(epoch.bank, self.query), epoch.bank.languages)

    @functools.cached_property
    def texts(self) -> Matrix:
        """The recent texts as stored vectors, shape (n, dim), float32."""
        return _each(self.epoch.bank, self.vector)

    @property
    def map_version(self) -> str | None:
        """Version of the tenant's map that ``vector`` applies, part of ``space``; None if there is none."""
        return None if self.tenant_map is None else self.tenant_map.version

    def vector(self, x: Vector32, context: Context = NEUTRAL) -> Vector32:
        """Return the unit vector to store, shape (dim,), float32: aligned, then moved by the tenant's own map.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            Unit vector as encoded.
        context : Context
        """
        return self._mapped(self.adapter.transform_one(x, context), context)

    def _mapped(self, y: Vector32, context: Context) -> Vector32:
        # Apply as much of the map as of the adapter: at strength 0, a vector stays as encoded.
        strength = 1.0 if context.strength is None else context.strength
        if self.tenant_map is None or strength == 0.0:
            return y
        return self.tenant_map.moved(y, context.language, strength)

    def prototypes(
        self, label_set: str, labels: Sequence[str], prototypes: Matrix, common: Vector64 | None
    ) -> Matrix | None:
        """Return label prototypes moved toward the tenant's examples of a set; None if it has none.

        Parameters
        ----------
        label_set : str
        labels : sequence of str
        prototypes : ndarray of shape (n_labels, dim), float32
            Aligned unit vectors of the labels' texts.
        common : ndarray of shape (dim,), optional
            The unit direction that all texts share.
        """
        examples = self.epoch.examples
        if label_set not in examples.label_sets:
            return None
        known = frozenset(labels)
        rows = [
            row
            for row, (name, label) in enumerate(zip(examples.label_sets, examples.labels, strict=True))
            if name == label_set and label in known
        ]
        if not rows:
            return None
        return corrected_prototypes(
            prototypes, labels, self._examples[rows], [examples.labels[row] for row in rows], common
        )

    def correction(self, language: str | None, x: Vector32 | None = None) -> Vector64:
        """Return what is subtracted from a query, shape (dim,).

        Parameters
        ----------
        language : str or None
            The text's tag.
        x : ndarray of shape (dim,), float32, optional
            The vector as encoded, for a text without a tag: texts that resemble the same language share a correction.
        """
        if language is None and x is not None:
            seen = self.adapter.evidence(x).nearest_language
            return self.common if seen is None else self.correction_of(MeanKey(seen, is_inferred=True))
        position = self._table.find(language)
        return self.common if position is None else self.correction_of(MeanKey(self._table.keys[position]))

    def correction_of(self, key: MeanKey) -> Vector64:
        """Return what is subtracted from queries that count for one of the epoch's means, shape (dim,)."""
        return self._corrections.get(key, self.common)

    def query(self, x: Vector32, context: Context = NEUTRAL) -> Vector32:
        """Return the unit vector to search stored vectors with, shape (dim,), float32.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            Unit vector as encoded.
        context : Context
            As for the stored vector.
        """
        moved = self.adapter.transform_one(x, context, self.correction(context.language, x))
        mapped = self._mapped(moved, context)
        if not is_whole(context):
            return mapped  # remembered translations are aligned with the whole adapter
        language = None if context.language is None else language_key(context.language)
        return self._memory.moved(mapped, language)

    def hubness(self, y: Vector32, language: str | None = None) -> float | None:
        """Measure how near a stored vector is to recent queries of other languages: see ``HubnessBank.hubness``."""
        return self._hubness.hubness(y, language)


def is_whole(context: Context) -> bool:
    """Tell whether a message asks for the whole adapter, which aligns the tenant's feedback and bank."""
    return context.strength is None or context.strength == 1.0


def _each(rows: TaggedVectors, transform: Callable[[Vector32, Context], Vector32]) -> Matrix:
    vectors = rows.vectors.astype(np.float32)
    if len(vectors) == 0:
        return vectors
    return np.stack(
        [
            transform(x, Context(language=language or None))
            for x, language in zip(vectors, rows.languages, strict=True)
        ]
    )


def _shift(differences: dict[MeanKey, tuple[Vector64, float]], dim: int) -> Vector64:
    """Return δ: the weighted mean of the languages' differences, shrunk toward 0."""
    total, weights = np.zeros(dim), 0.0
    for difference, weight in differences.values():
        counted = min(weight, MAX_SHIFT_TEXTS)
        total, weights = total + counted * difference, weights + counted
    return _clipped(total / (weights + PRIOR_TEXTS))


def _clipped(shift: Vector64) -> Vector64:
    norm = float(np.linalg.norm(shift))
    return shift if norm <= MAX_SHIFT else shift * (MAX_SHIFT / max(norm, MIN_NORM))


class QueryAdaptationCache:
    """Adaptations by adapter and epoch, each made once. Use it from one thread."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, str], QueryAdaptation] = OrderedDict()

    def find(self, adapter: Adapter, epoch: Epoch | None) -> QueryAdaptation | None:
        """Return the adaptation for an adapter and an epoch; None without an epoch, or if there is nothing to adapt."""
        if epoch is None or adapter.is_identity or adapter.dim != epoch.dim:
            return None
        key = adapter.version, epoch.version
        if key not in self._made:
            self._made[key] = QueryAdaptation(adapter, epoch)
            while len(self._made) > MAX_ADAPTATIONS:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]
