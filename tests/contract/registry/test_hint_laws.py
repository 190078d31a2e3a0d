"""A hint wakes whoever waits for one, and a wait ends in its time, whatever Redis does."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from bounded import wait_until
from registry_places import BLOB, BOUND_SECONDS, Place, Server, opened, seconds_of


def test_a_hint_follows_each_publish_and_move(place: Place) -> None:
    assert place.reader.wait_for_hint(0) is False
    pointer = place.writer.publish("adapter", "default", BLOB)
    assert place.reader.wait_for_hint(5) is True
    place.writer.move("adapter", "default", pointer.version)
    assert place.reader.wait_for_hint(5) is True
    assert place.reader.wait_for_hint(0.05) is False


def test_what_came_before_the_first_call_is_not_told(place: Place) -> None:
    place.writer.publish("adapter", "default", BLOB)
    assert place.reader.wait_for_hint(0.1) is False


def test_a_hint_wakes_a_waiting_thread_at_once(place: Place) -> None:
    place.reader.wait_for_hint(0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.reader.wait_for_hint, 20)
        took = seconds_of(lambda: (place.writer.publish("labels", "topics", BLOB), waiting.result(20)))
    assert waiting.result() is True
    assert took < 2


def test_many_hints_between_two_calls_are_one(place: Place) -> None:
    place.reader.wait_for_hint(0)
    for _ in range(5):
        place.writer.publish("adapter", "default", BLOB)
    n_told = 0
    # The last ones may still be on their way when the first are told.
    while place.reader.wait_for_hint(5 if n_told == 0 else 0.3):
        n_told += 1
    assert 1 <= n_told < 5


def test_without_a_hint_the_wait_lasts_its_time(place: Place) -> None:
    place.reader.wait_for_hint(0)
    assert 0.65 <= seconds_of(lambda: place.reader.wait_for_hint(0.7)) < 1.5


def test_closing_ends_the_wait(place: Place) -> None:
    place.reader.wait_for_hint(0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.reader.wait_for_hint, 30)
        wait_until(waiting.running, "a thread waits for a hint", poll_seconds=0.01)
        assert seconds_of(place.reader.close) < BOUND_SECONDS
        assert waiting.result(BOUND_SECONDS) is False


def test_waiting_for_a_hint_survives_a_restart(own_server: Server) -> None:
    with opened(own_server.url) as reader, opened(own_server.url) as writer:
        assert reader.wait_for_hint(0) is False
        own_server.kill()
        used = time.process_time()
        took = seconds_of(lambda: reader.wait_for_hint(1.5))
        assert 1.4 <= took < 1.5 + BOUND_SECONDS
        assert time.process_time() - used < 0.5  # it waits, and does not spin
        assert reader.wait_for_hint(0) is False
        own_server.start()
        # A hint may have been missed in between, so the reader is told to look, once.
        assert reader.wait_for_hint(5) is True
        assert reader.wait_for_hint(0.1) is False
        writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True


def test_waiting_for_a_hint_starts_without_redis(own_server: Server) -> None:
    own_server.kill()
    with opened(own_server.url) as reader, opened(own_server.url) as writer:
        assert 0.6 <= seconds_of(lambda: reader.wait_for_hint(0.7)) < 0.7 + BOUND_SECONDS
        own_server.start()
        assert reader.wait_for_hint(5) is True  # connected: look, something may be there already
        assert reader.wait_for_hint(0.1) is False
        writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True


def test_waiting_for_a_hint_outlasts_a_frozen_redis(server: Server) -> None:
    with opened(server.url) as fresh, opened(server.url) as reader, opened(server.url) as writer:
        reader.wait_for_hint(0)
        with server.frozen():
            used = time.process_time()
            assert 0.9 <= seconds_of(lambda: reader.wait_for_hint(1.0)) < 1.0 + BOUND_SECONDS
            assert seconds_of(lambda: fresh.wait_for_hint(0.2)) < 0.2 + BOUND_SECONDS
            assert time.process_time() - used < 0.5
        writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True


def test_a_subscription_that_answers_no_ping_is_given_up(server: Server) -> None:
    with opened(server.url) as reader:
        reader.wait_for_hint(0)
        with server.frozen():
            deadline = time.monotonic() + 10
            while reader._subscription is not None:
                assert time.monotonic() < deadline, "the subscription was not given up within 10 s"
                connection: Any = reader._subscription.connection
                connection.next_health_check = 0.0  # as if 15 s had passed
                reader.wait_for_hint(0.05)
        assert reader.wait_for_hint(5) is True
        assert reader.wait_for_hint(0.1) is False


def test_an_idle_subscription_is_kept_by_its_pings(server: Server) -> None:
    with opened(server.url) as reader:
        reader.wait_for_hint(0)
        kept = reader._subscription
        assert kept is not None
        connection: Any = kept.connection
        for _ in range(10):
            connection.next_health_check = 0.0
            assert reader.wait_for_hint(0.02) is False
        assert reader._subscription is kept


def test_a_subscription_that_is_cut_at_once_each_time_is_no_busy_loop(server: Server) -> None:
    with opened(server.url) as reader, redis.Redis.from_url(server.url) as raw:
        reader.wait_for_hint(0)
        n_true = 0
        deadline = time.monotonic() + 2.2
        while time.monotonic() < deadline:
            raw.client_kill_filter(_type="pubsub")
            n_true += reader.wait_for_hint(0.3)
        assert 1 <= n_true <= 6
