"""Fit how the scores of labels are read to a few texts with labels: temperature, margin, thresholds. Pure: numpy alone.

What was chosen here was chosen on SIB-200's development and training texts and on xSID's validation part, with the
shipped adapter; ``docs/labels.md`` has the figures.
"""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Vector64
from alignstream.models.errors import LabelsError
from alignstream.models.labels.zero_shot import MULTI_LABEL_MIDPOINT, TEMPERATURE, softmax

#: Divides cosines of refined prototypes where no examples say better.
REFINED_TEMPERATURE: Final = 0.06


#: Fewer cannot set a temperature.
MIN_EXAMPLES: Final = 20
#: Examples that the temperature without examples is worth.
_PRIOR_EXAMPLES: Final = 5.0
_TEMPERATURES: Final = np.geomspace(0.01, 0.3, 69)
#: Right examples of a label that the threshold of all labels is worth.
_SHARED_EXAMPLES: Final = 10.0
#: Bins of the expected calibration error.
_BINS: Final = 10
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
            right = softmax(cosines / temperature)[gold]
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
        float(right[margins >= margin].sum() - wrong_cost * (~right[margins >= margin]).sum())
        for margin in candidates
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
    margin = fit_margin(softmax(cosines / temperature), gold, wrong_cost=wrong_cost)
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
    for number in np.unique(bins):
        inside = bins == number
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
