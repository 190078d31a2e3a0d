"""``alignstream replay``: tables, JSON and pages of people's own streams; wrong usage refused before any work."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from toy_streams import DIM, ENCODER, encode, toy_adapter, write_records, write_stream
from typer.testing import CliRunner

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.evaluate.prequential.replay_report import FORMAT
from alignstream.export.evaluate.prequential.stream_replay import EPOCHS, IDEAL, LIVE
from alignstream.export.evaluate.session import Session
from alignstream.models.errors import AlignstreamError, EvaluationError, TextError
from alignstream.ops.cli import replay as command


def invoke(*arguments: str | Path) -> Any:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["replay", *map(str, arguments)], terminal_width=200)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_stream(tmp_path / "own.jsonl")


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    session = Session(cache=cache, adapter=toy_adapter(), adapter_name="toy")

    def open_session(_: str, __: Path | None, *, uses_tags: bool, seed: int, template: str | None) -> Session:
        return dataclasses.replace(session, uses_tags=uses_tags, seed=seed, template=template or "{label}")

    monkeypatch.setattr(command, "open_session", open_session)
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)


@pytest.mark.usefixtures("loaded")
def test_the_command_prints_tables_or_json_and_writes_a_page(own: Path, tmp_path: Path) -> None:
    page = tmp_path / "found.md"
    shown = invoke("--stream", own, "--by-language", "--markdown", page, "--rate", "50")
    assert shown.exit_code == 0, shown.output
    for word in ("two seconds are 100 texts", "change from static", "by language", "ideal", "240 messages"):
        assert word in shown.output
    assert "| ta |" in page.read_text()
    assert page.read_text().startswith("# Streams\n")
    done = invoke("--stream", own, "--json", "--no-tags", "--pivot", "de")
    value = json.loads(done.stdout)
    assert value["format"] == FORMAT
    columns = [item["name"] for item in value["streams"][0]["segments"][0]["measures"][0]["columns"]]
    assert columns == [
        "raw",
        "static",
        *(n for c in (EPOCHS, LIVE, IDEAL) for n in (c.name, f"{c.name} + hubness")),
    ]


def test_wrong_usage_is_refused_before_any_work(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Session:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr(command, "open_session", refuse)
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)
    wrong: list[tuple[str | Path, ...]] = [
        ("--rate", "0"),
        ("--seed", "-1"),
        ("--no-tags",),
        ("--pivot", "de"),
        ("pool", own),
    ]
    for arguments in wrong:
        refused = invoke(*arguments)
        assert refused.exit_code == 2, (arguments, refused.output)
    failures: list[tuple[tuple[str | Path, ...], type[AlignstreamError], str]] = [
        ((), EvaluationError, "--stream"),
        (("--stream", tmp_path / "nowhere"), TextError, "cannot read"),
        (("--stream", write_records(tmp_path / "bad", ["{"])), TextError, "line 1"),
        (("--stream", own, "--markdown", tmp_path), AlignstreamError, "it is a folder"),
    ]
    for arguments, kind, message in failures:
        failed = invoke(*arguments)
        assert isinstance(failed.exception, kind), (arguments, failed.output)
        assert message in str(failed.exception)
