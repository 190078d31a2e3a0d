"""The TLS context and the registry store that the settings describe. Nothing connects here."""

import ssl

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


def open_store(settings: Settings) -> RedisStore:
    """Return the registry store that the settings name."""
    return RedisStore(
        settings.redis_url,
        username=settings.redis_username,
        password=settings.secret("redis_password"),
        ca_file=settings.redis_ca_file,
        timeout_seconds=settings.redis_timeout_seconds,
    )
