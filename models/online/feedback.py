"""What people's feedback changes at once: queries near remembered translations, and prototypes of labels."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.alignment.adapter import MIN_NORM
from alignstream.models.alignment.closed_form import Array64
from alignstream.models.alignment.members import Matrix, Vector32, Vector64

#: Divides similarities before the softmax over remembered sources. At 0.05 a source among 300 of its own domain took a
#: quarter of the weight when it was asked for itself.
MEMORY_TEMPERATURE: Final = 0.025
#: The similarity of a source that resembles a query no more than other texts of its domain do: it moves nothing. In
#: four domains the median of unrelated texts is 0.74 to 0.79; of 300 texts the most similar other one lies at 0.83 to
#: 0.89, at 0.95 for one in twenty.
NO_MATCH: Final = 0.92
#: How much of the way from source to target a query goes. All of it loses what is written in the language of the query.
MEMORY_SHARE: Final = 0.7
#: Examples that the text of a label itself is worth.
LABEL_TEXTS: Final = 10.0
#: Examples by which a label counts more than the others on average, at most: texts resemble texts, so that the only
#: label with examples would attract what belongs to the others.
MAX_LEAD: Final = 3.0


class Recall:
    """Attention over remembered translations: a query moves as the most similar source moves to its target.

    ``z + β Σ a_j (v_j - k_j)`` with ``a = softmax([z k_1, z k_2, ..., s_0] / τ)``: the last entry, a similarity that
    anything has, takes the weight where nothing is similar, so that one pair does not move every query. Only from
    source to target: a query in the target's language would move toward one of the languages that it is looked up in,
    and away from the others.

    Parameters
    ----------
    keys, values : ndarray of shape (n, dim), float32
        Aligned unit vectors of sources and their targets.
    languages : sequence of str
        Key of each source's language; "" where it is not known.
    """

    def __init__(self, keys: Matrix, values: Matrix, languages: Sequence[str]) -> None:
        # By language, so that those of one are a view: messages may name more languages than there is memory.
        order = sorted(range(len(languages)), key=languages.__getitem__)
        self._keys = keys[order].astype(np.float64)
        self._moves = MEMORY_SHARE * (values[order].astype(np.float64) - self._keys)
        self._rows: dict[str, slice] = {}
        for place, row in enumerate(order):
            start = self._rows.get(languages[row], slice(place, place)).start
            self._rows[languages[row]] = slice(start, place + 1)

    def moved(self, z: Vector32, language: str | None) -> Vector32:
        """Return the moved unit vector, shape (dim,), float32; pairs of another known language do not count.

        Notes
        -----
        O(n · dim).
        """
        names = self._rows if language is None else sorted({language, ""} & self._rows.keys())
        if not names:
            return z
        wide = z.astype(np.float64)
        cosines = [self._keys[self._rows[name]] @ wide for name in names]
        logits = np.concatenate([*cosines, [NO_MATCH]]) / MEMORY_TEMPERATURE
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        found: Vector64 = wide.copy()
        start = 0
        for name in names:
            moves = self._moves[self._rows[name]]
            found += weights[start : start + len(moves)] @ moves
            start += len(moves)
        return (found / max(float(np.linalg.norm(found)), MIN_NORM)).astype(np.float32)


def corrected_prototypes(
    prototypes: Matrix,
    labels: Sequence[str],
    examples: Matrix,
    example_labels: Sequence[str],
    common: Vector64 | None = None,
) -> Matrix:
    """Move label prototypes toward the texts that people gave them.

    ``n(κ v + w Σ y)`` of each label: v its own text, y its n examples, κ ``LABEL_TEXTS``, and w 1, or less where the
    label leads: n counts as at most ``MAX_LEAD`` more than the other labels have on average. What people say is right
    on any mix of topics, so this follows no stream.

    Parameters
    ----------
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of the labels' texts.
    labels : sequence of str
        Names, row by row.
    examples : ndarray of shape (n, dim), float32
        Aligned unit vectors of texts.
    example_labels : sequence of str
        Their labels; others than ``labels`` do not count.
    common : ndarray of shape (dim,), optional
        The unit direction that all texts share, left out.

    Returns
    -------
    ndarray of shape (n_labels, dim), float32
        Unit vectors.
    """
    V, Y = _without(prototypes, common), _without(examples, common)
    known = np.array(example_labels, dtype=object)
    own = [Y[known == label] for label in labels]
    n_all = sum(map(len, own))
    moved = np.stack(
        [
            LABEL_TEXTS * v + _weight(len(texts), n_all - len(texts), len(labels) - 1) * texts.sum(axis=0)
            for v, texts in zip(V, own, strict=True)
        ]
    )
    unit: Matrix = (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), MIN_NORM)).astype(
        np.float32
    )
    return unit


def _weight(n: int, n_others: int, n_other_labels: int) -> float:
    """Return what each of a label's examples counts, so that the label does not lead by more than it may."""
    return min(1.0, (MAX_LEAD + n_others / max(1, n_other_labels)) / max(1, n))


def _without(X: Matrix, common: Vector64 | None) -> Array64:
    wide = X.astype(np.float64)
    if common is not None:
        wide = wide - np.outer(wide @ common, common)
    unit: Array64 = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), MIN_NORM)
    return unit
