"""Metrics: bounded labels, series that exist before anything fails, nothing that names a text."""

from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from alignstream.models.adapter.adapter import identity
from alignstream.models.registry.follower import Served
from alignstream.streams.observe.sensors import STAGES, FaustSensor, Metrics, RegistryMetrics
from alignstream.streams.wire.codec import Rejected, SourceRecord
from alignstream.streams.wire.outcome import Outcome, Output
from alignstream.streams.wire.topics import DEAD_LETTERS, LABELS, REASONS, VECTORS

PLACE = ("documents.v1", 1)
PLACE_LABELS = {"topic": "documents.v1", "partition": "1"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"alignstream_{name}", labels)


def outcome(timestamp: float | None, *topics: str, rejected: Rejected | None = None) -> Outcome:
    source = SourceRecord("documents.v1", 1, 5, timestamp, None, b"{}")
    return Outcome(source, tuple(Output(topic, None, b"", ()) for topic in topics), rejected)


def test_every_reason_and_stage_has_a_series_before_the_first_failure(metrics: Metrics) -> None:
    for reason in REASONS:
        assert sample(metrics, "records_dead_lettered_total", reason=reason) == 0.0
    for stage in STAGES:
        assert sample(metrics, "stage_duration_seconds_count", stage=stage) == 0.0


def test_two_workers_in_one_process_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.consumed.inc()
    assert sample(second, "records_consumed_total") == 0.0


def test_a_batch_is_in_hand_until_it_is_left_whatever_happens(metrics: Metrics) -> None:
    seen = []

    def fail() -> None:
        with metrics.batch(7):
            seen.append(sample(metrics, "inflight_records"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [7.0]
    assert sample(metrics, "inflight_records") == 0.0
    assert sample(metrics, "records_consumed_total") == 7.0


def test_finished_records_are_counted_by_topic_and_reason(metrics: Metrics) -> None:
    rejected = Rejected("bad-json", "decode", "why")
    metrics.finished(
        [outcome(100.0, VECTORS, LABELS), outcome(101.0, DEAD_LETTERS, rejected=rejected)], now=103.0
    )
    assert sample(metrics, "records_published_total", topic=VECTORS) == 1.0
    assert sample(metrics, "records_published_total", topic=DEAD_LETTERS) == 1.0
    assert sample(metrics, "records_dead_lettered_total", reason="bad-json") == 1.0
    assert sample(metrics, "end_to_end_latency_seconds_sum") == 5.0
    assert sample(metrics, "last_progress_timestamp_seconds") == 103.0


def test_a_clock_that_is_behind_the_producers_gives_no_negative_latency(metrics: Metrics) -> None:
    metrics.finished([outcome(200.0, VECTORS)], now=100.0)
    assert sample(metrics, "end_to_end_latency_seconds_sum") == 0.0


def test_lag_in_seconds_is_the_age_of_what_was_finished_last_while_records_wait(metrics: Metrics) -> None:
    metrics.finished([outcome(100.0, VECTORS)], now=101.0)
    metrics.show_lag({PLACE: 3}, now=130.0)
    assert sample(metrics, "consumer_lag_records", **PLACE_LABELS) == 3.0
    assert sample(metrics, "consumer_lag_seconds", **PLACE_LABELS) == 30.0
    metrics.show_lag({PLACE: 0}, now=140.0)
    assert sample(metrics, "consumer_lag_seconds", **PLACE_LABELS) == 0.0
    metrics.forget_lag(PLACE)
    assert sample(metrics, "consumer_lag_records", **PLACE_LABELS) is None


def test_an_adapter_has_one_series_which_is_replaced_by_a_swap(metrics: Metrics) -> None:
    told = RegistryMetrics(metrics)
    for encoder, source in (("a", "package"), ("b", "registry"), ("b", "registry")):
        told.swapped("adapter", "default", Served(identity(encoder * 64, 4), source, 0.0))  # type: ignore[arg-type]
    series = [
        item.labels
        for family in metrics.registry.collect()
        if family.name == "alignstream_adapter_info"
        for item in family.samples
    ]
    assert series == [{"name": "default", "version": identity("b" * 64, 4).version, "source": "registry"}]
    assert sample(metrics, "registry_swaps_total", kind="adapter") == 3.0


def test_a_refusal_is_counted_without_name_and_message(metrics: Metrics) -> None:
    told = RegistryMetrics(metrics)
    told.rejected("adapter", "s3cret-name", "AdapterCorrupt", "s3cret message")
    told.looked(registry_is_up=False)
    assert sample(metrics, "registry_rejected_total", kind="adapter", reason="AdapterCorrupt") == 1.0
    assert sample(metrics, "registry_up") == 0.0
    assert b"s3cret" not in generate_latest(metrics.registry)


def test_the_faust_sensor_counts_rebalances_and_notes_commits(metrics: Metrics) -> None:
    sensor = FaustSensor(metrics)
    app = SimpleNamespace()
    state = sensor.on_rebalance_start(app)  # type: ignore[arg-type]
    assert "started" in state
    assert sample(metrics, "rebalances_total") == 1.0
    before = sensor.committed_at
    sensor.on_commit_completed(None, None)
    assert sensor.committed_at >= before


def test_names_have_base_units_and_no_label_is_unbounded(metrics: Metrics) -> None:
    allowed = {"topic", "partition", "reason", "stage", "error", "kind", "name", "version", "source", "le"}
    allowed |= {"fingerprint", "dim"}
    for family in metrics.registry.collect():
        assert not family.name.endswith(("_ms", "_milliseconds", "_kb", "_mb", "_percent"))
        for item in family.samples:
            assert set(item.labels) <= allowed
