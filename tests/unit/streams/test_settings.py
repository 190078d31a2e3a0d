"""Settings: three sources, one order; what is wrong is named, what is secret is not shown."""

import os
import re
from pathlib import Path

import pytest

from alignstream.models.adapter.adapter import IDENTITY
from alignstream.models.errors import SettingsError
from alignstream.models.labels.label_set import check_template
from alignstream.streams.settings import PREFIX, Settings, load

SCRIPTED = {
    "ALIGNSTREAM_BROKER", "ALIGNSTREAM_REDIS_URL", "ALIGNSTREAM_ARTIFACT", "ALIGNSTREAM_ADAPTER",
    "ALIGNSTREAM_GROUP", "ALIGNSTREAM_TOPIC_PREFIX", "ALIGNSTREAM_METRICS_PORT", "ALIGNSTREAM_THREADS",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests, and no file in the working folder."""
    for key in list(os.environ):
        if key.upper().startswith(PREFIX):
            monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)


def refused(**values: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**values)
    return str(caught.value)


def test_the_defaults_are_good_and_listen_on_loopback_only() -> None:
    settings = load()
    assert settings.metrics_host == "127.0.0.1"
    assert settings.broker == "127.0.0.1:9092"
    assert settings.topic_prefix == ""
    assert settings.label_set is None
    assert settings.adapter != IDENTITY
    check_template(settings.template)


def test_the_names_that_others_script_against_are_there() -> None:
    assert {PREFIX + name.upper() for name in Settings.model_fields} >= SCRIPTED


def test_every_setting_says_what_it_is_and_a_quantity_says_its_unit() -> None:
    quantities = 0
    for name, field in Settings.model_fields.items():
        words = re.findall(r"[\w']+", (field.description or "").lower())
        assert set(words) - set(name.split("_")), name
        unit = name.rpartition("_")[2]
        if unit in {"seconds", "bytes", "records", "tokens"}:
            assert unit in words, name
            quantities += 1
    assert quantities > 12


def test_explicit_values_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "alignstream.toml").write_text('group = "file"\nadapter = "file"\nthreads = 3\n')
    monkeypatch.setenv("ALIGNSTREAM_GROUP", "environment")
    monkeypatch.setenv("ALIGNSTREAM_ADAPTER", "environment")
    settings = load(group="explicit")
    assert (settings.group, settings.adapter, settings.threads) == ("explicit", "environment", 3)


@pytest.mark.parametrize("name", ["ALIGNSTREAM_GROPU", "alignstream_gropu"])
def test_an_unknown_name_in_the_environment_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert name in refused()


def test_an_unknown_name_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "alignstream.toml").write_text('gropu = "x"\n')
    assert "ALIGNSTREAM_GROPU: unknown setting" in refused()


def test_a_file_that_is_not_toml_or_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "alignstream.toml").write_text("group = \n")
    assert "alignstream.toml" in refused()
    monkeypatch.setenv("ALIGNSTREAM_CONFIG", str(tmp_path / "nowhere.toml"))
    assert "nowhere.toml" in refused()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "many"), ("threads", "-1"), ("metrics_port", "65536"), ("group", "a b"), ("group", ""),
        ("group", "a\n"), ("topic_prefix", "a/b"), ("adapter", "../x"), ("broker", "nowhere"),
        ("broker", "host:0"), ("broker", "host:1,"), ("redis_url", "http://x"), ("template", "no place"),
        ("template", "{label}{label}"), ("max_nesting_depth", "3"), ("session_timeout_seconds", "5"),
        ("batch_linger_seconds", "0"), ("batch_linger_seconds", "nan"),
        ("compression", "brotli"), ("log_level", "LOUD"),
        ("broker_security", "TLS"), ("tenants", "acme"), ("idempotence", "perhaps"),
        ("max_document_bytes", "1e400"), ("vector_encoding", "float16"),
    ],
)  # fmt: skip
def test_a_malformed_value_is_refused_by_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), value)
    assert re.search(name, refused(), re.IGNORECASE)


def test_lists_are_written_as_json_and_brokers_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNSTREAM_TENANTS", '["acme", "other"]')
    monkeypatch.setenv("ALIGNSTREAM_BROKER", "a:1, b:2")
    settings = load()
    assert settings.tenants == ("acme", "other")
    assert settings.broker == "a:1,b:2"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"broker_security": "SASL_SSL"}, "broker_username"),
        ({"broker_security": "SASL_PLAINTEXT", "broker_username": "u"}, "allow_plaintext_password"),
        ({"broker_username": "u"}, "SASL_SSL"),
        ({"broker_cert_file": "c"}, "broker_key_file"),
        ({"redis_password": "a", "redis_password_file": "b"}, "redis_password_file"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, str], expected: str) -> None:
    assert expected in refused(**values)


def test_a_password_in_clear_must_be_asked_for() -> None:
    settings = load(
        broker_security="SASL_PLAINTEXT",
        broker_username="u",
        broker_password="p",  # noqa: S106 (not one)
        allow_plaintext_password=True,
    )
    assert settings.secret("broker_password") == "p"


def test_secrets_come_from_files_without_their_last_line_break(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b" with spaces \r\n")
    assert load(redis_password_file=path).secret("redis_password") == " with spaces "
    assert load().secret("redis_password") is None


@pytest.mark.parametrize("content", [None, b"\xffs3cret"])
def test_a_secret_that_cannot_be_read_is_named_without_its_bytes(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="ALIGNSTREAM_REDIS_PASSWORD_FILE") as caught:
        load(redis_password_file=path).secret("redis_password")
    assert "s3cret" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    settings = load(redis_password="s3cret")  # noqa: S106 (not one)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())
    assert "s3cret" not in refused(redis_password="s3cret", threads="many")  # noqa: S106 (not one)


def test_settings_are_values(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load()
    monkeypatch.setenv("ALIGNSTREAM_GROUP", "later")
    assert settings.group == "alignstream"
    with pytest.raises(ValueError, match="frozen"):
        settings.group = "x"  # type: ignore[misc]
