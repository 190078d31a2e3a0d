"""From documents to epochs and back: what the stream teaches reaches the next outputs, and nothing that is stored."""

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bounded import wait_until
from oracle import Place, Seen
from running_learner import TENANT, Ledger, Topic, adapter_of, assert_equal_to_undisturbed, learners
from running_service import OpenService, Service, Shell, StartWorker
from started_servers import environment_of
from tiny_encoder import text_of

from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.learner.tenant_state import FIRST_EPOCH_TEXTS
from alignstream.models.serving import epoch as epochs
from alignstream.ops.admin.registry import push_adapter, push_label_set
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import (
    DEAD_LETTERS,
    DOCUMENTS,
    FEEDBACK,
    OBSERVATIONS,
    PAIRS,
    PAIRS_SCORED,
)


@dataclasses.dataclass
class Running:
    """A worker and a learner, and what goes in and comes out."""

    service: Service
    ledger: Ledger
    encoder: str

    @property
    def settings(self) -> Settings:
        """Those of the worker."""
        return self.service.settings

    def send(self, topic: str, value: Mapping[str, Any] | bytes) -> Place:
        """Produce one record and return its place once it is confirmed."""
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = [("my-own", b"kept")]
        sent = self.service.producer.send(
            self.settings.topic_prefix + topic, raw, key=b"key", headers=headers
        ).get(30)
        return sent.partition, sent.offset

    def documents(self, values: Iterable[Mapping[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Produce documents and return their vector and label records."""
        places = [self.send(DOCUMENTS, value) for value in values]
        outputs = self.service.outputs
        outputs.wait_for(places)
        return [(outputs.vector(place).json, outputs.labels(place).json) for place in places]


@pytest.fixture(scope="module")
def running(
    open_service: OpenService, tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    encoder = read_manifest(tiny_artifact).fingerprint

    def prepare(settings: Settings) -> None:
        push_adapter(settings, "default", adapter_of(encoder).blob)
        push_label_set(settings, "tags", LabelSet(labels=("w8", "w9")))

    with (
        open_service(
            tiny_artifact,
            prepare=prepare,
            learner_group=f"learner-{uuid.uuid4().hex}",
            checkpoint_seconds=1.0,
            registry_poll_seconds=1.0,
        ) as service,
        learners(tmp_path_factory.mktemp("learner")) as start,
        contextlib.closing(Ledger(service.settings)) as ledger,
    ):
        start(service.settings)
        yield Running(service, ledger, encoder)


def test_pairs_and_labels_that_people_know_reach_the_next_epoch(running: Running) -> None:
    send, ledger = running.send, running.ledger
    asked = {"text": text_of(900), "language": "de", "label_set": "tags"}
    ((_, was),) = running.documents([asked])
    sides = {
        "source": {"text": text_of(1), "language": "de"},
        "target": {"text": text_of(2), "language": "en"},
    }
    send(PAIRS, {"id": "only-scored", **sides})
    send(PAIRS, {"id": "learned", "learn": True, **sides})
    other = "w9" if was["label"] == "w8" else "w8"
    for number in range(5):
        text = asked["text"] if number == 0 else f"{asked['text']} {text_of(number, 1)}"
        send(FEEDBACK, {"text": text, "label_set": "tags", "label": other, "language": "de"})

    with contextlib.closing(Topic(running.settings, PAIRS_SCORED)) as scored:
        wait_until(lambda: len(scored.look()) == 2, "both pairs are scored", 60)
        values = {record.json["id"]: record.json for record in scored.records}
    assert values["learned"]["is_sent_to_learner"]
    assert not values["only-scored"]["is_sent_to_learner"]
    assert values["learned"]["cosine"] == values["only-scored"]["cosine"]

    def is_in_memory() -> bool:
        known = ledger.look().epochs.get((running.encoder, TENANT))
        blob = None if known is None else ledger.log.reassembled(known.current.parts)
        if blob is None:
            return False
        epoch = epochs.from_bytes(blob, encoder=running.encoder)
        return epoch.memory.ids == ("learned",) and epoch.examples.labels == (other,) * 5

    wait_until(is_in_memory, "an epoch with the pair and the labels", 60)

    def label() -> str:
        ((_, value),) = running.documents([asked])
        assert value.get("epoch", 0) > 0 or value["label"] == was["label"]
        return str(value["label"])

    wait_until(lambda: label() == other, "the label that people gave", 60)
    assert_equal_to_undisturbed(running.settings, ledger)


def test_feedback_that_cannot_be_taken_is_a_dead_letter_and_goes_back_to_where_it_came_from(
    running: Running,
) -> None:
    settings, send = running.settings, running.send
    side = {"text": text_of(1)}
    feedback = {"text": text_of(3), "label_set": "tags", "label": "w8"}
    bad: dict[tuple[str, str, bytes], Place] = {}
    for topic, reason, value in (
        (PAIRS, "bad-json", b"{"),
        (PAIRS, "bad-schema", msgspec.json.encode({"source": side})),
        (PAIRS, "empty-text", msgspec.json.encode({"source": side, "target": {"text": " "}})),
        (FEEDBACK, "bad-utf8", b"\xff"),
        (FEEDBACK, "unknown-label-set", msgspec.json.encode({**feedback, "label_set": "none"})),
        (FEEDBACK, "bad-schema", msgspec.json.encode({**feedback, "label": "none"})),
    ):
        bad[topic, reason, value] = send(topic, value)

    def reason_of(letter: Seen) -> tuple[str | None, str | None, int, int]:
        return (
            (letter.header("alignstream.error.topic") or "").removeprefix(settings.topic_prefix),
            letter.header("alignstream.error.reason"),
            *letter.source,
        )

    expected = {(topic, reason, *place) for (topic, reason, _), place in bad.items()}
    with contextlib.closing(Topic(settings, DEAD_LETTERS)) as letters:
        wait_until(lambda: len(letters.look()) >= len(bad), "all are dead letters", 60)
        assert {reason_of(letter) for letter in letters.records} == expected
        assert {letter.value for letter in letters.records} == {value for _, _, value in bad}
        for letter in letters.records:
            assert letter.key == b"key"
            assert letter.header("my-own") == "kept"
        Shell(environment_of(settings))("deadletters", "replay")
        # They are as wrong as before: each comes back once more, from the topic that it had come from.
        wait_until(lambda: len(letters.look()) >= 2 * len(bad), "all are dead letters again", 60)
        again = {reason_of(letter)[:2] for letter in letters.records[len(bad) :]}
    assert again == {(topic, reason) for topic, reason, _ in bad}


def document(number: int, **fields: Any) -> dict[str, Any]:
    language = ("de", "en", None)[number % 3]
    tag = {} if language is None else {"language": language}
    return {"text": text_of(number), "labels": ["w1", "w2"], "tenant": "acme", **tag, **fields}


def test_the_stream_reaches_the_next_queries_and_leaves_what_is_stored_as_it_was(
    running: Running, start_worker: StartWorker
) -> None:
    place, ledger = (running.encoder, "acme"), running.ledger
    texts = [document(number) for number in range(FIRST_EPOCH_TEXTS - 1)]
    before = running.documents(texts)
    running.documents([document(FIRST_EPOCH_TEXTS)])
    ledger.wait_for(lambda log: place in log.epochs, "an epoch by doubling")
    assert ledger.log.epochs[place].current.reason == "doubling"

    def is_without_epoch(value: dict[str, Any]) -> bool:
        return (value.get("epoch", 0), "query_vector" in value, "hubness" in value) == (0, False, False)

    def serves() -> int:
        (aside, _), (value, _) = running.documents([document(0, align={"follow": False}), document(0)])
        assert is_without_epoch(aside)
        return int(value.get("epoch", 0))

    wait_until(lambda: serves() >= 1, "the worker serves an epoch", 60)
    assert is_without_epoch(before[0][0]), "the last of them may have met the first epoch already"
    for (old, old_labels), (new, new_labels) in zip(before, running.documents(texts), strict=True):
        assert new["epoch"] >= 1
        assert new["query_vector"] != new["vector"]
        assert -1 <= new["hubness"] <= 1
        for name in ("vector", "space", "adapter_version"):
            assert old[name] == new[name], name
        for name in ("scores", "label", "space"):
            assert old_labels[name] == new_labels[name], name
    assert_equal_to_undisturbed(running.settings, ledger)

    # A worker that does not follow serves none of it, and says nothing to the learner.
    running.service.worker.stop()
    with contextlib.closing(Topic(running.settings, OBSERVATIONS)) as observed:
        n_observed = len(observed.look())
        start_worker(running.settings, follow="off")
        for (old, _), (new, _) in zip(before, running.documents(texts), strict=True):
            assert is_without_epoch(new)
            assert old["vector"] == new["vector"]
        assert len(observed.look()) == n_observed
