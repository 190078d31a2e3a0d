"""Refine label prototypes on a sample of unlabelled texts. Pure numpy.

Prototypes move toward the texts that they attract. That helps if the sample has the same mix of topics as the stream,
and harms if it has not: on a sample of one topic, all labels chase that topic. ``why_not`` detects such samples.

The constants were chosen on SIB-200's development and training texts and on xSID's validation part, with the
shipped adapter; ``docs/pages/measurements/labels.md`` has the figures.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np

from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import LabelsError
from alignstream.models.labels.zero_shot import label_cosines, softmax
from alignstream.models.unit_vectors import unit_rows, unit_rows_without

#: Share of the texts in a refined prototype. More gains little, and costs more if the sample is from another domain.
WEIGHT: Final = 0.35
#: Temperature at which a text is shared among the labels. Between 0.02 and 0.05, little changes.
SHARPNESS: Final = 0.03
#: Share of a label's mean cosine that counts as bias. All of it would assume that labels are equally frequent.
BIAS_SHARE: Final = 0.5
#: Iterations; nothing moves after these.
STEPS: Final = 5
#: With fewer texts, the result depends on the sample: accuracy varies by 1.1 points (standard deviation) between
#: samples of 50, and by 0.7 between samples of 200.
MIN_TEXTS: Final = 200
#: Fewer keys are a few sources, not a stream.
MIN_KEYS: Final = 20
#: A source that sends a larger share of the texts dominates the sample.
MAX_KEY_SHARE: Final = 0.5
#: Effective number of labels (the exponential of the entropy of their shares) as a share of all labels. Samples that
#: help are above, at 0.76 and 0.92; half of the texts on one topic gives 0.69 to 0.82, all on one topic 0.22 to 0.45.
MIN_EVENNESS: Final = 0.75
#: Centring would turn a set of two labels into opposites, and no text could have both.
MIN_CENTRED_LABELS: Final = 3

_MIN_PROBABILITY: Final = 1e-12


def refine(prototypes: Matrix, texts: Matrix, *, common: Vector64 | None = None) -> Matrix:
    """Move label prototypes toward the texts that they attract.

    ``C <- n((1 - w) V + w n(D))``, ``STEPS`` times. V is the labels minus what they share (their template). A row of D
    is the mean of the texts U, weighted by the label's column of ``P = softmax((U C' - mean/2) / t)``, minus the mean
    of all texts: what the label's texts have and the domain has not. w is ``WEIGHT`` and t is ``SHARPNESS``.

    Parameters
    ----------
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of label texts; at least two. Not changed.
    texts : ndarray of shape (n, dim), float32
        Aligned unit vectors of a sample that ``why_not`` accepts; their order does not matter.
    common : ndarray of shape (dim,), optional
        The unit direction to leave out (``Adapter.common_direction``).

    Returns
    -------
    ndarray of shape (n_labels, dim), float32
        Unit vectors without the common direction, in the space of the inputs.

    Raises
    ------
    LabelsError
        Shapes differ, there are fewer than two labels or no texts, or a number is not finite.

    Notes
    -----
    O(steps · n · n_labels · dim), in float64. Soft k-means tied to the label texts.

    Examples
    --------
    >>> labels = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
    >>> texts = np.array([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0]], dtype=np.float32)
    >>> refine(labels, texts).round(2)
    array([[ 0.67, -0.72,  0.15],
           [-0.67,  0.72, -0.15]], dtype=float32)
    """
    _check(prototypes, texts)
    if len(prototypes) < 2:
        raise LabelsError("a single label cannot be refined: every text would belong to it")
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
    """Remove what all labels share, which is their template more than their meaning.

    Parameters
    ----------
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of label texts.
    common : ndarray of shape (dim,), optional
        The unit direction to leave out.

    Returns
    -------
    ndarray of shape (n_labels, dim), float32
        Unit vectors. A single label is not centred.

    Examples
    --------
    >>> centre_labels(np.array([[0.6, 0.8], [0.6, -0.8]], dtype=np.float32))
    array([[ 0.,  1.],
           [ 0., -1.]], dtype=float32)
    """
    V = unit_rows_without(prototypes, common)
    if len(V) > 1:
        V = unit_rows(V - V.mean(axis=0))
    centred: Matrix = V.astype(np.float32)
    return centred


def label_bias(prototypes: Matrix, texts: Matrix, *, common: Vector64 | None = None) -> Vector64:
    """Return the part of each label's cosine that says nothing: ``BIAS_SHARE`` of its mean over the sample.

    Parameters
    ----------
    prototypes, texts, common
        As in ``refine``, but the prototypes are the refined ones.

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
    """Tell why a sample must not be used to refine labels.

    Parameters
    ----------
    labels : sequence of str
        Names, for the message.
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of the label texts, not refined.
    texts : ndarray of shape (n, dim), float32
        Aligned unit vectors of the sample.
    keys : sequence of hashable, optional
        The source of each text, such as the key of its message. None: sources are not checked.
    common : ndarray of shape (dim,), optional
        The unit direction to leave out.

    Returns
    -------
    str or None
        The first reason: too few texts, too few sources, or a mix that looks one-sided by the labels that the texts
        get without refinement. None if there is no reason.

    Examples
    --------
    >>> why_not(["sports", "politics"], np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    '2 texts are too few; 200 are needed'
    """
    n = len(texts)
    if n < MIN_TEXTS:
        return f"{n} texts are too few; {MIN_TEXTS} are needed"
    if len(labels) < 2:
        return "a single label cannot be refined"
    if keys is not None:
        counts = Counter(keys)
        if len(counts) < MIN_KEYS:
            return f"the texts come from {len(counts)} sources; {MIN_KEYS} are needed"
        share = max(counts.values()) / n
        if share > MAX_KEY_SHARE:
            return f"{share:.0%} of the texts come from one source"
    nearest = label_cosines(texts, prototypes, common).argmax(axis=1)
    shares = np.bincount(nearest, minlength=len(labels)) / n
    first = int(shares.argmax())
    evenness = effective_labels(shares) / len(labels)
    if evenness < MIN_EVENNESS:
        return (
            f"the sample looks one-sided: {shares[first]:.0%} of its texts get {labels[first]!r}; "
            f"only {effective_labels(shares):.1f} of {len(labels)} labels are in use"
        )
    if not shares.all():
        absent = [label for label, share in zip(labels, shares, strict=True) if not share]
        return f"the sample looks one-sided: no text gets {', '.join(map(repr, absent[:5]))}"
    return None


def effective_labels(shares: Vector64) -> float:
    """Return the effective number of labels: the exponential of the entropy of their shares.

    Examples
    --------
    >>> effective_labels(np.array([0.5, 0.5, 0.0]))
    2.0
    """
    positive = shares[shares > 0.0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def _check(prototypes: Matrix, texts: Matrix) -> None:
    if prototypes.ndim != 2 or texts.ndim != 2 or prototypes.shape[1] != texts.shape[1]:
        raise LabelsError(
            f"labels of shape {prototypes.shape} and texts of shape {texts.shape} do not share a space"
        )
    if not len(prototypes) or not len(texts):
        raise LabelsError("at least one label and one text are needed")
    if not (np.isfinite(prototypes).all() and np.isfinite(texts).all()):
        raise LabelsError("a vector of a label or text is not finite")
