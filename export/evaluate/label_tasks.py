"""Judge labels: zero-shot ones, and those of a head that was trained on one language. Pure."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.evaluate.tasks import ADAPTER, HEAD, LABELS, RAW, Results, mean_scores
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.errors import TaskError
from alignstream.models.labels.zero_shot import label_cosines

#: λ of the head, tried on the training texts alone, each left out of its own fit.
HEAD_STRENGTHS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def labels(
    raw: Mapping[str, Matrix],
    aligned: Mapping[str, Matrix],
    prototypes: tuple[Matrix, Matrix],
    gold: Mapping[str, NDArray[np.int64]],
    *,
    common: Vector64 | None = None,
) -> Results:
    """Label each text by the nearest label text, zero-shot.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors of texts by language.
    prototypes : two ndarrays of shape (n_labels, dim), float32
        Unit vectors of label texts, raw and aligned.
    gold : mapping of str to ndarray of shape (n_texts,), int64
        The position of each text's label.
    common : ndarray of shape (dim,), optional
        What labels leave out of aligned vectors (``Adapter.common_direction``).
    """
    scored = {}
    for column, vectors, own, left_out in (
        (RAW, raw, prototypes[0], None),
        (ADAPTER, aligned, prototypes[1], common),
    ):
        scored[column] = mean_scores(
            {
                language: label_cosines(X, own, left_out).argmax(axis=1) == gold[language]
                for language, X in vectors.items()
            }
        )
    return {LABELS: scored}


def head(
    raw: Mapping[str, Matrix],
    aligned: Mapping[str, Matrix],
    train: tuple[Matrix, Matrix],
    train_gold: NDArray[np.int64],
    gold: Mapping[str, NDArray[np.int64]],
) -> Results:
    """Classify texts of all languages by a head that was trained on texts of the pivot alone.

    Parameters
    ----------
    raw, aligned : mapping of str to ndarray of shape (n_texts, dim), float32
        Unit vectors of texts by language.
    train : two ndarrays of shape (n_train, dim), float32
        The pivot's training texts, raw and aligned.
    train_gold : ndarray of shape (n_train,), int64
        Their classes, from 0.
    gold : mapping of str to ndarray of shape (n_texts,), int64
        Classes of the texts; one that training lacks counts as wrong.
    """
    scored = {}
    for column, vectors, X in ((RAW, raw, train[0]), (ADAPTER, aligned, train[1])):
        weights, mean = fit_head(X, train_gold)
        scored[column] = mean_scores(
            {
                language: ((rows.astype(np.float64) - mean) @ weights[:-1] + weights[-1]).argmax(axis=1)
                == gold[language]
                for language, rows in vectors.items()
            }
        )
    return {HEAD: scored}


def fit_head(X: Matrix, classes: NDArray[np.int64]) -> tuple[Vector64, Vector64]:
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
