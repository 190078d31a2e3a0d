"""Label sets: the labels that a text may get, and the sentence in which each label is embedded."""

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
#: 64 fitted prototypes of dimension 1,024 in float16 take 175 kB in base64; limits what is fetched and parsed.
MAX_LABEL_SET_BYTES: Final = 256 * 1024


class LabelSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Named labels with their template, stored in the registry as JSON.

    Parameters
    ----------
    labels : tuple of str
        Names, each once.
    template : str, optional
        A sentence with ``{label}``; None uses the worker's default.
    multi_label : bool
        Labels do not exclude each other.
    steady_mix : bool
        The owner declares the stream's mix of topics steady, so prototypes may follow its texts.
    fitted : FittedLabels, optional
        Result of ``alignstream labels fit``; None uses the label texts as prototypes.
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
        """The stored JSON."""
        stored: dict[str, Any] = {
            "labels": self.labels, "template": self.template, "multi_label": self.multi_label
        }  # fmt: skip
        # Later fields are left out at their defaults, so that older sets keep their bytes and version.
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
    """Read and check a label set.

    Raises
    ------
    LabelsError
        It is not JSON, or not a label set; the message says what is wrong.
    """
    if len(blob) > MAX_LABEL_SET_BYTES:
        raise LabelsError(f"a label set has {len(blob)} bytes, more than the limit of {MAX_LABEL_SET_BYTES}")
    try:
        return msgspec.json.decode(blob, type=LabelSet, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabelsError(f"not a label set: {error}") from error


def check_labels(labels: Sequence[str]) -> None:
    """Check the labels of a set or a message.

    Raises
    ------
    LabelsError
        There are no labels or too many, or one is blank, too long or repeated.
    """
    if not labels:
        raise LabelsError("a label set needs at least one label")
    if len(labels) > MAX_LABELS:
        raise LabelsError(f"{len(labels)} labels are too many; {MAX_LABELS} are allowed")
    seen = set()
    for label in labels:
        if not label.strip():
            raise LabelsError("a label is blank")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise LabelsError(f"a label has {len(label)} characters; {MAX_LABEL_CHARACTERS} are allowed")
        if label in seen:
            raise LabelsError(f"label {label!r} is listed twice")
        seen.add(label)


def check_template(template: str) -> None:
    """Check a template.

    Raises
    ------
    LabelsError
        It is too long, or does not contain ``{label}`` exactly once.
    """
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise LabelsError(f"a template has {len(template)} characters; {MAX_TEMPLATE_CHARACTERS} are allowed")
    if template.count(PLACEHOLDER) != 1:
        raise LabelsError(f"a template must contain {PLACEHOLDER} exactly once")


def render(template: str, label: str) -> str:
    """Insert a label into its template; braces in the label have no meaning.

    Examples
    --------
    >>> render("This text is about {label}.", "{sports}")
    'This text is about {sports}.'
    """
    return template.replace(PLACEHOLDER, label)
