"""Faust's Kafka transport, hardened: it commits only acknowledged records, and forgets no acknowledgement.

It fixes these defects of faust-streaming 0.15.3 (each has a test in ``tests/contract``):

1. ``Consumer._new_offset`` lets a commit skip a record in flight: by one, and by any number while
   nothing has been committed yet (issue 606 there). Here a commit is the low-water mark of the records handed out.
2. ``Consumer._commit_offsets`` records an offset as committed even if the commit failed (issue 316 there).
3. ``Consumer.on_partitions_revoked`` forgets the acknowledgements since the last commit before it commits,
   so every join or leave repeats up to a commit interval of records. If a commit is already under way,
   ``wait_empty`` also skips its own last commit.
4. Idempotent producing and ``read_committed`` are available only with transactions.
5. ``Consumer.wait_empty`` waits, after a crash too, for the records that the crash left unfinished: for ever, if a
   traceback keeps them alive.
"""

import dataclasses
import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import faust
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException, KafkaError, UnsupportedCodecError
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

logger = logging.getLogger(__name__)

SCHEME: Final = "alignstream"


@dataclasses.dataclass(frozen=True, slots=True)
class TransportOptions:
    """Options of the transport for which Faust has no settings."""

    idempotence: bool
    read_committed: bool


class App(faust.App):
    """A Faust app that carries the options of its transport."""

    transport_options: TransportOptions


class LowWater:
    """The low-water mark of one partition: what was handed out and is not yet acknowledged.

    ``offset`` is the next offset to commit: everything below it is acknowledged or holds no record
    (compacted away, or a transaction marker). None until the first acknowledgement.
    """

    def __init__(self) -> None:
        self._pending: deque[int] = deque()
        #: Acknowledged offsets above one that is not.
        self._acked: set[int] = set()
        self._last_seen = -1
        self.offset: int | None = None

    def handed_out(self, offset: int) -> None:
        """Record that an offset was handed out; the same offset again, after a seek, changes nothing."""
        if offset > self._last_seen:
            self._pending.append(offset)
            self._last_seen = offset

    def acked(self, offset: int) -> None:
        """Record that an offset was acknowledged, and advance the mark as far as possible."""
        if not self._pending or offset < self._pending[0]:
            return  # acknowledged before, and delivered again after a seek
        self._acked.add(offset)
        while self._pending and self._pending[0] in self._acked:
            first = self._pending.popleft()
            self._acked.discard(first)
            self.offset = first + 1

    @property
    def first_pending(self) -> int | None:
        """The lowest offset handed out and not yet acknowledged, or None if there is none."""
        return self._pending[0] if self._pending else None

    @property
    def n_pending(self) -> int:
        """The number of records handed out and not yet acknowledged."""
        return len(self._pending)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that talks to the broker."""

    def _create_worker_consumer(self, transport: Any) -> Any:  # noqa: ANN401 (untyped library)
        consumer = super()._create_worker_consumer(transport)
        if cast(App, self.app).transport_options.read_committed:
            # Read when the consumer starts; Faust hard-wires the constructor's argument.
            consumer._isolation_level = "read_committed"  # noqa: SLF001 (see above)
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (untyped library)
        try:
            return await super()._fetch_records(consumer, *args, **kwargs)
        except (KafkaError, ConsumerStoppedError) as error:
            if isinstance(error, CorruptRecordException | UnsupportedCodecError):
                _log_unreadable(consumer, error)
            raise
        except Exception as error:
            _log_unreadable(consumer, error)
            raise

    def _state(self, tp: TP) -> Any:  # noqa: ANN401 (untyped library)
        # The public methods assert that the partition is assigned, which may change at any moment.
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001 (see above)
        assignment = None if subscription is None else subscription.assignment
        return None if assignment is None else assignment.state_value(tp)

    def highwater(self, tp: TP) -> int:
        """Return the end offset of what may be read now, or None (despite Faust's annotation) while unknown.

        With ``read_committed``, an open transaction hides the records after it.
        """
        state = self._state(tp)
        if state is None:
            return cast(int, None)
        is_hidden = cast(App, self.app).transport_options.read_committed and state.lso is not None
        return cast(int, state.lso if is_hidden and state.lso >= 0 else state.highwater)

    def fetched(self, tp: TP) -> int | None:
        """Return the next offset to fetch, or None while it is unknown."""
        state = self._state(tp)
        return state.position if state is not None and state.has_valid_position else None


def _log_unreadable(consumer: Any, error: Exception) -> None:  # noqa: ANN401 (untyped library)
    """Log where the unreadable record is: it ends the process at every start until an operator skips it."""
    fetched = consumer._fetcher._records  # noqa: SLF001 (no public API knows what was fetched and not yet read)
    positions = [
        f"{tp.topic} {tp.partition} {result._partition_records.next_fetch_offset}"  # noqa: SLF001 (likewise)
        for tp, result in fetched.items()
        if getattr(result, "_partition_records", None) is not None
    ]
    logger.critical(
        "a record cannot be unpacked (%s: %s), at or after %s. No worker can get past it: stop the workers, then "
        "skip it with 'alignstream skip TOPIC PARTITION OFFSET'",
        type(error).__name__, error, "; or ".join(positions) or "an unknown offset",
    )  # fmt: skip


class Consumer(driver.Consumer):
    """A consumer that commits the low-water mark of each partition, and nothing above it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (whatever the parent takes)
        super().__init__(*args, **kwargs)
        self.low_water: dict[TP, LowWater] = defaultdict(LowWater)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:  # noqa: ANN401 (untyped library)
        # The last step before the conductor gets the record: from here on we must track it.
        self.low_water[tp].handed_out(record.offset)
        message = super()._to_message(tp, record)
        message.time_in = time.monotonic()
        return message

    def ack(self, message: Message) -> bool:
        """Acknowledge a record."""
        tp = message.tp
        if super().ack(message):
            self.low_water[tp].acked(message.offset)
            return True
        return False

    def abandon(self, message: Message) -> None:
        """Drop a record without acknowledging it; the partition's next owner reads it again.

        Otherwise a rebalance or a shutdown would wait forever for its acknowledgement.
        """
        self._unacked_messages.discard(message)

    def _clean_unacked_messages(self) -> None:
        """Forget what is finished, and after a crash everything: nobody finishes it here, and it was not committed."""
        if self.app.crashed:
            self._unacked_messages.clear()
        super()._clean_unacked_messages()

    def done(self, tp: TP) -> int | None:
        """Return the next offset to finish in a partition, or None while unknown.

        With no record pending, this is the next offset to fetch: the offsets before it are expired, compacted
        away or transaction markers, and will never be delivered.
        """
        first = self.low_water[tp].first_pending
        return cast(ConsumerThread, self._thread).fetched(tp) if first is None else first

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: the low-water mark ignores offsets that do not exist."""

    def _new_offset(self, tp: TP) -> int | None:
        """Return the low-water mark if it is above the committed offset, else None."""
        offset = self.low_water[tp].offset
        if offset is None:
            return None
        # Here the parent's lists of acknowledged offsets only trigger commits; keep them short.
        self._acked[tp] = [acked for acked in self._acked[tp] if acked >= offset]
        self._acked_index[tp] = set(self._acked[tp])
        committed = self._committed_offset[tp]
        return offset if committed is None or offset > committed else None

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002 (the parent's signature)
        """Commit, and record offsets as committed only if the commit succeeded.

        The parent first flushes the producer, and so waits for a partition that cannot be written, whichever it is.
        There is nothing to wait for: records are acknowledged once the broker has confirmed their outputs.
        """
        assignment = self.assignment()
        owned = {tp: offset for tp, offset in offsets.items() if tp in assignment}
        if not owned:
            return False
        if not await self._commit(owned):
            return False
        self._committed_offset.update(owned)
        self.app.monitor.on_tp_commit(owned)
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit the records in flight, then give up the partitions."""
        if not self.app.should_stop and self.assignment():
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self.wait_empty()
            # If a commit was already under way, wait_empty only waited for that one, which may predate the
            # last acknowledgement.
            await self.commit()
        await super().on_partitions_revoked(revoked)
        self._forget(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start afresh: reading resumes where the group committed."""
        self._forget(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            self.low_water.pop(tp, None)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's stall check compares two different clocks. ``watchdog`` replaces it."""


class Producer(driver.Producer):
    """A producer that can be idempotent without transactions."""

    def _settings_extra(self) -> Mapping[str, Any]:
        if cast(App, self.app).transport_options.idempotence:
            return {"acks": "all", "enable_idempotence": True}
        return {"acks": "all"}


class Transport(driver.Transport):
    """The hardened consumer and producer, under the URL scheme ``alignstream://``."""

    Consumer = Consumer
    Producer = Producer


TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
