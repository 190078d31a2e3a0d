"""Skip one record that no worker can read, without losing its neighbours.

A record whose bytes cannot even be unpacked (a header name that is not UTF-8, an unknown codec) fails below the
worker's code: the worker stops there, restarts, and stops there again. Only moving the group's committed offset past
the record helps.

Other records are stuck with it. A client unpacks a batch from its first record, so the bad record hides the rest of
its batch, before it *and* after it; an offset inside the batch does not help, because the broker always returns the
whole batch. Often the committed offset also lies before the batch. All these records are therefore first produced
again, at the end of the same topic, where the workers find them, and the group goes on after the batch. An offset
committed beyond the record is never moved back.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import kafka
import kafka.errors as kafka_errors
from kafka.admin import OffsetSpec
from kafka.structs import OffsetAndMetadata

from alignstream.models.errors import RecordError, SkipRefused
from alignstream.ops.client.broker_topics import require_topics
from alignstream.ops.client.connection import broker_errors, open_admin, resolve_topic, retrying
from alignstream.ops.client.dead_letters import HEADER_REPLAYED_FROM
from alignstream.ops.client.producer import Outgoing, produce
from alignstream.ops.client.raw_batch import RawBatch, RawRecord, fetch_batch
from alignstream.ops.client.reader import Reader
from alignstream.ops.client.record import Record
from alignstream.streams.settings import Settings

#: More than a worker has in hand: a committed offset further back than this is lag, and not due to the bad record.
MAX_EARLIER: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A record that the group skipped, or would skip (in a dry run).

    ``previous`` is the offset committed before, or None; ``committed`` is the new one: after the record, or after its
    batch if that cannot be unpacked. ``requeued`` other records were produced again, and at most ``dropped`` were
    given up (fewer where compaction left gaps).
    """

    topic: str
    partition: int
    offset: int
    group: str
    previous: int | None
    committed: int
    requeued: int
    dropped: int


def skip(
    settings: Settings,
    topic: str,
    partition: int,
    offset: int,
    *,
    drop_others: bool = False,
    is_dry_run: bool = False,
) -> SkippedRecord:
    """Move the group's committed offset past one record.

    1. Check that the record is in the topic, and that the group has not passed it.
    2. Check that no worker is a member of the group: it would overwrite what is committed here.
    3. Produce the records between the committed offset and the new one again, except the one to be skipped, with the
       header ``alignstream.replayed-from``, and wait until they are confirmed. Without a committed offset, start at
       the beginning, as a worker would. Header names that are not UTF-8 are mended.
    4. Commit the new offset, and read it back.

    If it is stopped between 3 and 4 there are duplicates, but nothing is lost.

    Parameters
    ----------
    drop_others
        Give up the records of step 3 instead.

    Raises
    ------
    TopicMissing
        There is no such topic.
    SkipRefused
        The record is not there or was passed already, workers are running, or the other records are too many or
        cannot be unpacked.
    BrokerError
        The broker is away or refused.
    """
    name = resolve_topic(settings, topic)
    place = kafka.TopicPartition(name, partition)
    if partition not in require_topics(settings, [name])[name]:
        raise SkipRefused(f"{name} has no partition {partition}")
    with open_admin(settings) as admin:
        previous = _committed(admin, settings.group, place)
        begin = admin.list_partition_offsets({place: OffsetSpec.EARLIEST})[place].offset
        end, batch = fetch_batch(admin, name, partition, offset)
        if batch is None or not begin <= offset:
            raise SkipRefused(f"{name} {partition} holds offsets {begin} to {end - 1}, not {offset}")
        start = begin if previous is None else max(previous, begin)
        if start > offset:
            raise SkipRefused(
                f"group {settings.group} is already past {name} {partition} {offset}: its next offset is {start}"
            )
        _check_empty(admin, settings)
        goal = offset + 1 if batch.is_readable else batch.last_offset + 1
        others = goal - start - 1
        requeued = 0
        if others and not drop_others:
            _check_others(settings, place, offset, start, batch)
            originals = _others(settings, place, offset, start, batch)
            requeued = sum(1 for _ in originals) if is_dry_run else _requeue(settings, originals)
        if not is_dry_run:
            _commit(admin, settings, place, goal)
    dropped = others if drop_others else 0
    return SkippedRecord(name, partition, offset, settings.group, previous, goal, requeued, dropped)


def _check_others(settings: Settings, place: Any, offset: int, start: int, batch: RawBatch) -> None:  # noqa: ANN401
    where = f"{place.topic} {place.partition} {offset}"
    if offset - start > MAX_EARLIER:
        raise SkipRefused(
            f"{offset - start} records before {where} are not processed either (group {settings.group} is at "
            f"{start}): let the workers catch up first, or give those records up with --drop-others"
        )
    if batch.records is None:
        raise SkipRefused(
            f"{where} is in a batch of offsets {batch.base_offset} to {batch.last_offset} that cannot be unpacked "
            f"({batch.reason}): give the whole batch up with --drop-others"
        )


def _others(settings: Settings, place: Any, offset: int, start: int, batch: RawBatch) -> Iterator[Outgoing]:  # noqa: ANN401
    """Yield the records that are skipped with the bad one, as they will be produced again."""
    yield from _earlier(settings, place, start, offset if batch.is_readable else batch.base_offset)
    if batch.is_readable:
        return
    for record in batch.records or ():
        if record.offset >= start and record.offset != offset:
            yield _again(place, record)


def _requeue(settings: Settings, originals: Iterator[Outgoing]) -> int:
    report = produce(settings, originals)
    if report.failed:
        raise SkipRefused(
            f"{len(report.failed)} of the other records cannot be produced again ({report.failed[0].reason}); "
            "nothing was skipped: give them up with --drop-others"
        )
    return report.confirmed


def _committed(admin: Any, group: str, place: Any) -> int | None:  # noqa: ANN401 (kafka-python has no types)
    committed = retrying(lambda: admin.list_group_offsets({group: [place]}))[group].get(place)
    return None if committed is None or committed.offset < 0 else int(committed.offset)


def _check_empty(admin: Any, settings: Settings) -> None:  # noqa: ANN401 (likewise)
    try:
        described = retrying(lambda: admin.describe_groups([settings.group]))[settings.group]
    except ValueError:
        # kafka-python does not understand how some brokers (Tansu is one) describe a group. These brokers refuse the
        # commit itself while the group has members.
        return
    members = described["members"]
    if members:
        clients = ", ".join(
            sorted({f"{member['client_id']} at {member['client_host']}" for member in members})
        )
        raise SkipRefused(_BUSY.format(group=settings.group, clients=f" ({clients})"))


_BUSY: Final = (
    "group {group} has members{clients}: stop the workers first; a killed worker remains a member until its session "
    "times out (ALIGNSTREAM_SESSION_TIMEOUT_SECONDS)"
)


def _earlier(settings: Settings, place: Any, start: int, stop: int) -> Iterator[Outgoing]:  # noqa: ANN401
    """Yield the records from ``start`` up to ``stop``, as they will be produced again."""
    if start >= stop:
        return
    with Reader(settings, [], starts={(place.topic, place.partition): start}) as reader:
        while (position := reader.positions()[place.topic, place.partition]) < stop:
            try:
                batch = reader.poll(5.0)
            except RecordError as error:
                raise SkipRefused(
                    f"{place.topic} {place.partition} cannot be read at {position} either: skip that record first, or "
                    "give up all records before yours with --drop-others"
                ) from error
            for record in batch:
                if record.offset >= stop:
                    return
                yield _again(place, record)
            if not batch and reader.at_end():
                return


def _again(place: Any, record: Record | RawRecord) -> Outgoing:  # noqa: ANN401 (kafka-python has no types)
    origin = f"{place.topic}-{place.partition}-{record.offset}".encode()
    return Outgoing(place.topic, record.key, record.value, (*record.headers, (HEADER_REPLAYED_FROM, origin)))


def _commit(admin: Any, settings: Settings, place: Any, offset: int) -> None:  # noqa: ANN401 (likewise)
    offsets = {place: OffsetAndMetadata(offset, "", -1)}
    with broker_errors(settings):
        error = retrying(lambda: admin.alter_group_offsets(settings.group, offsets))[place]
        if error is kafka_errors.UnknownMemberIdError:
            raise SkipRefused(_BUSY.format(group=settings.group, clients=""))
        if error is not kafka_errors.NoError:
            raise SkipRefused(f"group {settings.group}: the broker refuses the offset: {error.__name__}")
        if _committed(admin, settings.group, place) != offset:
            raise SkipRefused(
                f"group {settings.group}: another client has committed in the meantime; stop the workers first"
            )
