"""Zero-shot labels from aligned vectors: one dot product per label, no second pass through the encoder.

Label texts are encoded once per (labels, template) and aligned once per adapter version.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import NEUTRAL, Context
from alignstream.models.arrays import Matrix, Matrix64, Vector32, Vector64
from alignstream.models.labels.fitted_labels import FittedLabels
from alignstream.models.labels.label_set import render
from alignstream.models.unit_vectors import unit_rows_without

#: Divides cosines before the softmax. It has the lowest negative log-likelihood on SIB-200's development texts in 34
#: languages with the shipped adapter (1.00, at a mean confidence of 0.65 and an accuracy of 0.66); found by
#: ``python -m alignstream.export.figures.shipped_adapter tune-labels``.
TEMPERATURE: Final = 0.035
#: Multi-label: the cosine at which a label gets score 0.5. It has the best mean of true positive and true negative
#: rate on the same texts (0.72), and finds 67 % of the right labels at 2.0 labels per text.
MULTI_LABEL_MIDPOINT: Final = 0.045
#: Multi-label: the least score at which a label applies.
MULTI_LABEL_ACCEPT: Final = 0.5
#: Label sets kept in memory; a set of 64 labels takes 100 kB.
CACHE_SETS: Final = 256

_Key = TypeVar("_Key")


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """Labels with scores in descending order; ``label`` is None if none applies or the prediction abstains."""

    label: str | None
    labels: tuple[str, ...]
    scores: tuple[float, ...]


def predict_one(
    y: Vector32,
    prototypes: Matrix,
    labels: Sequence[str],
    *,
    multi_label: bool,
    common: Vector64 | None = None,
    fitted: FittedLabels | None = None,
) -> Prediction:
    """Score labels for one text.

    Parameters
    ----------
    y : ndarray of shape (dim,), float32
        The aligned unit vector of the text.
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned unit vectors of the label texts.
    labels : sequence of str
        Names, row by row.
    multi_label : bool
        False: scores are a softmax of ``cosine / TEMPERATURE`` and sum to 1. True: each score is a logistic
        of ``(cosine - MULTI_LABEL_MIDPOINT) / TEMPERATURE`` on its own.
    common : ndarray of shape (dim,), optional
        The unit direction that all texts share (``Adapter.common_direction``), left out of the cosines.
    fitted : FittedLabels, optional
        Its bias, temperature, thresholds and margin replace the constants; ``prototypes`` must be its own.

    Returns
    -------
    Prediction
        Equal scores stay in the order of ``labels``.

    Examples
    --------
    >>> y, prototypes = np.array([1, 0], dtype=np.float32), np.eye(2, dtype=np.float32)
    >>> predict_one(y, prototypes, ["sports", "politics"], multi_label=False)
    Prediction(label='sports', labels=('sports', 'politics'), scores=(1.0, 0.0))
    """
    cosines = label_cosines(y[None], prototypes, common)
    scores = label_scores(cosines, multi_label=multi_label, fitted=fitted)[0]
    order = np.argsort(-scores, kind="stable")
    accepted = answers(
        scores[None], multi_label=multi_label, abstain_margin=0.0 if fitted is None else fitted.abstain_margin
    )[0]
    return Prediction(
        label=labels[order[0]] if accepted else None,
        labels=tuple(labels[position] for position in order),
        scores=tuple(round(float(scores[position]), 6) for position in order),
    )


def label_scores(
    cosines: NDArray[np.float64], *, multi_label: bool, fitted: FittedLabels | None = None
) -> NDArray[np.float64]:
    """Turn cosines into scores between 0 and 1.

    Parameters
    ----------
    cosines : ndarray of shape (n, n_labels), float64
        From ``label_cosines``.
    multi_label : bool
        False: a softmax over the labels. True: a logistic function of each label on its own.
    fitted : FittedLabels, optional
        Gives bias, temperature and thresholds; default the constants of this module.

    Returns
    -------
    ndarray of shape (n, n_labels), float64
    """
    temperature = TEMPERATURE if fitted is None else fitted.temperature
    if fitted is not None:
        cosines = cosines - np.asarray(fitted.bias)
    if multi_label:
        thresholds = None if fitted is None else fitted.thresholds
        middle = MULTI_LABEL_MIDPOINT if thresholds is None else np.asarray(thresholds)
        # Past 700 the exponential overflows; the score is 0 or 1 long before.
        scores: NDArray[np.float64] = 1.0 / (
            1.0 + np.exp(np.clip((middle - cosines) / temperature, -700, 700))
        )
        return scores
    return softmax(cosines / temperature)


def softmax(logits: Matrix64) -> Matrix64:
    """Return the softmax of each row of an array of shape (n, n_labels)."""
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Matrix64 = scaled / scaled.sum(axis=1, keepdims=True)
    return shares


def answers(
    scores: NDArray[np.float64], *, multi_label: bool, abstain_margin: float = 0.0
) -> NDArray[np.bool_]:
    """Tell which texts get a label.

    Parameters
    ----------
    scores : ndarray of shape (n, n_labels), float64
        From ``label_scores``.
    multi_label : bool
        True: texts whose best score is at least ``MULTI_LABEL_ACCEPT``.
    abstain_margin : float
        Otherwise: texts whose best score is at least this much above the second.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    ordered = np.sort(scores, axis=1)
    # A single label has no second: take 0, so that its lead is as large as can be.
    second = ordered[:, -2] if scores.shape[1] > 1 else np.zeros(len(scores))
    accepted: NDArray[np.bool_] = (
        ordered[:, -1] >= MULTI_LABEL_ACCEPT if multi_label else ordered[:, -1] - second >= abstain_margin
    )
    return accepted


def label_cosines(Y: Matrix, prototypes: Matrix, common: Vector64 | None = None) -> NDArray[np.float64]:
    """Return the cosines of texts and labels, without the direction that all texts share.

    Parameters
    ----------
    Y : ndarray of shape (n, dim), float32
        Aligned vectors of texts.
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned vectors of label texts.
    common : ndarray of shape (dim,), optional
        The unit direction to leave out.

    Returns
    -------
    ndarray of shape (n, n_labels), float64
    """
    if common is None:
        return Y.astype(np.float64) @ prototypes.astype(np.float64).T
    # A text with nothing but the common direction resembles every label equally.
    return unit_rows_without(Y, common) @ unit_rows_without(prototypes, common).T


class PrototypeCache:
    """Aligned label vectors, computed once per (labels, template, adapter version, overrides).

    Use it from the inference thread only. Keeps the last ``CACHE_SETS`` sets.

    Parameters
    ----------
    encode : callable
        Maps texts to unit vectors of shape (n, dim), float32.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Matrix]) -> None:
        self._encode = encode
        self._raw: OrderedDict[tuple[str, tuple[str, ...]], Matrix] = OrderedDict()
        self._aligned: OrderedDict[tuple[str, tuple[str, ...], str, Context], Matrix] = OrderedDict()

    def prototypes(
        self, labels: tuple[str, ...], template: str, adapter: Adapter, context: Context = NEUTRAL
    ) -> Matrix:
        """Return the aligned vectors of labels: shape (n_labels, dim), float32.

        A context's overrides apply to the labels too; its language does not, because it is the text's.
        """
        context = dataclasses.replace(context, language=None)
        key = (template, labels, adapter.version, context)
        if key not in self._aligned:
            raw = self._raw.get(key[:2])
            if raw is None:
                raw = self._encode([render(template, label) for label in labels])
                _remember(self._raw, key[:2], raw)
            self._raw.move_to_end(key[:2])
            _remember(self._aligned, key, adapter.transform_many(raw, context))
        self._aligned.move_to_end(key)
        return self._aligned[key]


def _remember(cache: OrderedDict[_Key, Matrix], key: _Key, value: Matrix) -> None:
    cache[key] = value
    while len(cache) > CACHE_SETS:
        cache.popitem(last=False)
