"""Attention between the tokens of two texts: how similar the texts are, and which tokens correspond.

``S`` holds the cosines of centred token vectors, and ``A = softmax_rows(S / τ) ∘ softmax_columns(S / τ)``. The score is
the F score of BERTScore (Zhang et al. 2020) on S. Two tokens are linked if each is the other's nearest (SimAlign,
Jalili Sabet et al. 2020). The confidence of a link is A, which is high where both directions agree (awesome-align, Dou
and Neubig 2021, multiplies them too). Pure numpy, in float64.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import AnyMatrix, Matrix64, Vector64
from alignstream.models.unit_vectors import MIN_NORM

#: τ: cosines of centred tokens differ by tenths; a lead of 0.1 becomes a factor of 7. Not tuned.
TEMPERATURE: Final = 0.05
#: Two tokens with less mutual attention A are not linked. Tokens of unrelated texts mostly stay below it.
MIN_CONFIDENCE: Final = 0.1
#: Number of tokens in both texts at which half of their own mean is subtracted; see ``own_centre``. Not tuned.
HALF_CENTRED_TOKENS: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """Two corresponding tokens (or words), by position from 0.

    Parameters
    ----------
    a, b : int
        Position in the first and in the second text.
    confidence : float
        From 0 to 1: their attention A.
    similarity : float
        From -1 to 1: their centred cosine S.
    """

    a: int
    b: int
    confidence: float
    similarity: float


@dataclasses.dataclass(frozen=True, eq=False)
class TokenAttention:
    """The attention between the tokens of two texts.

    Parameters
    ----------
    similarities : ndarray of shape (n_a, n_b), float64
        S: centred cosines.
    weights : ndarray of shape (n_a, n_b), float64
        A: from 0 to 1; no row or column sums to more than 1.
    precision, recall : float
        Mean of each token's largest similarity, over the first and over the second text.
    score : float
        From -1 to 1: ``2PR / (P + R)``, or the smaller of the two if either is not positive. Equal texts score 1.
    links : tuple of Link
        In the order of the first text; each token occurs at most once.
    unaligned_a, unaligned_b : tuple of int
        Positions of the tokens without a link.
    """

    similarities: Matrix64
    weights: Matrix64
    precision: float
    recall: float
    score: float
    links: tuple[Link, ...]
    unaligned_a: tuple[int, ...]
    unaligned_b: tuple[int, ...]


def attend(
    X: AnyMatrix,
    Y: AnyMatrix,
    *,
    centre_a: Vector64 | None = None,
    centre_b: Vector64 | None = None,
    temperature: float = TEMPERATURE,
    min_confidence: float = MIN_CONFIDENCE,
) -> TokenAttention:
    """Compare two texts token by token.

    Parameters
    ----------
    X, Y : ndarray of shape (n_tokens, dim)
        Token vectors of the two texts, of any length; not changed.
    centre_a, centre_b : ndarray of shape (dim,), optional
        Subtracted from X and from Y: the token means of their languages, see ``language_centres``. Each defaults to
        ``own_centre(X, Y)``.
    temperature : float
        τ > 0.
    min_confidence : float
        From 0 to 1: tokens with less attention are not linked.

    Raises
    ------
    ValueError
        A text has no tokens, shapes do not match, a number is not finite, or a parameter is out of range.

    Notes
    -----
    O(n_a · n_b · dim). Swapping the texts transposes everything. A token that centring reduces to nothing keeps its
    direction.

    Examples
    --------
    >>> words = np.eye(3)
    >>> [(link.a, link.b) for link in attend(words, words[[2, 0, 1]]).links]
    [(0, 1), (1, 2), (2, 0)]
    """
    if not (np.isfinite(temperature) and temperature > 0.0 and 0.0 <= min_confidence <= 1.0):
        raise ValueError(
            f"temperature must be above 0 and min_confidence from 0 to 1, not {temperature!r} and {min_confidence!r}"
        )
    U, V = _checked("first", X), _checked("second", Y)
    own = own_centre(U, V)
    similarities = np.clip(
        _directions(U, own if centre_a is None else centre_a)
        @ _directions(V, own if centre_b is None else centre_b).T,
        -1.0,
        1.0,
    )
    weights = _softmax(similarities / temperature, axis=1) * _softmax(similarities / temperature, axis=0)
    precision = float(similarities.max(axis=1).mean())
    recall = float(similarities.max(axis=0).mean())
    forward, backward = similarities.argmax(axis=1), similarities.argmax(axis=0)
    links = tuple(
        Link(a, int(b), float(weights[a, b]), float(similarities[a, b]))
        for a, b in enumerate(forward)
        if backward[b] == a and weights[a, b] >= min_confidence
    )
    linked_a, linked_b = {link.a for link in links}, {link.b for link in links}
    return TokenAttention(
        similarities=similarities,
        weights=weights,
        precision=precision,
        recall=recall,
        score=f_score(precision, recall),
        links=links,
        unaligned_a=tuple(a for a in range(len(U)) if a not in linked_a),
        unaligned_b=tuple(b for b in range(len(V)) if b not in linked_b),
    )


def f_score(precision: float, recall: float) -> float:
    """Return ``2PR / (P + R)``, or the smaller of the two if either is not positive.

    Continuous, and always between the two.

    Examples
    --------
    >>> f_score(0.5, 0.5), f_score(0.5, -0.25)
    (0.5, -0.25)
    """
    least = min(precision, recall)
    return 2.0 * precision * recall / (precision + recall) if least > 0.0 else least


def own_centre(X: AnyMatrix, Y: AnyMatrix) -> Vector64:
    """Return the mean of the tokens of two texts, shrunk toward 0 if they are few: ``mean · n / (n + 10)``.

    The mean of two single tokens lies between them: without shrinkage, their cosine would always be -1. Scores
    therefore depend on the number of tokens; with ``language_centres`` they do not.
    """
    n = len(X) + len(Y)
    total: Vector64 = X.sum(axis=0, dtype=np.float64) + Y.sum(axis=0, dtype=np.float64)
    return total / (n + HALF_CENTRED_TOKENS)


def language_centres(
    adapter: Adapter,
    X: AnyMatrix,
    Y: AnyMatrix,
    language_a: str | None = None,
    language_b: str | None = None,
) -> tuple[Vector64, Vector64] | None:
    """Return the expected token means of two texts, from what an adapter knows about their languages.

    Parameters
    ----------
    adapter : Adapter
        Only its first step counts: the means of sentence vectors that it subtracts.
    X, Y : ndarray of shape (n_tokens, dim)
        Token vectors; each mean is scaled to their mean length.
    language_a, language_b : str, optional
        Tags. Unless the adapter knows both, both texts get the mean of all its languages.

    Returns
    -------
    two ndarrays of shape (dim,), or None
        None if the adapter does not start with means.

    Notes
    -----
    For encoders with mean pooling, whose sentence vectors are the means of their token vectors.
    """
    first = adapter.steps[0].language_means if adapter.steps else None
    if first is None:
        return None
    a, b = first.mean_of(language_a), first.mean_of(language_b)
    if a is None or b is None:
        a = b = first.mean
    return _length(X) * a, _length(Y) * b


def _length(X: AnyMatrix) -> float:
    return float(np.linalg.norm(X.astype(np.float64), axis=1).mean())


def _checked(which: str, X: AnyMatrix) -> Matrix64:
    if X.ndim != 2 or X.size == 0:
        raise ValueError(f"the {which} text needs at least one token vector, but has shape {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError(f"a token vector of the {which} text is not finite")
    return X.astype(np.float64)


def _directions(X: Matrix64, centre: Vector64) -> Matrix64:
    if centre.shape != X.shape[1:] or not np.isfinite(centre).all():
        raise ValueError(
            f"a centre of shape {centre.shape} is not finite, or does not match tokens of shape {X.shape}"
        )
    left = X - centre
    norms = np.linalg.norm(left, axis=1, keepdims=True)
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    # A token at the centre leaves nothing but rounding errors.
    gone = norms <= MIN_NORM * np.maximum(lengths, MIN_NORM)
    kept = np.where(gone, X, left)
    directions: Matrix64 = kept / np.maximum(np.where(gone, lengths, norms), MIN_NORM)
    return directions


def _softmax(logits: Matrix64, axis: int) -> Matrix64:
    weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
    normalised: Matrix64 = weights / weights.sum(axis=axis, keepdims=True)
    return normalised


# -- from tokens to words and phrases -----------------------------------------------------------------

Span = tuple[int, int]


def owners(spans: Sequence[Span], words: Sequence[Span]) -> list[int | None]:
    """Return the word that each token shares most characters with; None for a token outside all words.

    Parameters
    ----------
    spans, words : sequence of (int, int)
        Characters of the tokens and of the words: start, and end (exclusive).

    Examples
    --------
    >>> owners([(0, 2), (2, 5), (6, 7)], words=[(0, 5)])
    [0, 0, None]
    """
    owned_by: list[int | None] = []
    for start, end in spans:
        shared = [min(end, stop) - max(start, first) for first, stop in words]
        best = max(range(len(words)), key=shared.__getitem__, default=None)
        owned_by.append(best if best is not None and shared[best] > 0 else None)
    return owned_by


def word_links(
    links: Sequence[Link],
    spans_a: Sequence[Span],
    spans_b: Sequence[Span],
    words_a: Sequence[Span],
    words_b: Sequence[Span],
) -> tuple[Link, ...]:
    """Merge links of subwords into links of words: two words are linked if any of their tokens are.

    Parameters
    ----------
    links : sequence of Link
        Links of tokens.
    spans_a, spans_b : sequence of (int, int)
        Characters of the tokens of each text.
    words_a, words_b : sequence of (int, int)
        Characters of the words of each text: see ``words.word_spans``.

    Returns
    -------
    tuple of Link
        Links of words, in order, each pair once, with the figures of its most confident tokens. A word may have
        several links.
    """
    owner_a, owner_b = owners(spans_a, words_a), owners(spans_b, words_b)
    best: dict[Span, Link] = {}
    for link in links:
        a, b = owner_a[link.a], owner_b[link.b]
        if a is not None and b is not None:
            merged = Link(a, b, link.confidence, link.similarity)
            if (a, b) not in best or best[a, b].confidence < merged.confidence:
                best[a, b] = merged
    return tuple(best[key] for key in sorted(best))
