"""Stored vectors follow a new adapter: topic to topic, through a file, and while the topic is written to."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bounded import join, wait_until
from running_service import FAILED, IN_PART, OpenService, Service, Shell
from started_servers import environment_of
from tiny_encoder import DIM

from alignstream.models.adapter.adapter import Adapter, space
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.encoder.artifact import decode_vector, read_manifest
from alignstream.ops.admin.realign import AdapterSpace, Realigned, realign
from alignstream.ops.admin.registry import push_adapter
from alignstream.ops.client.connection import open_admin
from alignstream.ops.client.producer import Outgoing, produce
from alignstream.ops.client.reader import Reader, read
from alignstream.ops.client.record import Record
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import VECTORS

N_DOCUMENTS = 60


def centre(artifact: Path, shift: float) -> Adapter:
    return Adapter(read_manifest(artifact).fingerprint, DIM, (Centre(np.full(DIM, shift, dtype=np.float32)),))


@pytest.fixture(scope="module")
def service(open_service: OpenService, tiny_artifact: Path) -> Iterator[Service]:
    """Yield a service whose topic of vectors holds documents of an old adapter; a new one is pushed since."""
    old = centre(tiny_artifact, 0.05)

    def prepare(settings: Settings) -> None:
        push_adapter(settings, "default", old.blob)

    with open_service(tiny_artifact, prepare=prepare, raw_vector=True) as running:
        places = [
            running.send(
                {
                    "id": f"d{number}",
                    "text": f"w{number} w{number + 1}",
                    "language": "de",
                    "metadata": [number],
                },
                key=f"k{number % 5}".encode(),
                headers=[("traceparent", b"00-%d" % number)],
            )
            for number in range(N_DOCUMENTS)
        ]
        places.append(running.send({"id": "binary", "text": "w7"}, key=b"\xff\x00"))
        several_lines = b'{"id": "lines",\r\n"text": "w9", "metadata": {\n"a":\r\n1}}'
        places.append(running.send(several_lines, key=b"k1"))
        places.append(running.send({"id": "weak", "text": "w8", "align": {"strength": 0.5}}, key=b"k1"))
        running.outputs.wait_for(places)
        running.send(None, key=b"k2")
        wait_until(lambda: any(record.value is None for record in stored(running.settings)), "the tombstone")
        push_adapter(running.settings, "default", centre(tiny_artifact, -0.1).blob)
        yield running


@pytest.fixture
def shell(service: Service) -> Shell:
    return Shell(environment_of(service.settings))


@pytest.fixture(scope="module")
def there(tiny_artifact: Path) -> AdapterSpace:
    return AdapterSpace("default", centre(tiny_artifact, -0.1))


def stored(settings: Settings, topic: str = VECTORS) -> list[Record]:
    return list(read(settings, [topic], from_beginning=True))


def make_topic(settings: Settings, name: str) -> str:
    whole = settings.topic_prefix + name
    with open_admin(settings) as admin:
        admin.create_topics({whole: {"num_partitions": 4, "replication_factor": 1}})
        admin.wait_for_topics([whole], timeout_ms=20_000)
    return name


def by_key(records: list[Record]) -> dict[bytes | None, list[tuple[object, ...]]]:
    found: dict[bytes | None, list[tuple[object, ...]]] = {}
    for record in records:
        found.setdefault(record.key, []).append((record.value, record.headers))
    return found


def moved(records: list[Record], there: AdapterSpace) -> list[Record]:
    """Return what must come out, by the pure function alone."""
    kept = []
    for record in records:
        result = None if record.value is None else realign(record.value, there)
        if result is None:
            kept.append(record)
        elif isinstance(result, Realigned):
            kept.append(Record(record.topic, 0, 0, 0, record.key, result.value, record.headers))
    return kept


def test_a_topic_moves_to_another_with_its_keys_headers_order_and_tombstones(
    service: Service, shell: Shell, there: AdapterSpace
) -> None:
    settings = service.settings
    target = make_topic(settings, "moved.v1")
    before = [record for record in stored(settings) if not is_of(record, there)]
    _, err = shell("realign", "--to-topic", target, expect=IN_PART)
    assert "overridden: its message overrode strength" in err
    assert f"{N_DOCUMENTS + 2} realigned to version {there.adapter.version}" in err
    assert "1 tombstones, 1 refused (overridden 1)" in err
    after = stored(settings, target)
    assert by_key(
        [record for record in after if not record.value or b'"again"' not in record.value]
    ) == by_key(moved(before, there))
    assert {json.loads(record.value)["space"] for record in after if record.value} == {
        space(there.encoder, there.adapter.version)
    }

    again = make_topic(settings, "moved-again.v1")
    report = shell.json("realign", "--topic", target, "--to-topic", again)
    assert report["realigned"] == 0
    assert report["unchanged"] == len(after) - 1
    assert by_key(stored(settings, again)) == by_key(after)


def is_of(record: Record, there: AdapterSpace) -> bool:
    return record.value is not None and json.loads(record.value)["adapter_version"] == there.adapter.version


def test_a_moved_vector_is_comparable_to_what_the_worker_writes_under_the_new_adapter(
    service: Service, shell: Shell, there: AdapterSpace, tmp_path: Path
) -> None:
    output = tmp_path / "moved.jsonl"
    shell("realign", "-o", output, expect=IN_PART)
    values = [json.loads(line)["value"] for line in output.read_bytes().splitlines()]
    here = next(value for value in values if value and value["id"] == "d3")

    def served() -> bool:
        return service.vector({"text": "w1", "id": "again"})["adapter_version"] == there.adapter.version

    wait_until(served, "the worker serves the new adapter")
    fresh = service.vector({"id": "again", "text": "w3 w4", "language": "de"})
    assert fresh["space"] == here["space"]
    cosine = float(decode_vector(fresh["vector"]) @ decode_vector(here["vector"]))
    assert cosine > 1 - 1e-5  # of 16 numbers, each rounded to 11 bits
    assert fresh["raw_vector"] == here["raw_vector"]


def test_a_topic_goes_through_a_file_and_a_key_that_a_file_cannot_hold_stays_behind(
    service: Service, shell: Shell, there: AdapterSpace, tmp_path: Path
) -> None:
    settings, file = service.settings, tmp_path / "moved.jsonl"
    shell("realign", "-o", file, expect=IN_PART)
    on_several_lines = [line for line in file.read_bytes().splitlines() if b'"id":"lines"' in line]
    assert [json.loads(line)["value"]["metadata"] for line in on_several_lines] == [{"a": 1}]
    target = make_topic(settings, "through-a-file.v1")
    _, err = shell("realign", file, "--to-topic", target, expect=IN_PART)
    assert "unreadable-key" in err
    found, expected = by_key(stored(settings, target)), by_key(moved(stored(settings), there))
    assert expected.pop(b"\xff\x00")
    for key in (b"k0", b"k3", b"k4"):
        assert found[key] == expected[key]
    # What 'tail --json' prints is read too; its vectors are decimal numbers.
    lines, _ = shell("tail", VECTORS, "--from-beginning", "--json")
    out, _ = shell("realign", "-", "-o", "-", stdin=lines.encode(), expect=IN_PART)
    told = {value["id"]: value for value in (json.loads(line)["value"] for line in out.splitlines()) if value}
    direct = {value["id"]: value for value in map(json.loads, filter(None, values_of(file)))}
    for number in range(N_DOCUMENTS):
        vector = np.array(told[f"d{number}"]["vector"], dtype=np.float32)
        assert vector.tobytes() == decode_vector(direct[f"d{number}"]["vector"]).tobytes()


def values_of(file: Path) -> list[str]:
    values = [json.loads(line)["value"] for line in file.read_bytes().splitlines()]
    return [json.dumps(value) if value else "" for value in values]


def test_bare_values_get_their_id_as_key_and_the_headers_of_a_vector(
    service: Service, shell: Shell, there: AdapterSpace, tmp_path: Path
) -> None:
    file = tmp_path / "values.jsonl"
    file.write_text('{"id": "e1", "text": "w1"}\n')
    old = tmp_path / "old.jsonl"
    shell("encode", file, "-o", old, "--adapter", "none", raw_vector="true")
    target = make_topic(service.settings, "from-values.v1")
    shell("realign", old, "--to-topic", target)
    (record,) = stored(service.settings, target)
    assert record.key == b"e1"
    assert record.headers == (
        ("alignstream-schema", b"vectors.aligned/1"),
        ("content-type", b"application/json"),
    )
    assert is_of(record, there)


def test_where_nothing_can_be_done_the_exit_code_is_one(
    service: Service, shell: Shell, tmp_path: Path
) -> None:
    empty = make_topic(service.settings, "empty.v1")
    output = tmp_path / "out.jsonl"
    for arguments, says in (
        (["--topic", empty, "-o", output], "holds no record"),
        (["--topic", "nowhere.v1", "-o", output], "no topic"),
        (["--to-topic", "nowhere.v1"], "no topic"),
        (["-o", output, "--adapter", "unknown"], "there is no adapter 'unknown'"),
        (["-o", output, "--version", "0" * 12], "has no version"),
        (["--to-topic", VECTORS], "both input and output"),
    ):
        _, err = shell("realign", *arguments, expect=FAILED)
        assert says in err
    assert not output.exists()


def test_reading_what_is_there_ends_although_the_topic_is_written_to_without_a_pause(
    service: Service,
) -> None:
    settings = service.settings
    topic = settings.topic_prefix + make_topic(settings, "busy.v1")
    produce(settings, [Outgoing(topic, b"k%d" % number, b"first") for number in range(500)])
    is_over = threading.Event()

    def endless() -> Iterator[Outgoing]:
        while not is_over.is_set():
            yield Outgoing(topic, b"k", b"later")

    writer = threading.Thread(target=produce, args=(settings, endless()))
    writer.start()
    try:
        with Reader(settings, [topic], from_beginning=True) as reader:
            values = [record.value for record in reader.records_so_far()]
    finally:
        is_over.set()
        join([writer], "the endless writer ends when told to", 60)
    assert values.count(b"first") == 500
