"""Checks of the broker before Faust starts: that the topics exist, and how large a record each accepts.

Also Faust's credentials.
"""

import logging
import ssl
from collections.abc import Collection, Mapping
from typing import Any, Final

import faust
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed
from faust.types.auth import CredentialsT

from alignstream.models.errors import BrokerNotReady
from alignstream.streams.kafka.connections import TLS_REMEDY, tls_context
from alignstream.streams.observe.logs import LogCapture, captured_log
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import (
    DEAD_LETTER_EXTRA_BYTES,
    DEAD_LETTERS,
    DEFAULT_MAX_MESSAGE_BYTES,
    INPUTS,
    LABELS,
    PAIRS_SCORED,
    VECTORS,
    specs,
)

logger = logging.getLogger(__name__)

#: Milliseconds to wait for each reply of the broker; the service then retries.
ASK_TIMEOUT_MS: Final = 5000


def credentials(settings: Settings) -> CredentialsT | None:
    """Return Faust's credentials for the broker, or None for a plain connection."""
    context = tls_context(settings)
    if settings.broker_security.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.broker_username,
            password=settings.secret("broker_password"),
            ssl_context=context,
            mechanism=settings.broker_sasl_mechanism,
        )
    return None if context is None else faust.SSLCredentials(context)


async def record_limits(settings: Settings, *, optional: Collection[str] = ()) -> dict[str, int]:
    """Return the largest record that each topic accepts, in bytes, by topic name without prefix.

    Where the broker does not tell (the local stack's does not), the value that ``topics create`` sets.

    Parameters
    ----------
    settings : Settings
    optional : collection of str
        Topics that may be missing or of the wrong shape, which is logged.

    Raises
    ------
    BrokerNotReady
        The broker does not answer, a topic is missing, or one that orders its records has several partitions.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "request_timeout_ms": ASK_TIMEOUT_MS,
        "security_protocol": settings.broker_security,
        "ssl_context": tls_context(settings),
    }
    if settings.broker_security.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.broker_sasl_mechanism,
            "sasl_plain_username": settings.broker_username,
            "sasl_plain_password": settings.secret("broker_password"),
        }
    admin = AIOKafkaAdminClient(**options)
    with captured_log("aiokafka") as heard:
        try:
            await admin.start()
            n_partitions = {item["topic"]: len(item["partitions"]) for item in await admin.describe_topics()}
            problems = _problems(settings, n_partitions)
            if problems.keys() - set(optional):
                raise BrokerNotReady(_told(settings, problems))
            if problems:
                logger.warning("%s; going on without", _told(settings, problems))
            names = {spec.name: settings.topic_prefix + spec.name for spec in specs()}
            return {name: await _max_message_bytes(admin, topic, name) for name, topic in names.items()}
        except (TimeoutError, KafkaError, OSError) as error:
            raise BrokerNotReady(_why_not_ready(settings, error, heard)) from error
        finally:
            await admin.close()


def _problems(settings: Settings, n_partitions: Mapping[str, int]) -> dict[str, str]:
    """Return what is wrong with topics, by name without prefix; nothing: the topic is missing."""
    problems = {}
    for spec in specs():
        found = n_partitions.get(settings.topic_prefix + spec.name)
        if found is None:
            problems[spec.name] = ""
        elif spec.n_partitions not in {None, found}:
            problems[spec.name] = (
                f"{settings.topic_prefix}{spec.name} has {found} partitions and needs {spec.n_partitions}, which puts "
                "all of its records in one order: delete it and create it with 'alignstream topics create'; what the "
                "learner knows is lost with epochs.v1, and learned anew"
            )
    return problems


def _told(settings: Settings, problems: Mapping[str, str]) -> str:
    missing = ", ".join(
        sorted(settings.topic_prefix + name for name, problem in problems.items() if not problem)
    )
    told = [problem for problem in problems.values() if problem]
    if missing:
        told.insert(
            0,
            f"topics are missing on {settings.broker}: {missing}; create them with 'alignstream topics create'",
        )
    return "; ".join(told)


def _why_not_ready(settings: Settings, error: Exception, heard: LogCapture) -> str:
    """Return why the broker cannot be used; the library's exception does not say why, only its log does."""
    refused = heard.about(AuthenticationFailedError, SaslAuthenticationFailed)
    if refused:
        return f"the broker {settings.broker} refuses the user name or password: {refused}"
    insecure = heard.about(ssl.SSLError)
    if insecure:
        return f"no TLS connection to the broker {settings.broker}: {insecure}; {TLS_REMEDY}"
    reason = heard.about(Exception) or str(error) or type(error).__name__
    return (
        f"the broker {settings.broker} does not answer: {reason}; check that it is running, and that "
        f"ALIGNSTREAM_BROKER and ALIGNSTREAM_BROKER_SECURITY={settings.broker_security} are right"
    )


async def _max_message_bytes(admin: AIOKafkaAdminClient, topic: str, name: str) -> int:
    fallback = DEFAULT_MAX_MESSAGE_BYTES + (DEAD_LETTER_EXTRA_BYTES if name == DEAD_LETTERS else 0)
    try:
        replies = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except (TimeoutError, KafkaError, OSError, ValueError):
        return fallback
    for reply in replies:
        for resource in reply.resources:
            for entry in resource[4]:
                if entry[0] == "max.message.bytes" and entry[1]:
                    return int(entry[1])
    return fallback


def output_limit(settings: Settings, limits: dict[str, int]) -> int:
    """Return the largest output record, in bytes: the setting, or less where a topic accepts less."""
    return min(settings.max_output_bytes, limits[VECTORS], limits[LABELS], limits[PAIRS_SCORED])


def input_limit_exceeds_dead_letters(limits: dict[str, int]) -> bool:
    """Return whether an input record can be too large for the dead-letter topic."""
    return limits[DEAD_LETTERS] < max(limits[topic] for topic in INPUTS) + DEAD_LETTER_EXTRA_BYTES
