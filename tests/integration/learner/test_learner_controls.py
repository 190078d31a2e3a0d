"""What people and clocks ask of the learner, through the topic of observations; and what it keeps while it works."""

import contextlib
import dataclasses
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import kafka
import pytest
from bounded import wait_until
from running_learner import (
    ENCODER,
    SETTLE_SECONDS,
    Ledger,
    Observer,
    StartLearner,
    adapter_of,
    assert_equal_to_undisturbed,
    assert_whole,
    committed_observations,
    compacted,
    example,
    learners,
    pair,
    text,
)
from running_service import SESSION_TIMEOUT_SECONDS, metric
from started_servers import start_redis

from alignstream.models.registry.layout import epoch_name
from alignstream.models.registry.store import Store
from alignstream.models.serving import epoch as epochs
from alignstream.models.serving.epoch import Epoch
from alignstream.ops.admin.registry import push_adapter
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.client.connection import kafka_options
from alignstream.ops.local.brokers import Broker
from alignstream.ops.local.supervised import Worker
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.epoch_log import (
    CLAIM_KEY,
    HEADERS,
    PROGRESS_KEY,
    Claim,
    Progress,
    StateV1,
    TenantKey,
    encode,
    part_key,
    state_key,
    term_header,
)
from alignstream.streams.wire.observations import Action, Observed
from alignstream.streams.wire.topics import EPOCHS, OBSERVATIONS

on_kafka = pytest.mark.parametrize(
    "broker", [pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True, scope="session"
)


@dataclasses.dataclass
class Told:
    """A learner that many tests tell something, each for a tenant and a source partition of its own."""

    settings: Settings
    process: Worker
    observer: Observer
    ledger: Ledger
    store: Store
    partition: int = 0

    @property
    def tenant(self) -> str:
        """Whose state this test changes."""
        return f"tenant-{self.partition}"

    @property
    def tenant_key(self) -> TenantKey:
        """The same with the encoder."""
        return ENCODER, self.tenant

    def texts(self, start: int, stop: int) -> int:
        """Observe texts of the tenant; return the offset."""
        return self.observer.texts(start, stop, tenant=self.tenant, partition=self.partition)

    def feedback(self, make: Callable[..., Observed], start: int, *names: str) -> int:
        """Observe pairs or examples of these names; return the offset."""
        options = {"tenant": self.tenant, "partition": self.partition}
        return self.observer.observe(
            [make(number, name, **options) for number, name in enumerate(names, start)]
        )

    def ask(self, action: Action, **fields: Any) -> int:
        """Ask for something for the tenant, and wait until it is in the log."""
        offset = self.observer.control(action, tenant=self.tenant, **fields)
        self.ledger.wait_until_read(offset)
        return offset

    def served(self) -> Epoch | None:
        """Return what Redis gives workers."""
        pointer = self.store.pointer("epoch", epoch_name(*self.tenant_key))
        if pointer is None:
            return None
        return epochs.from_bytes(self.store.blob("epoch", pointer.name, pointer.sha256), encoder=ENCODER)

    def wait_until_served(self, number: int) -> Epoch:
        """Wait until an epoch or a later one is in Redis, and return it."""

        def is_served() -> bool:
            found = self.served()
            return found is not None and found.number >= number

        wait_until(is_served, f"epoch {number} is in Redis", SETTLE_SECONDS)
        found = self.served()
        assert found is not None
        return found


@contextlib.contextmanager
def told(settings: Settings, process: Worker) -> Iterator[Told]:
    """Give what tells a learner that runs."""
    with (
        contextlib.closing(Observer(settings, ENCODER)) as observer,
        contextlib.closing(Ledger(settings)) as ledger,
        contextlib.closing(open_store(settings)) as store,
    ):
        yield Told(settings, process, observer, ledger, store)


@pytest.fixture(scope="module")
def shared(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("learner")
    prefix = f"s{uuid.uuid4().hex[:12]}."
    with start_redis(folder / "redis") as server, learners(folder) as start:
        values = {
            "broker": broker.address,
            "redis_url": server.url,
            "topic_prefix": prefix,
            "learner_group": f"{prefix}learner",
            "checkpoint_seconds": 0.1,
            "metrics_port": 0,
            "log_format": "text",
            "session_timeout_seconds": SESSION_TIMEOUT_SECONDS,
        }
        settings = load(**values | broker.settings)
        create_topics(settings)
        push_adapter(settings, "default", adapter_of(ENCODER).blob)
        with told(settings, start(settings)) as found:
            yield found


partitions = itertools.count(1)


@pytest.fixture
def learner(shared: Told) -> Told:
    """Give the module's learner, with a tenant of this test alone."""
    return dataclasses.replace(shared, partition=next(partitions))


def test_people_freeze_go_back_publish_reset_and_forget(learner: Told) -> None:
    ledger, tenant_key = learner.ledger, learner.tenant_key
    learner.texts(0, 64)
    learner.wait_until_served(2)
    learner.ask("rollback", epoch=1)
    first = learner.wait_until_served(1)
    assert ledger.log.epochs[tenant_key].is_frozen

    # It learns on, and nothing comes in between until somebody thaws it; not even what is asked for by hand.
    learner.texts(64, 300)
    learner.feedback(pair, 0, "kept", "regretted")
    learner.feedback(example, 0, "a")
    learner.ask("publish")
    learner.ask("tick")
    assert ledger.log.states[tenant_key].summary.n_texts == 300
    assert ledger.log.states[tenant_key].summary.is_frozen
    assert ledger.numbers(tenant_key) == [1, 2, 1]
    still = learner.served()
    assert still is not None
    assert still.sha256 == first.sha256

    # What it has learned meanwhile is due at once.
    learner.ask("thaw")
    assert ledger.numbers(tenant_key) == [1, 2, 1, 1, 3]
    assert learner.wait_until_served(3).memory.ids == ("kept", "regretted")
    assert not ledger.log.epochs[tenant_key].is_frozen

    learner.ask("forget-pair", pair_id="regretted")
    assert learner.wait_until_served(4).memory.ids == ("kept",)
    learner.ask("reset")
    fifth = learner.wait_until_served(5)
    assert (fifth.reason, len(fifth.languages), len(fifth.bank), fifth.memory.ids) == (
        "reset",
        0,
        0,
        ("kept",),
    )
    learner.texts(300, 310)
    learner.ask("publish", encoder=ENCODER)
    sixth = learner.wait_until_served(6)
    assert (sixth.reason, len(sixth.bank)) == ("manual", 10)

    # Of another tenant, or no record at all: nothing of this one moves. Back to what is gone: it stays where it is.
    learner.observer.control("rollback", tenant="nobody", epoch=1)
    ledger.wait_until_read(learner.observer.write(b"no record at all"))
    wait_until(
        lambda: metric(learner.process, "learner_observations", outcome="unreadable") == 1, "it is counted"
    )
    assert not ledger.log.epochs[tenant_key].is_frozen
    learner.ask("rollback", epoch=77)
    assert ledger.log.epochs[tenant_key].current.number == 6
    assert ledger.log.epochs[tenant_key].is_frozen
    assert ledger.log.states[tenant_key].summary.is_frozen


def test_feedback_that_no_epoch_has_waits_for_a_tick_that_the_learner_writes_itself(learner: Told) -> None:
    learner.texts(0, 32)
    learner.feedback(example, 0, *(f"first {number}" for number in range(12)))
    learner.wait_until_served(2)
    learner.feedback(example, 12, "one more")
    assert len(learner.wait_until_served(3).examples.labels) == 13


def test_many_epochs_leave_only_what_is_named(learner: Told) -> None:
    ledger, tenant_key = learner.ledger, learner.tenant_key
    last = -1
    for number in range(25):
        learner.texts(4 * number, 4 * number + 4)
        last = learner.observer.control("publish", tenant=learner.tenant)
    log = ledger.wait_until_read(last)
    assert log.epochs[tenant_key].current.number >= 25
    ledger.wait_for(lambda log: log.referenced == log.parts.keys(), "what nobody names is removed")
    assert_whole(log)
    # The current epoch and five former ones, and one part of each section of one state.
    n_parts = len({part for version in log.epochs[tenant_key].versions for part in version.parts})
    assert (n_parts, len(log.epochs[tenant_key].history)) == (6, 5)
    assert all(len(parts) == 1 for parts in log.states[tenant_key].sections.values())
    assert len(learner.store.history("epoch", epoch_name(*tenant_key))) >= 25
    kept = compacted(ledger.records)
    assert_whole(kept)
    assert (kept.epochs, kept.states, kept.progress) == (log.epochs, log.states, log.progress)


def test_a_state_that_comes_back_to_what_it_was_keeps_its_parts(learner: Told) -> None:
    learner.texts(0, 20)
    for _ in range(3):
        for action in ("freeze", "thaw"):
            learner.ask(action)  # type: ignore[arg-type]
            for parts in learner.ledger.log.states[learner.tenant_key].sections.values():
                assert learner.ledger.log.reassembled(parts) is not None


def test_what_a_former_learner_writes_late_is_put_right_before_it_is_taken_for_the_truth(
    learner: Told,
) -> None:
    ledger, tenant_key = learner.ledger, learner.tenant_key
    log = ledger.wait_until_read(learner.texts(0, 40))
    assert log.claim is not None
    assert log.progress is not None
    term, position = log.claim.term, log.progress.position
    state = log.states[tenant_key]
    # As one that was held up between its look and its write: it takes its own state for the last one.
    old = term - 1
    stale = StateV1(
        term=old, encoder=ENCODER, tenant=learner.tenant, dim=state.dim, position=1, sections={},
        summary=state.summary,
    )  # fmt: skip
    late: list[tuple[bytes, bytes | None]] = [
        (state_key(*tenant_key), encode(stale)),
        (PROGRESS_KEY, encode(Progress(term=old, position=1))),
        (CLAIM_KEY, encode(Claim(term=old, owner="late"))),
        *((part_key(part), None) for parts in state.sections.values() for part in parts),
        (state_key(ENCODER, "unheard-of"), encode(stale)),
    ]
    for key, value in late:
        learner.observer.write_to(EPOCHS, key, value, (*HEADERS, *term_header(old)))
    ledger.look()
    assert ledger.log.n_fenced == len(late)
    ledger.wait_for(lambda log: not log.spoiled, "all is put right")
    assert learner.process.is_running
    kept = compacted(ledger.records)
    for found in (ledger.log, kept):
        assert_whole(found)
        assert found.claim is not None
        assert found.claim.term == term
        assert found.states[tenant_key].sections == state.sections
        assert (ENCODER, "unheard-of") not in found.states
        assert found.progress is not None
        assert found.progress.position == position


def test_all_that_was_asked_for_is_a_function_of_the_log(learner: Told) -> None:
    learner.ledger.wait_until_read(learner.texts(0, 10))
    expected = assert_equal_to_undisturbed(learner.settings, learner.ledger)
    assert learner.tenant_key in expected.learning.tenancies


@on_kafka
def test_live_following_opens_epochs_by_the_clock(
    learner_settings: Settings, start_learner: StartLearner
) -> None:
    live = learner_settings.model_copy(update={"follow": "live", "epoch_interval_seconds": 0.5})
    with told(live, start_learner(live)) as learner:
        learner.texts(0, 4)
        assert learner.wait_until_served(1).reason == "interval"
        learner.texts(4, 8)
        assert learner.wait_until_served(2).reason == "interval"
        assert_equal_to_undisturbed(learner_settings, learner.ledger)


@on_kafka
def test_a_learner_stops_in_good_order_and_the_next_fills_redis_and_reads_observations_made_anew(
    learner_settings: Settings, start_learner: StartLearner
) -> None:
    slow = learner_settings.model_copy(update={"checkpoint_seconds": 600.0})
    process = start_learner(slow)
    topic = slow.topic_prefix + OBSERVATIONS
    with told(slow, process) as learner:
        last = learner.texts(0, 100)
        second = learner.wait_until_served(2)
        learner.observer.empty_redis()
        assert learner.wait_until_served(2).sha256 == second.sha256
        wait_until(
            lambda: metric(process, "learner_observations", outcome="learned") == 100, "all is learned"
        )
        assert learner.ledger.look().progress is None
        assert process.stop(10) == 0, "it ends within ten seconds"
        assert "Traceback" not in process.log()
        log = learner.ledger.wait_until_read(last)
        assert log.claim is not None
        assert log.claim.is_released
        assert_whole(log)
        assert committed_observations(slow) == last + 1
        assert_equal_to_undisturbed(slow, learner.ledger)

        learner.observer.empty_redis()
        with contextlib.closing(kafka.KafkaAdminClient(**kafka_options(slow))) as admin:
            admin.delete_topics([topic])
            wait_until(lambda: topic not in admin.list_topics(), "it is gone")
        create_topics(slow)
        process = start_learner(learner_settings)
        # Nothing has come yet that it could learn from.
        assert learner.wait_until_served(2).sha256 == second.sha256
    with told(learner_settings, process) as learner:
        # A minute later, as the records say.
        later_ms = int(time.time() * 1000) + 120_000
        for number in range(100, 140):
            item = text(number, tenant=learner.tenant)
            learner.observer.observe([item], timestamp_ms=later_ms)
        learner.ledger.wait_for(
            lambda log: log.states[learner.tenant_key].summary.n_texts == 140, "all is learned"
        )
        assert learner.wait_until_served(3).reason == "doubling"
