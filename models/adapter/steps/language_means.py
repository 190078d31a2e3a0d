"""Where texts lie as encoded, by language, as far as a step of an adapter knows it.

One value for everybody who asks: hyper-parameters, query adaptation, evidence about tags, explanations, the attention
between tokens. A step says with it what it expects, and nobody has to know which kind of step it is.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from alignstream.models.adapter.languages import LanguageTable
from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.models.errors import AdapterCorrupt


class LanguageMeans:
    """Mean vectors of languages, and what stands in for a language that is not among them. Immutable.

    Parameters
    ----------
    means : ndarray of shape (n_languages, dim), float32
        At least one row. Without languages: one mean of all texts.
    languages : sequence of str
        Their keys (``languages.language_key``); none where nothing is known by language.
    counts : sequence of int
        Texts behind each mean.
    attend : callable, optional
        A vector of shape (dim,), float64, to weights of shape (n_languages,): the languages that it resembles.
        Default: a language that is not known gets the mean of the means.
    temperature : float
        That the attention was fitted with.

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
        """The mean of the means, shape (dim,): no language counts more than another."""
        mean: Vector64 = self.means64.mean(axis=0)
        return mean

    @functools.cached_property
    def _squares(self) -> Matrix:
        squares: Matrix = np.einsum("ij,ij->i", self.means64, self.means64).astype(np.float32)
        return squares

    def find(self, language: str | None) -> int | None:
        """Return the position of a tag's language, or of the one that stands in for it; None where there is none."""
        return self._table.find(language)

    def mean_of(self, language: str | None) -> Vector64 | None:
        """Return the mean of a tag's language, shape (dim,); None where it is not known."""
        position = self.find(language)
        return None if position is None else self.means64[position]

    def expected(self, language: str | None, around: Vector64) -> Vector64:
        """Return where texts of a language are expected, shape (dim,).

        Parameters
        ----------
        language : str or None
            A tag or key.
        around : ndarray of shape (dim,), float64
            Where they lie: what attention finds there stands in for a language that is not known.
        """
        known = self.mean_of(language)
        if known is not None:
            return known
        return self.mean if self._attend is None else self._attend(around) @ self.means64

    def attention(self, x: Vector64) -> dict[str, float]:
        """Return how much a vector of shape (dim,) attends to each language, most first; empty without attention."""
        if self._attend is None:
            return {}
        weights = self._attend(x)
        order = np.argsort(-weights, kind="stable")
        return {self.languages[position]: float(weights[position]) for position in order}

    def nearest(self, x: Matrix, language: str | None = None) -> tuple[str, float] | None:
        """Return the language whose mean lies nearest to a vector, and how much farther that of a tag lies.

        Parameters
        ----------
        x : ndarray of shape (dim,), float32
            A vector as encoded.
        language : str, optional
            A tag.

        Returns
        -------
        (str, float) or None
            The gap is the difference of the squared distances; 0 without a tag that is known. None where nothing is
            known by language.
        """
        if not self.languages:
            return None
        # ‖x - μ‖² less ‖x‖², which is the same for all.
        distances: Matrix = self._squares - 2.0 * (self._means @ x)
        nearest = int(distances.argmin())
        position = self.find(language)
        gap = 0.0 if position is None else float(distances[position] - distances[nearest])
        return self.languages[nearest], gap


def check_languages(kind: str, languages: Sequence[str], n: int, counts: Sequence[int] | None = None) -> None:
    """Check what a step says about languages, as it was read from a file.

    Parameters
    ----------
    kind : str
        Of the step, for the message.
    languages : sequence of str
    n : int
        How many there must be, at least one.
    counts : sequence of int, optional
        Texts of each.

    Raises
    ------
    AdapterCorrupt
        Numbers do not agree, a name is no name or stands twice, or a count is no count.
    """
    if n == 0 or len(languages) != n or (counts is not None and len(counts) != n):
        raise AdapterCorrupt(
            f"{kind} has {n} rows for {len(languages)} languages"
            f"{'' if counts is None else f' and {len(counts)} counts'}; it needs as many of each, and at least one"
        )
    if any(not isinstance(name, str) for name in languages):
        raise AdapterCorrupt(f"{kind} needs names of languages")
    if any(not isinstance(count, int) or isinstance(count, bool) or count < 0 for count in counts or ()):
        raise AdapterCorrupt(f"{kind} needs counts of texts")
    if len(set(languages)) < len(languages):
        raise AdapterCorrupt(f"{kind} names a language twice")
