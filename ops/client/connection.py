"""Connect people's tools to the broker: client options from the settings, and errors that say what to do.

The only module of ``ops`` that opens kafka-python clients. The worker uses aiokafka instead, so what these tools read
is checked by a second, independent client.
"""

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import kafka
import kafka.errors as kafka_errors

from alignstream.models.errors import BrokerError, BrokerUnavailable, TopicMissing
from alignstream.streams.kafka.connections import TLS_REMEDY, kafka_python_options
from alignstream.streams.observe.logs import LogCapture, captured_log
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DEAD_LETTER_EXTRA_BYTES, DEFAULT_MAX_MESSAGE_BYTES

#: Seconds until we give up on a broker that does not answer: a person is waiting at a prompt.
PROBE_SECONDS: Final = 4.0
BOOTSTRAP_SECONDS: Final = 5.0
#: Seconds for one request: long enough for a broker that shares two cores with an encoder.
REQUEST_SECONDS: Final = 15.0
#: A coordinator that is being elected (the first use of a fresh cluster) answers within seconds.
COORDINATOR_SECONDS: Final = 15.0

#: The broker decides what is too large for a topic; this limit must only be no smaller, with room for the format.
MAX_REQUEST_BYTES: Final = DEFAULT_MAX_MESSAGE_BYTES + 2 * DEAD_LETTER_EXTRA_BYTES

# Without a handler Python would print the client's own log lines beside our message.
logging.getLogger("kafka").addHandler(logging.NullHandler())

T = TypeVar("T")


def topic_name(settings: Settings, name: str) -> str:
    """Return a topic's name on the broker: the configured prefix, then the name."""
    return settings.topic_prefix + name


def resolve_topic(settings: Settings, name: str) -> str:
    """Return a topic's name on the broker, given with or without the prefix."""
    return name if name.startswith(settings.topic_prefix) else topic_name(settings, name)


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Return the options that every kafka-python client of these tools takes from the settings.

    Raises
    ------
    SettingsError
        A certificate, key or password file cannot be used.
    """
    return kafka_python_options(settings, client_id="alignstream-tools") | {
        "bootstrap_timeout_ms": int(BOOTSTRAP_SECONDS * 1000),
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "reconnect_backoff_max_ms": 1000,
    }


def probe(settings: Settings) -> None:
    """Check that one of the configured addresses accepts a TCP connection.

    Called before a client is opened: a client retries for seconds and then reports only a timeout.

    Raises
    ------
    BrokerUnavailable
        None does; the message gives the reason for each address.
    """
    addresses = settings.broker.split(",")
    reasons = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS / len(addresses)):
                return
        except ConnectionRefusedError:
            reasons.append(f"{address}: connection refused")
        except TimeoutError:
            reasons.append(f"{address}: no answer")
        except OSError as error:
            reasons.append(f"{address}: {error.strerror or error}")
    raise BrokerUnavailable(
        f"no Kafka broker answers ({'; '.join(reasons)}): start one with 'alignstream up', or set ALIGNSTREAM_BROKER"
    )


def explain(
    error: kafka_errors.KafkaError, settings: Settings, heard: LogCapture | None = None
) -> BrokerError:
    """Turn a client's error into one that says what went wrong, where, and what to do.

    Parameters
    ----------
    heard
        What the client logged: only its log says why a connection failed.
    """
    where, detail = settings.broker, " ".join(str(error).split())
    if heard is not None:
        refused = heard.about(kafka_errors.SaslAuthenticationFailedError)
        if refused:
            return BrokerError(f"{where}: the broker refused the user name or password: {refused}")
        if settings.broker_security.startswith("SASL") and heard.about(naming="socket disconnected"):
            return BrokerError(
                f"{where}: the broker closed the connection during login, which is how some brokers refuse a wrong "
                "user name or password: check ALIGNSTREAM_BROKER_USERNAME, ALIGNSTREAM_BROKER_PASSWORD and "
                f"ALIGNSTREAM_BROKER_SASL_MECHANISM={settings.broker_sasl_mechanism}"
            )
        insecure = heard.about(ssl.SSLError, naming="[SSL")
        if insecure:
            return BrokerError(f"{where}: no TLS connection: {insecure}; {TLS_REMEDY}")
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return BrokerError(f"{detail}: install kafka-python with its extras lz4, snappy and zstd")
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
        return BrokerError(f"{where}: the broker refused the user name or password: {detail}")
    if isinstance(error, kafka_errors.AuthorizationError):
        return BrokerError(f"{where}: this user may not do that: {detail}; ask for the ACL")
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return TopicMissing(f"{where}: a topic does not exist: {detail}; see 'alignstream topics create'")
    if isinstance(error, kafka_errors.KafkaTimeoutError | kafka_errors.KafkaConnectionError):
        return BrokerUnavailable(
            f"{where} accepts connections but did not answer in time ({detail}): is ALIGNSTREAM_BROKER_SECURITY="
            f"{settings.broker_security} right, and can the broker's advertised address be reached from here?"
        )
    return BrokerError(f"{where}: {detail}")


@contextlib.contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turn kafka-python's errors into ``BrokerError``."""
    with captured_log("kafka.net.manager") as heard:
        try:
            yield
        except kafka_errors.KafkaError as error:
            is_lost = isinstance(error, kafka_errors.KafkaTimeoutError | kafka_errors.KafkaConnectionError)
            raise explain(error, settings, heard if is_lost else None) from error


def retrying(call: Callable[[], T]) -> T:
    """Repeat a call until there is a group coordinator; on a fresh cluster the first call starts its election."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return call()
        except (
            kafka_errors.CoordinatorNotAvailableError,
            kafka_errors.CoordinatorLoadInProgressError,
            kafka_errors.NotCoordinatorError,
        ):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


@contextlib.contextmanager
def open_admin(settings: Settings) -> Iterator[Any]:
    """Open an administration client, and close it.

    Raises
    ------
    BrokerError
        The broker is away or refused.
    """
    probe(settings)
    with broker_errors(settings):
        client = kafka.KafkaAdminClient(**kafka_options(settings))
        try:
            yield client
        finally:
            client.close()


def open_consumer(settings: Settings, **options: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
    """Return a consumer without a group; the caller assigns partitions and closes it.

    Raises
    ------
    BrokerError
        The broker is away or refused.
    """
    probe(settings)
    with broker_errors(settings):
        return kafka.KafkaConsumer(
            **kafka_options(settings),
            group_id=None,
            enable_auto_commit=False,
            # Retention can overtake a slow reader: go on with the oldest record left, and skip no more than that.
            auto_offset_reset="earliest",
            isolation_level="read_committed" if settings.read_committed else "read_uncommitted",
            allow_auto_create_topics=False,
            # Short enough for every partition to answer within one idle poll.
            fetch_max_wait_ms=100,
            **options,
        )


def open_producer(settings: Settings) -> Any:  # noqa: ANN401 (kafka-python has no types)
    """Return a producer that confirms every record and keeps the order; the caller closes it.

    Raises
    ------
    BrokerError
        The broker is away or refused, or the codec of ``settings.compression`` is not installed.
    """
    probe(settings)
    delivery_seconds = settings.produce_timeout_seconds
    options = kafka_options(settings) | {
        "acks": "all",
        "enable_idempotence": settings.idempotence,
        # Without idempotence a retry could overtake the request after it.
        "max_in_flight_requests_per_connection": 5 if settings.idempotence else 1,
        "compression_type": None if settings.compression == "none" else settings.compression,
        "linger_ms": int(settings.producer_linger_seconds * 1000),
        "batch_size": 64 * 1024,
        "max_request_size": MAX_REQUEST_BYTES + 16 * 1024,
        "request_timeout_ms": int(min(REQUEST_SECONDS, delivery_seconds) * 1000),
        "delivery_timeout_ms": int((delivery_seconds + settings.producer_linger_seconds) * 1000),
        "max_block_ms": int(delivery_seconds * 1000),
        "allow_auto_create_topics": False,
    }
    with broker_errors(settings):
        try:
            return kafka.KafkaProducer(**options)
        except RuntimeError as error:  # how this client reports that a codec's library is missing
            raise BrokerError(
                f"compression={settings.compression}: {error}; install kafka-python with its extras lz4, snappy "
                "and zstd, or set ALIGNSTREAM_COMPRESSION=gzip"
            ) from error


def close_producer(producer: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
    """Close a producer within about a second; what is not confirmed by then is given up."""
    try:
        producer.close(timeout=1)
    except kafka_errors.KafkaTimeoutError:
        # Its own close stops half-way here, and would raise again when it is garbage-collected.
        sender = producer._sender  # noqa: SLF001
        sender.force_close()
        sender.join(1)
        producer._closed = True  # noqa: SLF001
