import os
from pathlib import Path

import pytest
from started_servers import environment_of

from alignstream.streams.settings import Settings, load


def test_settings_survive_the_way_through_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ALIGNSTREAM_")]:
        monkeypatch.delenv(name)
    settings = Settings(
        broker="127.0.0.1:1,127.0.0.1:2",
        idempotence=False,
        session_timeout_seconds=6,
        tenants=("a", "b"),
        redis_password="secret",  # noqa: S106 (a test's)
        label_set=None,
        state_dir=tmp_path,
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load() == settings
