"""The record types of the wire, version 1: what is read and written, field by field.

Decoded strictly (no coercion); unknown fields are ignored; the last of duplicate keys wins. JSON Schemas are
generated from these types (``contract``), and the examples in ``docs/pages/reference/records.md`` are tested against
them.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from alignstream.models.adapter.context import MAX_TEMPERATURE, MIN_TEMPERATURE
from alignstream.models.labels.label_set import MAX_LABEL_CHARACTERS, MAX_LABELS, MAX_TEMPLATE_CHARACTERS

# In Python "$" also matches before a last line break, in JSON Schema it does not: hence "(?!\n)".
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
    str, Meta(max_length=MAX_TEMPLATE_CHARACTERS, description="Sentence that holds {label} exactly once.")
]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]


class Align(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one message asks to be aligned; each override changes ``space``."""

    adapter: Name | None = None
    strength: Annotated[Fraction, Meta(description="0: as encoded; 1: the whole adapter.")] | None = None
    shrinkage: (
        Annotated[
            Fraction,
            Meta(description="How far the tag of the language counts as evidence: 0 not at all, 1 wholly."),
        ]
        | None
    ) = None
    temperature: (
        Annotated[
            float,
            Meta(
                ge=MIN_TEMPERATURE,
                le=MAX_TEMPERATURE,
                description="Of the attention over language prototypes: small is sharp.",
            ),
        ]
        | None
    ) = None
    follow: (
        Annotated[
            bool,
            Meta(description="false: no query vector, and nothing is learned from this text."),
        ]
        | None
    ) = None


class DocumentV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text to encode, align and, if labels are asked for, classify (topic ``documents.v1``)."""

    text: str
    id: Annotated[Identifier, Meta(description="Default: topic-partition-offset.")] | None = None
    language: LanguageTag | None = None
    tenant: Name = "default"
    # The length is checked apart from the type, so that too many labels have a reason of their own.
    labels: (
        Annotated[
            list[Label],
            Meta(
                description=f"At most {MAX_LABELS}, none of them twice.",
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
    """The value of one hyper-parameter, and why it has that value."""

    value: float
    reason: str


class LanguageWeight(msgspec.Struct, frozen=True):
    """How much attention one language's prototype got."""

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
    #: The languages that the vector itself resembles most, by an adapter with prototypes; else empty.
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
    space: Annotated[str, Meta(description="Equal space = exactly comparable vectors.")]
    tokens: Annotated[int, Meta(ge=0, description="Tokens encoded, special ones included.")]
    tokens_dropped: Annotated[int, Meta(ge=0)]
    truncated: bool
    tenant_map: (
        Annotated[str, Meta(description="Version of the tenant's own map, from its pairs.")] | UnsetType
    ) = UNSET
    epoch: Annotated[
        int, Meta(ge=0, description="What query_vector and hubness were made with; 0: none.")
    ] = 0
    query_vector: (
        Annotated[
            str,
            Meta(
                description="Look up stored vectors of this space with it: base64 of little-endian 16-bit floats, "
                "of length 1. Absent where it would equal vector."
            ),
        ]
        | UnsetType
    ) = UNSET
    hubness: Annotated[float, Meta(description="Rank by cosine less half of this.")] | UnsetType = UNSET
    language: LanguageTag | UnsetType = UNSET
    explain: Explanation | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    raw_vector: (
        Annotated[str, Meta(description="The vector as encoded, unaligned: base64 of little-endian float16.")]
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
    label: Annotated[str | None, Meta(description="The best label; null: abstained.")]
    scores: Annotated[list[Score], Meta(description="In descending order.")]
    label_set: Annotated[Name | None, Meta(description="null: the message brought its own labels.")]
    template: str
    multi_label: bool
    space: str
    epoch: Annotated[int, Meta(ge=0, description="What the labels were scored with; 0: none.")] = 0


class PairSide(msgspec.Struct, frozen=True, omit_defaults=True):
    """One side of a pair."""

    text: str
    language: LanguageTag | None = None


class PairV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two texts that may translate each other (topic ``pairs.v1``)."""

    source: PairSide
    target: PairSide
    id: Annotated[Identifier, Meta(description="Default: topic-partition-offset.")] | None = None
    tenant: Name = "default"
    learn: Annotated[
        bool,
        Meta(
            description="true: you vouch for it. The tenant's alignment learns from it and remembers it under its id."
        ),
    ] = False


class PairScoredV1(msgspec.Struct, frozen=True):
    """How near the two texts of a pair are (topic ``pairs.scored.v1``)."""

    id: Identifier
    tenant: Name
    cosine: Annotated[float, Meta(ge=-1.0, le=1.0, description="Of the two aligned vectors.")]
    is_learned: Annotated[bool, Meta(description="It was passed on to the learner.")]
    adapter: Name
    adapter_version: str
    space: str


class LabelFeedbackV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text and the label that it has (topic ``label-feedback.v1``)."""

    text: str
    label_set: Name
    label: Label
    id: (
        Annotated[
            Identifier,
            Meta(description="Default: the text's own; a later one of the same id takes its place."),
        ]
        | None
    ) = None
    language: LanguageTag | None = None
    tenant: Name = "default"
