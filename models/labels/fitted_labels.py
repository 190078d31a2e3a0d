"""What ``alignstream labels fit`` found for a label set: prototypes, and how to read their cosines.

It belongs to one encoder, one version of one adapter and one template; with any other the plain labels serve.
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

#: Far above the encoders in use; a bound on what is allocated.
MAX_DIM: Final = 4096
#: How far the length of a stored row may be from 1: float16 moves it by a thousandth at most.
MAX_NORM_ERROR: Final = 0.01
#: Decoded prototypes kept in memory: those of as many sets as a worker follows.
_DECODED: Final = 256
_STORED: Final = np.dtype("<f2")
_MIN_NORM: Final = 1e-9


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
        Numbers of a prototype.
    prototypes : str
        Unit vectors of shape (n_labels, dim): float16, little-endian, row by row, in base64.
    bias : tuple of float
        One a label, subtracted from its cosines.
    temperature : float
        Divides what is left before the softmax, or the logistic function of a multi-label set; > 0.
    abstain_margin : float
        Between 0 and 1: no label where the best score is not this much above the second. 0: always a label.
    thresholds : tuple of float, optional
        Of a multi-label set, one a label: the cosine less its bias from which on it applies.
    report : dict
        What the fit measured: JSON values, for people.
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
        """Whether it belongs to an adapter and a template, and a message overrides nothing of the alignment."""
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
            Counts or sizes do not agree, or a number is not finite or out of range.
        """
        if not 1 <= self.dim <= MAX_DIM:
            raise LabelsError(f"fitted prototypes of {self.dim} numbers; 1 to {MAX_DIM} are possible")
        rows = _decoded(self.prototypes, self.dim)
        if len(rows) != n_labels:
            raise LabelsError(f"{len(rows)} fitted prototypes do not belong to {n_labels} labels; fit again")
        if not np.all(np.abs(np.linalg.norm(rows, axis=1) - 1.0) <= MAX_NORM_ERROR):
            raise LabelsError("a fitted prototype is not a vector of length 1")
        if multi_label != (self.thresholds is not None):
            raise LabelsError(
                "fitted thresholds belong to multi-label sets, and to no others; fit the set again"
            )
        for name, values in (("bias", self.bias), ("thresholds", self.thresholds)):
            if values is not None and (len(values) != n_labels or not np.isfinite(values).all()):
                raise LabelsError(f"fitted {name}: {n_labels} finite numbers are needed, one a label")
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise LabelsError(f"a fitted temperature of {self.temperature}; it must be above 0")
        if not 0.0 <= self.abstain_margin <= 1.0:
            raise LabelsError(f"a fitted margin of {self.abstain_margin}; it must lie between 0 and 1")
        return self


#: An override that says what is done anyway.
_WHOLE: Final = ("strength", 1.0)


def encode_prototypes(prototypes: Sequence[Sequence[float]] | Matrix) -> str:
    """Return rows as they are stored: float16, little-endian, base64."""
    return base64.b64encode(np.ascontiguousarray(prototypes, dtype=_STORED).tobytes()).decode("ascii")


@functools.lru_cache(maxsize=_DECODED)
def _decoded(text: str, dim: int) -> Matrix:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LabelsError(f"fitted prototypes are not base64: {error}") from error
    if not raw or len(raw) % (_STORED.itemsize * dim):
        raise LabelsError(f"{len(raw)} bytes of fitted prototypes are no rows of {dim} numbers in float16")
    rows = np.frombuffer(raw, dtype=_STORED).reshape(-1, dim).astype(np.float32)
    if not np.isfinite(rows).all():
        raise LabelsError("a fitted prototype holds a number that is not finite")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if np.all(np.abs(norms - 1.0) <= MAX_NORM_ERROR):
        rows /= np.maximum(norms, _MIN_NORM)
    rows.setflags(write=False)
    return rows
