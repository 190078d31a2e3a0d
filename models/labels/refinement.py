"""Refine label prototypes on a sample of texts without labels. Pure: numpy alone.

Prototypes move toward the texts that they attract. That helps where the sample has the mix of topics that the
stream has, and harms where it has not: on a sample of one topic all labels chase that topic. ``why_not`` sees it.

What was chosen here was chosen on SIB-200's development and training texts and on xSID's validation part, with the
shipped adapter; ``docs/labels.md`` has the figures.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import LabelsError
from alignstream.models.labels.zero_shot import label_cosines, softmax
from alignstream.models.unit_vectors import unit_rows, unit_rows_without

#: Share of the texts in a refined prototype. More gains little, and costs more where the sample is of another domain.
WEIGHT: Final = 0.35
#: Divides cosines before a text is shared among the labels. Between 0.02 and 0.05 little changes.
SHARPNESS: Final = 0.03
#: How much of a label's mean cosine is bias. The whole of it assumes that all labels are equally frequent.
BIAS_SHARE: Final = 0.5
#: After these nothing moves any more.
STEPS: Final = 5
#: With fewer texts the result depends on which ones they are: accuracy varies by 1.1 points (standard deviation)
#: between samples of 50, by 0.7 between samples of 200.
MIN_TEXTS: Final = 200
#: Fewer keys are a few sources, not a stream.
MIN_KEYS: Final = 20
#: One source that sends more than this share of the texts speaks for all.
MAX_KEY_SHARE: Final = 0.5
#: Labels in effect (the exponential of the entropy of their shares), as a share of all: samples that help lie above,
#: at 0.76 and 0.92; half of the texts on one topic gives 0.69 to 0.82, all of them on one 0.22 to 0.45.
MIN_EVENNESS: Final = 0.75
#: A set of two labels would be turned into opposites, of which no text can have both.
MIN_CENTRED_LABELS: Final = 3

_MIN_PROBABILITY: Final = 1e-12


def refine(prototypes: Matrix, texts: Matrix, *, common: Vector64 | None = None) -> Matrix:
    """Move label prototypes toward the texts that they attract.

    ``C <- n((1 - w) V + w n(D))``, ``STEPS`` times. V are the labels less what they share (their template). A row of D
    is the mean of the texts U, weighted by the column of ``P = softmax((U C' - mean/2) / t)``, less the mean of all of
    them: what a label's texts have and the domain has not. w is ``WEIGHT`` and t ``SHARPNESS``.

    Parameters
    ----------
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of label texts; at least two. Not changed.
    texts : ndarray of shape (n, dim), float32
        Aligned unit vectors of a sample that ``why_not`` has nothing against; their order does not matter.
    common : ndarray of shape (dim,), optional
        The unit direction that labels leave out (``Adapter.common_direction``).

    Returns
    -------
    ndarray of shape (n_labels, dim), float32
        Unit vectors without the common direction, in the space of the inputs.

    Raises
    ------
    LabelsError
        Shapes do not agree, fewer than two labels, no texts, or a number that is not finite.

    Notes
    -----
    O(steps · n · n_labels · dim), in float64. Soft k-means that is tied to the label texts.
    """
    _check(prototypes, texts)
    if len(prototypes) < 2:
        raise LabelsError("one label alone cannot be refined: every text would belong to it")
    V, U = (
        unit_rows(centre_labels(prototypes, common=common).astype(np.float64)),
        unit_rows_without(texts, common),
    )
    C, domain = V, U.mean(axis=0)
    for _ in range(STEPS):
        cosines = U @ C.T
        shares = softmax((cosines - BIAS_SHARE * cosines.mean(axis=0)) / SHARPNESS)
        means = shares.T @ U / np.maximum(shares.sum(axis=0), _MIN_PROBABILITY)[:, None]
        C = unit_rows((1.0 - WEIGHT) * V + WEIGHT * unit_rows(means - domain))
    refined: Matrix = C.astype(np.float32)
    return refined


def centre_labels(prototypes: Matrix, *, common: Vector64 | None = None) -> Matrix:
    """Return labels without what all of them share, which is their template more than their meaning.

    Parameters
    ----------
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of label texts.
    common : ndarray of shape (dim,), optional
        The unit direction that labels leave out.

    Returns
    -------
    ndarray of shape (n_labels, dim), float32
        Unit vectors. A single label shares nothing, and stays.
    """
    V = unit_rows_without(prototypes, common)
    if len(V) > 1:
        V = unit_rows(V - V.mean(axis=0))
    centred: Matrix = V.astype(np.float32)
    return centred


def label_bias(prototypes: Matrix, texts: Matrix, *, common: Vector64 | None = None) -> Vector64:
    """Return how much of a label's cosine says nothing: ``BIAS_SHARE`` of its mean over the sample.

    Parameters
    ----------
    prototypes, texts, common
        As for ``refine``; the prototypes are those that were refined.

    Returns
    -------
    ndarray of shape (n_labels,), float64
    """
    _check(prototypes, texts)
    bias: Vector64 = BIAS_SHARE * label_cosines(texts, prototypes, common).mean(axis=0)
    return bias


def why_not(
    labels: Sequence[str],
    prototypes: Matrix,
    texts: Matrix,
    *,
    keys: Sequence[Hashable] | None = None,
    common: Vector64 | None = None,
) -> str | None:
    """Say why a sample must not be used to refine labels.

    Parameters
    ----------
    labels : sequence of str
        Names, for the reason.
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of the label texts, not refined.
    texts : ndarray of shape (n, dim), float32
        Aligned unit vectors of the sample.
    keys : sequence of hashable, optional
        The source of each text, such as the key of its message. None: not looked at.
    common : ndarray of shape (dim,), optional
        The unit direction that labels leave out.

    Returns
    -------
    str or None
        The first reason found: too few texts, too few sources, or a mix that looks one-sided by the labels that the
        texts get without refinement. None: nothing speaks against it.
    """
    n = len(texts)
    if n < MIN_TEXTS:
        return f"{n} texts are fewer than {MIN_TEXTS}"
    if len(labels) < 2:
        return "one label alone cannot be refined"
    if keys is not None:
        counts = Counter(keys)
        if len(counts) < MIN_KEYS:
            return f"the texts come from {len(counts)} sources, fewer than {MIN_KEYS}"
        share = max(counts.values()) / n
        if share > MAX_KEY_SHARE:
            return f"{share:.0%} of the texts come from one source"
    nearest = label_cosines(texts, prototypes, common).argmax(axis=1)
    shares = np.bincount(nearest, minlength=len(labels)) / n
    first = int(shares.argmax())
    evenness = effective_labels(shares) / len(labels)
    if evenness < MIN_EVENNESS:
        return (
            f"the sample looks one-sided: {shares[first]:.0%} of its texts fall to {labels[first]!r}; "
            f"{effective_labels(shares):.1f} of {len(labels)} labels are in use"
        )
    if not shares.all():
        absent = [label for label, share in zip(labels, shares, strict=True) if not share]
        return f"the sample looks one-sided: no text falls to {', '.join(map(repr, absent[:5]))}"
    return None


def effective_labels(shares: Vector64) -> float:
    """Return how many labels equally frequent would be as mixed: the exponential of the entropy of shares."""
    positive = shares[shares > 0.0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def _check(prototypes: Matrix, texts: Matrix) -> None:
    if prototypes.ndim != 2 or texts.ndim != 2 or prototypes.shape[1] != texts.shape[1]:
        raise LabelsError(
            f"labels of shape {prototypes.shape} and texts of shape {texts.shape} are not of one space"
        )
    if not len(prototypes) or not len(texts):
        raise LabelsError("labels and texts are needed, at least one of each")
    if not (np.isfinite(prototypes).all() and np.isfinite(texts).all()):
        raise LabelsError("a vector of a label or a text holds a number that is not finite")
