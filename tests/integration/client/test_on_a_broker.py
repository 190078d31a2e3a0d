"""The people's tools against real brokers."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kafka
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from started_servers import environment_of
from typer.testing import CliRunner, Result

from alignstream.models.errors import (
    BrokerUnavailable,
    DeadLettered,
    DocumentInvalid,
    RecordError,
    ResultTimeout,
    SelectionError,
    SkipRefused,
    TopicMissing,
)
from alignstream.ops.admin.skip_record import skip
from alignstream.ops.cli import app
from alignstream.ops.client.broker_topics import create_topics, describe_topics, ensure_topics
from alignstream.ops.client.client import Client
from alignstream.ops.client.connection import kafka_options, topic_name
from alignstream.ops.client.dead_letters import DeadLetterSelection as Selection
from alignstream.ops.client.dead_letters import count_by_reason, newest, replay
from alignstream.ops.client.producer import Outgoing, produce, produce_documents
from alignstream.ops.client.reader import Reader, read, read_last
from alignstream.ops.client.record import Record
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DEAD_LETTERS, DOCUMENTS, LABELS, VECTORS, Headers, specs

VECTOR = np.array([0.6, -0.8], dtype=np.float32)


@pytest.fixture
def settings(service_settings: Settings) -> Settings:
    """Settings of this test, its topics made."""
    create_topics(service_settings)
    return service_settings


def is_kafka(settings: Settings) -> bool:
    return settings.idempotence  # the local broker refuses it


def read_all(settings: Settings, topic: str = DOCUMENTS) -> list[Record]:
    return list(read(settings, [topic], from_beginning=True))


# -- topics --------------------------------------------------------------------------------------


def test_topics_are_created_once_and_can_be_used_at_once(service_settings: Settings) -> None:
    created = create_topics(service_settings, partitions=3)
    assert created == [topic_name(service_settings, spec.name) for spec in specs()]
    assert create_topics(service_settings, partitions=3) == []
    report = ensure_topics(service_settings, partitions=2)
    assert report.existing == created
    assert any("3 partitions, not 2" in note for note in report.notes)

    produce_documents(service_settings, [(b"k", b"v", ())])
    described = {topic.name: topic for topic in describe_topics(service_settings)}
    documents = described[topic_name(service_settings, DOCUMENTS)]
    assert documents.exists
    assert len(documents.end_offsets) == 3
    if is_kafka(service_settings):
        assert sum(documents.lag.values()) == 1
        assert documents.config["max.message.bytes"] == "1048588"


def test_topics_that_are_missing_are_named(service_settings: Settings) -> None:
    assert not any(topic.exists for topic in describe_topics(service_settings))
    with pytest.raises(TopicMissing, match=topic_name(service_settings, DOCUMENTS)):
        produce_documents(service_settings, [(None, b"v", ())])
    with pytest.raises(TopicMissing, match=topic_name(service_settings, VECTORS)):
        read(service_settings, [VECTORS])
    assert not any(topic.exists for topic in describe_topics(service_settings)), "nothing is made by asking"


# -- produce and read ----------------------------------------------------------------------------


def test_records_arrive_unchanged_and_in_order(settings: Settings) -> None:
    sent = [
        (f"k{i % 7}".encode(), f"v{i} \xff".encode("latin-1"), (("h", b"x"), ("h", b""))) for i in range(3000)
    ]
    confirmed: list[int] = []
    report = produce_documents(settings, sent, confirmed.append)
    assert (report.confirmed, report.failed) == (3000, ())
    assert confirmed == list(range(1, 3001))
    got = read_all(settings)
    assert sorted((record.key, record.value, record.headers) for record in got) == sorted(sent)
    for key in {item[0] for item in sent}:
        assert [record.value for record in got if record.key == key] == [
            item[1] for item in sent if item[0] == key
        ]


def test_reading_to_the_end_gives_what_was_confirmed_a_moment_ago(settings: Settings) -> None:
    for count in range(1, 6):
        produce_documents(settings, [(None, b"v", ())] * count)
        assert len(read_all(settings)) == sum(range(1, count + 1))


def test_following_starts_at_the_call_and_goes_on(settings: Settings) -> None:
    produce_documents(settings, [(b"a", b"old", ())])
    following = read(settings, [DOCUMENTS], follow=True)
    produce_documents(settings, [(b"a", b"new", ())])
    values = []
    for record in following:
        values.append(record.value)
        if record.value == b"new":
            break
    assert values == [b"new"] if is_kafka(settings) else values[-1] == b"new"
    following.close()  # type: ignore[attr-defined] # a generator


def test_the_newest_records_of_all_partitions_are_found(settings: Settings) -> None:
    for number in range(30):
        produce_documents(settings, [(str(number).encode(), str(number).encode(), ())])
    assert [record.value for record in read_last(settings, [DOCUMENTS], 5)] == [
        b"25",
        b"26",
        b"27",
        b"28",
        b"29",
    ]


def test_a_record_that_is_too_large_is_reported_and_the_rest_goes_on(settings: Settings) -> None:
    huge = b"x" * 2_000_000
    report = produce_documents(settings, [(None, b"a", ()), (None, huge, ()), (None, b"b", ())])
    assert (report.confirmed, [failure.index for failure in report.failed]) == (2, [1])
    assert "max.message.bytes" in report.failed[0].reason


def test_a_record_that_only_the_broker_refuses_takes_none_of_its_neighbours_along(settings: Settings) -> None:
    if not is_kafka(settings):
        pytest.skip("the local broker has no limit of its own")
    noise = random.Random(0).randbytes(1_100_000)  # the limit is of what is left after compression
    small = [(b"k%d" % (number % 9), b"%d" % number, ()) for number in range(600)]
    sent = [*small[:300], (b"k0", noise, ()), *small[300:450], (b"k1", noise, ()), *small[450:]]
    for is_idempotent in (True, False):
        own = settings.model_copy(update={"idempotence": is_idempotent})
        report = produce_documents(own, sent)
        assert (report.confirmed, [failure.index for failure in report.failed]) == (600, [300, 451])
        assert {record.value for record in read_all(settings)} == {value for _, value, _ in small}


def test_a_record_that_cannot_be_unpacked_is_an_error_that_says_where(settings: Settings) -> None:
    poison(settings, before=3, after=2)
    got: list[Record] = []
    with pytest.raises(RecordError, match=rf"{topic_name(settings, DOCUMENTS)} 1 3.*skip"):
        got.extend(read(settings, [DOCUMENTS], from_beginning=True))


def test_a_broker_that_is_away_is_named_within_seconds(service_settings: Settings) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        away = service_settings.model_copy(update={"broker": address})
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=address):
            read(away, [DOCUMENTS])
        with pytest.raises(BrokerUnavailable, match=address):
            Client(away)
    assert time.monotonic() - started < 5


def test_an_address_that_accepts_and_never_answers_is_given_up(service_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=address):
            describe_topics(service_settings.model_copy(update={"broker": address}))
    assert time.monotonic() - started < 10


# -- dead letters --------------------------------------------------------------------------------


def dead(settings: Settings, reason: str, value: bytes, *extra: tuple[str, bytes]) -> Outgoing:
    headers: Headers = (
        ("traceparent", b"00-1"),
        ("alignstream.error.reason", reason.encode()),
        ("alignstream.error.topic", topic_name(settings, DOCUMENTS).encode()),
        ("alignstream.error.partition", b"0"),
        ("alignstream.error.offset", b"1"),
        *extra,
    )
    return Outgoing(topic_name(settings, DEAD_LETTERS), b"key \xfe", value, headers)


def test_dead_letters_are_counted_and_replayed_untouched(settings: Settings) -> None:
    letters = [dead(settings, "bad-utf8", b"\xff%d" % number) for number in range(5)]
    letters += [dead(settings, "bad-json", b"{")] * 2
    letters.append(dead(settings, "too-large", b"{}", ("alignstream.error.value-replaced", b"true")))
    letters.append(Outgoing(topic_name(settings, DEAD_LETTERS), None, b"?", ()))
    produce(settings, letters)

    counts = {entry.reason: entry.count for entry in count_by_reason(settings, Selection())}
    assert counts == {"bad-utf8": 5, "bad-json": 2, "too-large": 1, "unknown": 1}
    assert len(newest(settings, Selection(), 3)) == 3

    tried = replay(settings, Selection(), is_dry_run=True)
    assert (tried.replayed, tried.replaced, tried.unaddressed) == (7, 1, 1)
    assert read_all(settings) == []

    done = replay(settings, Selection(frozenset({"bad-utf8"})))
    assert (done.replayed, done.reasons, done.refused) == (5, {"bad-utf8": 5}, ())
    got = read_all(settings)
    assert [record.value for record in got] == [b"\xff%d" % number for number in range(5)]
    assert {record.key for record in got} == {b"key \xfe"}
    for record in got:
        assert record.headers[0] == ("traceparent", b"00-1")
        ((name, origin),) = record.headers[1:]
        assert name == "alignstream.replayed-from"
        assert origin is not None
        assert origin.startswith(topic_name(settings, DEAD_LETTERS).encode())


def test_a_replay_does_not_chase_what_it_makes(settings: Settings) -> None:
    own = (("alignstream.error.topic", topic_name(settings, DEAD_LETTERS).encode()),)
    produce(settings, [Outgoing(topic_name(settings, DEAD_LETTERS), None, b"v", own)] * 3)
    assert replay(settings, Selection()).replayed == 3
    assert len(read_all(settings, DEAD_LETTERS)) == 6


def test_dead_letters_are_selected_by_time_and_number(settings: Settings) -> None:
    produce(settings, [dead(settings, "bad-json", b"{")] * 4)
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    for selection, expected in [
        (Selection(since=now - hour), 4),
        (Selection(since=now + hour), 0),
        (Selection(until=now - hour), 0),
        (Selection(limit=3), 3),
        (Selection(frozenset({"bad-utf8"})), 0),
    ]:
        assert sum(entry.count for entry in count_by_reason(settings, selection)) == expected
    with pytest.raises(SelectionError):
        Selection(frozenset({"nonsense"}))


# -- skip ----------------------------------------------------------------------------------------


class NotUtf8(str):
    """A header name that a client writes as bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def poison(settings: Settings, *, before: int, after: int) -> None:
    """Produce one batch to partition 1, with one record in it that cannot be unpacked."""
    producer = kafka.KafkaProducer(**kafka_options(settings), enable_idempotence=False, linger_ms=500)
    names: list[str] = ["h"] * before + [NotUtf8("h")] + ["h"] * after
    futures = [
        producer.send(topic_name(settings, DOCUMENTS), b"%d" % number, partition=1, headers=[(name, b"x")])
        for number, name in enumerate(names)
    ]
    producer.flush()
    first = futures[0].get(timeout=30).offset
    assert [future.get(timeout=30).offset - first for future in futures] == list(range(before + 1 + after))
    producer.close()


def committed(settings: Settings, partition: int = 1) -> int:
    place = kafka.TopicPartition(topic_name(settings, DOCUMENTS), partition)
    admin = kafka.KafkaAdminClient(**kafka_options(settings))
    try:
        return int(admin.list_group_offsets({settings.group: [place]})[settings.group][place].offset)
    finally:
        admin.close()


@contextlib.asynccontextmanager
async def member(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic_name(settings, DOCUMENTS),
        bootstrap_servers=settings.broker,
        group_id=settings.group,
        session_timeout_ms=6000,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


def test_skipping_a_record_that_no_client_can_unpack_loses_only_that_record(settings: Settings) -> None:
    poison(settings, before=3, after=2)
    assert skip(settings, DOCUMENTS, 1, 3, is_dry_run=True).requeued == 5
    assert committed(settings) == -1
    done = skip(settings, DOCUMENTS, 1, 3)
    assert (done.previous, done.committed, done.requeued, done.dropped) == (None, 6, 5, 0)
    assert committed(settings) == 6

    async def rest() -> list[bytes | None]:
        async with member(settings) as consumer:
            values: list[bytes | None] = []
            while len(values) < 5:
                async with asyncio.timeout(30):
                    values.append((await consumer.getone()).value)
            return values

    assert sorted(value or b"" for value in asyncio.run(rest())) == [b"0", b"1", b"2", b"4", b"5"]


def test_a_record_is_skipped_once_and_never_backwards(settings: Settings) -> None:
    produce(settings, [Outgoing(topic_name(settings, DOCUMENTS), b"same", b"%d" % n) for n in range(4)])
    partition = read_all(settings)[0].partition
    assert skip(settings, DOCUMENTS, partition, 0).committed == 1
    assert skip(settings, DOCUMENTS, partition, 1).previous == 1
    with pytest.raises(SkipRefused, match="already past"):
        skip(settings, DOCUMENTS, partition, 0)
    done = skip(settings, DOCUMENTS, partition, 3, drop_others=True)
    assert (done.dropped, done.requeued, committed(settings, partition)) == (1, 0, 4)
    for place in [(partition, 4), (99, 0)]:
        with pytest.raises(SkipRefused):
            skip(settings, DOCUMENTS, *place)
    with pytest.raises(TopicMissing):
        skip(settings, "nothing.v1", 0, 0)


def test_a_second_unreadable_batch_before_the_record_is_skipped_first(settings: Settings) -> None:
    poison(settings, before=1, after=1)
    poison(settings, before=1, after=0)
    with pytest.raises(SkipRefused, match="cannot be read at 1 either"):
        skip(settings, DOCUMENTS, 1, 4)
    assert committed(settings) == -1
    assert skip(settings, DOCUMENTS, 1, 1).committed == 3
    done = skip(settings, DOCUMENTS, 1, 4)
    assert (done.previous, done.committed, done.requeued) == (3, 5, 1)


def test_nothing_is_skipped_while_workers_run(settings: Settings) -> None:
    produce_documents(settings, [(b"same", b"v", ())] * 3)
    partition = read_all(settings)[0].partition

    async def attempt() -> None:
        async with member(settings) as consumer:
            await consumer.getone()
            await asyncio.to_thread(skip, settings, DOCUMENTS, partition, 0)

    with pytest.raises(SkipRefused, match="stop the workers first"):
        asyncio.run(attempt())
    assert committed(settings, partition) == -1


# -- client --------------------------------------------------------------------------------------


def vector_value(id: str) -> bytes:  # noqa: A002 (the record's own word)
    return json.dumps(
        {
            "id": id,
            "tenant": "default",
            "vector": base64.b64encode(VECTOR.tobytes()).decode(),
            "encoding": "base64-f32le",
            "dim": 2,
            "encoder": "e",
            "adapter": "identity",
            "adapter_version": "0",
            "space": "s",
            "tokens": 3,
            "tokens_dropped": 0,
            "truncated": False,
        }
    ).encode()


def labels_value(id: str) -> bytes:  # noqa: A002 (the record's own word)
    return json.dumps(
        {
            "id": id,
            "tenant": "default",
            "label": "sports",
            "scores": [{"label": "sports", "score": 0.9}, {"label": "politics", "score": 0.1}],
            "label_set": None,
            "template": "{label}",
            "multi_label": False,
            "space": "s",
        }
    ).encode()


def source_headers(record: Record, prefix: str) -> Headers:
    return (
        (f"{prefix}topic", record.topic.encode()),
        (f"{prefix}partition", str(record.partition).encode()),
        (f"{prefix}offset", str(record.offset).encode()),
    )


def answer(settings: Settings) -> None:
    """Write what a worker would: labels before vectors, and dead letters for texts that are blank."""
    outputs = []
    for record in read_all(settings):
        document = json.loads(record.value or b"")
        if not document["text"].strip():
            headers = (
                ("alignstream.error.reason", b"empty-text"),
                *source_headers(record, "alignstream.error."),
            )
            outputs.append(Outgoing(topic_name(settings, DEAD_LETTERS), record.key, record.value, headers))
            continue
        headers = source_headers(record, "alignstream.source.")
        if "labels" in document:
            value = labels_value(document["id"])
            outputs.append(Outgoing(topic_name(settings, LABELS), record.key, value, headers))
        value = vector_value(document["id"])
        outputs.append(Outgoing(topic_name(settings, VECTORS), record.key, value, headers))
    produce(settings, outputs)


def test_the_client_awaits_each_result_by_its_id(settings: Settings) -> None:
    with Client(settings) as client:
        plain = client.produce("Ein Text", language="de", metadata={"n": 1})
        labelled = client.produce("Sport", labels=["sports", "politics"], id="doc-1", key="k")
        blank = client.produce(" ")
        client.flush()
        sent = {json.loads(record.value or b"")["id"]: record for record in read_all(settings)}
        assert sent["doc-1"].key == b"k"
        assert json.loads(sent[plain].value or b"") == {
            "text": "Ein Text",
            "id": plain,
            "language": "de",
            "metadata": {"n": 1},
        }
        assert sent[plain].header("alignstream-schema") == "documents/1"
        answer(settings)

        result = client.await_result(labelled)
        assert result.labels is not None
        assert (result.id, result.labels.label) == ("doc-1", "sports")
        np.testing.assert_array_equal(result.vector.array, VECTOR)
        assert client.await_result(plain).labels is None
        with pytest.raises(DeadLettered, match="empty-text") as caught:
            client.await_result(blank)
        assert (caught.value.id, caught.value.reason) == (blank, "empty-text")


def test_an_answer_to_an_earlier_document_of_the_same_id_is_not_taken(settings: Settings) -> None:
    with Client(settings) as client:
        client.produce("one", id="same")
        client.flush()
        answer(settings)
        client.await_result("same")
    with Client(settings) as client:
        client.produce("two", id="same")
        with pytest.raises(ResultTimeout, match="its vector"):
            client.await_result("same", timeout_seconds=1.5)
        answer(settings)
        assert client.await_result("same").vector.record.header("alignstream.source.offset") == "1"


def test_a_document_that_does_not_fit_is_refused_before_it_is_sent(settings: Settings) -> None:
    with Client(settings) as client:
        for wrong in ({"language": "no language"}, {"strength": 2.0}, {"id": ""}, {"metadata": object()}):
            with pytest.raises(DocumentInvalid):
                client.produce("x", **wrong)
        with pytest.raises(DocumentInvalid):
            client.produce("\ud800")
    assert read_all(settings) == []


def test_the_client_iterates_vectors_and_labels(settings: Settings) -> None:
    with Client(settings) as client:
        following = client.vectors()
        produce(
            settings,
            [
                Outgoing(topic_name(settings, VECTORS), b"a", vector_value("a")),
                Outgoing(topic_name(settings, VECTORS), b"b", None),
                Outgoing(topic_name(settings, LABELS), b"a", labels_value("a")),
            ],
        )
        vector = next(following)
        assert vector.id == "a"
        assert vector.array.shape == (2,)
        assert [item.id for item in client.vectors(from_beginning=True, follow=False)] == ["a"]
        assert [item.label for item in client.labels(from_beginning=True, follow=False)] == ["sports"]
        following.close()  # type: ignore[attr-defined] # a generator


def test_a_reader_can_be_closed_twice(settings: Settings) -> None:
    with Reader(settings, [DOCUMENTS]) as reader:
        reader.close()


# -- command line --------------------------------------------------------------------------------


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, expect: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return run


def test_the_command_line_produces_and_tails(settings: Settings, cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(
        b'{"id": "a", "text": "Hallo"}\nnot json\n{"id": "b", "text": "Salut", "language": "fr"}\n'
    )
    report = json.loads(
        cli("produce", str(file), "--language", "de", "--key-field", "id", "--json", expect=3).stdout
    )
    assert (report["confirmed"], [item["line"] for item in report["rejected"]]) == (2, [2])
    assert "2 confirmed" in cli("produce", "-", stdin=b"Guten Tag\nBonjour\n").stdout

    lines = cli("tail", "documents.v1", "--from-beginning", "--json").stdout.splitlines()
    values = [json.loads(line)["value"] for line in lines]
    assert {(value.get("id"), value.get("language")) for value in values} == {
        ("a", "de"),
        ("b", "fr"),
        (None, None),
    }
    assert len(cli("tail", "documents.v1", "--limit", "3").stdout.splitlines()) == 3
    assert "Salut" in cli("tail", topic_name(settings, DOCUMENTS), "--id", "b").stdout

    produce(settings, [Outgoing(topic_name(settings, VECTORS), b"a", vector_value("a"))])
    assert "dim 2 norm 1.000" in cli("tail", "vectors.aligned.v1").stdout
    shown = json.loads(cli("tail", "vectors.aligned.v1", "--json").stdout)
    assert shown["value"]["vector"] == [0.6, -0.8]


def test_the_command_line_keeps_dead_letters_and_skips(settings: Settings, cli: Any) -> None:
    produce(settings, [dead(settings, "bad-utf8", b"\xff"), dead(settings, "bad-json", b"{\x1b[31m")])
    listed = json.loads(cli("deadletters", "list", "--json", "--since", "1h").stdout)
    assert listed["total"] == 2
    assert "bad-json" in cli("deadletters", "list").stdout
    assert "\x1b[31m" not in cli("deadletters", "show").stdout
    assert "1 would be replayed" in cli("deadletters", "replay", "--reason", "bad-utf8", "--dry-run").stdout
    assert json.loads(cli("deadletters", "replay", "--json").stdout)["replayed"] == 2
    assert len(read_all(settings)) == 2

    partition = str(read_all(settings)[0].partition)
    assert "goes on at 1" in cli("skip", "documents.v1", partition, "0").stdout
    assert json.loads(cli("topics", "create", "--json").stdout)["created"] == []
    assert "documents.v1" in cli("topics", "describe").stdout
