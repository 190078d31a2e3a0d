"""What is served is what was measured: queries through a real broker are those that the pure functions give."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from bounded import wait_until
from oracle import Place, Seen
from running_service import OpenService, Service
from started_servers import environment_of
from started_servers import start_worker as start_process

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.arrays import Matrix
from alignstream.models.encoder.artifact import decode_vector, read_manifest
from alignstream.models.serving import epoch as epochs
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.ops.admin.gate_texts import load_texts
from alignstream.ops.admin.learner_state import read_log
from alignstream.ops.client.reader import Reader
from alignstream.ops.local.supervised import LEARNER_COMMAND
from alignstream.streams.learner.learning import Learning, Opened
from alignstream.streams.wire import observations
from alignstream.streams.wire.codec import read_float16
from alignstream.streams.wire.epoch_log import EpochLog
from alignstream.streams.wire.topics import OBSERVATIONS

#: The learner's tests run on both brokers; what is judged here is what is served of real text.
pytestmark = pytest.mark.parametrize("broker", ["tansu"], indirect=True, scope="session")

PIVOT = "en"
#: Texts sent at once: a second of work or two, so that epochs open while others wait.
CHUNK = 160
#: Points by which accuracy as served may differ from that of the same log with epochs that open at once.
MAX_POINTS = 0.3


class Served(NamedTuple):
    """One vector record with its arrays."""

    key: str
    language: str
    epoch: int
    raw: Matrix
    stored: Matrix
    query: Matrix | None
    hubness: float | None


@pytest.fixture(scope="module")
def service(open_service: OpenService, embedded_artifact: Path) -> Iterator[Service]:
    with open_service(embedded_artifact, raw_vector=True, checkpoint_seconds=1.0) as running:
        folder = running.worker.folder / "learner"
        settings = running.settings.model_copy(update={"state_dir": folder / "state"})
        with start_process(environment_of(settings), folder, name="learner", command=LEARNER_COMMAND):
            yield running


@pytest.fixture(scope="module")
def adapter(embedded_artifact: Path) -> Adapter:
    found = packaged_adapter(read_manifest(embedded_artifact).fingerprint)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def served(service: Service) -> dict[Place, Served]:
    """Send the demonstration's texts in a shuffled order, and return what came of them by their places."""
    texts = [
        (text.key, language, text.text[language]) for text in load_texts().texts for language in text.text
    ]
    random.Random(7).shuffle(texts)
    places: list[Place] = []
    for start in range(0, len(texts), CHUNK):
        places += [
            service.send({"id": f"{key}/{language}", "text": text, "language": language, "tenant": "acme"})
            for key, language, text in texts[start : start + CHUNK]
        ]
        service.outputs.wait_for(places)
    return {place: _served(service.outputs.vector(place)) for place in places}


def _served(seen: Seen) -> Served:
    value = seen.json
    key, _, language = value["id"].rpartition("/")
    query = value.get("query_vector")
    return Served(
        key=key,
        language=language,
        epoch=value.get("epoch", 0),
        raw=read_float16(value["raw_vector"], value["dim"]),
        stored=decode_vector(value["vector"]),
        query=None if query is None else read_float16(query, value["dim"]),
        hubness=value.get("hubness"),
    )


@pytest.fixture(scope="module")
def log(service: Service, served: dict[Place, Served]) -> EpochLog:
    """Return the epoch log once the learner has read all of it."""
    assert served
    found = read_log(service.settings, keeps_parts=True)

    def is_read() -> bool:
        nonlocal found
        found = read_log(service.settings, keeps_parts=True)
        return sum(state.summary.n_seen for state in found.states.values()) == len(served)

    wait_until(is_read, "the learner has read everything", 60.0)
    return found


def epochs_of(log: EpochLog) -> dict[int, Epoch]:
    (record,) = log.epochs.values()
    return {
        version.number: epochs.from_bytes(log.reassembled(version.parts) or b"")
        for version in record.versions
    }


def test_epochs_open_by_doubling_while_the_stream_flows(served: dict[Place, Served], log: EpochLog) -> None:
    found = epochs_of(log)
    assert [found[number].reason for number in sorted(found)] == ["doubling"] * len(found)
    # At 32 texts, and whenever they, or those of the languages that have most, have doubled; a batch may pass two.
    last = max(found)
    assert sorted(found) == list(range(last - len(found) + 1, last + 1))
    assert 4 <= last <= 12
    assert {item.epoch for item in served.values()} >= {0, last - 1}


def test_stored_vectors_are_those_of_the_adapter_whatever_the_epoch(
    served: dict[Place, Served], adapter: Adapter
) -> None:
    for item in served.values():
        expected = adapter.transform_one(item.raw, Context(language=item.language))
        assert item.stored @ expected > 1 - 1e-6


def test_queries_and_hubness_are_those_of_the_epoch_that_they_name(
    served: dict[Place, Served], log: EpochLog, adapter: Adapter
) -> None:
    found = {number: QueryAdaptation(adapter, epoch) for number, epoch in epochs_of(log).items()}
    n_followed = 0
    for item in served.values():
        assert (item.query is None) == (item.epoch == 0)
        if item.query is not None and item.epoch in found:  # the log keeps the last six
            n_followed += 1
            following = found[item.epoch]
            assert item.query @ following.query(item.raw, Context(language=item.language)) > 1 - 1e-5
            hubness = following.hubness(item.stored, language_key(item.language))
            assert item.hubness == pytest.approx(hubness, abs=1e-3)
    assert n_followed > len(served) / 2


def test_search_as_served_is_as_good_as_on_the_same_log_without_a_broker(
    service: Service, served: dict[Place, Served], log: EpochLog, adapter: Adapter
) -> None:
    assert log.progress is not None
    index = [item for item in served.values() if item.language == PIVOT]
    keys, stored = [item.key for item in index], np.stack([item.stored for item in index])

    def finds(query: Matrix, item: Served) -> bool:
        return keys[int((stored @ query).argmax())] == item.key

    learning, following = Learning(lambda *_: adapter, max_tenants=10), None
    at_once, as_served, static = [], [], []
    with Reader(service.settings, [OBSERVATIONS], from_beginning=True) as reader:
        for record in reader.records_so_far():
            found = observations.decode(record.value)
            assert not isinstance(found, str), found
            for text in found.texts:
                item = served[text.origin.partition, text.origin.offset]
                if item.language == PIVOT:
                    continue
                static.append(finds(item.stored, item))
                as_served.append(finds(item.stored if item.query is None else item.query, item))
                query = (
                    None if following is None else following.query(item.raw, Context(language=item.language))
                )
                at_once.append(finds(item.stored if query is None else query, item))
            for decision in learning.take(record.offset, record.timestamp_ms, record.value):
                assert isinstance(decision, Opened)
                following = QueryAdaptation(adapter, decision.epoch)
    assert len(at_once) == len(served) - len(index)
    points = 100 * np.array([np.mean(static), np.mean(as_served), np.mean(at_once)])
    assert abs(points[1] - points[2]) <= MAX_POINTS, points
