"""A bounded bank of a stream's recent texts, against which hubness is measured."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix16, Vector32

#: Most texts and most bytes in a bank: 1,000 vectors of 384 float16 numbers fit, and fewer of longer ones.
MAX_TEXTS: Final = 1000
MAX_BYTES: Final = 800_000


class Bank:
    """The most recent texts, shared evenly among recently seen languages.

    A full bank drops the oldest text of the language with most texts; of several, the one seen longest ago.

    Examples
    --------
    >>> bank = Bank()
    >>> for language in ("de-Latn", "en-Latn", "de-Latn"):
    ...     bank.add(language, np.zeros(2, dtype=np.float32))
    >>> [language for language, _ in bank]
    ['en-Latn', 'de-Latn', 'de-Latn']
    """

    def __init__(self) -> None:
        self._by_language: OrderedDict[str, deque[Matrix16]] = OrderedDict()
        self._n = 0

    def __len__(self) -> int:
        """Return the number of texts."""
        return self._n

    def __iter__(self) -> Iterator[tuple[str, Matrix16]]:
        """Yield language and vector of shape (dim,), float16: least recent language first, oldest text first."""
        for language, vectors in self._by_language.items():
            for vector in vectors:
                yield language, vector

    def add(self, language: str, x: Vector32) -> None:
        """Add one text; "" stands for an unknown language."""
        self._by_language.setdefault(language, deque()).append(x.astype(np.float16))
        self._by_language.move_to_end(language)
        self._n += 1
        if self._n > min(MAX_TEXTS, MAX_BYTES // (2 * len(x))):
            # max() returns the first of several, which is the one seen longest ago.
            fullest = max(self._by_language, key=lambda name: len(self._by_language[name]))
            vectors = self._by_language[fullest]
            vectors.popleft()
            self._n -= 1
            if not vectors:
                del self._by_language[fullest]

    def clear(self, language: str | None = None) -> None:
        """Forget the texts of one language, or all texts."""
        if language is None:
            self._by_language.clear()
            self._n = 0
        else:
            self._n -= len(self._by_language.pop(language, ()))

    def stacked(self, dim: int) -> tuple[tuple[str, ...], Matrix16]:
        """Return the languages and vectors, shape (n, dim), float16, in the order of iteration."""
        rows = list(self)
        vectors: Matrix16 = np.zeros((len(rows), dim), dtype=np.float16)
        for position, (_, vector) in enumerate(rows):
            vectors[position] = vector
        return tuple(language for language, _ in rows), vectors
