"""The claim on the epoch log: one owner writes, and what a former one writes late changes nothing for good."""

import asyncio
import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Awaitable, Sequence
from typing import Any

import numpy as np
import pytest

from alignstream.models.errors import Fenced
from alignstream.models.registry.layout import epoch_name
from alignstream.models.registry.memory_store import MemoryStore
from alignstream.models.serving import epoch as epochs
from alignstream.models.serving.epoch import Epoch, LabelExamples, Memory, TaggedVectors
from alignstream.streams.learner import epoch_topic
from alignstream.streams.learner.epoch_topic import EpochTopic
from alignstream.streams.learner.epoch_writer import EpochWriter
from alignstream.streams.learner.learning import FreezeChange, Opened
from alignstream.streams.settings import load
from alignstream.streams.wire.epoch_log import (
    HEADERS,
    EpochLog,
    Progress,
    StateV1,
    Summary,
    encode,
    part_key,
    state_key,
)
from alignstream.streams.wire.topics import Headers

PART = b"bytes of a state"
NAME = hashlib.sha256(PART).hexdigest()
KEY = state_key("encoder", "tenant")


@dataclasses.dataclass(frozen=True)
class Record:
    """One record of the topic."""

    key: bytes
    value: bytes | None
    headers: Headers
    offset: int


class Log:
    """A topic of one partition in memory, and the clients that read and write it."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Awaitable[Any]:
        assert topic == "epochs.v1"
        assert key is not None
        record = Record(key, value, headers, len(self.records))
        self.records.append(record)
        confirmed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        confirmed.set_result(record)
        return confirmed

    def compacted(self) -> EpochLog:
        """Return what is read once only the last record of each key is left."""
        log = EpochLog()
        last = {record.key: record for record in self.records}
        for record in sorted(last.values(), key=lambda item: item.offset):
            log.apply(record.key, record.value, record.headers)
        return log


class Reader:
    """What is used of a consumer."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = 0

    def assign(self, partitions: Sequence[object]) -> None:
        del partitions

    async def seek_to_beginning(self, *_: object) -> None:
        self._position = 0

    async def position(self, _: object) -> int:
        return self._position

    async def getmany(self, partition: object, timeout_ms: int) -> dict[object, list[Record]]:
        del timeout_ms
        found = self._log.records[self._position :]
        self._position = len(self._log.records)
        return {partition: found}

    async def stop(self) -> None: ...


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()

    async def open_reader(_: object) -> Reader:
        return Reader(found)

    monkeypatch.setattr(epoch_topic, "open_reader", open_reader)
    return found


def topic_of(log: Log, owner: str, *, lease_seconds: float = 3600.0) -> EpochTopic:
    topic = EpochTopic(load(), log.send, owner=owner)
    topic.lease_seconds = lease_seconds
    return topic


async def claim(topic: EpochTopic, *, is_wanted: bool = True) -> list[str]:
    """Open and claim the log; return whom it waited for."""
    waited: list[str | None] = []
    await topic.open()
    assert await topic.claim(waited.append, lambda: is_wanted)
    return [problem for problem in waited if problem is not None]


def state(term: int, *parts: str, position: int = 1) -> bytes:
    sections = {"core": list(parts)}
    return encode(
        StateV1(
            term=term, encoder="encoder", tenant="tenant", dim=2, position=position, sections=sections,
            summary=Summary(),
        )
    )  # fmt: skip


async def write_state(topic: EpochTopic) -> None:
    await topic.write_parts({NAME: PART})
    await topic.put(KEY, state(topic.term, NAME))


def test_one_that_does_not_renew_its_claim_loses_it_and_must_not_write_any_more(log: Log) -> None:
    async def run() -> None:
        first, second = topic_of(log, "first"), topic_of(log, "second", lease_seconds=0.01)
        assert await claim(first) == []
        await write_state(first)
        assert await claim(second) == ["another learner (first) is active"]
        assert (second.term, second.log.states["encoder", "tenant"].term) == (2, 1)
        with pytest.raises(Fenced, match="learner second has claimed"):
            await first.put(b"progress", encode(Progress(term=1, position=9)))
        assert first.term == 0
        await second.put(b"progress", encode(Progress(term=2, position=5)))
        assert second.log.progress is not None
        assert second.log.progress.position == 5

    asyncio.run(run())


def test_one_that_renews_its_claim_is_waited_for_as_long_as_somebody_wants_to(log: Log) -> None:
    async def run() -> None:
        first, second = topic_of(log, "first", lease_seconds=0.0), topic_of(log, "second")
        await claim(first)
        n_asked = 0

        def is_wanted() -> bool:
            nonlocal n_asked
            n_asked += 1
            return n_asked < 50

        async def renew() -> None:
            for _ in range(20):
                await first.renew()
                await asyncio.sleep(0)

        await second.open()
        claimed, _ = await asyncio.gather(second.claim(lambda _: None, is_wanted), renew())
        assert not claimed
        assert (first.term, second.term) == (1, 0)

    asyncio.run(run())


def test_of_two_that_claim_at_the_same_moment_one_has_the_log(log: Log) -> None:
    async def run() -> None:
        topics = [topic_of(log, name) for name in ("first", "second")]
        for topic in topics:
            await topic.open()
        turns = iter(range(20))
        claimed = await asyncio.gather(
            *(topic.claim(lambda _: None, lambda: next(turns, None) is not None) for topic in topics)
        )
        assert sorted(claimed) == [False, True]
        assert sorted(topic.term for topic in topics) == [0, 1]

    asyncio.run(run())


def test_a_claim_that_was_released_or_is_ones_own_is_not_waited_for(log: Log) -> None:
    async def run() -> None:
        first = topic_of(log, "first")
        await claim(first)
        again = topic_of(log, "first")
        assert await claim(again) == []
        # A copied state folder gives two learners one name; still only one of them writes.
        with pytest.raises(Fenced):
            await first.put(KEY, state(1))
        await again.release()
        assert again.term == 0
        assert await claim(topic_of(log, "second")) == []

    asyncio.run(run())


def test_one_that_was_held_up_looks_before_it_writes_anything(log: Log) -> None:
    async def run() -> None:
        first = topic_of(log, "first")
        await claim(first)
        await write_state(first)
        await claim(topic_of(log, "second", lease_seconds=0.01))
        first.lease_seconds = 0.0  # its time is up
        n_records = len(log.records)
        for write in (
            first.write_parts({NAME: None}),
            first.write(KEY, state(1)),
            first.put(KEY, state(1)),
            first.renew(),
        ):
            with pytest.raises(Fenced):
                await write
        await first.release()
        assert {record.key for record in log.records[n_records:]} <= {b"look"}

    asyncio.run(run())


def test_what_is_written_between_a_look_and_the_next_is_written_over_by_the_successor(log: Log) -> None:
    async def run() -> None:
        first, second = topic_of(log, "first"), topic_of(log, "second", lease_seconds=0.01)
        await claim(first)
        await write_state(first)
        await claim(second)
        await first.write_parts({NAME: None})
        await first.write(KEY, state(1))
        spoiled = log.compacted()
        assert (spoiled.reassembled([NAME]), spoiled.states) == (None, {})
        await second.renew()
        for found in (second.log, log.compacted()):
            assert found.reassembled([NAME]) == PART
            assert found.states["encoder", "tenant"].sections == {"core": [NAME]}
            assert not found.spoiled
        # A third reads the same, although the claim that fenced the first stands behind all by now.
        await second.renew()
        third = topic_of(log, "second")
        await claim(third)
        assert third.log.reassembled([NAME]) == PART
        assert third.log.states["encoder", "tenant"].sections == {"core": [NAME]}

    asyncio.run(run())


def test_what_was_written_late_while_nobody_worked_is_put_right_by_the_next_claim(log: Log) -> None:
    async def run() -> None:
        first, second = topic_of(log, "first"), topic_of(log, "second", lease_seconds=0.01)
        await claim(first)
        await write_state(first)
        await claim(second)
        await second.release()
        await first.write_parts({NAME: None})
        await first.write(KEY, state(1))
        await claim(topic_of(log, "third"))
        assert log.compacted().reassembled([NAME]) == PART
        assert log.compacted().states["encoder", "tenant"].sections == {"core": [NAME]}

    asyncio.run(run())


def test_a_part_that_was_just_removed_is_not_taken_for_one_that_is_there(log: Log) -> None:
    async def run() -> None:
        topic = topic_of(log, "first")
        await claim(topic)
        await write_state(topic)
        await topic.write_parts({NAME: None})
        assert NAME not in topic.log.parts
        await topic.put(KEY, state(1))  # reads the removal
        assert NAME not in topic.log.parts

    asyncio.run(run())


def test_decisions_that_are_carried_out_again_after_a_crash_change_nothing(log: Log) -> None:
    nothing = np.zeros((0, 2), dtype=np.float16)
    rows = TaggedVectors(nothing, ())
    place = ("encoder", "tenant")

    def opened(number: int, offset: int) -> Opened:
        epoch = Epoch(
            encoder="encoder", tenant="tenant", number=number, dim=2, reason="doubling", languages=(),
            means=np.zeros((0, 2), dtype=np.float32), weights=(), dependence=1.0, n_keys=0, is_steady=True,
            bank=rows, memory=Memory(rows, rows, (), ()), examples=LabelExamples(rows, (), ()),
        )  # fmt: skip
        return Opened(epoch, (100 + offset, offset))

    decisions = [
        opened(1, 1),
        opened(2, 2),
        FreezeChange(place, (103, 3), is_frozen=True, number=1),
        FreezeChange(place, (104, 4), is_frozen=False),
        opened(3, 5),
        FreezeChange(place, (106, 6), is_frozen=True, number=77),
    ]

    async def run() -> None:
        topic = topic_of(log, "first")
        await claim(topic)
        store = MemoryStore()

        def served() -> int:
            pointer = store.pointer("epoch", epoch_name(*place))
            assert pointer is not None
            return epochs.from_bytes(
                store.blob("epoch", pointer.name, pointer.sha256), encoder="encoder"
            ).number

        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            writer = EpochWriter(topic, store, executor)
            numbers = []
            for decision in [*decisions, *decisions]:
                if isinstance(decision, Opened):
                    await writer.open(decision)
                else:
                    await writer.freeze(decision)
                known = topic.log.epochs[place]
                assert served() == known.current.number
                numbers.append((known.current.number, known.is_frozen))
            # The topic was made anew: offsets begin again, and the time goes on.
            await writer.freeze(FreezeChange(place, (70_000, 1), is_frozen=False))
            assert not topic.log.epochs[place].is_frozen
        first, again = numbers[:6], numbers[6:]
        assert first == [(1, False), (2, False), (1, True), (1, False), (3, False), (3, True)]
        assert again == [(3, True)] * 6
        assert {version.number for version in topic.log.epochs[place].versions} == {1, 2, 3}

    asyncio.run(run())


def test_a_removal_of_unknown_origin_counts_only_while_nobody_has_claimed() -> None:
    log = EpochLog()
    log.apply(part_key(NAME), PART, HEADERS)
    log.apply(b"claim", b'{"term": 1, "owner": "first"}')
    log.apply(part_key(NAME), None, HEADERS)
    assert log.parts == {NAME: PART}
    assert (log.n_fenced, log.spoiled) == (1, {part_key(NAME)})
