"""Record types of the wire format, version 1, field by field.

Decoded strictly (no coercion); unknown fields are ignored; the last of duplicate keys wins. JSON Schemas are
generated from these types (``contract``), and the examples in ``docs/pages/reference/records.md`` are tested against
them.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from alignstream.models.adapter.context import MAX_TEMPERATURE, MIN_TEMPERATURE
from alignstream.models.labels.label_set import MAX_LABEL_CHARACTERS, MAX_LABELS, MAX_TEMPLATE_CHARACTERS

# In Python, "$" also matches before a final line break; in JSON Schema it does not. Hence "(?!\n)".
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)")]
LanguageTag = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$(?!\n)",
        max_length=64,
        description="BCP-47 language tag, such as 'pt-BR'.",
    ),
]
Identifier = Annotated[str, Meta(min_length=1, max_length=512)]
Label = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL_CHARACTERS)]
Template = Annotated[
    str, Meta(max_length=MAX_TEMPLATE_CHARACTERS, description="Sentence that contains {label} exactly once.")
]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]


class Align(msgspec.Struct, frozen=True, omit_defaults=True):
    """Alignment options of one message; overriding strength, shrinkage or temperature changes ``space``."""

    adapter: Name | None = None
    strength: (
        Annotated[
            Fraction,
            Meta(
                description="How much of the adapter is applied: 0 leaves the vector as encoded, 1 is all of it."
            ),
        ]
        | None
    ) = None
    shrinkage: (
        Annotated[
            Fraction,
            Meta(description="How much the language tag counts as evidence: 0 not at all, 1 fully."),
        ]
        | None
    ) = None
    temperature: (
        Annotated[
            float,
            Meta(
                ge=MIN_TEMPERATURE,
                le=MAX_TEMPERATURE,
                description="Temperature of the attention over language prototypes; lower is sharper.",
            ),
        ]
        | None
    ) = None
    follow: (
        Annotated[
            bool,
            Meta(description="false: no query_vector, and nothing is learned from this text."),
        ]
        | None
    ) = None


class DocumentV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text to encode, align and, if labels are requested, classify (topic ``documents.v1``)."""

    text: str
    id: Annotated[Identifier, Meta(description="Default: topic-partition-offset.")] | None = None
    language: LanguageTag | None = None
    tenant: Name = "default"
    # The length is checked separately, so that too many labels get their own reason.
    labels: (
        Annotated[
            list[Label],
            Meta(
                description=f"At most {MAX_LABELS}, without duplicates.",
                extra_json_schema={"minItems": 1, "maxItems": MAX_LABELS, "uniqueItems": True},
            ),
        ]
        | None
    ) = None
    label_set: Name | None = None
    template: Template | None = None
    multi_label: bool | None = None
    align: Align | None = None
    explain: bool = False
    metadata: Raw | UnsetType = UNSET


class Applied(msgspec.Struct, frozen=True):
    """The value of one hyper-parameter, and the reason for it."""

    value: float
    reason: str


class LanguageWeight(msgspec.Struct, frozen=True):
    """The attention weight of one language's prototype."""

    language: str
    weight: Fraction


class Explanation(msgspec.Struct, frozen=True):
    """What was applied to one vector, and where each choice came from."""

    adapter: str
    adapter_version: str
    adapter_from: Literal["message", "worker"]
    strength: float
    strength_from: Literal["message", "worker"]
    #: By name: ``strength``, ``shrinkage`` and ``temperature``.
    hyper_parameters: dict[str, Applied]
    #: The languages that the vector most resembles; empty if the adapter has no prototypes.
    languages: list[LanguageWeight]
    steps: list[str]
    #: Cosine between the vector as encoded and as aligned.
    cosine_to_raw: float


class VectorAlignedV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """An aligned vector (topic ``vectors.aligned.v1``)."""

    id: Identifier
    tenant: Name
    vector: str | list[float]
    encoding: Literal["base64-f32le", "json"]
    dim: int
    encoder: Annotated[str, Meta(description="Fingerprint of the encoder.")]
    adapter: Name
    adapter_version: str
    space: Annotated[str, Meta(description="Vectors of equal space are exactly comparable.")]
    tokens: Annotated[int, Meta(ge=0, description="Tokens encoded, including special tokens.")]
    tokens_dropped: Annotated[int, Meta(ge=0)]
    truncated: bool
    tenant_map: (
        Annotated[str, Meta(description="Version of the tenant's own map, fitted on its pairs.")] | UnsetType
    ) = UNSET
    epoch: Annotated[int, Meta(ge=0, description="Epoch behind query_vector and hubness; 0: none.")] = 0
    query_vector: (
        Annotated[
            str,
            Meta(
                description="For looking up stored vectors of this space: base64 of little-endian 16-bit floats, "
                "of length 1. Absent where it would equal vector."
            ),
        ]
        | UnsetType
    ) = UNSET
    hubness: Annotated[float, Meta(description="Rank by cosine minus half of this.")] | UnsetType = UNSET
    language: LanguageTag | UnsetType = UNSET
    explain: Explanation | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    raw_vector: (
        Annotated[
            str, Meta(description="The vector before alignment: base64 of little-endian 16-bit floats.")
        ]
        | UnsetType
    ) = UNSET


class Score(msgspec.Struct, frozen=True):
    """The score of one label, between 0 and 1."""

    label: str
    score: Fraction


class LabelsZeroShotV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """Zero-shot labels of one text (topic ``labels.zero-shot.v1``)."""

    id: Identifier
    tenant: Name
    label: Annotated[str | None, Meta(description="The best label; null: none applies.")]
    scores: Annotated[list[Score], Meta(description="All labels, in descending order of score.")]
    label_set: Annotated[Name | None, Meta(description="null: the message named its own labels.")]
    template: str
    multi_label: bool
    space: str
    epoch: Annotated[int, Meta(ge=0, description="Epoch that moved the labels; 0: none.")] = 0


class PairSide(msgspec.Struct, frozen=True, omit_defaults=True):
    """One side of a pair."""

    text: str
    language: LanguageTag | None = None


class PairV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two texts that may be translations of each other (topic ``pairs.v1``)."""

    source: PairSide
    target: PairSide
    id: Annotated[Identifier, Meta(description="Default: topic-partition-offset.")] | None = None
    tenant: Name = "default"
    learn: Annotated[
        bool,
        Meta(
            description="true: you vouch for the pair. The tenant's alignment learns from it and remembers it under "
            "its id."
        ),
    ] = False


class PairScoredV1(msgspec.Struct, frozen=True):
    """The similarity of the two texts of a pair (topic ``pairs.scored.v1``)."""

    id: Identifier
    tenant: Name
    cosine: Annotated[float, Meta(ge=-1.0, le=1.0, description="Cosine of the two aligned vectors.")]
    is_sent_to_learner: Annotated[bool, Meta(description="Whether the pair was passed on to the learner.")]
    adapter: Name
    adapter_version: str
    space: str


class LabelFeedbackV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text and its correct label (topic ``label-feedback.v1``)."""

    text: str
    label_set: Name
    label: Label
    id: (
        Annotated[
            Identifier,
            Meta(
                description="Default: a hash of label set and text. Later feedback with the same id replaces this."
            ),
        ]
        | None
    ) = None
    language: LanguageTag | None = None
    tenant: Name = "default"
