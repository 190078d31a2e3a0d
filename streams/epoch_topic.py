"""``epochs.v1`` on the broker: read from its beginning, followed, and written under a claim.

A log on one partition orders all writers. Whoever wants to write first writes a claim with the next term, and reads
up to it: what stands before counts, what a former owner writes behind it does not. The claim is renewed while its
owner lives, so that another learner knows that it has to wait.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from alignstream.models.errors import AlignstreamError
from alignstream.streams.connections import tls_context
from alignstream.streams.epoch_log import CLAIM_KEY, HEADERS, LOOK_KEY, Claim, EpochLog, Manifest, encode
from alignstream.streams.outcome import Send
from alignstream.streams.settings import Settings
from alignstream.streams.topics import EPOCHS

logger = logging.getLogger(__name__)

#: Seconds without a renewal after which a claim is over, at least; a group notices a dead member as late.
LEASE_SECONDS: Final = 10.0
#: Renewals in the time of a lease.
RENEWALS: Final = 4
#: Milliseconds of one poll.
_POLL_MS: Final = 200


class Fenced(AlignstreamError):  # noqa: N818 (names what happened)
    """Another learner has claimed the log: this one must not write any more."""


class EpochTopic:
    """The topic as its owner sees it.

    Parameters
    ----------
    settings : Settings
    send : Send
        Starts a delivery.
    owner : str
        Name of this learner, the same after a restart on the same state folder.
    """

    def __init__(self, settings: Settings, send: Send, *, owner: str) -> None:
        self._settings = settings
        self._send = send
        self._owner = owner
        self._partition = TopicPartition(settings.topic_prefix + EPOCHS, 0)
        self._consumer: AIOKafkaConsumer | None = None
        self._renewed_at = 0.0
        self.lease_seconds = max(LEASE_SECONDS, settings.session_timeout_seconds)
        self.log = EpochLog()

    @property
    def term(self) -> int:
        """The term under which this learner writes; 0 before it has claimed."""
        claim = self.log.claim
        return claim.term if claim is not None and claim.owner == self._owner else 0

    async def open(self) -> None:
        """Begin to read from the first record."""
        await self.close()
        self.log = EpochLog()
        self._consumer = await open_reader(self._settings)
        self._consumer.assign([self._partition])
        await self._consumer.seek_to_beginning(self._partition)

    async def close(self) -> None:
        """Stop reading."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def claim(self, on_wait: Callable[[str | None], None]) -> None:
        """Wait until nobody else works, claim the log, and read all that counts.

        Parameters
        ----------
        on_wait : callable
            Told whom this learner waits for; None: for nobody.
        """
        while True:
            await self._read_up_to(await self.write(LOOK_KEY, b"{}"))
            other = self.log.claim
            if other is None or other.is_released or other.owner == self._owner:
                break
            on_wait(f"another learner ({other.owner}) is at work")
            if not await self._is_renewed(other):
                logger.warning("the learner %s has not renewed its claim; taking over", other.owner)
                break
        term = 1 if self.log.claim is None else self.log.claim.term + 1
        await self._read_up_to(await self.write(CLAIM_KEY, encode(Claim(term=term, owner=self._owner))))
        if self.term != term:
            raise Fenced("another learner claimed the log of epochs at the same moment; starting over")
        on_wait(None)
        self._renewed_at = time.monotonic()
        logger.info("claimed the log of epochs under term %d", term)

    async def _is_renewed(self, other: Claim) -> bool:
        """Watch for the time of a lease whether somebody else's claim lives."""
        deadline = time.monotonic() + self.lease_seconds
        while time.monotonic() < deadline:
            async for manifest in self._poll():
                if isinstance(manifest, Claim):
                    return True
        return self.log.claim is not other

    async def write(self, key: bytes, value: bytes | None) -> int:
        """Write one record, wait until it is confirmed, and return its offset."""
        confirmed = await self._send(EPOCHS, key, value, HEADERS)
        return int((await confirmed).offset)

    async def put(self, key: bytes, value: bytes) -> None:
        """Write a manifest, and read the log up to it.

        Raises
        ------
        Fenced
            Somebody else has claimed the log before it: it counts for nothing.
        """
        await self._read_up_to(await self.write(key, value))
        await self.check()

    async def renew(self) -> None:
        """Say that this learner lives, if it is time to, and look whether somebody else has claimed the log.

        Raises
        ------
        Fenced
            Somebody has.
        """
        await self.check()
        if time.monotonic() - self._renewed_at >= self.lease_seconds / RENEWALS:
            self._renewed_at = time.monotonic()
            await self.write(CLAIM_KEY, encode(Claim(term=self.term, owner=self._owner)))

    async def check(self) -> None:
        """Read what is new, and make sure that the log is still ours.

        Raises
        ------
        Fenced
            Somebody else has claimed it.
        """
        async for _ in self._poll(timeout_ms=0):
            pass
        if not self.term:
            owner = "nobody" if self.log.claim is None else self.log.claim.owner
            raise Fenced(
                f"the learner {owner} has claimed the log of epochs; this one must not write any more"
            )

    async def release(self) -> None:
        """Say that this learner has ended, so that the next need not wait."""
        if self.term:
            await self.write(CLAIM_KEY, encode(Claim(term=self.term, owner=self._owner, is_released=True)))

    async def _read_up_to(self, offset: int) -> None:
        """Read on until the record at an offset was applied."""
        consumer = self._reader
        while await consumer.position(self._partition) <= offset:
            async for _ in self._poll():
                pass

    @property
    def _reader(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise AlignstreamError("the log of epochs was not opened")
        return self._consumer

    async def _poll(self, timeout_ms: int = _POLL_MS) -> AsyncIterator[Manifest]:
        found = await self._reader.getmany(self._partition, timeout_ms=timeout_ms)
        for records in found.values():
            for record in records:
                manifest = self.log.apply(record.key, record.value)
                if manifest is not None:
                    yield manifest
        await asyncio.sleep(0)


async def open_reader(settings: Settings) -> AIOKafkaConsumer:
    """Return a started consumer without a group, for topics that are read by assignment."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "security_protocol": settings.broker_security,
        "ssl_context": tls_context(settings),
        "enable_auto_commit": False,
        "group_id": None,
        "auto_offset_reset": "earliest",
    }
    if settings.broker_security.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.broker_sasl_mechanism,
            "sasl_plain_username": settings.broker_username,
            "sasl_plain_password": settings.secret("broker_password"),
        }
    consumer = AIOKafkaConsumer(**options)
    try:
        await consumer.start()
    except BaseException:
        await consumer.stop()
        raise
    return consumer
