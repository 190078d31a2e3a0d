"""Where the value of each setting comes from."""

from pathlib import Path

import pytest

from alignstream.ops.admin.settings_view import origins


def test_origins_say_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.toml"
    path.write_text('group = "file"\nadapter = "file"\n')
    monkeypatch.setenv("ALIGNSTREAM_CONFIG", str(path))
    monkeypatch.setenv("ALIGNSTREAM_ADAPTER", "mine")
    found = origins()
    assert (found["group"], found["adapter"], found["threads"]) == (str(path), "environment", "default")
