"""Every bug of the pinned Faust that our transport mends: present there, absent here.

A test that fails on the first half tells that an upgrade mended it: then the override can go.
"""

import asyncio
import importlib.metadata
import inspect
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import faust.streams
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.producer.sender import Sender
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

from alignstream.streams.kafka.transport import SCHEME, App, Consumer, ConsumerThread, TransportOptions

TOPIC = "documents.v1"
PLACE = TP(TOPIC, 0)
PINNED = ("faust-streaming", "mode-streaming", "aiokafka")
NOBODY = "127.0.0.1:1"


class Thread:
    """Stands where the thread that talks to the broker would: no broker in these tests."""

    def __init__(self) -> None:
        self.committed: list[Mapping[TP, int]] = []
        self.answer = True
        self.before_answer: Callable[[], Awaitable[None]] | None = None

    def assignment(self) -> set[TP]:
        return {PLACE}

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.committed.append(dict(offsets))
        if self.before_answer is not None:
            wait, self.before_answer = self.before_answer, None
            await wait()
        return self.answer


async def flush() -> None:
    """Stand where the producer would wait for its deliveries."""


class Side:
    """A consumer of one kind, ours or theirs, on a thread that only notes commits."""

    def __init__(self, *, ours: bool, idempotence: bool = False, read_committed: bool = False) -> None:
        options = {"web_enabled": False, "stream_wait_empty": True}
        if ours:
            self.app: Any = App("pins", broker=f"{SCHEME}://{NOBODY}", **options)
            self.app.transport_options = TransportOptions(
                idempotence=idempotence, read_committed=read_committed
            )
        else:
            self.app = faust.App("pins", broker=f"kafka://{NOBODY}", **options)
        self.app.topics._acking_topics.add(TOPIC)
        self.consumer: Any = self.app.transport.create_consumer(
            callback=flush,
            on_partitions_revoked=self._wait_for_streams,
            on_partitions_assigned=self._assigned,
        )
        self.app._consumer = self.consumer
        self.app._producer = SimpleNamespace(flush=flush)
        self.real_thread = self.consumer._thread
        self.thread = self.consumer._thread = Thread()

    async def _wait_for_streams(self, _: set[TP]) -> None:
        # What App does on a revocation, as far as commits go.
        await self.consumer.wait_empty()

    async def _assigned(self, *_: object) -> None:
        pass

    def take(self, *offsets: int) -> list[ConsumerMessage]:
        """Fetch records and hand them to a stream, as the conductor does."""
        messages = []
        for offset in offsets:
            record = SimpleNamespace(
                topic=TOPIC, partition=0, offset=offset, timestamp=0, timestamp_type=0, headers=(),
                key=None, value=b"", checksum=None, serialized_key_size=0, serialized_value_size=0,
            )  # fmt: skip
            message = self.consumer._to_message(PLACE, record)
            message.incref()
            self.consumer.track_message(message)
            messages.append(message)
        return messages

    def ack(self, *messages: Message) -> None:
        for message in messages:
            message.ack(self.consumer)

    def close(self) -> None:
        self.real_thread.thread_loop.close()


Make = Callable[..., Side]


@pytest.fixture
def make() -> Iterator[Make]:
    sides: list[Side] = []

    def new(**options: bool) -> Side:
        sides.append(Side(**options))
        return sides[-1]

    yield new
    for side in sides:
        side.close()


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))  # type: ignore[arg-type]


def test_the_versions_that_these_tests_look_into_are_pinned_exactly() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = {item.replace("[snappy,lz4,zstd]", "") for item in project["dependencies"]}
    for name in PINNED:
        assert f"{name}=={importlib.metadata.version(name)}" in wanted


def test_the_compiled_stream_iterator_is_in_use() -> None:
    """The Python one acknowledges what it skips in a rebalance, unprocessed."""
    assert faust.streams._CStreamIterator is not None
    assert "event is not None and (do_ack or value is skipped_value)" in inspect.getsource(
        faust.streams.Stream._py_aiter
    )


# -- 1. commits that jump over a record in hand (issue 606) -------------------------------------------------


@pytest.mark.parametrize(
    ("committed", "in_hand", "done", "theirs"), [(10, [10], [11, 12], 13), (None, [0, 1, 2, 3, 4], [5, 6], 7)]
)
def test_a_commit_never_jumps_over_a_record_in_hand(
    make: Make, committed: int | None, in_hand: list[int], done: list[int], theirs: int
) -> None:
    async def scene() -> None:
        for ours in (False, True):
            side = make(ours=ours)
            side.consumer._committed_offset[PLACE] = committed
            side.take(*in_hand)
            side.ack(*side.take(*done))
            assert side.consumer._new_offset(PLACE) == (None if ours else theirs)

    run(scene)


def test_offsets_that_do_not_exist_are_passed_without_being_listed(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        side.ack(*side.take(3, 7, 1_000_000_000))
        assert side.consumer._new_offset(PLACE) == 1_000_000_001
        await side.consumer._add_gap(PLACE, 4, 999_999_999)
        assert not side.consumer._gap[PLACE]

    run(scene)


def test_records_sought_back_and_read_again_are_committed_once(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        first = side.take(5, 6, 7)
        side.ack(*first[:2])
        await side.consumer.commit()
        again = side.take(7, 8)
        side.ack(*again, first[2])
        await side.consumer.commit()
        assert side.thread.committed == [{PLACE: 7}, {PLACE: 9}]
        assert await side.consumer.commit() is False

    run(scene)


def test_what_is_acknowledged_is_not_kept_for_ever(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        for start in range(0, 500, 100):
            side.ack(*side.take(*range(start, start + 100)))
            await side.consumer.commit()
        assert side.consumer._acked[PLACE] == []
        assert side.consumer._acked_index[PLACE] == set()
        assert side.consumer.low_water[PLACE].n_pending == 0

    run(scene)


# -- 2. failed commits noted as done (issue 316) ------------------------------------------------------------


def test_a_commit_that_failed_is_not_noted_as_done(make: Make) -> None:
    async def scene() -> None:
        for ours in (False, True):
            side = make(ours=ours)
            side.thread.answer = False
            side.ack(*side.take(0, 1))
            assert not await side.consumer.commit()
            assert side.consumer._committed_offset[PLACE] == (None if ours else 2)
            side.thread.answer = True
            await side.consumer.commit()
            assert side.consumer._committed_offset[PLACE] == 2
            assert len(side.thread.committed) == (2 if ours else 1)

    run(scene)


def test_a_partition_that_is_no_longer_ours_is_not_committed(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        side.ack(*side.take(0))
        side.thread.assignment = set  # type: ignore[method-assign]
        assert not await side.consumer.commit()
        assert side.thread.committed == []

    run(scene)


# -- 3. revocations that forget -----------------------------------------------------------------------------


def test_a_revocation_commits_what_was_done_before_it_forgets(make: Make) -> None:
    async def scene() -> None:
        for ours in (False, True):
            side = make(ours=ours)
            side.ack(*side.take(0, 1))
            side.take(2)[0].ack(side.consumer)
            await side.consumer.on_partitions_revoked({PLACE})
            assert side.thread.committed == ([{PLACE: 3}] if ours else [])

    run(scene)


def test_a_revocation_waits_for_what_is_in_hand(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        (message,) = side.take(0)
        task = asyncio.ensure_future(side.consumer.on_partitions_revoked({PLACE}))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        assert not side.consumer.flow_active
        side.ack(message)
        await task
        assert side.thread.committed == [{PLACE: 1}]
        assert PLACE not in side.consumer.low_water

    run(scene)


def test_a_commit_under_way_does_not_swallow_the_last_one(make: Make) -> None:
    """Faust's commit, called while another is under way, waits for that one and makes none of its own."""

    async def scene() -> None:
        for ours in (False, True):
            side = make(ours=ours)
            side.ack(*side.take(0))
            (late,) = side.take(1)
            started, may_end = asyncio.Event(), asyncio.Event()

            async def hold(started: asyncio.Event = started, may_end: asyncio.Event = may_end) -> None:
                started.set()
                await may_end.wait()

            side.thread.before_answer = hold
            background = asyncio.ensure_future(side.consumer.commit())
            await started.wait()
            side.ack(late)
            waiting = asyncio.ensure_future(
                side.consumer.on_partitions_revoked({PLACE}) if ours else side.consumer.wait_empty()
            )
            for _ in range(20):
                await asyncio.sleep(0)
            may_end.set()
            await asyncio.gather(background, waiting)
            assert side.thread.committed == ([{PLACE: 1}, {PLACE: 2}] if ours else [{PLACE: 1}])

    run(scene)


def test_an_assignment_starts_afresh(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        side.take(0, 1)
        await side.consumer.on_partitions_assigned({PLACE}, 2)
        side.ack(*side.take(0, 1))
        assert side.consumer._new_offset(PLACE) == 2

    run(scene)


# -- 4. idempotence and read_committed only with transactions -----------------------------------------------


@pytest.mark.parametrize("idempotence", [True, False])
def test_idempotent_producing_is_a_switch_of_its_own(make: Make, *, idempotence: bool) -> None:
    async def scene() -> None:
        assert make(ours=False).app.transport.create_producer()._settings_extra() == {}
        extra = make(ours=True, idempotence=idempotence).app.transport.create_producer()._settings_extra()
        assert extra == {"acks": "all", **({"enable_idempotence": True} if idempotence else {})}

    run(scene)


@pytest.mark.parametrize("read_committed", [True, False])
def test_read_committed_is_a_switch_of_its_own(make: Make, *, read_committed: bool) -> None:
    async def scene() -> None:
        for ours in (False, True):
            side = make(ours=ours, read_committed=read_committed)
            consumer = side.real_thread._create_worker_consumer(side.app.transport)
            consumer._closed = True  # never started: nothing to close
            expected = "read_committed" if ours and read_committed else "read_uncommitted"
            assert consumer._isolation_level == expected

    run(scene)
    # Set after the constructor: it counts only if it is read at the start.
    assert "isolation_level=self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)


# -- 5. where a partition stands ----------------------------------------------------------------------------


def placed(side: Side, *, position: int | None, highwater: int | None, lso: int | None) -> ConsumerThread:
    """Give the real thread a real subscription state without a broker behind it."""
    subscription = SubscriptionState()
    subscription.assign_from_user({PLACE})
    state = subscription.subscription.assignment.state_value(PLACE)
    if position is not None:
        state.seek(position)
    state.highwater, state.lso = highwater, lso
    thread = side.real_thread
    thread._consumer = SimpleNamespace(_subscription=subscription)
    side.consumer._thread = thread
    return thread  # type: ignore[no-any-return]


def test_a_transactions_marker_or_an_expired_record_leaves_nothing_waiting(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        side.ack(*side.take(98, 99))
        placed(side, position=101, highwater=101, lso=None)
        consumer: Consumer = side.consumer
        assert consumer._new_offset(PLACE) == 100
        assert (consumer.done(PLACE), consumer.highwater(PLACE)) == (101, 101)
        side.take(101)
        assert consumer.done(PLACE) == 101
        nowhere = make(ours=True)
        placed(nowhere, position=None, highwater=None, lso=None)
        assert (nowhere.consumer.done(PLACE), nowhere.consumer.highwater(PLACE)) == (None, None)

    run(scene)


@pytest.mark.parametrize(("read_committed", "expected"), [(True, 60), (False, 90)])
def test_what_an_open_transaction_hides_does_not_wait_for_us(
    make: Make, *, read_committed: bool, expected: int
) -> None:
    async def scene() -> None:
        side = make(ours=True, read_committed=read_committed)
        assert placed(side, position=60, highwater=90, lso=60).highwater(PLACE) == expected
        assert placed(side, position=60, highwater=90, lso=-1).highwater(PLACE) == 90

    run(scene)


def test_a_partition_that_was_just_lost_has_no_place_and_raises_nothing(make: Make) -> None:
    async def scene() -> None:
        side = make(ours=True)
        thread = placed(side, position=1, highwater=2, lso=None)
        other = TP(TOPIC, 7)
        assert (thread.highwater(other), thread.fetched(other)) == (None, None)
        thread._consumer = SimpleNamespace(_subscription=SubscriptionState())
        assert (thread.highwater(PLACE), thread.fetched(PLACE)) == (None, None)

    run(scene)


def test_fausts_stall_check_compares_two_clocks_and_is_off_here(make: Make) -> None:
    source = inspect.getsource(driver.AIOKafkaConsumerThread._verify_aiokafka_event_path)
    assert "aiotp_state.timestamp / 1000" in source  # since 1970
    assert "secs_since_request = now - poll_at" in source  # now: monotonic

    async def scene() -> None:
        make(ours=True).consumer.verify_event_path(time.monotonic(), PLACE)

    run(scene)


# -- what the agent builds on -------------------------------------------------------------------------------


def test_a_raw_topic_hands_over_any_bytes_and_null_as_they_are(make: Make) -> None:
    async def scene() -> None:
        app = make(ours=True).app
        topic = app.topic(
            TOPIC, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        for content in (b"\xff\x00", b"", b"{}", None):
            message = Message(TOPIC, 0, 0, 0.0, 0, (("a", b"1"), ("a", None)), content, content, None)
            event = await topic.decode(message, propagate=True)
            assert (event.message.key, event.message.value) == (content, content)
            assert event.value == content
            assert event.message.headers == (("a", b"1"), ("a", None))

    run(scene)


def code_of(function: object) -> str:
    lines = inspect.getsource(function).splitlines()  # type: ignore[arg-type]
    return "\n".join(line for line in lines if not line.strip().startswith("#"))


def test_taking_without_acknowledging_acknowledges_nothing_and_take_does() -> None:
    noack = code_of(faust.Stream.noack_take)
    assert "self.enable_acks = False" in noack
    assert "self.ack(" not in noack
    assert "await self.ack(event)" in code_of(faust.Stream.take)


def test_the_client_refuses_a_null_value_under_a_null_key() -> None:
    """Why the pipeline passes such a tombstone on to nobody."""

    async def send() -> None:
        await AIOKafkaProducer.send(object(), "topic", None, None)

    with pytest.raises(AssertionError, match="key or value"):
        asyncio.run(send())


def test_the_producer_keeps_one_request_a_partition_in_flight_so_that_order_holds() -> None:
    source = code_of(Sender._sender_routine)
    assert "muted_partitions=muted_partitions" in source
    assert "self._muted_partitions.add(tp)" in source


# -- 5. a crash waits for what it left unfinished ------------------------------------------------------------


def test_what_a_crash_left_unfinished_is_not_waited_for(make: Make) -> None:
    async def scene() -> None:
        for ours in (False, True):
            side = make(ours=ours)
            in_hand = side.take(0, 1)  # the name keeps them alive, as the traceback of a crash does
            side.ack(in_hand[0])
            leaving = asyncio.ensure_future(side.consumer.wait_empty())
            await asyncio.sleep(0)
            await side.app.crash(RuntimeError("a crash"))
            _, waiting = await asyncio.wait([leaving], timeout=15 if ours else 1.5)
            assert bool(waiting) is not ours
            leaving.cancel()
            assert side.thread.committed[-1] == {PLACE: 1}

    run(scene)
