"""How a worker serves with an epoch: corrected queries, hubness of stored vectors, and what feedback changes.

``query = f(x - c)`` with f the adapter and ``c = r δ + (d_l - δ)``: δ is how far the tenant's texts lie from where the
adapter expects them, pooled over languages, d_l the same of the text's own language, shrunk to δ. Stored vectors are
not corrected: a mean of a stream mixes language, domain and topic, and what is stored, classified or fed to a head
must not chase it.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from alignstream.models.alignment.adapter import MIN_NORM, Adapter
from alignstream.models.alignment.context import NEUTRAL, Context
from alignstream.models.alignment.languages import LanguageTable, language_key
from alignstream.models.alignment.members import Centre, Matrix, Vector32, Vector64
from alignstream.models.alignment.prototypes import LanguageCentre, PrototypeAttention, nearest_mean
from alignstream.models.online.epoch import Epoch, Rows
from alignstream.models.online.feedback import Recall, corrected_prototypes

#: Texts that a language's expected place is worth beside its mean in the stream.
PRIOR_TEXTS: Final = 30.0
#: Texts of one language that count for the tenant's shift at most: no language outweighs the others.
MAX_SHIFT_TEXTS: Final = 200.0
#: The length of δ of which a query leaves half behind: a short one is a matter of topics, a long one of domain.
HALF_SHIFT: Final = 0.13
#: The longest correction of either kind; changes of domain were 0.1 to 0.25 long.
MAX_SHIFT: Final = 0.3
#: Nearest texts of the bank whose mean cosine is the hubness, as in CSLS (Conneau et al. 2018).
HUB_NEIGHBOURS: Final = 10
#: Fewer texts say nothing about hubs.
MIN_BANK: Final = 20
#: Texts at which a bank's hubness counts half: few texts tell chance from hubs badly.
BANK_TEXTS: Final = 300.0
#: Pairs of adapter and epoch in memory: about 2 MB each.
MAX_FOLLOWINGS: Final = 64
#: Label sets whose moved prototypes a pair of adapter and epoch remembers: to move them takes milliseconds.
MAX_LABEL_SETS: Final = 32
#: Marks the mean of texts without a tag that resemble a language.
GUESSED: Final = "~"


def expected_mean(adapter: Adapter, language: str | None, mean: Vector64) -> Vector64 | None:
    """Return where an adapter expects texts of a language, shape (dim,); None where it expects nothing.

    Parameters
    ----------
    adapter : Adapter
    language : str or None
        A tag or key.
    mean : ndarray of shape (dim,), float64
        Where they lie: what an adapter with attention finds in it stands in for a language that it does not know.
    """
    for item in adapter.members:
        if isinstance(item, PrototypeAttention | LanguageCentre):
            position = item.table.find(language)  # type: ignore[union-attr]
            wide = item.means.astype(np.float64)
            if position is not None:
                known: Vector64 = wide[position]
                return known
            found: Vector64 = (
                item.weights(mean) @ wide if isinstance(item, PrototypeAttention) else wide.mean(axis=0)
            )
            return found
        if isinstance(item, Centre):
            centre: Vector64 = item.mean.astype(np.float64)
            return centre
    return None


class Following:
    """One adapter with one epoch; immutable once made, cheap to ask.

    Parameters
    ----------
    adapter : Adapter
    epoch : Epoch
        Of the same encoder.

    Notes
    -----
    Made once an adapter version and epoch: O(n_bank · dim²). A query costs one more pass of the adapter, a hubness
    O(n_bank · dim).
    """

    def __init__(self, adapter: Adapter, epoch: Epoch) -> None:
        self.adapter = adapter
        self.epoch = epoch
        found = {}
        for name, mean, weight in zip(epoch.languages, epoch.means, epoch.weights, strict=True):
            wide = mean.astype(np.float64)
            expected = expected_mean(adapter, name.removeprefix(GUESSED) or None, wide)
            if expected is not None:
                found[name] = (wide - expected, weight / epoch.dependence)
        self.shift = _shift(found, epoch.dim)
        squared = float(self.shift @ self.shift)
        #: r δ: what every query leaves behind.
        self.common = self.shift * (squared / (squared + HALF_SHIFT**2))
        self._corrections: dict[str, Vector64] = {}
        for name, (difference, weight) in found.items():
            own = _clipped(weight / (weight + PRIOR_TEXTS) * (difference - self.shift))
            self._corrections[name] = self.common + own
        # Texts of which nothing is known have a mean, but no language that a tag could name.
        self._table = LanguageTable(
            tuple(name for name in self._corrections if name and not name.startswith(GUESSED))
        )
        tenant_map = epoch.tenant_map
        self.tenant_map = (
            tenant_map if tenant_map is not None and tenant_map.adapter_version == adapter.version else None
        )
        memory, examples = epoch.memory, epoch.examples
        self._recall = Recall(
            self._vectors(memory.sources), self._vectors(memory.targets), memory.sources.languages
        )
        self._examples = self._vectors(examples.rows)
        self._bank = self._queries(epoch.bank)
        self._bank_keys = np.array(epoch.bank.languages, dtype=object)
        #: Prototypes as they came, and moved: by label set, labels and the array itself, which is held to stay itself.
        self._moved: OrderedDict[tuple[str, tuple[str, ...], int], tuple[Matrix, Matrix]] = OrderedDict()

    def _queries(self, rows: Rows) -> Matrix:
        return _each(rows, self.query)

    def _vectors(self, rows: Rows) -> Matrix:
        return _each(rows, self.vector)

    @functools.cached_property
    def texts(self) -> Matrix:
        """The recent texts as they would be stored, shape (n, dim), float32."""
        return self._vectors(self.epoch.bank)

    @property
    def map_version(self) -> str | None:
        """Name of the tenant's map that ``vector`` applies, a part of ``space``; None where there is none."""
        return None if self.tenant_map is None else self.tenant_map.version

    def vector(self, x: Vector32, context: Context = NEUTRAL) -> Vector32:
        """Return the unit vector to store, shape (dim,), float32: the adapter's, moved by the tenant's own map.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            Unit vector as encoded.
        context : Context
        """
        return self._mapped(self.adapter.transform_one(x, context), context)

    def _mapped(self, y: Vector32, context: Context) -> Vector32:
        # As much of the map as of the adapter: at strength 0 a vector stays as encoded.
        strength = 1.0 if context.strength is None else context.strength
        if self.tenant_map is None or strength == 0.0:
            return y
        return self.tenant_map.moved(y, context.language, strength)

    def prototypes(
        self, label_set: str, labels: Sequence[str], prototypes: Matrix, common: Vector64 | None
    ) -> Matrix | None:
        """Return prototypes of labels moved toward the tenant's examples of a set; None where there are none.

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
        key = label_set, tuple(labels), id(prototypes)
        if key not in self._moved:
            known = frozenset(labels)
            rows = [
                row
                for row, (name, label) in enumerate(zip(examples.label_sets, examples.labels, strict=True))
                if name == label_set and label in known
            ]
            if not rows:
                return None
            moved = corrected_prototypes(
                prototypes, labels, self._examples[rows], [examples.labels[row] for row in rows], common
            )
            self._moved[key] = prototypes, moved
            while len(self._moved) > MAX_LABEL_SETS:
                self._moved.popitem(last=False)
        return self._moved[key][1]

    def correction(self, language: str | None, x: Vector32 | None = None) -> Vector64:
        """Return what a query leaves behind, shape (dim,).

        Parameters
        ----------
        language : str or None
            Its tag.
        x : ndarray of shape (dim,), float32, optional
            Without a tag, the vector as encoded: texts that resemble the same language share a correction.
        """
        if language is None and x is not None:
            seen = evidence(self.adapter, x, None).seen
            return self._corrections.get(f"{GUESSED}{seen}", self.common)
        position = self._table.find(language)
        if position is None:
            return self.common
        return self._corrections[self._table.keys[position]]

    def correction_length(self, name: str) -> float:
        """Return how far queries of one of the epoch's languages are moved, before the adapter."""
        return float(np.linalg.norm(self._corrections.get(name, self.common)))

    def query(self, x: Vector32, context: Context = NEUTRAL) -> Vector32:
        """Return the unit vector with which to look up stored vectors: shape (dim,), float32.

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
            return mapped  # remembered translations lie in the space of whole adapters
        language = None if context.language is None else language_key(context.language)
        return self._recall.moved(mapped, language)

    def hubness(self, y: Vector32, language: str | None = None) -> float | None:
        """Measure how near a stored vector is to recent queries of other languages; None where there are too few.

        Parameters
        ----------
        y : ndarray of shape (dim,), float32
            The stored unit vector.
        language : str, optional
            Key of its language. Queries of its own count where there are not enough of others.

        Returns
        -------
        float or None
            The mean cosine of the ten nearest, times ``n / (n + 300)`` of a bank of n: ``cos - hubness / 2`` ranks.
        """
        if len(self._bank) < MIN_BANK:
            return None
        cosines = self._bank @ y
        # Masked, not chosen beforehand: messages may name more languages than a bank has texts.
        others = cosines[self._bank_keys != (language or "")]
        chosen = others if len(others) >= MIN_BANK else cosines
        nearest = np.partition(chosen, -HUB_NEIGHBOURS)[-HUB_NEIGHBOURS:]
        return float(nearest.mean(dtype=np.float64)) * len(chosen) / (len(chosen) + BANK_TEXTS)


def is_whole(context: Context) -> bool:
    """Say whether a message asks for the whole adapter: what a tenant's feedback and bank are aligned with."""
    return context.strength is None or context.strength == 1.0


def _each(rows: Rows, transform: Callable[[Vector32, Context], Vector32]) -> Matrix:
    vectors = rows.vectors.astype(np.float32)
    if len(vectors) == 0:
        return vectors
    return np.stack(
        [
            transform(x, Context(language=language or None))
            for x, language in zip(vectors, rows.languages, strict=True)
        ]
    )


def _shift(found: dict[str, tuple[Vector64, float]], dim: int) -> Vector64:
    """Return δ: the weighted mean of the languages' differences, shrunk to none."""
    total, weights = np.zeros(dim), 0.0
    for difference, weight in found.values():
        counted = min(weight, MAX_SHIFT_TEXTS)
        total, weights = total + counted * difference, weights + counted
    return _clipped(total / (weights + PRIOR_TEXTS))


def _clipped(shift: Vector64) -> Vector64:
    norm = float(np.linalg.norm(shift))
    return shift if norm <= MAX_SHIFT else shift * (MAX_SHIFT / max(norm, MIN_NORM))


class FollowingCache:
    """What adapters and epochs make together, each pair made once. Used from one thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, str], Following] = OrderedDict()

    def find(self, adapter: Adapter, epoch: Epoch | None) -> Following | None:
        """Return what an adapter and an epoch make together; None without an epoch, or where nothing is adapted."""
        if epoch is None or adapter.is_identity or adapter.dim != epoch.dim:
            return None
        key = adapter.version, epoch.version
        if key not in self._found:
            self._found[key] = Following(adapter, epoch)
            while len(self._found) > MAX_FOLLOWINGS:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """What a vector itself says about its language, by an adapter's prototypes."""

    seen: str | None
    is_doubtful: bool


#: How much nearer, in squared distance, another language's prototype must be before a tag is not believed. Of 100
#: texts that are tagged rightly 0 to 3 lie so far off, of Swahili tagged as German 91.
DOUBT: Final = 0.03


def evidence(adapter: Adapter, x: Vector32, language: str | None) -> Evidence:
    """Compare a text with the prototypes of an adapter: which is nearest, and is the tag credible."""
    for item in adapter.members:
        if isinstance(item, PrototypeAttention | LanguageCentre):
            nearest, gap = nearest_mean(item, x, language)
            return Evidence(nearest, gap > DOUBT)
    return Evidence(None, is_doubtful=False)
