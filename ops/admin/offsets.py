"""Pass over one record that no worker can read, without losing those around it.

A record whose bytes cannot even be unpacked (a header name that is not UTF-8, an unknown codec) fails
below the worker's code: it stops there, starts again, and stops there again. Only moving the group's
committed offset past it helps.

Other records are stuck with it. Clients unpack a batch from its first record on, so those that share its
batch, before it *and* after it, are hidden by it; an offset inside the batch does not help, as the broker
always gives the whole of it. And the committed offset often lies before the batch. All of them are
therefore first produced again, to the end of the same topic, where the workers find them, and the group
goes on after the batch. An offset that is committed beyond the record is never moved back.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import kafka
import kafka.errors as kafka_errors
from kafka.admin import OffsetSpec
from kafka.structs import OffsetAndMetadata

from alignstream.models.errors import RecordError, SkipRefused
from alignstream.ops.client.connection import (
    broker_errors,
    open_admin,
    resolve_topic,
    retrying,
)
from alignstream.ops.client.dead_letters import HEADER_REPLAYED_FROM
from alignstream.ops.client.producer import Outgoing, produce
from alignstream.ops.client.raw_batch import RawBatch, RawRecord, fetch_batch
from alignstream.ops.client.reader import Reader, Record
from alignstream.ops.client.topics import require_topics
from alignstream.streams.settings import Settings

#: More than a worker has under way: a committed offset further back than this is lag, not the bad record.
MAX_EARLIER: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """A record that the group passed over, or would (a dry run).

    ``previous`` is the offset committed before, None where there was none; ``committed`` the one now: after
    the record, or after its batch where that cannot be unpacked. ``requeued`` other records were produced
    again, ``dropped`` ones (at most; compaction leaves gaps) given up.
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
) -> Skipped:
    """Move the group's committed offset past one record.

    1. The record is in the topic, and the group has not passed it.
    2. No worker is a member of the group: it would overwrite what is committed here.
    3. The records between the committed offset (without one: the beginning, where a worker would start)
       and the new one, except the one named, are produced again, with the header
       ``alignstream.replayed-from``, and confirmed. Header names that are not UTF-8 are mended.
    4. The new offset is committed, and read back.

    Stopped between 3 and 4 it has made duplicates, and lost nothing.

    Parameters
    ----------
    drop_others
        Give the records of step 3 up instead.

    Raises
    ------
    TopicMissing
        There is no such topic.
    SkipRefused
        The record is not there or already passed, workers are running, or the other records are too many
        or cannot be unpacked.
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
                f"group {settings.group} is already past {name} {partition} {offset}: it goes on at {start}"
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
    return Skipped(name, partition, offset, settings.group, previous, goal, requeued, dropped)


def _check_others(settings: Settings, place: Any, offset: int, start: int, batch: RawBatch) -> None:  # noqa: ANN401
    where = f"{place.topic} {place.partition} {offset}"
    if offset - start > MAX_EARLIER:
        raise SkipRefused(
            f"{offset - start} records before {where} are not processed either (group {settings.group} is at "
            f"{start}): let the workers come nearer first, or give those records up with --drop-others"
        )
    if batch.records is None:
        raise SkipRefused(
            f"{where} lies in a batch of offsets {batch.base_offset} to {batch.last_offset} that cannot be unpacked "
            f"({batch.reason}): give all of it up with --drop-others"
        )


def _others(settings: Settings, place: Any, offset: int, start: int, batch: RawBatch) -> Iterator[Outgoing]:  # noqa: ANN401
    """Yield what is passed over together with the record, as it will be produced again."""
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
            f"{len(report.failed)} of the other records cannot be produced again ({report.failed[0].reason}); nothing "
            "is skipped: give them up with --drop-others"
        )
    return report.confirmed


def _committed(admin: Any, group: str, place: Any) -> int | None:  # noqa: ANN401 (kafka-python has no types)
    found = retrying(lambda: admin.list_group_offsets({group: [place]}))[group].get(place)
    return None if found is None or found.offset < 0 else int(found.offset)


def _check_empty(admin: Any, settings: Settings) -> None:  # noqa: ANN401 (likewise)
    try:
        described = retrying(lambda: admin.describe_groups([settings.group]))[settings.group]
    except ValueError:
        # kafka-python does not understand how some brokers (the embedded one) describe a group. Those
        # brokers refuse the commit itself while members are there.
        return
    members = described["members"]
    if members:
        clients = ", ".join(
            sorted({f"{member['client_id']} at {member['client_host']}" for member in members})
        )
        raise SkipRefused(_BUSY.format(group=settings.group, clients=f" ({clients})"))


_BUSY: Final = (
    "group {group} has members{clients}: stop the workers first; a worker that was killed counts for its "
    "session time-out (ALIGNSTREAM_SESSION_TIMEOUT_SECONDS)"
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
                    "give up what is before yours with --drop-others"
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
    wanted = {place: OffsetAndMetadata(offset, "", -1)}
    with broker_errors(settings):
        error = retrying(lambda: admin.alter_group_offsets(settings.group, wanted))[place]
        if error is kafka_errors.UnknownMemberIdError:
            raise SkipRefused(_BUSY.format(group=settings.group, clients=""))
        if error is not kafka_errors.NoError:
            raise SkipRefused(f"group {settings.group}: the broker refuses the offset: {error.__name__}")
        if _committed(admin, settings.group, place) != offset:
            raise SkipRefused(
                f"group {settings.group}: another client committed meanwhile; stop the workers first"
            )
