"""What the settings say of connections: TLS, kafka-python's clients, the registry store."""

import ssl
from typing import Any

import kafka

from alignstream.models.errors import SettingsError
from alignstream.models.registry.redis_store import RedisStore
from alignstream.streams.settings import Settings

#: What to do when a TLS connection to the broker fails.
TLS_REMEDY = (
    "check ALIGNSTREAM_BROKER_SECURITY, ALIGNSTREAM_BROKER_CA_FILE, ALIGNSTREAM_BROKER_CERT_FILE and "
    "ALIGNSTREAM_BROKER_KEY_FILE"
)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context for the broker, or None if the connection is not encrypted.

    Raises
    ------
    SettingsError
        A certificate or key cannot be read.
    """
    if settings.broker_security in {"PLAINTEXT", "SASL_PLAINTEXT"}:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.broker_ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.broker_cert_file is not None:
            context.load_cert_chain(settings.broker_cert_file, settings.broker_key_file)
    except (OSError, ssl.SSLError) as error:
        files = (settings.broker_ca_file, settings.broker_cert_file, settings.broker_key_file)
        names = ", ".join(str(path) for path in files if path is not None)
        raise SettingsError(f"the TLS files for the broker cannot be used ({names}): {error}") from error
    return context


def kafka_python_options(settings: Settings, *, client_id: str) -> dict[str, Any]:
    """Return where the broker is, and how to log in there, as kafka-python's clients take it.

    Raises
    ------
    SettingsError
        A certificate, key or password file cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker.split(","),
        "client_id": client_id,
        "security_protocol": settings.broker_security,
    }
    if settings.broker_security in {"SSL", "SASL_SSL"}:
        options["ssl_context"] = tls_context(settings)
    if settings.broker_security.startswith("SASL"):
        options["sasl_mechanism"] = settings.broker_sasl_mechanism
        options["sasl_plain_username"] = settings.broker_username
        options["sasl_plain_password"] = settings.secret("broker_password") or ""
    return options


def open_side_client(settings: Settings, *, max_request_bytes: int) -> kafka.KafkaProducer:
    """Open a producer whose deliveries end in time: by ``produce_timeout_seconds`` each has succeeded or failed."""
    timeout_ms = int(settings.produce_timeout_seconds * 1000)
    return kafka.KafkaProducer(
        **kafka_python_options(settings, client_id="alignstream-observations"),
        acks="all",
        enable_idempotence=False,  # the learner drops duplicates by their origin
        compression_type=None if settings.compression == "none" else settings.compression,
        bootstrap_timeout_ms=min(5000, timeout_ms),
        max_block_ms=min(5000, timeout_ms),
        request_timeout_ms=max(1, timeout_ms // 2),
        delivery_timeout_ms=timeout_ms,
        reconnect_backoff_max_ms=1000,
        max_request_size=max_request_bytes,
    )


def open_store(settings: Settings) -> RedisStore:
    """Return the registry store that the settings name."""
    return RedisStore(
        settings.redis_url,
        username=settings.redis_username,
        password=settings.secret("redis_password"),
        ca_file=settings.redis_ca_file,
        timeout_seconds=settings.redis_timeout_seconds,
    )
