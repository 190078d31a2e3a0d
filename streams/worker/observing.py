"""What the worker tells the learner, beside the way of documents."""

import asyncio
from collections.abc import Sequence

from alignstream.streams.kafka.side_producer import SideProducer
from alignstream.streams.wire.observations import Observed, packed


class Observing:
    """Packs what was observed, and hands it to a producer of its own.

    Parameters
    ----------
    producer : SideProducer
    encoder, dim
        Fingerprint and embedding dimension of the encoder.
    timeout_seconds : float
        How long a delivery is waited for; the producer gives up no later.
    """

    def __init__(self, producer: SideProducer, *, encoder: str, dim: int, timeout_seconds: float) -> None:
        self._producer = producer
        self._encoder = encoder
        self._dim = dim
        self._timeout_seconds = timeout_seconds

    def offer(self, observed: Sequence[Observed]) -> None:
        """Hand on what may be lost; never wait."""
        if observed:
            self._producer.offer(packed(observed, encoder=self._encoder, dim=self._dim))

    async def deliver(self, observed: Sequence[Observed]) -> bool:
        """Hand on what may not be lost; say whether the broker has confirmed all of it."""
        values = packed(observed, encoder=self._encoder, dim=self._dim)
        confirmed = asyncio.gather(*map(asyncio.wrap_future, self._producer.deliver(values)))
        try:
            return all(await asyncio.wait_for(confirmed, self._timeout_seconds))
        except TimeoutError:
            return False
