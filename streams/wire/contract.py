"""The record type of each topic, and the JSON Schemas generated from these types."""

from typing import Any, Final

import msgspec

from alignstream.streams.wire.epoch_log import EpochV1
from alignstream.streams.wire.observations import ObservationsV1
from alignstream.streams.wire.records import (
    DocumentV1,
    LabelFeedbackV1,
    LabelsZeroShotV1,
    PairScoredV1,
    PairV1,
    VectorAlignedV1,
)
from alignstream.streams.wire.topics import (
    DOCUMENTS,
    EPOCHS,
    FEEDBACK,
    LABELS,
    OBSERVATIONS,
    PAIRS,
    PAIRS_SCORED,
    VECTORS,
)

#: For ``epochs.v1``, only the records that consumers may read: those whose keys begin with ``epoch/``.
RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    DOCUMENTS: DocumentV1,
    VECTORS: VectorAlignedV1,
    LABELS: LabelsZeroShotV1,
    PAIRS: PairV1,
    PAIRS_SCORED: PairScoredV1,
    FEEDBACK: LabelFeedbackV1,
    OBSERVATIONS: ObservationsV1,
    EPOCHS: EpochV1,
}


def schemas() -> dict[str, dict[str, Any]]:
    """Return a JSON Schema (2020-12) for each topic that carries JSON."""
    return {
        topic: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": topic,
            **msgspec.json.schema(record),
        }
        for topic, record in RECORDS.items()
    }
