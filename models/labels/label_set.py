"""Label sets: which labels a text may get, and the sentence in which each label is embedded."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from alignstream.models.errors import LabelsError
from alignstream.models.labels.fitted_labels import FittedLabels

MAX_LABELS: Final = 64
MAX_LABEL_CHARACTERS: Final = 200
MAX_TEMPLATE_CHARACTERS: Final = 500
PLACEHOLDER: Final = "{label}"
#: 64 fitted prototypes of 1,024 numbers in float16 take 175 kB in base64; a bound on what is fetched and parsed.
MAX_LABEL_SET_BYTES: Final = 256 * 1024


class LabelSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Named labels with their template; the JSON of this type is the registry's value.

    Parameters
    ----------
    labels : tuple of str
        Names, each once.
    template : str, optional
        The sentence that holds ``{label}``; None takes the worker's default.
    multi_label : bool
        Labels do not exclude each other.
    steady_mix : bool
        The owner says that the stream's mix of topics is steady: prototypes may follow its texts.
    fitted : FittedLabels, optional
        What ``alignstream labels fit`` found; None: the label texts themselves are the prototypes.
    """

    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_LABELS)]
    template: str | None = None
    multi_label: bool = False
    steady_mix: bool = False
    fitted: FittedLabels | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if self.template is not None:
            check_template(self.template)
        if self.fitted is not None:
            self.fitted.check(len(self.labels), multi_label=self.multi_label)

    @property
    def blob(self) -> bytes:
        """The JSON that is stored."""
        stored: dict[str, Any] = {
            "labels": self.labels, "template": self.template, "multi_label": self.multi_label
        }  # fmt: skip
        # Fields that came later are left out at their defaults: sets from before keep bytes and version.
        if self.steady_mix:
            stored["steady_mix"] = True
        if self.fitted is not None:
            stored["fitted"] = self.fitted
        return msgspec.json.encode(stored)

    @property
    def version(self) -> str:
        """The first digits of the sha256 of the stored JSON."""
        return hashlib.sha256(self.blob).hexdigest()[:12]


def from_bytes(blob: bytes) -> LabelSet:
    """Read a label set and check everything about it.

    Raises
    ------
    LabelsError
        It is not JSON, or not a label set; the message says what is wrong.
    """
    if len(blob) > MAX_LABEL_SET_BYTES:
        raise LabelsError(
            f"a label set of {len(blob)} bytes is larger than the limit of {MAX_LABEL_SET_BYTES}"
        )
    try:
        return msgspec.json.decode(blob, type=LabelSet, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabelsError(f"not a label set: {error}") from error


def check_labels(labels: Sequence[str]) -> None:
    """Check labels of a set or a message.

    Raises
    ------
    LabelsError
        None, too many, blank, too long, or one twice.
    """
    if not labels:
        raise LabelsError("a label set needs at least one label")
    if len(labels) > MAX_LABELS:
        raise LabelsError(f"{len(labels)} labels are more than {MAX_LABELS}")
    seen = set()
    for label in labels:
        if not label.strip():
            raise LabelsError("a label is blank")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise LabelsError(f"a label of {len(label)} characters is longer than {MAX_LABEL_CHARACTERS}")
        if label in seen:
            raise LabelsError(f"label {label!r} stands twice")
        seen.add(label)


def check_template(template: str) -> None:
    """Check a template.

    Raises
    ------
    LabelsError
        It is too long, or does not hold ``{label}`` exactly once.
    """
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise LabelsError(
            f"a template of {len(template)} characters is longer than {MAX_TEMPLATE_CHARACTERS}"
        )
    if template.count(PLACEHOLDER) != 1:
        raise LabelsError(f"a template holds {PLACEHOLDER} exactly once")


def render(template: str, label: str) -> str:
    """Put a label into its template; braces in the label mean nothing."""
    return template.replace(PLACEHOLDER, label)
