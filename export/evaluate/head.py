"""A classifier that is trained on one language and applied to all: a ridge on the vectors. Pure."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from alignstream.export.evaluate.measures import Scores, mean_scores
from alignstream.models.arrays import Indices, Matrix, Vector64
from alignstream.models.errors import TaskError

#: λ of the head, tried on the training texts alone, each left out of its own fit.
HEAD_STRENGTHS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def head_accuracy(
    vectors: Mapping[str, Matrix], gold: Mapping[str, Indices], *, train: Matrix, train_gold: Indices
) -> Scores:
    """Classify texts of all languages by a head that is trained on texts of the pivot alone.

    Parameters
    ----------
    vectors : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors of texts by language.
    gold : mapping of str to ndarray of shape (n_texts,), int64
        Classes of the texts; one that training lacks counts as wrong.
    train : ndarray of shape (n_train, dim), float32
        The pivot's training texts.
    train_gold : ndarray of shape (n_train,), int64
        Their classes, from 0.

    Raises
    ------
    TaskError
        There are fewer than two classes.
    """
    weights, mean = fit_head(train, train_gold)
    return mean_scores({
        language: ((X.astype(np.float64) - mean) @ weights[:-1] + weights[-1]).argmax(axis=1)
        == gold[language]
        for language, X in vectors.items()
    })  # fmt: skip


def fit_head(X: Matrix, classes: Indices) -> tuple[Vector64, Vector64]:
    """Fit one-against-rest least squares with a ridge, its λ chosen by leave-one-out accuracy on X alone.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        Unit vectors.
    classes : ndarray of shape (n,), int64
        From 0; at least two distinct ones.

    Returns
    -------
    weights : ndarray of shape (dim + 1, n_classes), float64
        The last row is the intercept.
    mean : ndarray of shape (dim,), float64
        To subtract from a vector first.

    Raises
    ------
    TaskError
        There are fewer than two classes.

    Notes
    -----
    One singular value decomposition, O(n · dim · min(n, dim)); leaving one out needs no further fit.
    """
    if len(np.unique(classes)) < 2:
        raise TaskError("a head needs training texts of at least two labels")
    mean = X.mean(axis=0, dtype=np.float64)
    Y = np.eye(int(classes.max()) + 1)[classes]
    intercept = Y.mean(axis=0)
    U, s, Vt = np.linalg.svd(X.astype(np.float64) - mean, full_matrices=False)
    best = (-1.0, 0.0)
    for strength in HEAD_STRENGTHS:
        accuracy = float((_left_out(U, s, Y, strength).argmax(axis=1) == classes).mean())
        # Of equals the strongest: the simplest head.
        best = max(best, (accuracy, strength))
    weights = Vt.T @ ((s / (s**2 + best[1]))[:, None] * (U.T @ (Y - intercept)))
    return np.concatenate([weights, intercept[None]]), mean


def _left_out(U: Vector64, s: Vector64, Y: Vector64, strength: float) -> Vector64:
    """Return what ridge regressions say of each row, each fitted without it; shape of Y.

    U and s are of the singular value decomposition of the centred rows; the intercept is not penalised.
    """
    intercept = Y.mean(axis=0)
    shrunk = s**2 / (s**2 + strength)
    fitted = intercept + U @ (shrunk[:, None] * (U.T @ (Y - intercept)))
    leverage = np.minimum((U**2) @ shrunk + 1.0 / len(Y), 1.0 - 1e-9)
    left_out: Vector64 = Y - (Y - fitted) / (1.0 - leverage)[:, None]
    return left_out
