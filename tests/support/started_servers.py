"""Servers of the local stack, started and ready, and the environment that hands settings on to them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr

from alignstream.ops.local.brokers import Broker, kafka, tansu
from alignstream.ops.local.redis import RedisServer, redis_server
from alignstream.ops.local.supervised import READY_SECONDS, WORKER_COMMAND, Worker, worker
from alignstream.streams.settings import PREFIX, Settings


def start_tansu(folder: Path) -> Broker:
    """Start a Tansu broker, which is empty after a restart."""
    return tansu(folder).start()


def start_kafka(home: Path, folder: Path, *, overrides: Mapping[str, str] | None = None) -> Broker:
    """Start an Apache Kafka broker, which keeps what it acknowledged after ``kill`` and ``restart``."""
    return kafka(home, folder, overrides=overrides).start()


def start_redis(folder: Path, *, port: int | None = None, save: bool = False) -> RedisServer:
    """Start a Redis."""
    return redis_server(folder, port=port, save=save).start()


def start_worker(
    environment: Mapping[str, str],
    folder: Path,
    *,
    name: str = "worker",
    command: Sequence[str] = WORKER_COMMAND,
    ready_seconds: float = READY_SECONDS,
) -> Worker:
    """Start a worker, or another program that serves ``/readyz`` as a worker does."""
    return worker(environment, folder, name=name, command=command, ready_seconds=ready_seconds).start()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment that gives another process the settings that differ from the defaults."""
    environment = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, bool | tuple):
            value = json.dumps(value)
        if value is not None:
            environment[f"{PREFIX}{name.upper()}"] = str(value)
    return environment
