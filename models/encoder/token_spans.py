"""The tokens of a text, each with its vector and the characters that it stands for."""

import dataclasses
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.encoder.tokenizer import Tokenizer, Tokens
from alignstream.models.errors import TextNotUnicode, TextWithoutTokens

#: Markers of the start of a word in SentencePiece and byte-level BPE; alone, a marker stands for no character.
_WORD_STARTS: Final = frozenset({"▁", "Ġ"})
_SHOWN_CHARACTERS: Final = 40


@dataclasses.dataclass(frozen=True, eq=False)
class TokenVectors:
    """The tokens of one text, without special tokens and those of the encoder's prefix.

    Parameters
    ----------
    tokens : tuple of str
        As the tokenizer writes them, such as ``▁hello``.
    spans : tuple of (int, int)
        Characters of the text that each token stands for: start, and end (exclusive), without white space at the ends.
        Several tokens may stand for bytes of the same character.
    vectors : ndarray of shape (n_tokens, dim), float32
        The graph's ``token_embeddings``: neither normalised nor aligned.
    dropped : int
        Number of tokens beyond the encoder's limit, as in ``Tokens``.
    """

    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    vectors: NDArray[np.float32]
    dropped: int = 0

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.spans) == len(self.vectors) or self.vectors.ndim != 2:
            raise ValueError(
                f"{len(self.tokens)} tokens, {len(self.spans)} spans and vectors of shape {self.vectors.shape} "
                "do not match"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class PlacedTokens:
    """The token ids of one text, and which of them stand for its characters.

    Parameters
    ----------
    ids : Tokens
        Input of the graph.
    positions : tuple of int
        Positions in ``ids`` of the tokens that stand for characters of the text.
    names : tuple of str
        Those tokens, as the tokenizer writes them.
    spans : tuple of (int, int)
        Characters of the text that each of them stands for.
    """

    ids: Tokens
    positions: tuple[int, ...]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def with_vectors(self, X: NDArray[np.float32]) -> TokenVectors:
        """Return the tokens with copies of their rows of X, which has one vector for each of ``ids``."""
        vectors = X[np.array(self.positions, dtype=np.int64)]
        return TokenVectors(self.names, self.spans, vectors, dropped=self.ids.dropped)


class PlacingTokenizer(Tokenizer):
    """A tokenizer that also tells which characters of a text its tokens stand for."""

    def place(self, texts: Sequence[str]) -> list[PlacedTokens]:
        """Tokenize texts in order.

        Raises
        ------
        TextNotUnicode
            A text cannot be written in UTF-8.
        TextWithoutTokens
            A text has no tokens: it is empty or blank, the prefix fills the limit, or the tokenizer drops all of it.
        """
        for number, text in enumerate(texts):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise TextNotUnicode(
                    f"text {number} ({_shown(text)}) holds a lone surrogate, so it is not Unicode; write it in UTF-8"
                )
        encodings = self._tokenizer.encode_batch([self._prefix + text for text in texts])
        shift = len(self._prefix)
        placed = []
        for number, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            dropped = sum(len(rest.ids) - self._special for rest in encoding.overflowing)
            ids = Tokens(input_ids=tuple(encoding.ids), dropped=dropped)
            kept = []
            for position, (start, end) in enumerate(encoding.offsets):
                if encoding.special_tokens_mask[position] or end <= shift:
                    continue
                # A token includes the space before its word; for the first word, that space is the prefix's.
                span = _trimmed(text, max(start - shift, 0), end - shift)
                name = encoding.tokens[position]
                if span is not None and not (name in _WORD_STARTS and text[slice(*span)] != name):
                    kept.append((position, name, span))
            if not kept:
                raise TextWithoutTokens(_why(number, text, ids))
            positions, names, spans = zip(*kept, strict=True)
            placed.append(PlacedTokens(ids, positions, names, _with_marks(text, spans)))
        return placed


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None


def _with_marks(text: str, spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Extend each token over the marks after it that have no token: ``e`` and its accent become one character."""
    widened = []
    for (start, end), (limit, _) in itertools.zip_longest(spans, spans[1:], fillvalue=(len(text), len(text))):
        stop = end
        while stop < limit and unicodedata.category(text[stop])[0] == "M":
            stop += 1
        widened.append((start, stop))
    return tuple(widened)


def _why(number: int, text: str, ids: Tokens) -> str:
    shown = _shown(text)
    if not text.strip():
        return f"text {number} ({shown}) is empty, so it has no tokens; leave it out"
    if ids.dropped:
        return (
            f"the prefix fills the limit of {len(ids.input_ids)} tokens: no room for text {number} ({shown})"
        )
    return (
        f"the tokenizer drops every character of text {number} ({shown}), so it has no tokens; leave it out"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
