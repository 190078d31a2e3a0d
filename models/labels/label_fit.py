"""Fit labels to a sample of texts without labels, and their scores to a few texts with labels. Pure: numpy alone.

Prototypes move toward the texts that they attract. That helps where the sample has the mix of topics that the
stream has, and harms where it has not: on a sample of one topic all labels chase that topic. ``why_not`` sees it.

What was chosen here was chosen on SIB-200's development and training texts and on xSID's validation part, with the
shipped adapter; ``docs/labels.md`` has the figures.
"""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import LabelsError
from alignstream.models.labels.zero_shot import MULTI_LABEL_MIDPOINT, TEMPERATURE, label_cosines

#: Share of the texts in a refined prototype. More gains little, and costs more where the sample is of another domain.
WEIGHT: Final = 0.35
#: Divides cosines before a text is shared among the labels. Between 0.02 and 0.05 little changes.
SHARPNESS: Final = 0.03
#: How much of a label's mean cosine is bias. The whole of it assumes that all labels are equally frequent.
BIAS_SHARE: Final = 0.5
#: After these nothing moves any more.
STEPS: Final = 5
#: Divides cosines of refined prototypes where no examples say better.
REFINED_TEMPERATURE: Final = 0.06

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

#: Fewer cannot set a temperature.
MIN_EXAMPLES: Final = 20
#: Examples that the temperature without examples is worth.
_PRIOR_EXAMPLES: Final = 5.0
_TEMPERATURES: Final = np.geomspace(0.01, 0.3, 69)
#: Right examples of a label that the threshold of all labels is worth.
_SHARED_EXAMPLES: Final = 10.0
#: Bins of the expected calibration error.
_BINS: Final = 10
_MIN_NORM: Final = 1e-9
_MIN_PROBABILITY: Final = 1e-12


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How to read cosines: what ``Fitted`` stores beside its prototypes.

    Parameters
    ----------
    temperature : float
        Divides cosines less their bias.
    abstain_margin : float
        Of a single label: scores nearer to each other than this get none.
    thresholds : ndarray of shape (n_labels,), float64, optional
        Of a multi-label set.
    """

    temperature: float
    abstain_margin: float = 0.0
    thresholds: Vector64 | None = None


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
    V, U = _unit(centre_labels(prototypes, common=common).astype(np.float64)), _without(texts, common)
    C, domain = V, U.mean(axis=0)
    for _ in range(STEPS):
        cosines = U @ C.T
        shares = _softmax((cosines - BIAS_SHARE * cosines.mean(axis=0)) / SHARPNESS)
        means = shares.T @ U / np.maximum(shares.sum(axis=0), _MIN_PROBABILITY)[:, None]
        C = _unit((1.0 - WEIGHT) * V + WEIGHT * _unit(means - domain))
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
    V = _without(prototypes, common)
    if len(V) > 1:
        V = _unit(V - V.mean(axis=0))
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


def fit_temperature(
    cosines: NDArray[np.float64], gold: NDArray[np.bool_], *, prior: float, multi_label: bool
) -> float:
    """Choose the temperature with the lowest negative log-likelihood of examples, held near a prior.

    Parameters
    ----------
    cosines : ndarray of shape (n, n_labels), float64
        Less their bias; of a multi-label set, less their thresholds.
    gold : ndarray of shape (n, n_labels), bool
        True where a label is right.
    prior : float
        The temperature without examples; worth a few of them, in its logarithm.
    multi_label : bool
        False: of a softmax, with one label right in every row. True: each label stands for itself.

    Returns
    -------
    float
        One of 69 steps from 0.01 to 0.3.
    """
    losses = []
    for temperature in _TEMPERATURES:
        if multi_label:
            signed = np.clip(np.where(gold, -cosines, cosines) / temperature, -700, 700)
            right = 1.0 / (1.0 + np.exp(signed)).ravel()
        else:
            right = _softmax(cosines / temperature)[gold]
        loss = -np.log(np.maximum(right, _MIN_PROBABILITY)).sum()
        losses.append(loss + _PRIOR_EXAMPLES * np.log(temperature / prior) ** 2)
    return float(_TEMPERATURES[int(np.argmin(losses))])


def fit_margin(scores: NDArray[np.float64], gold: NDArray[np.bool_], *, wrong_cost: float) -> float:
    """Choose the margin below which no answer is better than the answer.

    Parameters
    ----------
    scores : ndarray of shape (n, n_labels), float64
        Of examples, after the temperature.
    gold : ndarray of shape (n, n_labels), bool
        True at the right label.
    wrong_cost : float
        Right answers that a wrong one undoes; 0 never abstains.

    Returns
    -------
    float
        The smallest margin with the most right answers less the cost of wrong ones. Chow 1970 for the rule.
    """
    if scores.shape[1] < 2:
        return 0.0
    ordered = np.sort(scores, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    right = gold[np.arange(len(gold)), scores.argmax(axis=1)]
    candidates = np.concatenate([[0.0], np.sort(margins)])
    gains = [
        float(right[margins >= item].sum() - wrong_cost * (~right[margins >= item]).sum())
        for item in candidates
    ]
    return float(candidates[int(np.argmax(gains))])


def fit_thresholds(cosines: NDArray[np.float64], gold: NDArray[np.bool_]) -> Vector64:
    """Choose a threshold for each label: the best mean of true positive and true negative rate.

    Parameters
    ----------
    cosines : ndarray of shape (n, n_labels), float64
    gold : ndarray of shape (n, n_labels), bool
        True where a label is right; a row may have several, or none.

    Returns
    -------
    ndarray of shape (n_labels,), float64
        Each shrunk toward the threshold that is best for all labels together, by the examples that it has; a label
        without examples takes that one.

    Raises
    ------
    LabelsError
        No label has both a text that it is right for and one that it is not.
    """
    positives = gold.sum(axis=0)
    usable = (positives > 0) & (positives < len(gold))
    if not usable.any():
        raise LabelsError("thresholds need, of some label, an example with it and one without it")
    values = np.unique(cosines)
    middles = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    rates = np.stack([_balanced(cosines[:, c], gold[:, c], middles) for c in np.flatnonzero(usable)])
    shared = middles[int(rates.mean(axis=0).argmax())]
    thresholds = np.full(cosines.shape[1], shared)
    for row, label in enumerate(np.flatnonzero(usable)):
        weight = positives[label] / (positives[label] + _SHARED_EXAMPLES)
        thresholds[label] = weight * middles[int(rates[row].argmax())] + (1.0 - weight) * shared
    return thresholds


def match_thresholds(plain: NDArray[np.float64], cosines: NDArray[np.float64]) -> Vector64:
    """Set thresholds without examples: each label applies to as many texts of the sample as before.

    Parameters
    ----------
    plain, cosines : ndarray of shape (n, n_labels), float64
        Of the sample, with the plain labels and with those that the thresholds are for.

    Returns
    -------
    ndarray of shape (n_labels,), float64
    """
    shares = (plain >= MULTI_LABEL_MIDPOINT).mean(axis=0)
    return np.array(
        [np.quantile(cosines[:, label], 1.0 - share) for label, share in enumerate(shares)], dtype=np.float64
    )


def uncalibrated(*, is_refined: bool, thresholds: Vector64 | None = None) -> Calibration:
    """Return the calibration without examples: a fixed temperature, and always an answer."""
    return Calibration(_prior(is_refined=is_refined), thresholds=thresholds)


def calibrate(
    cosines: NDArray[np.float64],
    gold: NDArray[np.bool_],
    *,
    multi_label: bool,
    is_refined: bool,
    wrong_cost: float,
) -> Calibration:
    """Fit temperature, and margin or thresholds, to examples.

    Parameters
    ----------
    cosines : ndarray of shape (n, n_labels), float64
        Of the examples, less their bias.
    gold : ndarray of shape (n, n_labels), bool
        True where a label is right.
    multi_label : bool
        Thresholds, not a margin.
    is_refined : bool
        Whether the prototypes were refined or centred: then cosines spread further.
    wrong_cost : float
        As for ``fit_margin``.

    Raises
    ------
    LabelsError
        As ``fit_thresholds``.
    """
    prior = _prior(is_refined=is_refined)
    if multi_label:
        own = fit_thresholds(cosines, gold)
        return Calibration(
            fit_temperature(cosines - own, gold, prior=prior, multi_label=True), thresholds=own
        )
    temperature = fit_temperature(cosines, gold, prior=prior, multi_label=False)
    margin = fit_margin(_softmax(cosines / temperature), gold, wrong_cost=wrong_cost)
    return Calibration(temperature, abstain_margin=margin)


def _prior(*, is_refined: bool) -> float:
    return REFINED_TEMPERATURE if is_refined else TEMPERATURE


def calibration_error(confidence: Vector64, is_right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, over ten bins.

    Parameters
    ----------
    confidence : ndarray of shape (n,), float64
        The score of each answer, 0 to 1.
    is_right : ndarray of shape (n,), bool

    Returns
    -------
    float
        0 to 1, the mean over texts. Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    error = 0.0
    for item in np.unique(bins):
        inside = bins == item
        error += float(abs(confidence[inside].mean() - is_right[inside].mean()) * inside.mean())
    return error


def balanced_accuracy(applies: NDArray[np.bool_], gold: NDArray[np.bool_]) -> float:
    """Return the mean of true positive and true negative rate, averaged over the labels that have both kinds.

    Parameters
    ----------
    applies, gold : ndarray of shape (n, n_labels), bool
        What was answered, and what is right.
    """
    positives = gold.sum(axis=0)
    usable = (positives > 0) & (positives < len(gold))
    hits, passes = (applies & gold)[:, usable], (~applies & ~gold)[:, usable]
    rates = hits.sum(axis=0) / positives[usable] + passes.sum(axis=0) / (len(gold) - positives[usable])
    return float(rates.mean() / 2)


def _balanced(cosines: Vector64, gold: NDArray[np.bool_], middles: Vector64) -> Vector64:
    """Return the mean of both rates at each threshold."""
    right, wrong = np.sort(cosines[gold]), np.sort(cosines[~gold])
    hits = 1.0 - np.searchsorted(right, middles, side="left") / len(right)
    passes = np.searchsorted(wrong, middles, side="left") / len(wrong)
    rates: Vector64 = (hits + passes) / 2
    return rates


def _check(prototypes: Matrix, texts: Matrix) -> None:
    if prototypes.ndim != 2 or texts.ndim != 2 or prototypes.shape[1] != texts.shape[1]:
        raise LabelsError(
            f"labels of shape {prototypes.shape} and texts of shape {texts.shape} are not of one space"
        )
    if not len(prototypes) or not len(texts):
        raise LabelsError("labels and texts are needed, at least one of each")
    if not (np.isfinite(prototypes).all() and np.isfinite(texts).all()):
        raise LabelsError("a vector of a label or a text holds a number that is not finite")


def _without(X: Matrix, common: Vector64 | None) -> NDArray[np.float64]:
    wide = X.astype(np.float64)
    return _unit(wide if common is None else wide - np.outer(wide @ common, common))


def _unit(X: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), _MIN_NORM)
    return unit


def _softmax(X: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = np.exp(X - X.max(axis=1, keepdims=True))
    softmax: NDArray[np.float64] = scaled / scaled.sum(axis=1, keepdims=True)
    return softmax
