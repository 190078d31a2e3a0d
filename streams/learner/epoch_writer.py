"""Write the learner's decisions to the epoch log, which is the truth, and then to Redis, which serves them."""

import asyncio
import concurrent.futures
import functools
import hashlib
import logging
from collections.abc import Callable
from typing import Final

from alignstream.models.errors import RegistryCorrupt, RegistryError
from alignstream.models.registry.layout import Pointer, epoch_name
from alignstream.models.registry.store import Store
from alignstream.streams.learner.epoch_topic import EpochTopic
from alignstream.streams.learner.learning import FreezeChange, Learning, Opened
from alignstream.streams.learner.tenancy import sections_of, summary_of
from alignstream.streams.wire.epoch_log import (
    PROGRESS_KEY,
    EpochV1,
    EpochVersion,
    Progress,
    StateV1,
    TenantKey,
    encode,
    epoch_key,
    marks_to_store,
    split,
    state_key,
    with_version,
)

logger = logging.getLogger(__name__)

#: Epochs kept in Redis per tenant: the current one, and those that a worker may be fetching.
KEPT_BLOBS: Final = 3
#: Epochs published again per look, so that a look after a flush of many tenants stays short.
REPUBLISHED_AT_ONCE: Final = 64


class EpochWriter:
    """A writer of states, epochs and progress to the log, which keeps Redis equal to it.

    Parameters
    ----------
    topic : EpochTopic
        Claimed by this learner.
    store : Store
        Redis.
    executor : Executor
        Runs calls of the store, which block.
    """

    def __init__(self, topic: EpochTopic, store: Store, executor: concurrent.futures.Executor) -> None:
        self._topic = topic
        self._store = store
        self._executor = executor
        #: Whether the last look succeeded: a failure is logged once, not every two seconds.
        self._is_up = True

    # -- the log ---------------------------------------------------------------------------------------

    async def open(self, decision: Opened) -> EpochV1:
        """Write an epoch to the log, then publish it to Redis. An epoch that the log already has is skipped."""
        epoch = decision.epoch
        tenant_key = TenantKey(epoch.encoder, epoch.tenant)
        before = self._topic.log.epochs.get(tenant_key)
        if before is not None and any(version.number >= epoch.number for version in before.versions):
            return before  # decided before a crash, and again after it
        parts = split(epoch.blob)
        version = EpochVersion(
            number=epoch.number,
            reason=epoch.reason,
            position=decision.decided_at[1],
            sha256=epoch.sha256,
            size_bytes=len(epoch.blob),
            parts=list(parts),
            tenant_map=None if epoch.tenant_map is None else epoch.tenant_map.version,
        )
        await self._write_parts(parts)
        record = EpochV1(
            term=self._topic.term,
            encoder=epoch.encoder,
            tenant=epoch.tenant,
            current=version,
            decided_at=decision.decided_at,
            history=list(with_version(before, version)),
        )
        await self._announce(record)
        await self._serve(tenant_key, record)
        logger.info(
            "epoch %d of a tenant is live (%s, %d languages, %d texts in the bank, %d pairs%s)",
            epoch.number, epoch.reason, len(epoch.languages), len(epoch.bank), len(epoch.memory.ids),
            "; maps: " + "; ".join(decision.maps) if decision.maps else "",
        )  # fmt: skip
        return record

    async def freeze(self, decision: FreezeChange) -> EpochV1 | None:
        """Write that a tenant is frozen or thawed, and roll back to an older epoch if one is named.

        Returns
        -------
        EpochV1 or None
            The current epoch; None if the tenant has none, or if this was carried out before a crash.
        """
        before = self._topic.log.epochs.get(decision.tenant_key)
        # Later requests may have been carried out already. Repeating this one would undo them.
        if before is None or decision.decided_at < before.decided_at:
            return None
        current = before.current
        if decision.number is not None:
            target = next((version for version in before.versions if version.number == decision.number), None)
            if target is None:
                logger.warning(
                    "a tenant has no epoch %d to roll back to; it is frozen at its current one",
                    decision.number,
                )
            current = target or current
        record = EpochV1(
            term=self._topic.term,
            encoder=before.encoder,
            tenant=before.tenant,
            current=current,
            is_frozen=decision.is_frozen,
            decided_at=decision.decided_at,
            history=[version for version in before.versions if version.number != current.number],
        )
        await self._announce(record)
        await self._serve(decision.tenant_key, record)
        return record

    async def _announce(self, record: EpochV1) -> None:
        await self._topic.put(epoch_key(record.encoder, record.tenant), encode(record))
        await self._sweep()

    async def checkpoint(self, learning: Learning) -> None:
        """Write every changed state, then how far the observations were read, in this order.

        A crash between the two costs nothing: each state says which observations it includes.
        """
        position, marks = learning.position, dict(learning.marks)
        for (encoder, tenant), tenancy in learning.dirty():
            sections = {}
            parts: dict[str, bytes] = {}
            for name, blob in sections_of(tenancy).items():
                section_parts = split(blob)
                sections[name] = list(section_parts)
                parts |= section_parts
            await self._write_parts(parts)
            state = StateV1(
                term=self._topic.term,
                encoder=encoder,
                tenant=tenant,
                dim=tenancy.state.dim,
                position=max(tenancy.position, position),
                sections=sections,
                summary=summary_of(tenancy),
            )
            tenancy.is_dirty = False
            await self._topic.write(state_key(encoder, tenant), encode(state))
        progress = Progress(
            term=self._topic.term,
            position=position,
            timestamp=learning.timestamp,
            marks=marks_to_store(marks),
        )
        await self._topic.put(PROGRESS_KEY, encode(progress))
        await self._sweep()

    async def _write_parts(self, parts: dict[str, bytes]) -> None:
        known_parts = self._topic.log.parts
        await self._topic.write_parts({name: part for name, part in parts.items() if name not in known_parts})

    async def _sweep(self) -> None:
        """Remove the parts that no manifest names any more. By now every manifest written has been read."""
        unreferenced = self._topic.log.parts.keys() - self._topic.log.referenced
        await self._topic.write_parts(dict.fromkeys(sorted(unreferenced)))

    # -- Redis -----------------------------------------------------------------------------------------

    async def _serve(self, tenant_key: TenantKey, record: EpochV1) -> None:
        try:
            await self._call(lambda: self._publish(tenant_key, record))
        except RegistryError as error:
            logger.warning("an epoch cannot be published to Redis now and will be later: %s", error)

    async def _call(self, function: Callable[[], object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _publish(self, tenant_key: TenantKey, record: EpochV1) -> None:
        blob = self._topic.log.reassembled(record.current.parts)
        if blob is None or hashlib.sha256(blob).hexdigest() != record.current.sha256:
            logger.error("parts of an epoch are missing or damaged in the epoch log; it cannot be published")
            return
        encoder, tenant = tenant_key
        name = epoch_name(encoder, tenant)
        self._store.publish("epoch", name, blob, encoder=encoder, note=f"{record.current.reason}")
        self._store.prune("epoch", name, keep=KEPT_BLOBS)

    async def reconcile_registry(self) -> None:
        """Make Redis equal to the log, after a flush, an outage or a change from outside."""
        try:
            pointers = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._store.pointers, "epoch"
            )
            n_published = 0
            for tenant_key, record in list(self._topic.log.epochs.items()):
                pointer = pointers.get(epoch_name(*tenant_key))
                if isinstance(pointer, Pointer) and pointer.sha256 == record.current.sha256:
                    continue
                if isinstance(pointer, RegistryCorrupt):
                    logger.error("Redis holds a damaged pointer to an epoch: %s", pointer)
                    continue
                await self._call(functools.partial(self._publish, tenant_key, record))
                n_published += 1
                if n_published == REPUBLISHED_AT_ONCE:
                    break
            if n_published:
                logger.info("published %d epochs to Redis again", n_published)
        except RegistryError as error:
            if self._is_up:
                logger.warning("epochs cannot be published to Redis and wait in the epoch log: %s", error)
            self._is_up = False
        else:
            self._is_up = True
