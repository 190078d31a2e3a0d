"""Word alignment from token vectors: links between the words of two sentences, judged by gold links.

A link is where two tokens are each other's nearest by cosine (argmax in both directions, SimAlign: Jalili Sabet
et al. 2020); words are linked where any of their tokens are. Pure: numpy alone, no encoder.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from alignstream.export.data.word_pairs import Links
from alignstream.export.evaluate.columns import ADAPTER, RAW, TOKEN_MEANS, Results, joined
from alignstream.export.evaluate.measures import Scores
from alignstream.models.arrays import Indices, Matrix, Vector64
from alignstream.models.errors import WordsError
from alignstream.models.unit_vectors import unit_rows

#: The measure's name.
WORDS = "word alignment F1"

#: The vectors subtracted from the tokens of each side; each of shape (dim,).
Means = tuple[Vector64, Vector64]


class SpannedVectors(Protocol):
    """An encoder's output for the tokens of one text, without special ones."""

    @property
    def spans(self) -> Sequence[tuple[int, int]]:
        """Character offsets of each token in the text: start, and end excluded."""

    @property
    def vectors(self) -> Matrix:
        """Vectors of shape (n_tokens, dim), float32."""


@dataclasses.dataclass(frozen=True)
class WordTokens:
    """The tokens of one sentence: unit vectors, and the word that each belongs to.

    Parameters
    ----------
    vectors : ndarray of shape (n_tokens, dim), float64
    words : ndarray of shape (n_tokens,), int64
    """

    vectors: Vector64
    words: Indices


def text_of(words: Sequence[str]) -> str:
    """Return the text whose character offsets ``word_tokens`` reads: words with a space between them."""
    return " ".join(words)


def word_tokens(words: Sequence[str], tokens: SpannedVectors) -> WordTokens:
    """Give each token the word that it shares most characters with; a token of no word is left out.

    Parameters
    ----------
    words : sequence of str
        The words of ``text_of(words)``.
    tokens : SpannedVectors
        The tokens of that text.

    Raises
    ------
    WordsError
        There are not as many spans as vectors.
    """
    if len(tokens.spans) != len(tokens.vectors):
        raise WordsError(f"{len(tokens.spans)} spans do not fit {len(tokens.vectors)} token vectors")
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    ends = starts + np.array([len(word) for word in words], dtype=np.int64)
    owners, keep = [], []
    for position, (start, end) in enumerate(tokens.spans):
        shared = np.minimum(end, ends) - np.maximum(start, starts)
        if len(shared) and shared.max() > 0:
            owners.append(int(shared.argmax()))
            keep.append(position)
    vectors = np.asarray(tokens.vectors, dtype=np.float64)[np.array(keep, dtype=np.int64)]
    return WordTokens(unit_rows(vectors), np.array(owners, dtype=np.int64))


def align_words(
    source: WordTokens,
    target: WordTokens,
    means: Means | None = None,
) -> Links:
    """Link words whose tokens are each other's nearest.

    Parameters
    ----------
    source, target : WordTokens
    means : two ndarrays of shape (dim,), optional
        Mean token vectors of both languages, subtracted first.

    Notes
    -----
    O(n_source · n_target · dim).
    """
    if len(source.words) == 0 or len(target.words) == 0:
        return frozenset()
    X, Y = (
        unit_rows(side.vectors if mean is None else side.vectors - mean)
        for side, mean in zip((source, target), means or (None, None), strict=True)
    )
    cosines = X @ Y.T
    forward, backward = cosines.argmax(axis=1), cosines.argmax(axis=0)
    mutual = np.flatnonzero(backward[forward] == np.arange(len(X)))
    return frozenset((int(source.words[row]), int(target.words[forward[row]])) for row in mutual)


def f1(links: Sequence[Links], gold: Sequence[Links]) -> float:
    """Return F1 over all links of all pairs, in points; 0 without any link.

    Examples
    --------
    >>> f1([frozenset({(0, 0), (1, 2)})], [frozenset({(0, 0), (1, 1)})])
    50.0
    """
    n_right = sum(len(a & b) for a, b in zip(links, gold, strict=True))
    n_links = sum(map(len, links)) + sum(map(len, gold))
    return 100.0 * 2 * n_right / n_links if n_links else 0.0


def judge_words(
    tokens: Mapping[str, Sequence[tuple[WordTokens, WordTokens]]],
    gold: Mapping[str, Sequence[Links]],
    centres: Mapping[str, Means] | None = None,
) -> Results:
    """Judge links raw, with each language's mean token vector removed, and with an adapter's means removed.

    The means that a pair is aligned with come from the other half of the pairs, every second one: nothing of a
    pair is in its own means, so the column is inductive. Without the links, as means need none.

    Parameters
    ----------
    tokens : mapping of str to list of two WordTokens
        Pairs by their languages, at least two of each.
    gold : mapping of str to list of frozenset of (int, int)
        Gold links of the pairs.
    centres : mapping of str to Means, optional
        The adapter's means of both languages, for unit token vectors. Without them there is no adapter column.

    Raises
    ------
    WordsError
        There are fewer than two pairs, so that no other half is left.
    """
    raw, removed = {}, {}
    for name, pairs in tokens.items():
        if len(pairs) < 2:
            raise WordsError(
                f"{name}: at least two sentence pairs are needed, as means come from the other half"
            )
        halves = [tuple(_mean([pair[side] for pair in pairs[half::2]]) for side in (0, 1)) for half in (0, 1)]
        raw[name] = f1([align_words(*pair) for pair in pairs], gold[name])
        centred = [
            align_words(*pair, means=(halves[1 - position % 2][0], halves[1 - position % 2][1]))
            for position, pair in enumerate(pairs)
        ]
        removed[name] = f1(centred, gold[name])
    without: Results = {WORDS: {RAW: Scores(raw), TOKEN_MEANS: Scores(removed)}}
    if centres is None:
        return without
    adapted = {
        name: f1([align_words(*pair, means=centres[name]) for pair in pairs], gold[name])
        for name, pairs in tokens.items()
    }
    return joined(without, {WORDS: {ADAPTER: Scores(adapted)}})


def _mean(sentences: Sequence[WordTokens]) -> Vector64:
    """Average the unit vectors of all tokens; a language's tokens count equally."""
    vectors = np.concatenate(
        [unit_rows(sentence.vectors) for sentence in sentences if len(sentence.words)] or [np.zeros((1, 1))]
    )
    mean: Vector64 = vectors.mean(axis=0)
    return mean
