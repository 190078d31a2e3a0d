"""What labelled examples of a tenant change: prototypes of labels move toward the texts that people gave them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.unit_vectors import unit_rows, unit_rows_without

#: Examples that the text of a label itself is worth.
LABEL_TEXTS: Final = 10.0
#: Examples by which a label counts more than the others on average, at most: texts resemble texts, so that the only
#: label with examples would attract what belongs to the others.
MAX_LEAD: Final = 3.0


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
    """Return what each of a label's examples counts, so that the label does not lead by more than it may."""
    return min(1.0, (MAX_LEAD + n_others / max(1, n_other_labels)) / max(1, n))
