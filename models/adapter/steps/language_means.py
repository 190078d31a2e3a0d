"""Mean vectors by language: what a step of an adapter knows about where encoded texts lie.

One type for all readers: hyper-parameters, query adaptation, evidence about tags, explanations and token attention. A
step states its expectation in it, so that no reader depends on the kind of step.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from alignstream.models.adapter.languages import LanguageTable
from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.models.errors import AdapterCorrupt


class LanguageMeans:
    """Mean vectors of languages, with a fallback for unknown languages. Immutable.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        At least one row. Without languages: one mean of all texts.
    languages : sequence of str
        Their keys (``languages.language_key``); empty if nothing is known by language.
    counts : sequence of int
        Number of texts behind each mean.
    attend : callable, optional
        Maps a vector of shape (dim,), float64, to attention weights of shape (n_languages,). Without it, an unknown
        language gets the mean of the means.
    temperature : float
        Temperature that the attention was fitted with.

    Examples
    --------
    >>> known = LanguageMeans(np.eye(2, dtype=np.float32), ("de-Latn", "fr-Latn"), (10, 20))
    >>> known.mean_of("fr-CA"), known.mean_of("ja")
    (array([0., 1.]), None)
    >>> known.expected("ja", around=np.zeros(2))
    array([0.5, 0.5])
    """

    def __init__(
        self,
        means: Matrix,
        languages: Sequence[str] = (),
        counts: Sequence[int] = (),
        *,
        attend: Callable[[Vector64], Vector64] | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.languages = tuple(languages)
        self.counts = tuple(counts)
        self.temperature = temperature
        self.means64: Matrix64 = means.astype(np.float64)
        self._means = means
        self._attend = attend
        self._table = LanguageTable(self.languages)

    @functools.cached_property
    def mean(self) -> Vector64:
        """The mean of the means, shape (dim,): every language counts the same."""
        mean: Vector64 = self.means64.mean(axis=0)
        return mean

    @functools.cached_property
    def _squares(self) -> Matrix:
        squares: Matrix = np.einsum("ij,ij->i", self.means64, self.means64).astype(np.float32)
        return squares

    def find(self, language: str | None) -> int | None:
        """Return the position of a tag's language, or of its stand-in; None if there is neither."""
        return self._table.find(language)

    def mean_of(self, language: str | None) -> Vector64 | None:
        """Return the mean of a tag's language, shape (dim,); None if it is unknown."""
        position = self.find(language)
        return None if position is None else self.means64[position]

    def expected(self, language: str | None, around: Vector64) -> Vector64:
        """Return the expected mean of a language's texts, shape (dim,).

        Parameters
        ----------
        language : str or None
            A tag or key.
        around : ndarray of shape (dim,), float64
            The mean that was observed: for an unknown language, attention at this point gives the expected one.
        """
        known = self.mean_of(language)
        if known is not None:
            return known
        return self.mean if self._attend is None else self._attend(around) @ self.means64

    def attention(self, x: Vector64) -> dict[str, float]:
        """Return the attention of a vector of shape (dim,) to each language, highest first; empty without attention."""
        if self._attend is None:
            return {}
        weights = self._attend(x)
        order = np.argsort(-weights, kind="stable")
        return {self.languages[position]: float(weights[position]) for position in order}

    def nearest(self, x: Matrix, language: str | None = None) -> tuple[str, float] | None:
        """Return the language with the nearest mean, and how much farther away the tagged language's mean is.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            An encoded vector.
        language : str, optional
            A tag.

        Returns
        -------
        (str, float) or None
            The gap is a difference of squared distances; 0 if the tag is missing or unknown. None if no languages are
            known.
        """
        if not self.languages:
            return None
        # ‖x - μ‖² minus ‖x‖², which is the same for all.
        distances: Matrix = self._squares - 2.0 * (self._means @ x)
        nearest = int(distances.argmin())
        position = self.find(language)
        gap = 0.0 if position is None else float(distances[position] - distances[nearest])
        return self.languages[nearest], gap


def check_languages(kind: str, languages: Sequence[str], n: int, counts: Sequence[int] | None = None) -> None:
    """Check a step's languages and counts, as read from a file.

    Parameters
    ----------
    kind : str
        Kind of the step, for error messages.
    languages : sequence of str
    n : int
        Number of languages that there must be, at least 1.
    counts : sequence of int, optional
        Number of texts of each language.

    Raises
    ------
    AdapterCorrupt
        Lengths differ, a language is repeated or not a string, or a count is not a non-negative integer.
    """
    if n == 0 or len(languages) != n or (counts is not None and len(counts) != n):
        raise AdapterCorrupt(
            f"{kind} has {n} rows for {len(languages)} languages"
            f"{'' if counts is None else f' and {len(counts)} counts'}; the numbers must agree, and be at least 1"
        )
    if any(not isinstance(name, str) for name in languages):
        raise AdapterCorrupt(f"{kind} has a language that is not a string")
    if any(not isinstance(count, int) or isinstance(count, bool) or count < 0 for count in counts or ()):
        raise AdapterCorrupt(f"{kind} has a text count that is not a non-negative integer")
    if len(set(languages)) < len(languages):
        raise AdapterCorrupt(f"{kind} lists a language twice")
