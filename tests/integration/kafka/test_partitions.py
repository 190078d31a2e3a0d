"""Topics whose records have one order are looked at before anything relies on it."""

import asyncio
import contextlib
import logging

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from oracle import wait_until
from running_learner import StartLearner
from running_service import ready

from alignstream.models.errors import BrokerNotReady
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.client.connection import kafka_options
from alignstream.streams.kafka.broker import record_limits
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import DOCUMENTS, EPOCHS, OBSERVATIONS


@pytest.mark.parametrize("name", [OBSERVATIONS, EPOCHS])
def test_a_topic_of_several_partitions_is_named_and_stops_the_learner_alone(
    service_settings: Settings, name: str, start_learner: StartLearner, caplog: pytest.LogCaptureFixture
) -> None:
    topic = service_settings.topic_prefix + name
    with contextlib.closing(KafkaAdminClient(**kafka_options(service_settings))) as admin:
        admin.create_topics([NewTopic(topic, 3, 1)])
        create_topics(service_settings)
        with pytest.raises(BrokerNotReady, match=f"{topic} has 3 partitions and needs 1"):
            asyncio.run(record_limits(service_settings))
        with caplog.at_level(logging.WARNING):
            limits = asyncio.run(record_limits(service_settings, optional=(OBSERVATIONS, EPOCHS)))
        assert limits[DOCUMENTS] > 0
        assert f"{topic} has 3 partitions" in caplog.text
        learner = start_learner(service_settings, is_awaited=False)

        def waiting() -> str:
            with contextlib.suppress(OSError):
                return str(ready(learner)[1].get("waiting", {}).get("broker", ""))
            return ""

        wait_until(lambda: "3 partitions" in waiting(), "the learner says what it waits for")
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), "the topic is gone")
        create_topics(service_settings)
        learner.wait_ready()
        assert learner.stop() == 0
