"""The result of ``alignstream labels fit`` for a label set: prototypes and their calibration.

It belongs to one encoder, one adapter version and one template; with any other, the plain labels serve.
"""

import base64
import binascii
import functools
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec
import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import NEUTRAL, Context
from alignstream.models.arrays import Matrix
from alignstream.models.errors import LabelsError
from alignstream.models.unit_vectors import MIN_NORM

#: Far above the encoders in use; limits what is allocated.
MAX_DIM: Final = 4096
#: How far the length of a stored row may be from 1; float16 changes it by a thousandth at most.
MAX_NORM_ERROR: Final = 0.01
#: Decoded prototypes cached: one for each label set that a worker may serve.
_DECODED: Final = 256
_STORED: Final = np.dtype("<f2")


class FittedLabels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Label prototypes and their calibration, as stored with the label set.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder.
    adapter_version : str
        Version of the adapter in whose space the prototypes lie.
    template : str
        The sentence that the labels were embedded in.
    dim : int
        Embedding dimension.
    prototypes : str
        Unit vectors of shape (n_labels, dim): float16, little-endian, row by row, in base64.
    bias : tuple of float
        One per label, subtracted from its cosines.
    temperature : float
        Divides the result before the softmax, or before the logistic function of a multi-label set; > 0.
    abstain_margin : float
        From 0 to 1: no label if the best score leads the second by less. 0: always a label.
    thresholds : tuple of float, optional
        For a multi-label set, one per label: the cosine minus bias from which the label applies.
    report : dict
        Figures of the fit, for people: JSON values.
    """

    encoder: str
    adapter_version: str
    template: str
    dim: int
    prototypes: str
    bias: tuple[float, ...]
    temperature: float
    abstain_margin: float = 0.0
    thresholds: tuple[float, ...] | None = None
    report: dict[str, Any] = {}

    @property
    def matrix(self) -> Matrix:
        """The prototypes: unit rows of shape (n_labels, dim), float32; read-only."""
        return _decoded(self.prototypes, self.dim)

    def serves(self, adapter: Adapter, template: str, context: Context = NEUTRAL) -> bool:
        """Tell whether it belongs to an adapter and template, and the message does not override the alignment."""
        overrides = {name: value for name, value in context.overrides.items() if (name, value) != _WHOLE}
        return (
            adapter.version == self.adapter_version
            and adapter.encoder == self.encoder
            and template == self.template
            and not overrides
        )

    def check(self, n_labels: int, *, multi_label: bool) -> Self:
        """Check it against the labels that it belongs to.

        Raises
        ------
        LabelsError
            Counts or sizes differ, or a number is not finite or out of range.
        """
        if not 1 <= self.dim <= MAX_DIM:
            raise LabelsError(
                f"fitted prototypes have dimension {self.dim}, not 1 to {MAX_DIM}; fit the set again"
            )
        rows = _decoded(self.prototypes, self.dim)
        if len(rows) != n_labels:
            raise LabelsError(f"{len(rows)} fitted prototypes for {n_labels} labels; fit the set again")
        if not np.all(np.abs(np.linalg.norm(rows, axis=1) - 1.0) <= MAX_NORM_ERROR):
            raise LabelsError("a fitted prototype does not have length 1; fit the set again")
        if multi_label != (self.thresholds is not None):
            raise LabelsError(
                "a multi-label set needs fitted thresholds, and other sets have none; fit the set again"
            )
        for name, values in (("bias", self.bias), ("thresholds", self.thresholds)):
            if values is not None and (len(values) != n_labels or not np.isfinite(values).all()):
                raise LabelsError(
                    f"fitted {name} must be {n_labels} finite numbers, one per label; fit the set again"
                )
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise LabelsError(f"fitted temperature is {self.temperature}, not above 0; fit the set again")
        if not 0.0 <= self.abstain_margin <= 1.0:
            raise LabelsError(
                f"fitted margin is {self.abstain_margin}, not between 0 and 1; fit the set again"
            )
        return self


#: An override that equals the default.
_WHOLE: Final = ("strength", 1.0)


def encode_prototypes(prototypes: Sequence[Sequence[float]] | Matrix) -> str:
    """Encode rows for storage: float16, little-endian, base64."""
    return base64.b64encode(np.ascontiguousarray(prototypes, dtype=_STORED).tobytes()).decode("ascii")


@functools.lru_cache(maxsize=_DECODED)
def _decoded(text: str, dim: int) -> Matrix:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LabelsError(f"fitted prototypes are not base64: {error}") from error
    if not raw or len(raw) % (_STORED.itemsize * dim):
        raise LabelsError(
            f"fitted prototypes have {len(raw)} bytes, not whole rows of {dim} float16 numbers; fit the set again"
        )
    rows = np.frombuffer(raw, dtype=_STORED).reshape(-1, dim).astype(np.float32)
    if not np.isfinite(rows).all():
        raise LabelsError("a fitted prototype has a number that is not finite; fit the set again")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if np.all(np.abs(norms - 1.0) <= MAX_NORM_ERROR):
        rows /= np.maximum(norms, MIN_NORM)
    rows.setflags(write=False)
    return rows
