"""Create, look up and describe the topics of the service on a broker."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import kafka
import kafka.errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from alignstream.models.errors import BrokerError, TopicMissing
from alignstream.ops.client.connection import broker_errors, open_admin, open_consumer, retrying, topic_name
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import TopicSpec, specs

_log = logging.getLogger(__name__)

#: Seconds within which every partition of a new topic must have a leader.
USABLE_SECONDS: Final = 20.0

_OK, _UNKNOWN_TOPIC, _EXISTS, _INVALID_CONFIG = 0, 3, 36, 40


@dataclasses.dataclass(frozen=True, slots=True)
class TopicsReport:
    """What ``ensure_topics`` did: names on the broker, and notes for people."""

    created: list[str]
    existing: list[str]
    notes: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic of the service as the broker has it.

    ``begin_offsets``, ``end_offsets`` and ``lag`` (records that the group has not committed) are keyed by partition;
    ``config`` holds what differs from the broker's defaults.
    """

    name: str
    exists: bool
    begin_offsets: dict[int, int] = dataclasses.field(default_factory=dict)
    end_offsets: dict[int, int] = dataclasses.field(default_factory=dict)
    config: dict[str, str] = dataclasses.field(default_factory=dict)
    lag: dict[int, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def create_topics(settings: Settings, *, partitions: int = 4, replication: int = 1) -> list[str]:
    """Create the topics that are missing, wait until all can be used, and return the names of the new ones.

    An existing topic that differs from what the service wants stays as it is, and a warning is logged
    (``ensure_topics`` returns it).

    Raises
    ------
    BrokerError
        The broker is away or refuses to create a topic, or a topic has no leader in time.
    """
    report = ensure_topics(settings, partitions=partitions, replication=replication)
    for note in report.notes:
        _log.warning("%s", note)
    return report.created


def ensure_topics(settings: Settings, *, partitions: int = 4, replication: int = 1) -> TopicsReport:
    """Create the topics that are missing; see ``create_topics``.

    Raises
    ------
    BrokerError
        The broker is away or refuses to create a topic, or a topic has no leader in time.
    """
    report = TopicsReport([], [], [])
    wanted = {topic_name(settings, spec.name): spec for spec in specs()}
    with open_admin(settings) as admin:
        for name, spec in wanted.items():
            _create(admin, name, spec, partitions=partitions, replication=replication, report=report)
        try:
            admin.wait_for_topics(list(wanted), timeout_ms=int(USABLE_SECONDS * 1000))
        except kafka_errors.KafkaTimeoutError as error:
            raise BrokerError(f"{settings.broker}: the topics cannot be used yet: {error}") from error
        if report.existing:
            existing = {name: wanted[name] for name in report.existing}
            report.notes.extend(_differences(admin, existing, partitions))
    return report


def _create(
    admin: Any,  # noqa: ANN401 (kafka-python has no types)
    name: str,
    spec: TopicSpec,
    *,
    partitions: int,
    replication: int,
    report: TopicsReport,
) -> None:
    config = dict(spec.config)
    partitions = spec.n_partitions or partitions
    while True:
        answer = admin.create_topics(
            {name: {"num_partitions": partitions, "replication_factor": replication, "configs": config}},
            raise_errors=False,
        )["topics"][0]
        code = answer["error_code"]
        if code == _INVALID_CONFIG and config:
            # A broker that knows fewer settings can still serve; its own limits apply then.
            report.notes.append(
                f"{name}: the broker refuses the settings {sorted(config)} "
                f"({answer.get('error_message')}); created without them"
            )
            config = {}
            continue
        break
    if code == _OK:
        report.created.append(name)
    elif code == _EXISTS:
        report.existing.append(name)
    else:
        kind = kafka_errors.for_code(code)
        raise BrokerError(
            f"topic {name} cannot be created with {partitions} partitions and replication {replication}: "
            f"{answer.get('error_message') or kind.__name__}"
        )


def _differences(admin: Any, existing: Mapping[str, TopicSpec], partitions: int) -> list[str]:  # noqa: ANN401
    notes = []
    described = {topic["name"]: topic for topic in admin.describe_topics(list(existing))}
    configs = _configs(admin, existing)
    for name, spec in existing.items():
        n_partitions = len(described[name]["partitions"])
        wanted = spec.n_partitions or partitions
        if n_partitions != wanted:
            notes.append(f"{name}: exists with {n_partitions} partitions, not {wanted}; left as it is")
        config = configs.get(name)
        if config is None:
            continue
        for key, value in spec.config.items():
            if key in config and config[key] != value:
                notes.append(f"{name}: exists with {key}={config[key]}, not {value}; left as it is")
    return notes


def _configs(
    admin: Any,  # noqa: ANN401 (kafka-python has no types)
    names: Iterable[str],
    *,
    changed_only: bool = False,
) -> dict[str, dict[str, str]]:
    """Return the configuration of each topic; topics that the broker says nothing about are absent."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = admin.describe_configs(resources, config_filter="modified" if changed_only else "all")
    return {
        name: {key: str(entry["value"]) for key, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }


def require_topics(settings: Settings, names: Iterable[str]) -> dict[str, list[int]]:
    """Return the partitions of topics, given by their names on the broker; all must exist.

    Uses an administration client, which never makes a broker create a missing topic.

    Raises
    ------
    TopicMissing
        One does not exist.
    BrokerError
        The broker is away or refused.
    """
    names = list(dict.fromkeys(names))
    with open_admin(settings) as admin:
        deadline = time.monotonic() + USABLE_SECONDS
        while True:
            described = {topic["name"]: topic for topic in admin.describe_topics(names)}
            missing = [name for name in names if described.get(name, {}).get("error_code") == _UNKNOWN_TOPIC]
            if missing:
                raise TopicMissing(
                    f"{settings.broker} has no topic {', '.join(missing)}: 'alignstream topics create' creates the "
                    "topics of the service; for topics with a prefix, set ALIGNSTREAM_TOPIC_PREFIX"
                )
            if all(name in described and described[name]["error_code"] == _OK for name in names):
                break
            if time.monotonic() >= deadline:
                raise BrokerError(f"{settings.broker}: a partition of {', '.join(names)} has no leader")
            time.sleep(0.2)
    return {
        name: sorted(partition["partition_index"] for partition in described[name]["partitions"])
        for name in names
    }


def describe_topics(settings: Settings) -> list[TopicDescription]:
    """Describe the topics of the service: partitions, offsets, configuration, and the group's lag.

    Where the group has committed nothing, lag is counted from the first record, where a worker would start. A topic on
    which the group never committed has no lag; the documents always have one.

    Raises
    ------
    BrokerError
        The broker is away or refused.
    """
    names = [topic_name(settings, spec.name) for spec in specs()]
    with open_admin(settings) as admin:
        described = {topic["name"]: topic for topic in admin.describe_topics(names)}
        present = [name for name in names if described.get(name, {}).get("error_code") == _OK]
        configs = _configs(admin, present, changed_only=True) if present else {}
        partitions = [
            kafka.TopicPartition(name, partition["partition_index"])
            for name in present
            for partition in described[name]["partitions"]
        ]
        committed = (
            retrying(lambda: admin.list_group_offsets({settings.group: partitions}))[settings.group]
            if partitions
            else {}
        )
    begins, ends = _offsets(settings, partitions)
    result = []
    for name in names:
        if name not in present:
            result.append(
                TopicDescription(
                    name, exists=False, notes=["missing; 'alignstream topics create' creates it"]
                )
            )
            continue
        of_topic = sorted(tp for tp in partitions if tp.topic == name)
        marks = {tp: committed[tp].offset for tp in of_topic if tp in committed and committed[tp].offset >= 0}
        has_lag = bool(marks) or name == topic_name(settings, specs()[0].name)
        result.append(
            TopicDescription(
                name,
                exists=True,
                begin_offsets={tp.partition: begins[tp] for tp in of_topic},
                end_offsets={tp.partition: ends[tp] for tp in of_topic},
                config=dict(sorted(configs.get(name, {}).items())),
                lag={tp.partition: max(0, ends[tp] - marks.get(tp, begins[tp])) for tp in of_topic}
                if has_lag
                else {},
                notes=[] if configs.get(name) else ["the broker does not report its configuration"],
            )
        )
    return result


def _offsets(settings: Settings, partitions: list[Any]) -> tuple[dict[Any, int], dict[Any, int]]:
    if not partitions:
        return {}, {}
    consumer = open_consumer(settings)
    try:
        with broker_errors(settings):
            return consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    finally:
        consumer.close()
