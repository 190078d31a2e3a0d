"""The agent's promise: published and confirmed before acknowledged, in order, and nobody condemned wrongly."""

import asyncio
import concurrent.futures
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from fake_encoder import FakeEncoder

from alignstream.models.adapter.adapter import identity
from alignstream.models.errors import EncoderFailed, OutputRefused
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.streams.kafka.events import source_record
from alignstream.streams.observe.sensors import Metrics
from alignstream.streams.wire.observations import Observed
from alignstream.streams.wire.topics import (
    DEAD_LETTERS,
    HEADER_REPLACED,
    VECTORS,
    Headers,
    header,
)
from alignstream.streams.worker.admission import Policy
from alignstream.streams.worker.agents import BatchAgent
from alignstream.streams.worker.crash_journal import CrashJournal
from alignstream.streams.worker.pipeline import DocumentsPipeline

DIM = 8
TOPIC = "documents.v1"
POISON = "poison"
CRASH_ATTEMPTS = 3
POLICY = Policy(
    adapter="identity",
    label_set=None,
    template="{label}",
    tenants=None,
    max_document_bytes=100_000,
    max_output_bytes=1_000_000,
    max_nesting_depth=16,
    vector_encoding="base64-f32le",
)


class Message(NamedTuple):
    """What Faust hands out, as far as the agent looks."""

    offset: int
    value: bytes | None
    partition: int = 0
    key: bytes | None = b"k"
    headers: Sequence[tuple[str, bytes | None]] | None = ()
    timestamp: float | None = 1000.0
    topic: str = TOPIC
    time_in: float | None = None


class Event(NamedTuple):
    message: Any


class Stream:
    """Pipeline that a test names; notes acknowledgements into the same story as the broker."""

    def __init__(self, batches: Sequence[Sequence[Message]], story: list[tuple[Any, ...]]) -> None:
        self._batches = batches
        self._story = story

    async def noack_take(self, max_: int, within: float) -> AsyncIterator[Sequence[Event]]:
        assert max_ > 0
        assert within > 0
        for batch in self._batches:
            yield [Event(message) for message in batch]

    async def ack(self, event: Event) -> bool:
        self._story.append(("ack", event.message.partition, event.message.offset))
        return True


class Sent(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def offset(self) -> int:
        name = "alignstream.error.offset" if self.topic == DEAD_LETTERS else "alignstream.source.offset"
        return int(header(self.headers, name) or b"-1")


class Broker:
    """Confirms a moment after it was sent; refuses what a test says."""

    def __init__(self, story: list[tuple[Any, ...]]) -> None:
        self._story = story
        self.sent: list[Sent] = []
        self.confirmed: list[Sent] = []
        self.refuse: Callable[[Sent], Exception | None] = lambda _: None

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Awaitable[Any]:
        assert not (key is None and value is None), "the client refuses this"
        sent = Sent(topic, key, value, headers)
        self.sent.append(sent)
        self._story.append(("send", topic, sent.offset))
        await asyncio.sleep(0)
        return asyncio.ensure_future(self._confirm(sent))

    async def _confirm(self, sent: Sent) -> None:
        # Later ones first, so that nothing relies on the order of confirmations.
        for _ in range(max(1, 20 - sent.offset)):
            await asyncio.sleep(0)
        error = self.refuse(sent)
        if error is not None:
            raise error
        self.confirmed.append(sent)
        self._story.append(("confirm", sent.topic, sent.offset))


class Learner:
    """Takes what is observed; its topic can be away."""

    def __init__(self, story: list[tuple[Any, ...]]) -> None:
        self._story = story
        self.is_away = False
        self.taken: list[Observed] = []

    def offer(self, observed: Sequence[Observed]) -> None:
        self._story.append(("offer", len(observed)))
        if not self.is_away:
            self.taken += observed

    async def deliver(self, observed: Sequence[Observed]) -> bool:
        await asyncio.sleep(0)
        self._story.append(("deliver", len(observed)))
        if not self.is_away:
            self.taken += observed
        return not self.is_away


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may run after it but the next worker."""


class Worker:
    """One life of a worker on a journal that outlives it."""

    def __init__(self, folder: Path, *, dead_letter_bytes: int = 200_000, is_taught: bool = False) -> None:
        self.story: list[tuple[Any, ...]] = []
        self.learner = Learner(self.story)
        self._is_taught = is_taught
        self.broker = Broker(self.story)
        self.encoder = FakeEncoder(dim=DIM, failing_words=[POISON])
        self.metrics = Metrics()
        self.catalogue = Catalogue(
            MappingProxyType({"identity": Served(identity(self.encoder.fingerprint, DIM), "built-in", 0.0)}),
            MappingProxyType({}),
        )
        self.pipeline = DocumentsPipeline(
            self.encoder, POLICY, clock=lambda: 0.0, now=lambda: 0.0, observer=self.metrics
        )
        self.journal = CrashJournal(folder)
        self.n_batches: list[int] = []
        self._dead_letter_bytes = dead_letter_bytes
        run = self.pipeline.run

        def counted(records: Any, catalogue: Any) -> Any:
            self.n_batches.append(len(records))
            self.before_run([record.offset for record in records])
            return run(records, catalogue)

        self.before_run: Callable[[list[int]], None] = lambda _: None
        self.pipeline.run = counted  # type: ignore[method-assign]

    def work(self, *batches: Sequence[Message]) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            agent = BatchAgent(
                self.pipeline,
                observations=self.learner,
                is_taught=self._is_taught,
                executor=executor,
                catalogue=lambda: self.catalogue,
                send=self.broker.send,
                journal=self.journal,
                metrics=self.metrics,
                batch_records=64,
                batch_linger_seconds=0.05,
                max_crashes_alone=CRASH_ATTEMPTS,
                dead_letter_bytes=self._dead_letter_bytes,
            )
            asyncio.run(agent.run(Stream(batches, self.story)))

    @property
    def acked(self) -> list[int]:
        return [step[2] for step in self.story if step[0] == "ack"]

    def confirmed(self, topic: str) -> list[int]:
        return [sent.offset for sent in self.broker.confirmed if sent.topic == topic]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def good(offset: int, **fields: Any) -> Message:
    return Message(offset, json.dumps({"text": f"text {offset}"}).encode(), **fields)


def bad(offset: int, value: bytes = b"\xff", **fields: Any) -> Message:
    return Message(offset, value, **fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "in-flight"


@pytest.fixture
def worker(folder: Path) -> Worker:
    return Worker(folder)


def reasons(worker: Worker) -> dict[int, str]:
    return {
        sent.offset: (header(sent.headers, "alignstream.error.reason") or b"").decode()
        for sent in worker.broker.confirmed
        if sent.topic == DEAD_LETTERS
    }


def test_nothing_is_acknowledged_before_everything_of_its_batch_is_confirmed(worker: Worker) -> None:
    worker.work([good(0), bad(1), good(2)], [good(3)])
    kinds = [step[0] for step in worker.story]
    first_ack = kinds.index("ack")
    # Two vectors and a dead letter.
    assert kinds[:first_ack].count("confirm") == 3
    assert worker.acked == [0, 1, 2, 3]
    # The next batch is not begun before this one is acknowledged.
    assert worker.story.index(("send", VECTORS, 3)) > worker.story.index(("ack", 0, 2))


def test_outputs_are_sent_in_the_order_of_their_records(worker: Worker) -> None:
    worker.work([good(offset) if offset % 3 else bad(offset) for offset in range(12)])
    for topic in (VECTORS, DEAD_LETTERS):
        sent = [step[2] for step in worker.story if step[:2] == ("send", topic)]
        assert sent == sorted(sent)
    assert sorted(worker.confirmed(VECTORS) + worker.confirmed(DEAD_LETTERS)) == list(range(12))


def test_bad_records_are_dead_lettered_untouched_and_do_not_wait_for_each_other(worker: Worker) -> None:
    headers = (("a", b"1"), ("a", b"2"), ("null", None))
    worker.work([bad(offset, value=b"\xffraw", headers=headers, key=b"\x00key") for offset in range(3)])
    letters = [sent for sent in worker.broker.confirmed if sent.topic == DEAD_LETTERS]
    assert {letter.offset for letter in letters} == {0, 1, 2}
    for letter in letters:
        assert (letter.key, letter.value, letter.headers[:3]) == (b"\x00key", b"\xffraw", headers)
    assert [step[0] for step in worker.story[:3]] == ["send"] * 3


def test_a_failed_delivery_acknowledges_nothing_of_its_batch_and_ends_the_worker(worker: Worker) -> None:
    worker.broker.refuse = lambda sent: KafkaTimeoutError() if sent.offset == 1 else None
    with pytest.raises(KafkaTimeoutError):
        worker.work([good(0), good(1), good(2)])
    assert worker.acked == []
    assert worker.sample("alignstream_produce_errors_total", error="KafkaTimeoutError") == 1.0


def test_a_failed_dead_letter_acknowledges_nothing_either(worker: Worker) -> None:
    worker.broker.refuse = lambda sent: KafkaTimeoutError() if sent.topic == DEAD_LETTERS else None
    with pytest.raises(KafkaTimeoutError):
        worker.work([good(0), bad(1)])
    assert worker.acked == []


def test_a_tombstone_without_a_key_is_acknowledged_although_nothing_can_be_sent(worker: Worker) -> None:
    worker.work([Message(0, None), Message(1, None, key=None), good(2)])
    assert worker.acked == [0, 1, 2]
    assert sorted(worker.confirmed(VECTORS)) == [0, 2]
    assert worker.sample("alignstream_tombstones_total") == 2.0


def test_what_becomes_of_records_is_counted_once_it_is_confirmed(worker: Worker) -> None:
    worker.work([good(0), bad(1), bad(2, value=b"{}")])
    assert worker.sample("alignstream_records_consumed_total") == 3.0
    assert worker.sample("alignstream_records_published_total", topic=VECTORS) == 1.0
    assert worker.sample("alignstream_records_published_total", topic=DEAD_LETTERS) == 2.0
    assert worker.sample("alignstream_records_dead_lettered_total", reason="bad-utf8") == 1.0
    assert worker.sample("alignstream_inflight_records") == 0.0
    assert worker.sample("alignstream_end_to_end_latency_seconds_count") == 3.0


def test_a_record_without_a_timestamp_has_no_latency(worker: Worker) -> None:
    worker.work([good(0, timestamp=-0.001), good(1, timestamp=None)])
    assert worker.sample("alignstream_end_to_end_latency_seconds_count") == 0.0


def test_headers_with_repeated_names_and_none_at_all_are_taken_as_they_are() -> None:
    headers = (("a", b"1"), ("a", None))
    assert source_record(Event(Message(0, b"v", headers=headers))).headers == headers
    assert source_record(Event(Message(0, b"v", headers=None))).headers == ()


# -- crashes ------------------------------------------------------------------------------------------------


def test_after_a_death_its_records_go_alone_and_their_neighbours_together_in_order(folder: Path) -> None:
    CrashJournal(folder).start([(TOPIC, 0, 3), (TOPIC, 0, 4)], alone=False)
    worker = Worker(folder)
    worker.work([good(offset) for offset in range(8)])
    assert worker.n_batches == [3, 1, 1, 3]
    assert worker.acked == list(range(8))
    assert list(folder.iterdir()) == []


def worker_that_dies_of(offset: int, folder: Path) -> Worker:
    worker = Worker(folder)

    def kill(offsets: list[int]) -> None:
        if offset in offsets:
            raise Killed

    worker.before_run = kill
    return worker


def test_a_record_that_kills_the_worker_is_found_and_only_it_is_given_up(folder: Path) -> None:
    batch, acked = [good(offset) for offset in range(6)], set[int]()
    for _ in range(1 + CRASH_ATTEMPTS):
        left = [message for message in batch if message.offset not in acked]
        worker = worker_that_dies_of(2, folder)
        with pytest.raises(Killed):
            worker.work(left)
        acked.update(worker.acked)
    worker = worker_that_dies_of(2, folder)
    worker.work([message for message in batch if message.offset not in acked])
    assert reasons(worker) == {2: "inference-failed"}
    (letter,) = [sent for sent in worker.broker.confirmed if sent.topic == DEAD_LETTERS]
    assert header(letter.headers, "alignstream.error.attempts") == b"3"
    assert letter.value == batch[2].value
    assert acked | set(worker.acked) == set(range(6))
    assert list(folder.iterdir()) == []


def test_kills_while_the_broker_is_waited_for_condemn_nobody(folder: Path) -> None:
    """A broker that does not confirm, again and again, is not the doing of the record that waits for it."""
    for _ in range(10):
        worker = Worker(folder)
        worker.broker.refuse = lambda _: KafkaTimeoutError()
        with pytest.raises(KafkaTimeoutError):
            worker.work([good(0), good(1)])
    worker = Worker(folder)
    worker.work([good(0), good(1)])
    assert reasons(worker) == {}
    assert sorted(worker.confirmed(VECTORS)) == [0, 1]


def test_an_encoder_that_is_broken_for_everything_condemns_nobody(folder: Path) -> None:
    for _ in range(10):
        worker = Worker(folder)
        worker.encoder.is_broken = True
        with pytest.raises(EncoderFailed):
            worker.work([good(0), good(1)])
        assert worker.acked == []
    worker = Worker(folder)
    worker.work([good(0), good(1)])
    assert reasons(worker) == {}


def test_an_error_that_nobody_knows_counts_as_a_death(folder: Path) -> None:
    def fail(_: list[int]) -> None:
        raise RuntimeError("unknown")

    for _ in range(1 + CRASH_ATTEMPTS):
        worker = Worker(folder)
        worker.before_run = fail
        with pytest.raises(RuntimeError, match="unknown"):
            worker.work([good(0)])
    worker = Worker(folder)
    worker.before_run = fail
    worker.work([good(0)])
    assert reasons(worker) == {0: "inference-failed"}


def test_a_text_that_the_encoder_fails_on_costs_no_restart(worker: Worker) -> None:
    worker.work([good(0), bad(1, value=json.dumps({"text": POISON}).encode()), good(2)])
    assert reasons(worker) == {1: "inference-failed"}
    assert worker.acked == [0, 1, 2]


# -- too large ----------------------------------------------------------------------------------------------


def too_large(*topics: str, above_bytes: int = 0) -> Callable[[Sent], Exception | None]:
    def refuse(sent: Sent) -> Exception | None:
        is_refused = sent.topic in topics and len(sent.value or b"") > above_bytes
        return MessageSizeTooLargeError() if is_refused else None

    return refuse


def test_an_output_that_the_broker_refuses_as_too_large_goes_to_the_dead_letters_after_a_restart(
    folder: Path,
) -> None:
    """In a batch it cannot be told from its neighbours of the same request; alone it can."""
    batch = [good(0), Message(1, json.dumps({"text": "x", "metadata": "m" * 500}).encode()), good(2)]
    worker = Worker(folder)
    worker.broker.refuse = too_large(VECTORS, above_bytes=600)
    with pytest.raises(OutputRefused):
        worker.work(batch)
    assert worker.acked == []
    worker = Worker(folder)
    worker.broker.refuse = too_large(VECTORS, above_bytes=600)
    worker.work(batch)
    assert worker.n_batches == [1, 1, 1]
    assert reasons(worker) == {1: "output-too-large"}
    assert worker.acked == [0, 1, 2]
    assert worker.confirmed(VECTORS) == [0, 2]
    assert worker.sample("alignstream_records_dead_lettered_total", reason="output-too-large") == 1.0


def test_the_learner_sees_only_what_was_published_and_no_document_waits_for_it(worker: Worker) -> None:
    worker.work([good(0), bad(1), good(2)])
    assert worker.story.index(("offer", 2)) > worker.story.index(("confirm", VECTORS, 2))
    assert [item.origin.offset for item in worker.learner.taken] == [0, 2]
    worker.learner.is_away = True
    worker.work([good(3)])
    assert (sorted(worker.confirmed(VECTORS)), worker.acked) == ([0, 2, 3], [0, 1, 2, 3])
    assert reasons(worker) == {1: "bad-utf8"}


def test_what_people_teach_reaches_the_learner_first_or_becomes_a_dead_letter(folder: Path) -> None:
    worker = Worker(folder, is_taught=True)
    worker.work([good(0), bad(1)])
    assert worker.story.index(("deliver", 1)) < worker.story.index(("send", VECTORS, 0))
    worker.learner.is_away = True
    worker.work([good(2), good(3)], [bad(4)])
    assert reasons(worker) == {
        1: "bad-utf8", 2: "learner-unreachable", 3: "learner-unreachable", 4: "bad-utf8",
    }  # fmt: skip
    assert (worker.confirmed(VECTORS), worker.acked) == ([0], [0, 1, 2, 3, 4])


def test_another_failure_beside_a_refused_size_is_not_hidden_by_it(folder: Path) -> None:
    CrashJournal(folder).start([(TOPIC, 0, 0)], alone=False)
    worker = Worker(folder)
    labels = Message(0, json.dumps({"text": "x", "labels": ["a"]}).encode())
    worker.broker.refuse = lambda sent: (
        MessageSizeTooLargeError() if sent.topic == VECTORS else KafkaTimeoutError()
    )
    with pytest.raises(KafkaTimeoutError):
        worker.work([labels])
    assert worker.acked == []


def test_a_record_that_no_dead_letter_can_hold_is_replaced_by_its_digest(folder: Path) -> None:
    worker = Worker(folder, dead_letter_bytes=4_000)
    same: Headers = (("alignstream.error.reason", b"bad-utf8"), ("mine", b"1"))
    worker.work([bad(0, value=b"\xff" * 5_000, headers=same), bad(1), bad(2, key=b"k" * 5_000)])
    letters = {sent.offset: sent for sent in worker.broker.confirmed}
    body = json.loads(letters[0].value or b"")
    assert (body["length_bytes"], body["offset"]) == (5_000, 0)
    assert (letters[0].key, header(letters[0].headers, HEADER_REPLACED)) == (b"k", b"true")
    assert header(letters[0].headers, "alignstream.error.reason") == b"bad-utf8"
    assert header(letters[0].headers, "mine") is None
    assert (letters[1].value, header(letters[1].headers, HEADER_REPLACED)) == (b"\xff", None)
    assert letters[2].key is None


def test_a_dead_letter_that_the_broker_refuses_after_all_is_replaced_and_the_others_are_not(
    worker: Worker,
) -> None:
    worker.broker.refuse = too_large(DEAD_LETTERS, above_bytes=1_000)
    worker.work([bad(0), bad(1, value=b"\xff" * 5_000), bad(2)])
    letters = {sent.offset: sent for sent in worker.broker.confirmed}
    assert sorted(letters) == [0, 1, 2]
    assert [bool(header(letters[offset].headers, HEADER_REPLACED)) for offset in range(3)] == [
        False,
        True,
        False,
    ]
    assert worker.acked == [0, 1, 2]


def test_a_dead_letter_topic_that_refuses_everything_loses_nothing(worker: Worker) -> None:
    worker.broker.refuse = too_large(DEAD_LETTERS)
    with pytest.raises(OutputRefused, match="even the sha256"):
        worker.work([bad(0)])
    assert worker.acked == []


def test_one_catalogue_serves_a_whole_batch(worker: Worker) -> None:
    seen: list[Any] = []
    run = worker.pipeline.run

    def note(records: Any, catalogue: Any) -> Any:
        seen.append(catalogue)
        worker.catalogue = Catalogue(worker.catalogue.adapters, MappingProxyType({}))
        return run(records, catalogue)

    worker.pipeline.run = note  # type: ignore[method-assign]
    worker.work([good(0), good(1)], [good(2)])
    assert len(seen) == 2
    assert seen[0] is not seen[1]
