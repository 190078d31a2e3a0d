"""What workers serve while the registry changes, lies, or is away: the last good values, and soon the new."""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from bounded import wait_until
from oracle import Load, Outputs, Place, judge, numbered
from running_service import OpenService, Service, metric, ready
from started_servers import environment_of, start_redis
from tiny_encoder import DIM

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.registry import layout as wire
from alignstream.models.registry import redis_store
from alignstream.models.registry.layout import Pointer
from alignstream.ops.admin import doctor
from alignstream.ops.admin.registry import push_adapter, push_label_set
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.local.brokers import Broker
from alignstream.ops.local.supervised import worker
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import load
from alignstream.streams.wire.topics import VECTORS

#: From the end of the push to the first vector of the new version, with the hint and without.
SWAP_SECONDS, SWAP_SECONDS_UNHINTED = 2.0, 8.0
PER_SECOND = 20.0
Report = Callable[[str, object], None]

#: For what has nothing to do with the broker.
on_one_broker = pytest.mark.parametrize("broker", ["tansu"], indirect=True, scope="session")

seeds = itertools.count()


@pytest.fixture(scope="module")
def encoder(tiny_artifact: Path) -> str:
    return read_manifest(tiny_artifact).fingerprint


@pytest.fixture
def fresh(encoder: str) -> Callable[[], Adapter]:
    """Return what makes an adapter that no test had before."""

    def make(encoder: str = encoder) -> Adapter:
        mean = np.random.default_rng(next(seeds)).standard_normal(DIM).astype(np.float32) * 0.2
        return Adapter(encoder, DIM, (Centre(mean),))

    return make


@pytest.fixture(scope="module")
def running(open_service: OpenService, tiny_artifact: Path) -> Iterator[Service]:
    with open_service(
        tiny_artifact,
        prepare=lambda settings: push_adapter(settings, "default", _first(tiny_artifact).blob),
    ) as service:
        yield service


def _first(artifact: Path) -> Adapter:
    return Adapter(read_manifest(artifact).fingerprint, DIM, (Centre(np.full(DIM, 0.1, dtype=np.float32)),))


@pytest.fixture
def service(running: Service, fresh: Callable[[], Adapter]) -> Service:
    """Give the module's service, its registry well, serving an adapter that was pushed for this test."""
    if not running.redis.is_running:
        running.redis.restart()
    with contextlib.closing(redis.Redis.from_url(running.settings.redis_url)) as client:
        client.delete(wire.current_key("adapter", "default"))  # what is damaged is never overwritten
    adapter = fresh()
    push_adapter(running.settings, "default", adapter.blob)
    push_label_set(running.settings, "tags", LabelSet(labels=("w8", "w9")))
    wait_until(lambda: serves(running) == adapter.version, "the adapter of this test serves", 15)
    wait_until(lambda: metric(running.worker, "adapter_stale_seconds") < 7, "the registry agrees", 15)
    return running


def serves(service: Service) -> str:
    """Return the version of the adapter that the next document is aligned with."""
    version: str = service.vector({"text": "w1 w2"})["adapter_version"]
    return version


def diagnosis(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, doctor.Check]:
    """Return what the doctor finds, with the settings of the worker, that is not well; there is no learner here."""
    with monkeypatch.context() as patch:
        for name, value in environment_of(service.settings).items():
            patch.setenv(name, value)
        found = {check.name: check for check in doctor.examine(with_encoder=False) if check.state != "ok"}
    assert found.pop("learner").state == "warning"
    return found


def versions(outputs: Outputs) -> dict[int, list[tuple[float, str]]]:
    """Return time and adapter version of every vector, in the order of each partition."""
    found: dict[int, list[tuple[float, str]]] = {}
    for record in outputs.records:
        if record.topic == VECTORS:
            found.setdefault(record.partition, []).append((record.timestamp, record.json["adapter_version"]))
    return found


@pytest.mark.parametrize("is_hinted", [True, False], ids=["hinted", "unhinted"])
def test_a_swap_under_load_is_visible_in_time_and_no_partition_goes_back(
    service: Service,
    fresh: Callable[[], Adapter],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Report,
    *,
    is_hinted: bool,
) -> None:
    if not is_hinted:
        unhinted = "\n".join(line for line in redis_store.SWAP_SCRIPT.splitlines() if "PUBLISH" not in line)
        assert unhinted != redis_store.SWAP_SCRIPT
        monkeypatch.setattr(redis_store, "SWAP_SCRIPT", unhinted)
    pushed: list[tuple[str, float]] = []
    before = serves(service)
    places: set[Place] = set()
    with contextlib.closing(Outputs(service.settings)) as outputs:
        wait_until(lambda: not outputs.look(0.5), "what was there before is read")
        outputs.records.clear()
        with Load(service.settings, per_second=PER_SECOND) as stream:
            for _ in range(4 if is_hinted else 1):
                adapter = fresh()
                n_sent = stream.n_sent
                wait_until(lambda n_sent=n_sent: stream.n_sent > n_sent + 10, "the stream runs")  # type: ignore[misc]
                push_adapter(service.settings, "default", adapter.blob)
                pushed.append((adapter.version, time.time()))
                wait_until(
                    lambda version=adapter.version: any(  # type: ignore[misc]
                        record.topic == VECTORS and record.json["adapter_version"] == version
                        for record in outputs.look(0.05)
                    ),
                    "a vector of the new version",
                    SWAP_SECONDS_UNHINTED + 5,
                )
            n_sent = stream.n_sent
            wait_until(lambda: stream.n_sent > n_sent + 60, "the stream runs on")
        places |= stream.confirmed
        outputs.wait_for(places)
        assert all(len(outputs.of(VECTORS, place)) == 1 for place in places), "none lost, none twice"
        seen = versions(outputs)
    # Worker, broker and test share a clock.
    seconds = [
        min(when for partition in seen.values() for when, found in partition if found == version) - at
        for version, at in pushed
    ]
    record_property("seconds until a swap was visible", seconds)
    print(f"\nswap visible after {[round(value, 3) for value in seconds]} s")  # noqa: T201 (for -s)
    assert max(seconds) <= (SWAP_SECONDS if is_hinted else SWAP_SECONDS_UNHINTED), seconds
    order = [before, *(version for version, _ in pushed)]
    assert sum(map(len, seen.values())) >= len(places)
    assert len(seen) > 1
    for partition in seen.values():
        positions = [order.index(version) for _, version in partition]
        assert positions == sorted(positions), "a partition went back to an older version"
        assert positions[-1] == len(order) - 1


def test_a_rollback_is_served_like_a_swap(service: Service, fresh: Callable[[], Adapter]) -> None:
    older, newer = serves(service), fresh()
    push_adapter(service.settings, "default", newer.blob)
    wait_until(lambda: serves(service) == newer.version, "the newer one serves", SWAP_SECONDS)
    with contextlib.closing(open_store(service.settings)) as store:
        assert store.move("adapter", "default", older).frozen
    wait_until(lambda: serves(service) == older, "the older one serves again", SWAP_SECONDS)


def test_a_label_set_is_served_and_swapped_like_an_adapter(service: Service) -> None:
    for labels in (("w1", "w2"), ("w3", "w4", "w5")):
        push_label_set(service.settings, "tags", LabelSet(labels=labels))

        def scored() -> set[str]:
            place = service.send({"text": "w1", "label_set": "tags"})
            service.outputs.wait_for([place])
            if service.outputs.of("documents.dead-letter.v1", place):
                return set()
            return {item["label"] for item in service.outputs.labels(place).json["scores"]}

        wait_until(lambda labels=labels: scored() == set(labels), f"{labels} are scored", SWAP_SECONDS)  # type: ignore[misc]


# -- a registry that lies --------------------------------------------------------------------------


def write(service: Service, change: Callable[[Pointer], Pointer], blob: bytes | None, sha256: str) -> None:
    """Write pointer and blob past everything that checks them, and send the hint."""
    with contextlib.closing(redis.Redis.from_url(service.settings.redis_url)) as client:
        key = wire.current_key("adapter", "default")
        raw = client.get(key)
        assert isinstance(raw, bytes)
        pointer = change(msgspec.json.decode(raw, type=Pointer))
        if blob is not None:
            client.set(wire.blob_key("adapter", "default", sha256), blob)
        client.set(key, msgspec.json.encode(pointer))
        client.publish(wire.EVENTS_CHANNEL, "adapter:default")


def point_to(blob: bytes, size_bytes: int | None = None) -> tuple[Callable[[Pointer], Pointer], str]:
    sha256 = hashlib.sha256(blob).hexdigest()

    def change(pointer: Pointer) -> Pointer:
        return msgspec.structs.replace(
            pointer,
            revision=pointer.revision + 1,
            sha256=sha256,
            version=sha256[: wire.VERSION_CHARACTERS],
            size_bytes=size_bytes or len(blob),
        )

    return change, sha256


def with_nan(adapter: Adapter) -> bytes:
    """Return the adapter's file with one number that is none."""
    step = adapter.steps[0]
    assert isinstance(step, Centre)
    number = step.mean[3].tobytes()
    assert adapter.blob.count(number) == 1
    return adapter.blob.replace(number, np.float32("nan").tobytes())


@on_one_broker
@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("wrong bytes", "RegistryCorrupt"),
        ("nothing there", "RegistryError"),
        ("not a number", "AdapterCorrupt"),
        ("of another encoder", "AdapterMismatch"),
        ("no adapter", "AdapterCorrupt"),
        ("no pointer", "corrupt-pointer"),
    ],
)
def test_what_cannot_be_verified_is_refused_and_said_and_the_last_good_one_serves(
    service: Service, fresh: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch, lie: str, reason: str
) -> None:
    good, adapter = serves(service), fresh()
    n_before = metric(service.worker, "registry_rejected_total", kind="adapter", reason=reason)
    blobs = {
        "wrong bytes": adapter.blob,
        "nothing there": adapter.blob,
        "not a number": with_nan(adapter),
        "of another encoder": fresh("0" * 64).blob,
        "no adapter": b"not an adapter",
        "no pointer": b"",
    }
    change, sha256 = point_to(blobs[lie] or b"?")
    if lie == "no pointer":
        with contextlib.closing(redis.Redis.from_url(service.settings.redis_url)) as client:
            client.set(wire.current_key("adapter", "default"), b'{"revision": ')
            client.publish(wire.EVENTS_CHANNEL, "adapter:default")
    else:
        stored = {"wrong bytes": adapter.blob[:-1] + b"?", "nothing there": None}.get(lie, blobs[lie])
        write(service, change, stored, sha256)
    wait_until(
        lambda: metric(service.worker, "registry_rejected_total", kind="adapter", reason=reason) > n_before,
        "the refusal is counted",
        SWAP_SECONDS,
    )
    assert serves(service) == good
    assert metric(service.worker, "adapter_info", name="default", version=good) == 1
    check = diagnosis(service, monkeypatch)["adapter default"]
    assert check.state == "problem"
    assert check.message
    assert "push it again" in check.remedy
    stale = metric(service.worker, "adapter_stale_seconds")
    wait_until(
        lambda: metric(service.worker, "adapter_stale_seconds") > stale + 0.2, "staleness grows", SWAP_SECONDS
    )
    assert metric(service.worker, "registry_up") == 1
    assert service.worker.log().count("adapter default rejected") >= 1


@on_one_broker
def test_a_registry_that_was_emptied_is_noticed_and_can_be_filled_again(
    service: Service, fresh: Callable[[], Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serves(service)
    with contextlib.closing(redis.Redis.from_url(service.settings.redis_url)) as client:
        client.flushall()
        client.publish(wire.EVENTS_CHANNEL, "adapter:default")
    stale = metric(service.worker, "adapter_stale_seconds")
    wait_until(lambda: metric(service.worker, "adapter_stale_seconds") > stale + 1, "staleness grows", 8)
    assert serves(service) == good
    found = diagnosis(service, monkeypatch)
    assert found["registry"].state == "problem"
    assert "push" in found["registry"].remedy
    adapter = fresh()
    push_adapter(service.settings, "default", adapter.blob)
    wait_until(lambda: serves(service) == adapter.version, "what was pushed serves", SWAP_SECONDS)
    assert metric(service.worker, "adapter_stale_seconds") > 1, "the label set is still missing"
    push_label_set(service.settings, "tags", LabelSet(labels=("w8", "w9")))
    wait_until(lambda: metric(service.worker, "adapter_stale_seconds") < 2, "the registry agrees", 8)
    assert diagnosis(service, monkeypatch) == {}


# -- a registry that is away -----------------------------------------------------------------------


@on_one_broker
def test_a_redis_that_hangs_and_then_dies_slows_nothing_and_is_taken_up_again(
    service: Service, fresh: Callable[[], Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serves(service)
    service.redis.freeze()
    try:
        wait_until(lambda: metric(service.worker, "registry_up") == 0, "the hang is noticed", 10)
        started = time.monotonic()
        assert serves(service) == good
        assert time.monotonic() - started < 3.0, "batches do not wait for Redis"
        assert ready(service.worker)[0] == 200
        assert diagnosis(service, monkeypatch)["redis"].state == "problem"
    finally:
        service.redis.thaw()
    wait_until(lambda: metric(service.worker, "registry_up") == 1, "it is back", 10)
    service.redis.kill()
    wait_until(lambda: metric(service.worker, "registry_up") == 0, "the death is noticed", 10)
    assert serves(service) == good
    service.redis.restart()
    adapter = fresh()
    push_adapter(service.settings, "default", adapter.blob)
    wait_until(lambda: serves(service) == adapter.version, "the new one serves", SWAP_SECONDS_UNHINTED)
    log = service.worker.log()
    assert "Redis does not answer" in log
    assert "Redis answers" in log


@on_one_broker
def test_a_worker_starts_without_redis_on_its_last_good_copy_and_without_any_waits(
    broker: Broker, tiny_artifact: Path, topic_prefix: str, tmp_path: Path, fresh: Callable[[], Adapter]
) -> None:
    adapter = fresh()
    with start_redis(tmp_path / "redis") as server:
        server.stop()
        values: dict[str, Any] = {"session_timeout_seconds": 6.0, **broker.settings}
        settings = load(
            broker=broker.address,
            redis_url=server.url,
            topic_prefix=topic_prefix,
            group=f"{topic_prefix}group",
            artifact=tiny_artifact,
            cache_dir=tmp_path / "cache",
            state_dir=tmp_path / "state",
            metrics_port=0,
            log_format="text",
            **values,
        )
        create_topics(settings)
        with (
            contextlib.closing(Outputs(settings)) as outputs,
            Load(
                settings, per_second=20, document=lambda key, number: numbered(key, 3 * number + 1)
            ) as stream,
        ):
            first = worker(environment_of(settings), tmp_path / "worker")
            first.spawn()
            try:
                wait_until(lambda: waits_for(first, "adapter"), "it waits for an adapter")
                assert "alignstream adapters push" in waits_for(first, "adapter")
                server.start()
                push_adapter(settings, "default", adapter.blob)
                first.wait_ready()
                wait_until(outputs.look, "an output")
                server.kill()
            finally:
                assert first.stop() == 0
            n_before = len(outputs.records)
            with first.start():
                assert metric(first, "adapter_info", name="default", source="disk") == 1
                assert metric(first, "registry_up") == 0
                stream.stop()
                verdict = judge(settings, stream.confirmed, outputs)
        assert len(outputs.records) > n_before
    assert not verdict.faults
    assert verdict.n_duplicates == 0
    assert {version for found in versions(outputs).values() for _, version in found} == {adapter.version}


def waits_for(server: Any, what: str) -> str:
    """Return what keeps a worker from being ready under this heading, or nothing."""
    try:
        status, body = ready(server)
    except OSError:
        return ""
    assert status == 503 or body["ready"]
    found: str = body["waiting"].get(what, "")
    return "" if found == "loading" else found
