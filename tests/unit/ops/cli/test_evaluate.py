"""``alignstream evaluate``: figures before files, one-line warnings, and wrong usage refused before any work."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from toy_languages import DIM, ENCODER, encode, toy_adapter, write, write_parallel
from typer.testing import CliRunner

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.evaluate.session import Session
from alignstream.models.errors import AlignstreamError, EvaluationError, PictureError, TextError
from alignstream.ops.cli import evaluate as command


def invoke(*arguments: str | Path) -> Any:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], terminal_width=200)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    session = Session(cache=cache, adapter=toy_adapter(), adapter_name="toy")

    def open_session(_: str, __: Path | None, *, uses_tags: bool, seed: int, template: str | None) -> Session:
        return dataclasses.replace(session, uses_tags=uses_tags, seed=seed, template=template or "{label}")

    monkeypatch.setattr(command, "open_session", open_session)
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)


@pytest.mark.usefixtures("loaded")
def test_the_command_prints_a_table_or_json_and_writes_a_page_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = write_parallel(tmp_path / "p.tsv")
    page, picture = tmp_path / "found.md", tmp_path / "found.png"
    shown = invoke("retrieval", path, "--by-language", "--markdown", page, "--png", picture, "--seed", "7")
    assert shown.exit_code == 0, shown.output
    for word in ("retrieval: p.tsv", "inductive", "causal", "transductive", "seed 7"):
        assert word in shown.output
    assert page.read_text(encoding="utf-8").startswith("# Evaluation\n")
    assert picture.stat().st_size > 1000
    done = invoke("pool", path, "--json", "--no-tags", "--limit", "5", "--languages", "de,sw")
    value = json.loads(done.stdout)
    assert (value["uses_tags"], value["limit"]) == (False, 5)
    assert value["tasks"][0]["n_texts"] == {"en": 5, "de": 5, "sw": 5}


@pytest.mark.usefixtures("loaded")
def test_figures_are_printed_before_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(command, "write_output", full)
    path = write_parallel(tmp_path / "p.tsv")
    failed = invoke("pool", path, "--markdown", tmp_path / "found.md")
    assert isinstance(failed.exception, OSError)
    assert "mixed pool R-precision" in failed.output


@pytest.mark.usefixtures("loaded")
def test_the_command_warns_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "en\tde\n" + "".join(f"en:{i}\tde:{(i + 3) % 40}\n" for i in range(40)))
    done = invoke("retrieval", path, "--json")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"warning: {path}: translations of de find each other no more often than by chance"
    )
    assert json.loads(done.stdout)["tasks"][0]["warnings"]


@pytest.mark.parametrize("task", ["pool", "layers"])
def test_files_that_cannot_be_written_are_refused_before_any_work(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parallel(tmp_path / "p.tsv")
    start: list[str | Path] = ["pool", path]
    if task == "layers":
        start = ["layers", "--model", "m", "--data", path]

    def refuse(*_: object, **__: object) -> Session:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr(command, "open_session", refuse)
    for option in ("--markdown", "--png"):
        for place, message in (
            (tmp_path, "it is a folder"),
            (tmp_path / "nowhere" / "x", "there is no folder"),
            (path / "x", "there is no folder"),
        ):
            failed = invoke(*start, option, place)
            assert isinstance(failed.exception, AlignstreamError)
            assert str(failed.exception).startswith(f"cannot write {place}: ")
            assert message in str(failed.exception)
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)
    assert "no permission" in str(invoke(*start, "--png", tmp_path / "x.png").exception)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    failed = invoke(*start, "--png", tmp_path / "x.png")
    assert isinstance(failed.exception, PictureError)
    assert "pip install 'alignstream[embedded]'" in str(failed.exception)


def test_the_command_refuses_before_it_loads_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)
    for arguments, kind in (
        (("all",), EvaluationError),
        (("pool",), EvaluationError),
        (("layers", "--model", "m", "--data", tmp_path / "nowhere"), TextError),
    ):
        assert isinstance(invoke(*arguments).exception, kind)
    path = write_parallel(tmp_path / "p.tsv")
    for wrong in (
        ("pool", "--set", "nonsense"),
        ("pool", path, "--set", "ntrex-dev"),
        ("all", path),
        ("retrieval", path, "--languages", ","),
        ("words", path, "--languages", "de"),
        ("pool", path, "--train", path),
        ("pool", path, "--alignments", path),
        ("retrieval", path, "--template", "{label}"),
        ("similarity", path, "--pivot", "de"),
        ("head", path),
        ("layers", "--model", "m", "--data", path, "--poolings", "max"),
        ("layers", "--model", "m", "--data", path, "--poolings", ","),
    ):
        refused = invoke(*wrong)
        assert refused.exit_code == 2, wrong
        assert "Invalid value" in refused.output
    assert invoke("dance").exit_code == 2
    assert invoke("pool", "--limit", "1").exit_code == 2
    assert "Zero-shot labels" in invoke("--help").output
    assert "its other steps play no part" in " ".join(invoke("words", "--help").output.split())
