"""How a worker serves with an epoch: corrected queries and the hubness of stored vectors.

``query = f(x - c)`` with f the adapter and ``c = r δ + (d_l - δ)``: δ is how far the tenant's texts lie from where the
adapter expects them, pooled over languages, d_l the same of the text's own language, shrunk to δ. Stored vectors are
not corrected: a mean of a stream mixes language, domain and topic, and what is stored, classified or fed to a head
must not chase it.
"""

import dataclasses
from typing import Final

import numpy as np

from alignstream.models.alignment.adapter import MIN_NORM, Adapter
from alignstream.models.alignment.context import NEUTRAL, Context
from alignstream.models.alignment.languages import LanguageTable
from alignstream.models.alignment.members import Centre, Matrix, Vector32, Vector64
from alignstream.models.alignment.prototypes import LanguageCentre, PrototypeAttention, nearest_mean
from alignstream.models.online.epoch import Epoch, Rows

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
        self._table = LanguageTable(tuple(name for name in self._corrections if not name.startswith(GUESSED)))
        tenant_map = epoch.tenant_map
        self.tenant_map = (
            tenant_map if tenant_map is not None and tenant_map.adapter_version == adapter.version else None
        )
        self._bank = self._queries(epoch.bank)
        self._bank_keys = np.array(epoch.bank.languages, dtype=object)
        self._others: dict[str | None, Matrix] = {}

    def _queries(self, rows: Rows) -> Matrix:
        vectors = rows.vectors.astype(np.float32)
        contexts = [Context(language=language or None) for language in rows.languages]
        queries = [self.query(x, context) for x, context in zip(vectors, contexts, strict=True)]
        return np.stack(queries) if queries else vectors

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

    def query(self, x: Vector32, context: Context = NEUTRAL) -> Vector32:
        """Return the unit vector with which to look up stored vectors: shape (dim,), float32.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            Unit vector as encoded.
        context : Context
            As for the stored vector.
        """
        return self.adapter.transform_one(x, context, self.correction(context.language, x))

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
        bank = self._bank_for(language)
        if len(bank) < MIN_BANK:
            return None
        cosines = bank @ y
        nearest = np.partition(cosines, -HUB_NEIGHBOURS)[-HUB_NEIGHBOURS:]
        return float(nearest.mean(dtype=np.float64)) * len(bank) / (len(bank) + BANK_TEXTS)

    def _bank_for(self, language: str | None) -> Matrix:
        if language not in self._others:
            others = self._bank[self._bank_keys != (language or "")]
            self._others[language] = others if len(others) >= MIN_BANK else self._bank
        return self._others[language]


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
