"""Two workers share the partitions; one leaves, one is killed; what they had goes on."""

import contextlib
from collections.abc import Callable

from bounded import wait_until
from oracle import DRAIN_SECONDS, Load, Outputs, committed, judge
from running_service import StartWorker, metric, scrape, state_dir, wait_for_batch

from alignstream.ops.local.supervised import Worker
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DOCUMENTS, VECTORS

PER_SECOND = 20.0
#: A second's worth since the last commit, and the batch in hand.
MAX_DUPLICATES = 150
N_PARTITIONS = 4


def partitions(worker: Worker) -> int:
    """Count the partitions of the documents that a worker has."""
    return sum(
        name == "alignstream_consumer_lag_records" and dict(labels)["topic"].endswith(DOCUMENTS)
        for name, labels in scrape(worker)
    )


def test_two_workers_share_the_partitions_and_take_over_from_one_that_leaves_or_dies(
    slow_settings: Settings, start_worker: StartWorker, record_property: Callable[[str, object], None]
) -> None:
    settings = slow_settings.model_copy(update={"threads": 1})
    with contextlib.closing(Outputs(settings)) as outputs:
        with Load(settings, per_second=PER_SECOND) as stream:
            first = start_worker(settings)
            second = start_worker(settings)
            wait_until(
                lambda: (partitions(first), partitions(second)) == (2, 2),
                "two partitions each",
                DRAIN_SECONDS,
            )
            n_before = [metric(worker, "records_consumed_total") for worker in (first, second)]
            wait_until(
                lambda: all(
                    metric(worker, "records_consumed_total") > n + 20
                    for worker, n in zip((first, second), n_before, strict=True)
                ),
                "both work",
            )
            assert first.stop() == 0
            wait_until(lambda: partitions(second) == N_PARTITIONS, "the second has all", DRAIN_SECONDS)
            third = start_worker(settings)
            wait_until(
                lambda: (partitions(second), partitions(third)) == (2, 2), "two each again", DRAIN_SECONDS
            )
            outputs.look(1.0)
            vectors = [record.source for record in outputs.records if record.topic == VECTORS]
            assert len(vectors) > n_before[0]
            assert len(set(vectors)) == len(vectors), "joins and leaves repeat nothing"
            wait_for_batch(state_dir(second))
            second.kill()
            wait_until(lambda: partitions(third) == N_PARTITIONS, "the third has all", DRAIN_SECONDS)
        verdict = judge(settings, stream.confirmed, outputs)
    record_property("two workers, one leaving, one killed", str(verdict))
    print(f"\ntwo workers, one leaving, one killed: {verdict}")  # noqa: T201 (for -s)
    assert not verdict.faults, verdict
    assert verdict.n_vectors == verdict.n_in, verdict
    assert verdict.n_duplicates <= MAX_DUPLICATES, verdict
    assert len(committed(settings)) == N_PARTITIONS
