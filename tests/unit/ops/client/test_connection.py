from pathlib import Path

import pytest

from alignstream.models.errors import SettingsError
from alignstream.ops.client.connection import kafka_options, resolve_topic, topic_name
from alignstream.streams.settings import Settings


def test_a_plain_connection_carries_no_secrets() -> None:
    options = kafka_options(Settings(broker="one:9092,two:9093"))
    assert options["bootstrap_servers"] == ["one:9092", "two:9093"]
    assert options["security_protocol"] == "PLAINTEXT"
    assert not [name for name in options if name.startswith(("sasl", "ssl"))]


def test_a_password_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    settings = Settings(broker_security="SASL_SSL", broker_username="reader", broker_password_file=secret)
    options = kafka_options(settings)
    assert options["sasl_plain_password"] == "s3cret"  # noqa: S105 (made above)
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["ssl_context"].check_hostname


def test_a_certificate_file_that_is_missing_is_named(tmp_path: Path) -> None:
    settings = Settings(broker_security="SSL", broker_ca_file=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        kafka_options(settings)


def test_a_topic_named_with_or_without_its_prefix_is_the_same_topic() -> None:
    settings = Settings(topic_prefix="team.")
    assert topic_name(settings, "documents.v1") == "team.documents.v1"
    assert resolve_topic(settings, "documents.v1") == "team.documents.v1"
    assert resolve_topic(settings, "team.documents.v1") == "team.documents.v1"
