"""Calibrate the scores of labels on a few labelled texts: temperature, margin, thresholds. Pure numpy.

The constants were chosen on SIB-200's development and training texts and on xSID's validation part, with the
shipped adapter; ``docs/pages/measurements/labels.md`` has the figures.
"""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Vector64
from alignstream.models.errors import LabelsError
from alignstream.models.labels.zero_shot import MULTI_LABEL_MIDPOINT, TEMPERATURE, softmax

#: Temperature for refined prototypes without examples.
REFINED_TEMPERATURE: Final = 0.06


#: Fewer examples cannot set a temperature.
MIN_EXAMPLES: Final = 20
#: Number of examples that the prior temperature is worth.
_PRIOR_EXAMPLES: Final = 5.0
_TEMPERATURES: Final = np.geomspace(0.01, 0.3, 69)
#: Number of a label's right examples that the shared threshold is worth.
_SHARED_EXAMPLES: Final = 10.0
#: Bins of the expected calibration error.
_BINS: Final = 10
_MIN_PROBABILITY: Final = 1e-12


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How cosines become answers; ``FittedLabels`` stores it beside its prototypes.

    Parameters
    ----------
    temperature : float
        Divides cosines minus their bias.
    abstain_margin : float
        For a single label: if the best score leads the second by less, there is no label.
    thresholds : ndarray of shape (n_labels,), float64, optional
        For a multi-label set.
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
        Minus their bias; for a multi-label set, also minus the thresholds.
    gold : ndarray of shape (n, n_labels), bool
        True where a label is right.
    prior : float
        The temperature without examples; it is worth a few of them, on a logarithmic scale.
    multi_label : bool
        False: a softmax, with one right label in every row. True: each label on its own.

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
    """Choose the margin below which it is better to abstain than to answer.

    Parameters
    ----------
    scores : ndarray of shape (n, n_labels), float64
        Scores of examples, after the temperature.
    gold : ndarray of shape (n, n_labels), bool
        True at the right label.
    wrong_cost : float
        Number of right answers that one wrong answer outweighs; 0 never abstains.

    Returns
    -------
    float
        The smallest margin that maximises right answers minus the cost of wrong ones (Chow's rule, 1970).

    Examples
    --------
    >>> scores, gold = np.array([[0.75, 0.25], [0.6, 0.4]]), np.array([[True, False], [False, True]])
    >>> fit_margin(scores, gold, wrong_cost=1.0), fit_margin(scores, gold, wrong_cost=0.0)
    (0.5, 0.0)
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
    """Choose the threshold of each label with the best mean of true positive and true negative rate.

    Parameters
    ----------
    cosines : ndarray of shape (n, n_labels), float64
    gold : ndarray of shape (n, n_labels), bool
        True where a label is right; a row may have several or none.

    Returns
    -------
    ndarray of shape (n_labels,), float64
        Each threshold is shrunk toward the best shared one, the more the fewer examples its label has; a label
        without examples gets the shared one.

    Raises
    ------
    LabelsError
        No label has both a text with it and a text without it.

    Examples
    --------
    >>> cosines, gold = np.array([[0.25], [0.75]]), np.array([[False], [True]])
    >>> fit_thresholds(cosines, gold)
    array([0.5])
    """
    positives = gold.sum(axis=0)
    usable = (positives > 0) & (positives < len(gold))
    if not usable.any():
        raise LabelsError(
            "thresholds need at least one label with an example that has it and one that does not"
        )
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
    """Set thresholds without examples, so that each label applies to as many texts of the sample as before.

    Parameters
    ----------
    plain, cosines : ndarray of shape (n, n_labels), float64
        Cosines of the sample with the plain labels, and with the labels that the thresholds are for.

    Returns
    -------
    ndarray of shape (n_labels,), float64
    """
    shares = (plain >= MULTI_LABEL_MIDPOINT).mean(axis=0)
    return np.array(
        [np.quantile(cosines[:, label], 1.0 - share) for label, share in enumerate(shares)], dtype=np.float64
    )


def uncalibrated(*, is_refined: bool, thresholds: Vector64 | None = None) -> Calibration:
    """Return the calibration without examples: a fixed temperature, and no abstaining."""
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
        Cosines of the examples minus their bias.
    gold : ndarray of shape (n, n_labels), bool
        True where a label is right.
    multi_label : bool
        Fit thresholds instead of a margin.
    is_refined : bool
        Whether the prototypes were refined or centred, which spreads cosines further.
    wrong_cost : float
        As in ``fit_margin``.

    Raises
    ------
    LabelsError
        As in ``fit_thresholds``.
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
    """Return the expected calibration error: the mean gap between confidence and accuracy, over ten bins.

    Parameters
    ----------
    confidence : ndarray of shape (n,), float64
        The score of each answer, from 0 to 1.
    is_right : ndarray of shape (n,), bool

    Returns
    -------
    float
        From 0 to 1, the mean over texts. Guo et al. 2017, "On Calibration of Modern Neural Networks".

    Examples
    --------
    >>> calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    error = 0.0
    for number in np.unique(bins):
        inside = bins == number
        error += float(abs(confidence[inside].mean() - is_right[inside].mean()) * inside.mean())
    return error


def balanced_accuracy(applies: NDArray[np.bool_], gold: NDArray[np.bool_]) -> float:
    """Return the mean of true positive and true negative rate, averaged over the labels that have both kinds of text.

    Parameters
    ----------
    applies, gold : ndarray of shape (n, n_labels), bool
        Predicted and right labels.

    Examples
    --------
    >>> balanced_accuracy(np.array([[True], [True], [False]]), np.array([[True], [False], [False]]))
    0.75
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
