"""Pass over one record that no worker can read, without losing those before it.

A record whose bytes cannot even be unpacked (a header name that is not UTF-8, an unknown codec) fails
below the worker's code: it stops there, starts again, and stops there again. Only moving the group's
committed offset past it helps.

The committed offset is then often some records *before* it: a client unpacks a whole batch or none, so
good records that share a batch with the bad one are stuck as well. Moving the offset past the bad record
passes over those too; therefore they are first produced again, to the end of the same topic, where the
workers find them. An offset that is committed beyond the record is never moved back.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import kafka
import kafka.errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from alignstream.ops.connection import BrokerError, broker_errors, open_admin, resolve_topic, retrying
from alignstream.ops.deadletters import HEADER_REPLAYED_FROM
from alignstream.ops.producer import Outgoing, produce
from alignstream.ops.reader import Reader, RecordError
from alignstream.ops.topics import require_topics
from alignstream.streams.settings import Settings

#: More than a worker has under way: a committed offset further back than this is lag, not the bad record.
MAX_EARLIER: Final = 10_000


class SkipRefused(BrokerError):  # noqa: N818 (names the state, not the class)
    """The record is not passed over; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """A record that the group passed over, or would (a dry run).

    ``previous`` is the offset committed before, None where there was none; ``committed`` the one now.
    ``requeued`` records before it were produced again; ``dropped`` offsets before it were given up.
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
    drop_earlier: bool = False,
    is_dry_run: bool = False,
) -> Skipped:
    """Move the group's committed offset past one record.

    1. The record is in the topic, and the group has not passed it.
    2. No worker is a member of the group: it would overwrite what is committed here.
    3. Records between the committed offset (without one: the beginning, where a worker would start) and
       this record are produced again, with the header ``alignstream.replayed-from``, and confirmed.
    4. ``offset + 1`` is committed, and read back.

    Stopped between 3 and 4 it has made duplicates, and lost nothing.

    Parameters
    ----------
    drop_earlier
        Give the records of step 3 up instead.

    Raises
    ------
    TopicMissing
        There is no such topic.
    SkipRefused
        The record is not there or already passed, workers are running, or the records before it are too
        many or unreadable too.
    BrokerError
        The broker is away or refused.
    """
    name = resolve_topic(settings, topic)
    place = kafka.TopicPartition(name, partition)
    if partition not in require_topics(settings, [name])[name]:
        raise SkipRefused(f"{name} has no partition {partition}")
    with open_admin(settings) as admin:
        previous = _committed(admin, settings.group, place)
        begin = _check_place(settings, place, offset)
        start = begin if previous is None else max(previous, begin)
        if start > offset:
            raise SkipRefused(
                f"group {settings.group} is already past {name} {partition} {offset}: it goes on at {start}"
            )
        _check_empty(admin, settings)
        earlier = offset - start
        if earlier > MAX_EARLIER and not drop_earlier:
            raise SkipRefused(
                f"{earlier} records before {name} {partition} {offset} are not processed either (the group is at "
                f"{start}): let the workers come nearer first, or give those records up with --drop-earlier"
            )
        requeued = 0
        if earlier and not drop_earlier:
            originals = _originals(settings, place, start, offset)
            if is_dry_run:
                requeued = sum(1 for _ in originals)
            else:
                report = produce(settings, originals)
                if report.failed:
                    raise SkipRefused(
                        f"{len(report.failed)} records before {name} {partition} {offset} cannot be produced again "
                        f"({report.failed[0].reason}): give them up with --drop-earlier"
                    )
                requeued = report.confirmed
        if not is_dry_run:
            _commit(admin, settings, place, offset + 1)
    dropped = earlier if drop_earlier else 0
    return Skipped(name, partition, offset, settings.group, previous, offset + 1, requeued, dropped)


def _committed(admin: Any, group: str, place: Any) -> int | None:  # noqa: ANN401 (kafka-python has no types)
    found = retrying(lambda: admin.list_group_offsets({group: [place]}))[group].get(place)
    return None if found is None or found.offset < 0 else int(found.offset)


def _check_place(settings: Settings, place: Any, offset: int) -> int:  # noqa: ANN401 (likewise)
    """Return the first offset of the partition; the record must lie between it and the end."""
    with Reader(settings, [], starts={(place.topic, place.partition): offset}) as reader:
        begin, end = reader.bounds()[place.topic, place.partition]
    if not begin <= offset < end:
        raise SkipRefused(f"{place.topic} {place.partition} holds offsets {begin} to {end - 1}, not {offset}")
    return begin


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


def _originals(settings: Settings, place: Any, start: int, offset: int) -> Iterator[Outgoing]:  # noqa: ANN401
    """Yield the records from ``start`` up to ``offset``, as they will be produced again."""
    with Reader(settings, [], starts={(place.topic, place.partition): start}) as reader:
        while reader.positions()[place.topic, place.partition] < offset:
            try:
                batch = reader.poll(5.0)
            except RecordError as error:
                # The client gives what comes before a bad record first, then fails at it.
                stopped = reader.positions()[place.topic, place.partition]
                if stopped >= offset:
                    return
                raise SkipRefused(
                    f"{place.topic} {place.partition} {stopped} cannot be read either: skip that record first, or give "
                    "up what is before yours with --drop-earlier"
                ) from error
            for record in batch:
                if record.offset >= offset:
                    return
                origin = f"{record.topic}-{record.partition}-{record.offset}".encode()
                headers = (*record.headers, (HEADER_REPLAYED_FROM, origin))
                yield Outgoing(record.topic, record.key, record.value, headers)
            if not batch and reader.at_end():
                return


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
