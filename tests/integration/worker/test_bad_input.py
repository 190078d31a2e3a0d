"""Everything that can be wrong with a document ends in the dead letters, untouched; the rest goes on."""

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final

import kafka
import pytest
from bounded import wait_until
from oracle import (
    Header,
    Outputs,
    Place,
    Seen,
    committed,
    judge,
    numbered,
    open_producer,
    set_max_message_bytes,
)
from running_service import OpenService, Service, StartWorker, metric

from alignstream.models.errors import SkipRefused
from alignstream.models.labels.label_set import LabelSet
from alignstream.ops.admin.registry import push_label_set
from alignstream.ops.admin.skip_record import skip
from alignstream.ops.client.connection import kafka_options
from alignstream.ops.client.dead_letters import DeadLetterSelection as Selection
from alignstream.ops.client.dead_letters import replay
from alignstream.ops.local.brokers import Broker
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DEAD_LETTERS, DOCUMENTS, ERROR_FIELDS, LABELS, REASONS, VECTORS

DEMO = json.loads(resources.files("alignstream.ops.demo").joinpath("bad-records.json").read_text("utf-8"))
#: Stands in payloads, and must not stand in any message or log line.
PAYLOAD: Final = "Geheimnisträger"
MAX_OUTPUT_BYTES: Final = 500_000


@dataclasses.dataclass(frozen=True)
class Bad:
    """A record, and why it is refused."""

    reason: str
    value: bytes
    headers: tuple[Header, ...] = ()
    key: bytes | None = b"key \xff\xfe"


def noise(size_bytes: int) -> str:
    """Return text that hardly shrinks when it is compressed."""
    return base64.b64encode(random.Random(size_bytes).randbytes(size_bytes * 3 // 4)).decode()


def document(**fields: Any) -> bytes:
    return json.dumps({"text": f"w1 {PAYLOAD}", **fields}).encode()


def schema(*values: bytes | None) -> tuple[Header, ...]:
    return tuple(("alignstream-schema", value) for value in values)


BAD: Final[dict[str, Bad]] = {
    "latin-1": Bad("bad-utf8", b'{"text": "Caf\xe9"}'),
    "utf-16": Bad("bad-utf8", document().decode().encode("utf-16")),
    "a surrogate in bytes": Bad("bad-utf8", b'{"text": "\xed\xa0\x80"}'),
    "an overlong form": Bad("bad-utf8", b'{"text": "\xc0\xaf"}'),
    "zero bytes": Bad("bad-json", b""),
    "no JSON": Bad("bad-json", f"plain text {PAYLOAD}".encode()),
    "cut short": Bad("bad-json", document()[:-1]),
    "two values": Bad("bad-json", document() + document()),
    "a byte order mark": Bad("bad-json", b"\xef\xbb\xbf" + document()),
    "not a number": Bad("bad-json", b'{"text": "w1", "align": {"strength": NaN}}'),
    "a lone surrogate": Bad("bad-json", b'{"text": "w1 \\ud800"}'),
    "a lone surrogate as id": Bad("bad-json", b'{"text": "w1", "id": "\\udfff"}'),
    "a control character": Bad("bad-json", b'{"text": "w1 \x00"}'),
    "a null literal": Bad("bad-schema", b"null"),
    "an array": Bad("bad-schema", b"[" + document() + b"]"),
    "a number": Bad("bad-schema", b"7"),
    "no text": Bad("bad-schema", b'{"id": "x"}'),
    "text of another type": Bad("bad-schema", document(text=[PAYLOAD])),
    "text that is null": Bad("bad-schema", document(text=None)),
    "an id that is a number": Bad("bad-schema", document(id=7)),
    "an empty id": Bad("bad-schema", document(id="")),
    "an endless id": Bad("bad-schema", document(id="x" * 513)),
    "no language": Bad("bad-schema", document(language="not a tag")),
    "a wrong strength": Bad("bad-schema", document(align={"strength": 1.5})),
    "a huge strength": Bad("bad-schema", b'{"text": "w1", "align": {"strength": 1e300}}'),
    "a huge whole number": Bad("bad-schema", b'{"text": "w1", "align": {"strength": 1' + b"0" * 400 + b"}}"),
    "align of another type": Bad("bad-schema", document(align=[])),
    "explain of another type": Bad("bad-schema", document(explain="yes")),
    "labels of another type": Bad("bad-schema", document(labels="a,b")),
    "no labels in the list": Bad("bad-schema", document(labels=[])),
    "a label twice": Bad("bad-schema", document(labels=["a", "a"])),
    "a blank label": Bad("bad-schema", document(labels=["a", " "])),
    "labels and a set": Bad("bad-schema", document(labels=["a"], label_set="later")),
    "a template without label": Bad("bad-schema", document(labels=["a"], template="no place")),
    "the next version": Bad("unknown-schema", document(), schema(b"documents/2")),
    "another schema": Bad("unknown-schema", document(), schema(b"vectors.aligned/1")),
    "a schema of noise": Bad("unknown-schema", document(), schema(b"\xff\x00")),
    "the last header wins": Bad("unknown-schema", document(), schema(b"documents/1", b"documents/9")),
    "larger than allowed": Bad("too-large", document(metadata=noise(950_000))),
    "as large as the topic takes": Bad("too-large", document(metadata=noise(1_040_000))),
    "deep metadata": Bad("too-deep", document()[:-1] + b', "metadata": ' + b"[" * 64 + b"]" * 64 + b"}"),
    "bottomless": Bad("too-deep", b"[" * 200_000),
    "deep objects": Bad("too-deep", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "an empty text": Bad("empty-text", document(text="")),
    "a blank text": Bad("empty-text", document(text=" \t\n\u3000\u00a0")),
    "65 labels": Bad("too-many-labels", document(labels=[f"l{number}" for number in range(65)])),
    "65 wrong labels": Bad("too-many-labels", document(labels=[None] * 65)),
    "no such label set": Bad("unknown-label-set", document(label_set="later", id="later")),
    "no such adapter": Bad("unknown-adapter", document(align={"adapter": "nothing"})),
    "a stranger": Bad("tenant-not-allowed", document(tenant="stranger")),
    "more than may go out": Bad("output-too-large", document(metadata=noise(MAX_OUTPUT_BYTES))),
    "no key": Bad("bad-json", b"{", key=None),
    "an empty key": Bad("bad-json", b"{", key=b""),
    "a large key": Bad("bad-json", b"{", key=b"k" * 100_000),
    "large headers": Bad("bad-json", b"{", (("x", b"h" * 100_000),)),
    "odd headers": Bad("bad-json", b"{", (("", b""), ("twice", b"1"), ("twice", b"2"), ("\u00fc", b"\xff"))),
    **{
        f"the demo's {record['name']}": Bad(
            record["reason"],
            base64.b64decode(record["value_base64"]),
            tuple((name, value.encode()) for name, value in record.get("headers", {}).items()),
        )
        for record in DEMO["records"]
    },
}

#: Strange, and good.
GOOD: Final[dict[str, Bad]] = {
    "the last header wins": Bad("", document(), schema(b"documents/9", b"documents/1")),
    "a minor version": Bad("", document(), schema(b"documents/1.12")),
    "the last of duplicate keys wins": Bad("", b'{"text": "w7", "text": "w1", "id": "a", "id": "b"}'),
    "unknown fields": Bad("", b'{"text": "w1", "further": {"b": 1' + b"0" * 5000 + b"}}"),
    "huge numbers in metadata": Bad("", b'{"text": "w1", "metadata": [1e999, -1' + b"0" * 5000 + b"]}"),
    "brackets in a text": Bad("", document(text="[" * 5000)),
    "allowed depth": Bad("", document()[:-1] + b', "metadata": ' + b"[" * 63 + b"]" * 63 + b"}"),
    "an allowed tenant": Bad("", document(tenant="acme")),
    "64 labels": Bad("", document(labels=[f"l{number}" for number in range(64)])),
    "signs of all kinds": Bad(
        "", document(text="\u0000 \u202e \U0001f469\u200d\U0001f52c \u0301 \ufdfa \ufffe")
    ),
    "a long text": Bad("", document(text="w1 " * 50_000)),
}


@pytest.fixture(scope="module")
def service(open_service: OpenService, tiny_artifact: Path) -> Iterator[Service]:
    with open_service(
        tiny_artifact, adapter="identity", tenants=("default", "acme"), max_output_bytes=MAX_OUTPUT_BYTES
    ) as running:
        yield running


def check_letter(letter: Seen, bad: Bad, place: Place, topic: str) -> None:
    """Check that a dead letter is the original and says why it is there."""
    assert (letter.key, letter.value) == (bad.key, bad.value)
    fields = {name: letter.header(f"alignstream.error.{name}") for name in ERROR_FIELDS}
    assert fields["reason"] == bad.reason, fields
    assert (fields["topic"], fields["attempts"]) == (topic, "1")
    assert (fields["partition"], fields["offset"]) == (str(place[0]), str(place[1]))
    assert fields["stage"] in {"decode", "admit", "encode", "publish"}
    assert fields["message"]
    assert len(fields["message"].encode()) <= 256
    assert PAYLOAD not in fields["message"]
    assert fields["version"]
    assert fields["time"]
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(fields["time"])
    assert dt.timedelta(0) <= age < dt.timedelta(minutes=5)
    kept = [header for header in letter.headers if not header[0].startswith("alignstream.error.")]
    is_kept = sum(len(value or b"") for _, value in bad.headers) < 60_000
    assert kept == (list(bad.headers) if is_kept else [])


def test_every_bad_record_is_kept_with_its_reason_and_every_good_one_between_is_processed(
    service: Service,
) -> None:
    # The worker meets the first in its encoder, the second where it cannot reach the learner.
    made_at_run_time = {"inference-failed", "learner-unreachable"}
    assert {bad.reason for bad in BAD.values()} == set(REASONS) - made_at_run_time
    pid = service.worker.pid
    bad_places: dict[str, Place] = {}
    good_places: list[Place] = []
    for number, (name, bad) in enumerate(BAD.items()):
        bad_places[name] = service.send(bad.value, key=bad.key, headers=bad.headers)
        good_places.append(service.send(numbered("key", number), key=bad.key))
    strange = {
        name: service.send(record.value, key=record.key, headers=record.headers)
        for name, record in GOOD.items()
    }
    service.outputs.wait_for([*bad_places.values(), *good_places, *strange.values()])

    topic = service.settings.topic_prefix + DOCUMENTS
    for name, place in bad_places.items():
        assert not service.outputs.of(VECTORS, place), name
        assert not service.outputs.of(LABELS, place), name
        check_letter(service.outputs.dead(place), BAD[name], place, topic)
    for number, place in enumerate(good_places):
        assert service.outputs.vector(place).json["id"] == f"key-{number}"
    for name, place in strange.items():
        assert not service.outputs.of(DEAD_LETTERS, place), name
        vector = service.outputs.vector(place)
        metadata = (GOOD[name].value or b"").partition(b'"metadata": ')[2]
        assert (vector.value or b"").endswith(metadata), name
    assert service.outputs.vector(strange["the last of duplicate keys wins"]).json["id"] == "b"
    assert service.outputs.vector(strange["a long text"]).json["tokens_dropped"] > 40_000

    verdict = judge(
        service.settings, {*bad_places.values(), *good_places, *strange.values()}, service.outputs
    )
    assert not verdict.faults, verdict
    assert verdict.n_duplicates == 0
    for reason, count in Counter(bad.reason for bad in BAD.values()).items():
        assert metric(service.worker, "records_dead_lettered_total", reason=reason) == count
    assert service.worker.pid == pid
    assert service.worker.is_running
    log = service.worker.log()
    assert PAYLOAD not in log
    assert "Traceback" not in log


def test_dead_letters_are_replayed_once_their_cause_is_gone(service: Service) -> None:
    place = service.send(
        document(label_set="replayed", id="again"), key=b"\xffkey", headers=schema(b"documents/1")
    )
    service.outputs.wait_for([place])
    assert service.outputs.dead(place).header("alignstream.error.reason") == "unknown-label-set"
    push_label_set(service.settings, "replayed", LabelSet(labels=("w1", "w2")))
    # Others of this reason are there from the test before, and fail again.
    report = replay(service.settings, Selection(frozenset({"unknown-label-set"})))
    assert report.replayed == report.reasons["unknown-label-set"]

    def again() -> list[Seen]:
        service.outputs.look()
        return [
            record
            for record in service.outputs.records
            if record.topic == LABELS and record.value is not None and record.json["id"] == "again"
        ]

    wait_until(again, "the replayed document gets its labels")
    (labels,) = again()
    assert (labels.key, labels.json["label_set"]) == (b"\xffkey", "replayed")
    assert labels.source[0] == place[0], "the same key, the same partition"
    assert labels.source[1] > place[1]
    assert len(service.outputs.of(DEAD_LETTERS, place)) == 1, "the dead letter stays"


@pytest.mark.kafka
def test_what_a_topic_refuses_is_a_dead_letter_or_at_least_its_sum(
    slow_settings: Settings, broker: Broker, start_worker: StartWorker
) -> None:
    if broker.kind != "kafka":
        pytest.skip("the local broker has no limits of its own")
    settings = slow_settings
    worker = start_worker(settings)
    # Lowered behind the worker's back: what it believes to be allowed is refused by the broker.
    set_max_message_bytes(settings, VECTORS, 20_000)
    large = document(metadata=noise(40_000), id="large")
    with (
        contextlib.closing(open_producer(settings)) as producer,
        contextlib.closing(Outputs(settings)) as outputs,
    ):

        def send(values: list[bytes]) -> list[Place]:
            topic = settings.topic_prefix + DOCUMENTS
            futures = [producer.send(topic, value, key=b"same") for value in values]
            return [(item.partition, item.offset) for item in (future.get(30) for future in futures)]

        goods = [json.dumps(numbered("key", number)).encode() for number in range(20)]
        places = send([*goods[:10], large, *goods[10:]])
        wait_until(lambda: not worker.is_running, "the worker ends rather than commits")
        assert worker.exit_code != 0
        worker.start()
        verdict = judge(settings, places, outputs)
        assert not verdict.faults, verdict
        assert (verdict.n_vectors, verdict.n_dead) == (20, 1)
        letter = outputs.dead(places[10])
        assert letter.header("alignstream.error.reason") == "output-too-large"
        assert (letter.key, letter.value) == (b"same", large)

        # And a dead letter that even its topic refuses is replaced by where it lies and its sum.
        set_max_message_bytes(settings, DEAD_LETTERS, 10_000)
        (place,) = send([large])

        def is_settled() -> bool:
            outputs.look()
            return outputs.is_done(place) or not worker.is_running

        wait_until(is_settled, "an outcome, or the worker's end")
        if not worker.is_running:  # after a refusal aiokafka's idempotent producer has lost count
            worker.start()
        outputs.wait_for([place])
        letter = outputs.dead(place)
    assert letter.header("alignstream.error.value-replaced") == "true"
    assert letter.json == {
        "sha256": hashlib.sha256(large).hexdigest(),
        "length_bytes": len(large),
        "topic": settings.topic_prefix + DOCUMENTS,
        "partition": place[0],
        "offset": place[1],
    }


class NotUtf8(str):
    """A header name that a client writes as bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def test_a_record_that_cannot_be_unpacked_ends_the_worker_which_says_what_to_do(
    slow_settings: Settings, broker: Broker, start_worker: StartWorker
) -> None:
    worker = start_worker(slow_settings)
    topic = slow_settings.topic_prefix + DOCUMENTS
    producer = kafka.KafkaProducer(**kafka_options(slow_settings), enable_idempotence=False, linger_ms=500)
    with contextlib.closing(producer):
        futures = [
            producer.send(
                topic,
                json.dumps(numbered("k", number)).encode(),
                key=b"k",
                partition=0,
                headers=[(name, b"")],
            )
            for number, name in enumerate(["a", NotUtf8("b"), "c"])
        ]
        producer.flush()
        poison = futures[1].get(timeout=30).offset
    wait_until(lambda: not worker.is_running, "the worker ends rather than stands still", 60)
    assert worker.exit_code != 0
    assert f"at or after {topic} 0 {poison}. No worker can get past it" in worker.log()
    assert "'alignstream skip TOPIC PARTITION OFFSET'" in worker.log()
    if broker.kind == "tansu":
        return  # it never forgets the member that died, and lets no one else commit
    wait_until(lambda: _skipped(slow_settings, poison), "the group is empty", 20)
    worker.start()
    with contextlib.closing(Outputs(slow_settings)) as outputs:
        places = [(0, poison + 2 + number) for number in range(2)]
        outputs.wait_for(places)
        assert [outputs.vector(place).json["id"] for place in places] == ["k-0", "k-2"]
    wait_until(lambda: committed(slow_settings).get(0) == poison + 4, "the group goes on")


def _skipped(settings: Settings, offset: int) -> bool:
    try:
        skip(settings, DOCUMENTS, 0, offset)
    except SkipRefused as error:  # the group may still count the dead member
        assert "stop the workers first" in str(error)  # noqa: PT017 (any other refusal is a failure)
        return False
    return True
