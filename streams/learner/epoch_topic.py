"""``epochs.v1`` on the broker: read from its beginning, followed, and written under a claim.

The log has one partition, which orders all writers. To write, a learner first writes a claim with the next term and
reads up to it: records before the claim are valid; what a former owner writes after it is fenced. The owner renews its
claim while it lives, so that other learners know that they must wait. An owner that was delayed reads the log before
it writes. If it writes after losing its claim all the same, its successor restores the valid records before compaction
can remove them.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from alignstream.models.errors import AlignstreamError, Fenced
from alignstream.streams.kafka.connections import tls_context
from alignstream.streams.settings import Settings
from alignstream.streams.wire.epoch_log import (
    CLAIM_KEY,
    HEADERS,
    LOOK_KEY,
    PART_HEADERS,
    PART_PREFIX,
    Claim,
    EpochLog,
    Manifest,
    encode,
    part_key,
    term_header,
)
from alignstream.streams.wire.outcome import Send
from alignstream.streams.wire.topics import EPOCHS

logger = logging.getLogger(__name__)

#: Shortest lease: seconds without a renewal after which a claim expires. A group notices a dead member no sooner.
LEASE_SECONDS: Final = 6.0
#: Renewals per lease.
RENEWALS: Final = 4
#: Share of a lease for which a look at the log is trusted: less than others wait before they take over.
SURE_SHARE: Final = 0.5
#: Milliseconds per poll.
_POLL_MS: Final = 200


class EpochTopic:
    """The topic as read and written by one learner.

    Parameters
    ----------
    settings : Settings
    send : Send
        Starts a delivery.
    owner : str
        Name of this learner, kept across restarts on the same state folder.
    """

    def __init__(self, settings: Settings, send: Send, *, owner: str) -> None:
        self._settings = settings
        self._send = send
        self._owner = owner
        self._partition = TopicPartition(settings.topic_prefix + EPOCHS, 0)
        self._consumer: AIOKafkaConsumer | None = None
        self._renewed_at = 0.0
        #: When the log was last known to be ours to its end, and the term of our claim.
        self._sure_at = 0.0
        self._claimed = 0
        self.lease_seconds = max(LEASE_SECONDS, settings.session_timeout_seconds)
        self.log = EpochLog()

    @property
    def term(self) -> int:
        """The term under which this learner writes; 0 before it has a claim and after it has lost it."""
        claim = self.log.claim
        # The name alone is not enough: a copied state folder gives two learners the same name.
        is_ours = claim is not None and claim.owner == self._owner and claim.term == self._claimed
        return self._claimed if is_ours else 0

    async def open(self) -> None:
        """Start reading from the first record."""
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

    async def claim(self, on_wait: Callable[[str | None], None], is_wanted: Callable[[], bool]) -> bool:
        """Wait until no other learner is active, claim the log, and read it up to the claim.

        Parameters
        ----------
        on_wait : callable
            Called repeatedly with the reason for waiting; None: there is none.
        is_wanted : callable
            Returns whether the claim is still wanted.

        Returns
        -------
        bool
            Whether the log is claimed.
        """
        self._claimed = 0
        while is_wanted():
            now = time.monotonic()
            await self._read_up_to(await self._write(LOOK_KEY, b"{}"))
            current = self.log.claim
            if not (current is None or current.is_released or current.owner == self._owner):
                on_wait(f"another learner ({current.owner}) is active")
                if await self._is_renewed(current, is_wanted):
                    continue
                logger.warning("learner %s has not renewed its claim; taking over", current.owner)
            term = self.log.highest_term + 1
            await self._read_up_to(await self._write(CLAIM_KEY, encode(Claim(term=term, owner=self._owner))))
            claim = self.log.claim
            if claim is None or (claim.term, claim.owner) != (term, self._owner):
                continue  # another learner was first
            self._claimed = term
            self._renewed_at = self._sure_at = now
            on_wait(None)
            logger.info("claimed the epoch log with term %d", term)
            await self.rewrite_fenced()
            return True
        on_wait(None)
        return False

    async def _is_renewed(self, current: Claim, is_wanted: Callable[[], bool]) -> bool:
        """Watch a claim for one lease; return whether it was renewed, or True if waiting is no longer wanted."""
        deadline = time.monotonic() + self.lease_seconds
        while time.monotonic() < deadline:
            async for manifest in self._poll():
                if isinstance(manifest, Claim):
                    return True
            if not is_wanted():
                return True
        return self.log.claim is not current

    async def _write(self, key: bytes, value: bytes | None) -> int:
        """Write one record, wait for its confirmation, and return its offset."""
        headers = PART_HEADERS if key.startswith(PART_PREFIX) else HEADERS
        confirmed = await self._send(EPOCHS, key, value, (*headers, *term_header(self._claimed)))
        return int((await confirmed).offset)

    async def write(self, key: bytes, value: bytes) -> None:
        """Write a manifest and wait for its confirmation.

        Raises
        ------
        Fenced
            Another learner has claimed the log.
        """
        await self._read_to_end()
        await self._write(key, value)

    async def put(self, key: bytes, value: bytes) -> None:
        """Write a manifest and read the log up to it.

        Raises
        ------
        Fenced
            Another learner claimed the log first; the manifest is not valid.
        """
        await self._read_to_end()
        await self._read_up_to(await self._write(key, value))
        self._stay_owner()

    async def write_parts(self, parts: Mapping[str, bytes | None]) -> None:
        """Write parts, or tombstones for those that are None, and wait for all confirmations.

        Raises
        ------
        Fenced
            Another learner has claimed the log.
        """
        if not parts:
            return
        await self._read_to_end()
        headers = (*PART_HEADERS, *term_header(self._claimed))
        confirmed = [await self._send(EPOCHS, part_key(name), part, headers) for name, part in parts.items()]
        await asyncio.gather(*confirmed)
        for name, part in parts.items():
            if part is None:
                # At once, not when the tombstone is read: until then the part would seem to be in the log.
                self.log.parts.pop(name, None)

    async def renew(self) -> None:
        """Renew the claim if it is time, and check that no other learner has claimed the log.

        Raises
        ------
        Fenced
            Another learner has claimed the log.
        """
        async for _ in self._poll(timeout_ms=0):
            pass
        self._stay_owner()
        now = time.monotonic()
        if now - self._renewed_at >= self.lease_seconds / RENEWALS:
            await self.put(CLAIM_KEY, encode(Claim(term=self.term, owner=self._owner)))
            self._renewed_at = self._sure_at = now
        await self.rewrite_fenced()

    async def rewrite_fenced(self) -> None:
        """Write again the valid records that fenced ones replaced."""
        for key in sorted(self.log.spoiled):
            logger.warning("a former learner wrote after losing its claim; restoring the valid record")
            await self._read_to_end()
            await self._read_up_to(await self._write(key, self.log.repaired(key, term=self.term)))
            self._stay_owner()
            self.log.spoiled.discard(key)

    async def _read_to_end(self) -> None:
        """Before a write, read the log to its end, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._sure_at > SURE_SHARE * self.lease_seconds:
            await self._read_up_to(await self._write(LOOK_KEY, b"{}"))
            self._sure_at = now
        self._stay_owner()

    def _stay_owner(self) -> None:
        if not self.term:
            owner = "nobody" if self.log.claim is None else self.log.claim.owner
            raise Fenced(f"learner {owner} has claimed the epoch log; this one must no longer write to it")

    async def release(self) -> None:
        """Release the claim, so that the next learner need not wait.

        Raises
        ------
        Fenced
            Another learner has claimed the log.
        """
        if self.term:
            await self._read_to_end()
            await self._write(CLAIM_KEY, encode(Claim(term=self.term, owner=self._owner, is_released=True)))
            self._claimed = 0

    async def _read_up_to(self, offset: int) -> None:
        """Read until the record at an offset has been applied."""
        consumer = self._reader
        while await consumer.position(self._partition) <= offset:
            async for _ in self._poll():
                pass

    @property
    def _reader(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise AlignstreamError("the epoch log is not open")
        return self._consumer

    async def _poll(self, timeout_ms: int = _POLL_MS) -> AsyncIterator[Manifest]:
        fetched = await self._reader.getmany(self._partition, timeout_ms=timeout_ms)
        for records in fetched.values():
            for record in records:
                manifest = self.log.apply(record.key, record.value, record.headers)
                if manifest is not None:
                    yield manifest
        await asyncio.sleep(0)


async def open_reader(settings: Settings) -> AIOKafkaConsumer:
    """Return a started consumer without a group, for reading topics by assignment."""
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
