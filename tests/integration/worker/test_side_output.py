"""The learner's topic is away: what is observed is lost, no document is, and what people teach can be replayed."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from oracle import wait_until
from running_learner import Topic
from running_service import OpenService, Service, metric

from alignstream.ops.client.connection import kafka_options
from alignstream.streams.wire.topics import DEAD_LETTERS, OBSERVATIONS, PAIRS


def pair(service: Service, name: str, *, learn: bool) -> None:
    """Send a pair, and wait until the broker has it."""
    value: dict[str, Any] = {"id": name, "source": {"text": "w1"}, "target": {"text": "w2"}, "learn": learn}
    service.producer.send(service.settings.topic_prefix + PAIRS, json.dumps(value).encode()).get(30)


def documents(service: Service, prefix: str) -> None:
    """Send documents and wait for their vectors."""
    places = [service.send({"text": f"w{number} w3", "id": f"{prefix}{number}"}) for number in range(20)]
    service.outputs.wait_for(places)


def test_documents_go_on_without_the_learners_topic(open_service: OpenService, tiny_artifact: Path) -> None:
    with open_service(tiny_artifact, adapter="identity", produce_timeout_seconds=2) as service:
        if not service.settings.idempotence:
            pytest.skip("the local broker makes a topic anew when it is written to")
        topic = service.settings.topic_prefix + OBSERVATIONS
        documents(service, "before-")
        with (
            contextlib.closing(KafkaAdminClient(**kafka_options(service.settings))) as admin,
            contextlib.closing(Topic(service.settings, DEAD_LETTERS)) as letters,
        ):
            admin.delete_topics([topic])
            wait_until(lambda: topic not in admin.list_topics(), "the topic is gone")
            documents(service, "while-")
            dropped = "observations_dropped_total"
            wait_until(lambda: metric(service.worker, dropped) > 0, "what is lost is counted")
            assert service.worker.log().count("are dropped") == 1
            pid = service.worker.pid
            pair(service, "taught", learn=True)
            pair(service, "scored", learn=False)
            wait_until(lambda: len(letters.look()) == 1, "the pair can be replayed")
            assert letters.records[0].header("alignstream.error.reason") == "learner-unreachable"
            assert service.worker.pid == pid, "nothing ended the worker"
            service.worker.restart()
            documents(service, "after-a-restart-")
            admin.create_topics([NewTopic(topic, 1, 1)])
            with contextlib.closing(Topic(service.settings, OBSERVATIONS)) as observed:

                def arrives() -> bool:
                    documents(service, "again-")
                    return len(observed.look()) > 0

                wait_until(arrives, "what is observed arrives again")
