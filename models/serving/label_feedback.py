"""Label feedback: label prototypes move toward the texts that people gave these labels."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.unit_vectors import unit_rows, unit_rows_without

#: Number of examples that a label's own text is worth.
LABEL_TEXTS: Final = 10.0
#: Most examples by which a label may lead the average of the others: texts resemble texts, so that the only label with
#: examples would attract texts that belong to others.
MAX_LEAD: Final = 3.0


def corrected_prototypes(
    prototypes: Matrix,
    labels: Sequence[str],
    examples: Matrix,
    example_labels: Sequence[str],
    common: Vector64 | None = None,
) -> Matrix:
    """Move label prototypes toward the texts that people gave these labels.

    ``n(κ v + w Σ y)`` for each label, where v is its own text, y its n examples and κ is ``LABEL_TEXTS``. w is 1, or
    less if the label leads: n counts as at most ``MAX_LEAD`` more than the other labels have on average. What people
    say is right for any mix of topics, so this does not follow the stream.

    Parameters
    ----------
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of the labels' texts.
    labels : sequence of str
        Names, row by row.
    examples : ndarray of shape (n, dim), float32
        Aligned unit vectors of texts.
    example_labels : sequence of str
        Their labels; those that are not among ``labels`` are ignored.
    common : ndarray of shape (dim,), optional
        The unit direction that all texts share, left out.

    Returns
    -------
    ndarray of shape (n_labels, dim), float32
        Unit vectors.

    Examples
    --------
    >>> labels, examples = np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[[2, 2, 2]]
    >>> corrected_prototypes(labels, ["sports", "politics"], examples, ["sports"] * 3).round(2)
    array([[0.96, 0.  , 0.29],
           [0.  , 1.  , 0.  ]], dtype=float32)
    """
    V, Y = unit_rows_without(prototypes, common), unit_rows_without(examples, common)
    known = np.array(example_labels, dtype=object)
    own = [Y[known == label] for label in labels]
    n_all = sum(map(len, own))
    moved = np.stack(
        [
            LABEL_TEXTS * v + _weight(len(texts), n_all - len(texts), len(labels) - 1) * texts.sum(axis=0)
            for v, texts in zip(V, own, strict=True)
        ]
    )
    corrected: Matrix = unit_rows(moved).astype(np.float32)
    return corrected


def _weight(n: int, n_others: int, n_other_labels: int) -> float:
    """Return the weight of each of a label's examples, so that the label's lead stays within its limit."""
    return min(1.0, (MAX_LEAD + n_others / max(1, n_other_labels)) / max(1, n))
