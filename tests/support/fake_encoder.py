"""A small encoder for tests: words instead of word pieces, a hash instead of a network, no randomness.

It keeps the laws that the real one keeps: a vector depends on the tokens of its text alone, the same tokens
give the same bytes, texts are cut at a limit and say so, and what fails raises ``InferenceError``.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import InferenceError

#: Ids below this are special: one opens and one closes every text.
FIRST_WORD_ID: Final = 4
OPENING_ID: Final = 0
CLOSING_ID: Final = 2
#: Bytes of a digest that make one number.
_NUMBER_BYTES: Final = 4


class FakeEncoder:
    """An ``Encoder`` whose vectors mean nothing, but are always the same.

    Parameters
    ----------
    dim : int
        Numbers of a vector.
    max_tokens : int
        Longest sequence, the two special tokens included.
    failing_words : collection of str
        Words that make the encoder fail on every batch that holds one of them.

    Attributes
    ----------
    is_broken : bool
        Set it, and the encoder fails on everything.
    n_runs : int
        How often ``encode`` was called.

    Examples
    --------
    >>> encoder = FakeEncoder(dim=4)
    >>> tokens = encoder.tokenize(["one two", "two"])
    >>> [len(item.input_ids) for item in tokens]
    [4, 3]
    >>> X = encoder.encode(tokens)
    >>> X.shape, bool(np.all(X[1] == encoder.encode(tokens[1:])[0]))
    ((2, 4), True)
    """

    def __init__(self, *, dim: int = 8, max_tokens: int = 512, failing_words: Collection[str] = ()) -> None:
        self._dim = dim
        self._max_tokens = max_tokens
        self._failing_ids = frozenset(_word_id(word) for word in failing_words)
        self.is_broken = False
        self.n_runs = 0

    @property
    def fingerprint(self) -> str:
        """Name the space that the vectors live in."""
        return hashlib.sha256(f"fake encoder, dim {self._dim}, max {self._max_tokens}".encode()).hexdigest()

    @property
    def dim(self) -> int:
        """Count the numbers of a vector."""
        return self._dim

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Split at white space; one id a word, cut at ``max_tokens``."""
        return [self._tokens(text) for text in texts]

    def _tokens(self, text: str) -> Tokens:
        words = text.split()
        kept = words[: self._max_tokens - 2]
        ids = (OPENING_ID, *(_word_id(word) for word in kept), CLOSING_ID)
        return Tokens(input_ids=ids, dropped=len(words) - len(kept))

    def encode(self, tokens: Sequence[Tokens]) -> Matrix:
        """Return unit vectors of shape (n, dim), float32, in the order given.

        Raises
        ------
        InferenceError
            A failing word is among the tokens, or the encoder is broken.
        """
        self.n_runs += 1
        if self.is_broken or any(not self._failing_ids.isdisjoint(item.input_ids) for item in tokens):
            raise InferenceError("the fake encoder was told to fail on this")
        X = np.empty((len(tokens), self._dim), dtype=np.float32)
        for row, item in enumerate(tokens):
            X[row] = self._vector(item.input_ids)
        return X

    def _vector(self, input_ids: tuple[int, ...]) -> Matrix:
        seed = repr(input_ids).encode()
        content = b""
        for part in range(-(-self._dim * _NUMBER_BYTES // hashlib.sha256().digest_size)):
            content += hashlib.sha256(seed + str(part).encode()).digest()
        whole = np.frombuffer(content, dtype="<i4", count=self._dim).astype(np.float64)
        vector: Matrix = (whole / np.linalg.norm(whole)).astype(np.float32)
        return vector


def _word_id(word: str) -> int:
    # Kept below 2**31, so that the ids fit wherever real ones do.
    number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
    return FIRST_WORD_ID + number % (2**31 - FIRST_WORD_ID)
