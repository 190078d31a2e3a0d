"""The topics of the service, the headers on their records, and the closed list of dead-letter reasons."""

import dataclasses
from typing import Final, Literal, NamedTuple, get_args

DOCUMENTS: Final = "documents.v1"
VECTORS: Final = "vectors.aligned.v1"
LABELS: Final = "labels.zero-shot.v1"
DEAD_LETTERS: Final = "documents.dead-letter.v1"
PAIRS: Final = "pairs.v1"
PAIRS_SCORED: Final = "pairs.scored.v1"
FEEDBACK: Final = "label-feedback.v1"
#: What workers observed, for the learner. One partition, so that all records have one order.
OBSERVATIONS: Final = "observations.v1"
#: What the learner decided, and its state for a restart. One partition, compacted.
EPOCHS: Final = "epochs.v1"

#: The topics that workers read.
INPUTS: Final = (DOCUMENTS, PAIRS, FEEDBACK)

#: Kafka's own default for the largest record batch of a topic, in bytes.
DEFAULT_MAX_MESSAGE_BYTES: Final = 1_048_588
#: Room for our headers: the dead-letter topic must accept the largest input record with them.
DEAD_LETTER_EXTRA_BYTES: Final = 64 * 1024

Reason = Literal[
    "bad-utf8",
    "bad-json",
    "bad-schema",
    "unknown-schema",
    "too-large",
    "too-deep",
    "empty-text",
    "too-many-labels",
    "unknown-label-set",
    "unknown-adapter",
    "tenant-not-allowed",
    "inference-failed",
    "output-too-large",
    "learner-unreachable",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

HEADER_SCHEMA: Final = "alignstream-schema"
HEADER_CONTENT_TYPE: Final = "content-type"
HEADER_SOURCE_TOPIC: Final = "alignstream.source.topic"
HEADER_SOURCE_PARTITION: Final = "alignstream.source.partition"
HEADER_SOURCE_OFFSET: Final = "alignstream.source.offset"
HEADER_ERROR_PREFIX: Final = "alignstream.error."
#: Every dead letter has a header ``alignstream.error.<field>`` for each of these.
ERROR_FIELDS: Final = (
    "reason", "stage", "message", "topic", "partition", "offset", "attempts", "version", "time"
)  # fmt: skip
#: Set on a dead letter whose value was replaced because it is too large even for the dead-letter topic.
HEADER_REPLACED: Final = "alignstream.error.value-replaced"
MAX_ERROR_MESSAGE_BYTES: Final = 256

#: In Kafka, the value of a header may be null.
Headers = tuple[tuple[str, bytes | None], ...]


class RecordId(NamedTuple):
    """The position of a record: the identity that its outputs carry."""

    topic: str
    partition: int
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class TopicSpec:
    """How to create a topic; ``config`` holds Kafka's setting names and values."""

    name: str
    config: dict[str, str]
    #: None: chosen when the topics are created.
    n_partitions: int | None = None


def specs() -> tuple[TopicSpec, ...]:
    """Return how to create each topic of the service; names are without prefix."""
    week, month = str(7 * 24 * 3600 * 1000), str(30 * 24 * 3600 * 1000)
    documents = {"max.message.bytes": str(DEFAULT_MAX_MESSAGE_BYTES), "retention.ms": week}
    dead = {
        "max.message.bytes": str(DEFAULT_MAX_MESSAGE_BYTES + DEAD_LETTER_EXTRA_BYTES),
        "retention.ms": month,
    }
    compacted = {
        "max.message.bytes": str(DEFAULT_MAX_MESSAGE_BYTES),
        "cleanup.policy": "compact",
        # Remove parts of former epochs soon: a restart of the learner reads the whole topic.
        "min.cleanable.dirty.ratio": "0.2",
        "segment.ms": str(3600 * 1000),
    }
    return (
        TopicSpec(DOCUMENTS, documents),
        TopicSpec(VECTORS, dict(documents)),
        TopicSpec(LABELS, dict(documents)),
        TopicSpec(DEAD_LETTERS, dead),
        TopicSpec(PAIRS, dict(documents)),
        TopicSpec(PAIRS_SCORED, dict(documents)),
        TopicSpec(FEEDBACK, dict(documents)),
        TopicSpec(OBSERVATIONS, {**documents, "retention.ms": str(24 * 3600 * 1000)}, n_partitions=1),
        TopicSpec(EPOCHS, compacted, n_partitions=1),
    )


def header(headers: Headers, name: str) -> bytes | None:
    """Return the last value of a header, or None."""
    for key, value in reversed(headers):
        if key == name:
            return value
    return None
