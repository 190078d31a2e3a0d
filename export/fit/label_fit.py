"""Fit a label set to the user's own texts, and report the gain.

The fit itself is in ``models.labels``; this module chooses between plain and refined labels, and writes the
report. Only temperature, margin and thresholds are fitted to the examples.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Matrix, Vector64
from alignstream.models.checks.significance import worse_p_value
from alignstream.models.labels import calibration, refinement
from alignstream.models.labels.fitted_labels import FittedLabels, encode_prototypes
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.labels.zero_shot import MULTI_LABEL_ACCEPT, answers, label_cosines, label_scores

#: Examples reject refined labels if chance gives a loss as large less often than this.
MAX_P_VALUE: Final = 0.1
#: Digits of the numbers that are stored: far finer than what examples can tell.
_DIGITS: Final = 6


@dataclasses.dataclass(frozen=True)
class LabelFitOutcome:
    """The outcome of a fit.

    Parameters
    ----------
    labels : LabelSet
        The fitted set; unchanged if nothing could be fitted.
    report : dict
        The measured figures: JSON values.
    warnings : list of str
        Objections to the fit, in sentences.
    """

    labels: LabelSet
    report: dict[str, Any]
    warnings: list[str]


def align_tagged(adapter: Adapter, X: Matrix, languages: Sequence[str | None]) -> Matrix:
    """Align vectors of shape (n, dim), float32, each with the tag of its language."""
    aligned = np.empty_like(X)
    for tag in set(languages):
        rows = np.array([language == tag for language in languages])
        aligned[rows] = adapter.transform_many(X[rows], Context(language=tag))
    return aligned


def fit_labels(
    label_set: LabelSet,
    *,
    adapter: Adapter,
    template: str,
    prototypes: Matrix,
    sample: Matrix,
    examples: Matrix | None = None,
    gold: NDArray[np.bool_] | None = None,
    wrong_cost: float = 1.0,
    force: bool = False,
) -> LabelFitOutcome:
    """Fit a label set.

    Parameters
    ----------
    label_set : LabelSet
        An earlier fit in it is ignored.
    adapter : Adapter
        The adapter that aligned the vectors.
    template : str
        The sentence that the labels were embedded in.
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned vectors of the label texts.
    sample, examples : ndarray of shape (n, dim), float32
        Aligned vectors of texts without and with labels.
    gold : ndarray of shape (n_examples, n_labels), bool
        The right labels of the examples.
    wrong_cost : float
        Correct answers that one wrong answer costs; it sets the margin below which the set abstains.
    force : bool
        Refine even if the sample looks unsuitable.

    Returns
    -------
    LabelFitOutcome
        Labels are refined if the sample looks suitable and the examples do not get clearly worse. Otherwise the
        plain labels stay, calibrated if there are examples.

    Raises
    ------
    LabelsError
        Shapes do not agree, or thresholds cannot be fitted to the examples.
    """
    fit = _Fit(label_set, adapter, template, sample, examples, gold, wrong_cost)
    plain = _Labels(prototypes, np.zeros(len(prototypes)), is_refined=False)
    reason = refinement.why_not(label_set.labels, prototypes, sample, common=fit.common)
    warnings = [] if reason is None else [reason]
    chosen = plain
    if fit.may_refine(reason, force=force):
        refined = fit.refined(prototypes)
        loss = fit.loss(refined, plain)
        if loss is not None:
            warnings.append(loss.message)
        if loss is None or not loss.is_certain or force:
            chosen = refined
    if gold is not None:
        absent = [label_set.labels[position] for position in np.flatnonzero(~gold.any(axis=0))]
        if absent:
            warnings.append(f"there is no example of {', '.join(map(repr, absent[:5]))}")
    report = fit.report(chosen, plain) | {"warnings": warnings, "forced": force}
    if gold is None and not chosen.is_refined:
        return LabelFitOutcome(msgspec.structs.replace(label_set, fitted=None), report, warnings)
    stored = msgspec.structs.replace(fit.calibrated(chosen, plain), report=report)
    return LabelFitOutcome(msgspec.structs.replace(label_set, fitted=stored), report, warnings)


@dataclasses.dataclass(frozen=True)
class _Loss:
    """A loss of refined labels on the examples, and whether it is beyond chance."""

    message: str
    is_certain: bool


@dataclasses.dataclass(frozen=True)
class _Labels:
    """Prototypes of shape (n_labels, dim) and their bias, before calibration."""

    prototypes: Matrix
    bias: Vector64
    is_refined: bool


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What one fit looks at."""

    label_set: LabelSet
    adapter: Adapter
    template: str
    sample: Matrix
    examples: Matrix | None
    gold: NDArray[np.bool_] | None
    wrong_cost: float

    @property
    def common(self) -> Vector64 | None:
        return self.adapter.common_direction()

    def may_refine(self, reason: str | None, *, force: bool) -> bool:
        n_labels = len(self.label_set.labels)
        if self.label_set.multi_label:
            # Nothing moves toward the texts, so their mix matters less than their number.
            return n_labels >= refinement.MIN_CENTRED_LABELS and (
                force or len(self.sample) >= refinement.MIN_TEXTS
            )
        return n_labels > 1 and (force or reason is None)

    def refined(self, prototypes: Matrix) -> _Labels:
        """Refine labels that exclude each other; of a multi-label set, only remove their common part.

        A text that none of several labels applies to must not pull one of them.
        """
        if self.label_set.multi_label:
            centred = refinement.centre_labels(prototypes, common=self.common)
            return _Labels(centred, np.zeros(len(centred)), is_refined=True)
        moved = refinement.refine(prototypes, self.sample, common=self.common)
        return _Labels(moved, refinement.label_bias(moved, self.sample, common=self.common), is_refined=True)

    def calibrated(
        self, labels: _Labels, plain: _Labels, rows: NDArray[np.bool_] | None = None
    ) -> FittedLabels:
        """Calibrate on the examples, or on some rows of them."""
        multi_label = self.label_set.multi_label
        thresholds = None
        if multi_label:
            before, now = (
                label_cosines(self.sample, item.prototypes, self.common) - item.bias
                for item in (plain, labels)
            )
            thresholds = calibration.match_thresholds(before, now)
        if self.examples is None or self.gold is None:
            calibrated = calibration.uncalibrated(is_refined=labels.is_refined, thresholds=thresholds)
        else:
            keep = np.ones(len(self.gold), dtype=np.bool_) if rows is None else rows
            cosines = label_cosines(self.examples[keep], labels.prototypes, self.common) - labels.bias
            calibrated = calibration.calibrate(
                cosines, self.gold[keep],
                multi_label=multi_label, is_refined=labels.is_refined, wrong_cost=self.wrong_cost,
            )  # fmt: skip
        return FittedLabels(
            encoder=self.adapter.encoder,
            adapter_version=self.adapter.version,
            template=self.template,
            dim=self.adapter.dim,
            prototypes=encode_prototypes(labels.prototypes),
            bias=_stored(labels.bias),
            temperature=round(calibrated.temperature, _DIGITS),
            abstain_margin=round(calibrated.abstain_margin, _DIGITS),
            thresholds=None if calibrated.thresholds is None else _stored(calibrated.thresholds),
        )

    def judged(self, labels: _Labels | None, plain: _Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return scores of the examples and which of them are answered; None: what serves without a fit.

        Each half of the examples is judged by the calibration on the other half.
        """
        if self.examples is None or self.gold is None:
            raise ValueError("there are no examples")
        if labels is None:
            return self._scored(self.examples, None, plain)
        first = np.arange(len(self.gold)) % 2 == 0
        scores = np.empty(self.gold.shape)
        answered = np.empty(len(self.gold), dtype=np.bool_)
        for rows in (first, ~first):
            fitted = self.calibrated(labels, plain, ~rows)
            scores[rows], answered[rows] = self._scored(self.examples[rows], fitted, plain)
        return scores, answered

    def _scored(
        self, X: Matrix, fitted: FittedLabels | None, plain: _Labels
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        multi_label = self.label_set.multi_label
        prototypes = plain.prototypes if fitted is None else fitted.matrix
        cosines = label_cosines(X, prototypes, self.common)
        scores = label_scores(cosines, multi_label=multi_label, fitted=fitted)
        margin = 0.0 if fitted is None else fitted.abstain_margin
        return scores, answers(scores, multi_label=multi_label, abstain_margin=margin)

    def quality(self, labels: _Labels | None, plain: _Labels) -> float | None:
        """Return accuracy, or balanced accuracy of a multi-label set; None without examples."""
        if self.gold is None:
            return None
        scores, _ = self.judged(labels, plain)
        if self.label_set.multi_label:
            return calibration.balanced_accuracy(scores >= MULTI_LABEL_ACCEPT, self.gold)
        return float(_right(scores, self.gold).mean())

    def loss(self, refined: _Labels, plain: _Labels) -> _Loss | None:
        """Compare refined labels with what serves without a fit; None: no worse, or no examples."""
        before, after = self.quality(None, plain), self.quality(refined, plain)
        if self.gold is None or before is None or after is None or after >= before:
            return None
        message = f"refined labels do worse on the examples, {before:.1%} before and {after:.1%} after"
        if self.label_set.multi_label:
            return _Loss(f"{message}: the plain labels stay", is_certain=True)
        hits = [_right(self.judged(item, plain)[0], self.gold) for item in (None, refined)]
        if worse_p_value(*hits) < MAX_P_VALUE:
            return _Loss(f"{message}: the plain labels stay", is_certain=True)
        return _Loss(f"{message}; that may be chance, more examples would tell", is_certain=False)

    def report(self, labels: _Labels, plain: _Labels) -> dict[str, Any]:
        """Return the figures before (as served without a fit) and after."""
        nearest = label_cosines(self.sample, plain.prototypes, self.common).argmax(axis=1)
        shares = np.bincount(nearest, minlength=len(plain.prototypes)) / len(self.sample)
        _, answered = self._scored(self.sample, self.calibrated(labels, plain), plain)
        figures: dict[str, Any] = {
            "texts": len(self.sample),
            "shares": {
                label: round(float(share), 3)
                for label, share in zip(self.label_set.labels, shares, strict=True)
            },
            "effective_labels": round(refinement.effective_labels(shares), 2),
            "refined": labels.is_refined,
            "abstained": round(float(1.0 - answered.mean()), 4),
            "examples": 0 if self.gold is None else len(self.gold),
        }
        if self.gold is None:
            return figures
        name = "balanced_accuracy" if self.label_set.multi_label else "accuracy"
        pairs = [self.quality(item, plain) for item in (None, labels)]
        figures[name] = [round(float(value or 0.0), 4) for value in pairs]
        errors = []
        for item in (None, labels):
            scores, answered = self.judged(item, plain)
            if self.label_set.multi_label:
                confidence, right = scores.ravel(), self.gold.ravel()
            else:
                confidence, right = scores.max(axis=1), _right(scores, self.gold)
            errors.append(round(calibration.calibration_error(confidence, right), 4))
        figures["calibration_error"] = errors
        figures["abstained_examples"] = round(float(1.0 - answered.mean()), 4)
        if not self.label_set.multi_label and answered.any():
            figures["accuracy_answered"] = round(float(right[answered].mean()), 4)
            figures["wrong_cost"] = self.wrong_cost
        return figures


def _right(scores: NDArray[np.float64], gold: NDArray[np.bool_]) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = gold[np.arange(len(gold)), scores.argmax(axis=1)]
    return right


def _stored(values: Vector64) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)
