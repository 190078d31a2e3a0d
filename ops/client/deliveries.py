"""Documents sent one at a time, each confirmed by the broker a little later."""

import collections
from collections.abc import Callable
from typing import Any

import kafka.errors as kafka_errors

from alignstream.models.errors import BrokerError
from alignstream.ops.client.broker_topics import require_topics
from alignstream.ops.client.connection import close_producer, explain, open_producer
from alignstream.ops.client.producer import DOCUMENT_HEADERS
from alignstream.streams.settings import Settings


class Deliveries:
    """A producer, opened at the first document, and the documents that the broker has not confirmed.

    Parameters
    ----------
    settings : Settings
    on_failed : callable
        Called with the id of a document that was sent and could not be delivered.
    """

    def __init__(self, settings: Settings, on_failed: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_failed = on_failed
        self._producer: Any = None
        self._unconfirmed: collections.OrderedDict[str, Any] = collections.OrderedDict()

    def open(self, topic: str) -> None:
        """Look up the topic and open the producer, unless it is open.

        Raises
        ------
        TopicMissing
            There is no such topic.
        BrokerError
            The broker is away or refuses.
        """
        if self._producer is None:
            require_topics(self._settings, [topic])
            self._producer = open_producer(self._settings)

    def send(self, id: str, topic: str, key: bytes, value: bytes) -> Any:  # noqa: A002, ANN401 (the record's word; kafka-python has no types)
        """Send one document; return the future of its delivery.

        Raises
        ------
        BrokerError
            The broker is away or refuses.
        """
        self.open(topic)
        try:
            future = self._producer.send(topic, key=key, value=value, headers=list(DOCUMENT_HEADERS))
        except kafka_errors.KafkaError as error:
            raise self._failure(id, error) from error
        self.confirm(id)  # an earlier document of the same id
        self._unconfirmed[id] = future
        return future

    def confirm(self, id: str) -> None:  # noqa: A002 (the record's word)
        """Wait until one document is confirmed; return at once if it is, or was never sent here.

        Raises
        ------
        BrokerError
            It was not confirmed.
        """
        future = self._unconfirmed.pop(id, None)
        if future is None:
            return
        try:
            future.get(timeout=self._settings.produce_timeout_seconds + 5)
        except kafka_errors.KafkaError as error:
            self._on_failed(id)
            raise self._failure(id, error) from error

    def confirm_all(self) -> None:
        """Wait until every document is confirmed; see ``confirm``."""
        for id in list(self._unconfirmed):  # noqa: A001 (the record's word)
            self.confirm(id)

    def drop_confirmed(self) -> None:
        """Forget the oldest documents that are confirmed by now; wait for nothing."""
        while self._unconfirmed:
            id, oldest = next(iter(self._unconfirmed.items()))  # noqa: A001 (the record's word)
            if not oldest.is_done or oldest.failed():
                return
            self.confirm(id)

    def close(self) -> None:
        """Close the producer; what is not confirmed within a second is given up."""
        if self._producer is not None:
            close_producer(self._producer)
            self._producer = None

    def _failure(self, id: str, error: kafka_errors.KafkaError) -> BrokerError:  # noqa: A002 (the record's word)
        # An idempotent producer may be unusable after an error; what else it has in flight fails too.
        self.close()
        return BrokerError(f"document {id} was not confirmed: {explain(error, self._settings)}")
