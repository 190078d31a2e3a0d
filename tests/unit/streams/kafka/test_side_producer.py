"""What a topic that cannot be written costs: what was for it, and nothing else."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from child_servers import until

from alignstream.streams.kafka.side_producer import SideProducer

HEADERS = (("schema", b"x/1"),)


class Sent:
    """A delivery that a test confirms or fails."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.confirm: Callable[[object], None]
        self.fail: Callable[[BaseException], None]

    def add_callback(self, call: Callable[[object], None]) -> None:
        self.confirm = call

    def add_errback(self, call: Callable[[BaseException], None]) -> None:
        self.fail = call


class Client:
    """Notes what is sent; raises what a test says."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_flushed = False

    def send(self, topic: str, *, value: bytes, headers: Any) -> Sent:
        assert (topic, headers) == ("side", list(HEADERS))
        assert self.gate.wait(20), "the test opens the gate"
        if self.error is not None:
            raise self.error
        self.sent.append(Sent(value))
        return self.sent[-1]

    def flush(self, timeout: float | None = None) -> None:
        assert timeout is None
        self.is_flushed = True

    def close(self, timeout: float | None = None) -> None:
        assert timeout == 0


class Scene:
    """A producer whose client can be opened only after a number of failures."""

    def __init__(self, *, max_bytes: int = 100, n_refusals: int = 0) -> None:
        self.client = Client()
        self.dropped: list[str] = []
        self.n_refusals = n_refusals
        self.producer = SideProducer(
            self._open, "side", HEADERS, on_drop=self.dropped.append, max_bytes=max_bytes
        )
        self.producer.start()

    def _open(self) -> Any:
        if self.n_refusals > 0:
            self.n_refusals -= 1
            raise OSError("no broker")
        return self.client

    def sent(self, number: int) -> Sent:
        until(lambda: len(self.client.sent) > number)
        until(lambda: hasattr(self.client.sent[number], "fail"))
        return self.client.sent[number]


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.client.gate.set()
    made.producer.close(5)


def test_values_are_sent_in_order_and_their_bytes_are_free_once_confirmed(scene: Scene) -> None:
    scene.producer.offer([b"a" * 40, b"b" * 40])
    assert [scene.sent(0).value[:1], scene.sent(1).value[:1]] == [b"a", b"b"]
    assert scene.producer.held_bytes == 80
    scene.sent(0).confirm(None)
    assert scene.producer.held_bytes == 40
    assert scene.dropped == []


def test_what_is_offered_beyond_the_bound_is_dropped_at_once_and_counted(scene: Scene) -> None:
    scene.client.gate.clear()  # a client that blocks, as one without metadata does
    scene.producer.offer([b"x" * 60, b"y" * 60, b"z" * 40, b"w"])
    assert scene.dropped == ["full", "full"]
    assert scene.producer.held_bytes == 100


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("odd"), MemoryError(), RuntimeError()])
def test_no_error_of_the_client_reaches_who_offers_or_ends_the_thread(scene: Scene, error: Exception) -> None:
    scene.client.error = error
    (confirmed,) = scene.producer.deliver([b"v"])
    assert confirmed.result(20) is False
    scene.client.error = None
    (again,) = scene.producer.deliver([b"w"])
    scene.sent(0).confirm(None)
    assert again.result(20) is True
    assert (scene.dropped, scene.producer.held_bytes) == (["failed"], 0)


def test_a_delivery_that_fails_later_is_dropped_and_counted(scene: Scene) -> None:
    scene.producer.offer([b"v"])
    scene.sent(0).fail(TimeoutError("30 s"))
    assert (scene.dropped, scene.producer.held_bytes) == (["failed"], 0)


def test_a_broker_that_is_away_costs_values_until_it_is_back() -> None:
    scene = Scene(n_refusals=2)
    results = scene.producer.deliver([b"1", b"2", b"3"])
    assert [confirmed.result(20) for confirmed in results[:2]] == [False, False]
    scene.sent(0).confirm(None)
    assert results[2].result(20) is True
    scene.producer.close(5)
    assert scene.client.is_flushed


def test_who_stops_waiting_does_not_end_the_thread(scene: Scene) -> None:
    scene.client.gate.clear()
    (given_up,) = scene.producer.deliver([b"v"])

    async def wait() -> None:
        await asyncio.wait_for(asyncio.wrap_future(given_up), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
    scene.client.error = OSError("gone")
    scene.client.gate.set()
    until(lambda: scene.dropped == ["failed"])
    scene.client.error = None
    (later,) = scene.producer.deliver([b"w"])
    scene.sent(0).confirm(None)
    assert later.result(20) is True


def test_the_end_waits_for_what_was_offered_but_not_for_ever(scene: Scene) -> None:
    scene.producer.offer([b"last"])
    scene.producer.close(5)
    assert ([sent.value for sent in scene.client.sent], scene.client.is_flushed) == ([b"last"], True)
    stuck = Scene()
    stuck.client.gate.clear()
    stuck.producer.offer([b"never"])
    stuck.producer.close(0.1)
    stuck.client.gate.set()


def test_a_topic_that_is_away_is_said_once_a_minute(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.client.error = OSError("no leader")
    for confirmed in scene.producer.deliver([b"v"] * 50):
        assert confirmed.result(20) is False
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "records for side are dropped (OSError: no leader); documents go on without it"
