"""``alignstream realign`` over files: good lines move, bad ones are named by their line, nothing else is touched."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from alignstream.models.adapter.adapter import Adapter, space
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.errors import AlignstreamError, NothingRealigned
from alignstream.ops.admin import stored_vectors
from alignstream.ops.admin.realign import AdapterSpace, Realigned, realign
from alignstream.ops.cli import app
from alignstream.streams.wire.codec import float16_field, vector_field

DIM = 4
ENCODER = "e" * 64


def centre(shift: float) -> Adapter:
    return Adapter(ENCODER, DIM, (Centre(np.array([shift, 0, 0, 0], dtype=np.float32)),))


OLD, NEW = centre(0.25), centre(-0.25)


def stored(id: str = "a", **changed: Any) -> bytes:  # noqa: A002 (the record's own words)
    x = np.array([0.5, 0.5, -0.5, 0.5], dtype=np.float32)
    body = {
        "id": id, "tenant": "default", "vector": vector_field(OLD.transform_one(x), "base64-f32le"),
        "encoding": "base64-f32le", "dim": DIM, "encoder": ENCODER, "adapter": "old", "adapter_version": OLD.version,
        "space": space(ENCODER, OLD.version), "tokens": 3, "tokens_dropped": 0, "truncated": False,
        "raw_vector": float16_field(x),
    } | changed  # fmt: skip
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def expected(value: bytes) -> bytes:
    result = realign(value, AdapterSpace("new", NEW))
    assert isinstance(result, Realigned)
    return result.value


def tail_line(value: bytes | None, key: str | None = "k", **headers: str) -> bytes:
    around = {
        "topic": "vectors.aligned.v1", "partition": 1, "offset": 7, "timestamp": "2026-01-01T00:00:00.000Z",
        "key": key, "headers": headers,
    }  # fmt: skip
    rest = {"tombstone": True, "value": None} if value is None else {"value": json.loads(value)}
    return json.dumps(around | rest).encode()


@pytest.fixture
def adapter_file(tmp_path: Path) -> Path:
    path = tmp_path / "new.safetensors"
    path.write_bytes(NEW.blob)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "old.jsonl"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


class Run(Protocol):
    """Writes lines to a file, realigns it, and expects an exit code (or raises the error)."""

    def __call__(self, lines: Sequence[bytes], *options: str, exit_code: int = 0) -> Result: ...


@pytest.fixture
def run(adapter_file: Path, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(source.parent)
    monkeypatch.setenv("COLUMNS", "400")

    def call(lines: Sequence[bytes], *options: str, exit_code: int = 0) -> Result:
        source.write_bytes(b"".join(line + b"\n" for line in lines))
        done = CliRunner().invoke(
            app, ["realign", str(source), "-o", str(output), "--adapter-file", str(adapter_file), *options]
        )
        if isinstance(done.exception, AlignstreamError):
            raise done.exception
        assert done.exit_code == exit_code, done.output
        return done

    return call


def test_bare_values_move_line_by_line(run: Run, output: Path) -> None:
    lines = [stored("a"), b"", stored("b", language="de", own=[1])]
    done = run([b"\xef\xbb\xbf" + lines[0], *lines[1:]])
    assert output.read_bytes().splitlines() == [expected(lines[0]), expected(lines[2])]
    assert f"2 realigned to version {NEW.version}, 0 unchanged, 0 tombstones, 0 refused" in done.stderr


def test_a_second_run_changes_nothing_to_the_byte(run: Run, output: Path) -> None:
    run([stored("a"), tail_line(stored("b"), a="b"), tail_line(None)])
    once = output.read_bytes()
    done = run(once.splitlines(), "--json")
    assert output.read_bytes() == once
    report = json.loads(done.stdout)
    assert report.pop("seconds") >= 0
    assert report == {
        "adapter_version": NEW.version, "realigned": 0, "unchanged": 2, "tombstones": 1, "refused": {},
        "not_written": [],
    }  # fmt: skip


def test_lines_of_tail_keep_key_headers_and_place_and_tombstones_pass(run: Run, output: Path) -> None:
    lines = [tail_line(stored("a"), **{"alignstream.source.offset": "3"}), tail_line(None, key="gone")]
    run(lines)
    moved, tombstone = (json.loads(line) for line in output.read_bytes().splitlines())
    value = moved.pop("value")
    assert value == json.loads(expected(json.dumps(json.loads(stored("a"))).encode()))
    assert moved == {name: item for name, item in json.loads(lines[0]).items() if name != "value"}
    assert tombstone == json.loads(lines[1])


def test_a_bad_line_among_good_ones_is_named_and_the_others_move(run: Run, output: Path) -> None:
    lines = [
        stored("a"), b"\x80\x81", stored("b", raw_vector=None), stored("c", space="0" * 16), b'{"text": "a"}',
        stored("d"), stored("e", encoder="f" * 64), tail_line(stored(), **{"alignstream-schema": "vectors.aligned/2"}),
    ]  # fmt: skip
    done = run(lines, exit_code=3)
    assert output.read_bytes().splitlines() == [expected(lines[0]), expected(lines[5])]
    for number, reason in (
        (2, "bad-json"), (3, "no-raw-vector"), (4, "overridden"), (5, "not-a-vector"), (7, "other-encoder"),
        (8, "not-a-vector"),
    ):  # fmt: skip
        assert f"line {number}: {reason}: " in done.stderr
    assert "set ALIGNSTREAM_RAW_VECTOR=true" in done.stderr
    assert "2 realigned to version " in done.stderr
    assert (
        "6 refused (bad-json 1, no-raw-vector 1, not-a-vector 2, other-encoder 1, overridden 1)"
        in done.stderr
    )


def test_of_many_bad_lines_the_first_are_shown_and_all_are_counted(run: Run) -> None:
    done = run([stored()] + [b"x"] * 500, "--json", exit_code=3)
    assert json.loads(done.stdout)["refused"] == {"bad-json": 500}
    done = run([stored()] + [b"x"] * 500, exit_code=3)
    assert done.stderr.count("bad-json: not JSON") == 10
    assert "and 490 more" in done.stderr


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param([], "holds no record", id="empty"),
        pytest.param([b"", b"  "], "holds no record", id="blank"),
        pytest.param([bytes(range(256)) * 100], "bad-json", id="binary"),
        pytest.param(
            [stored(raw_vector=None)] * 3, "no-raw-vector 3; line 1: it has no raw_vector", id="no raw"
        ),
    ],
)
def test_where_nothing_can_be_done_the_output_is_left_as_it_was(
    run: Run, output: Path, lines: list[bytes], says: str
) -> None:
    output.write_text("what was there")
    with pytest.raises(NothingRealigned, match=says):
        run(lines)
    assert output.read_text() == "what was there"
    assert {path.name for path in output.parent.iterdir()} == {"old.jsonl", "out.jsonl", "new.safetensors"}


def test_a_line_without_an_end_is_passed_over_and_not_held(
    run: Run, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 2000
    monkeypatch.setattr(stored_vectors, "MAX_LINE_BYTES", limit)
    just = stored("a", own="x" * (limit - len(stored("a", own=""))))
    assert len(just) == limit
    done = run([just, b"x" * 9 * limit, stored("b"), b"x" * (limit + 1)], exit_code=3)
    assert output.read_bytes().splitlines() == [expected(just), expected(stored("b"))]
    assert "line 2: too-long" in done.stderr
    assert "line 4: too-long" in done.stderr


def test_the_last_line_may_lack_its_end(source: Path, output: Path, adapter_file: Path) -> None:
    source.write_bytes(stored("a") + b"\r\n" + stored("b"))
    arguments = ["realign", str(source), "-o", str(output), "--adapter-file", str(adapter_file)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert output.read_bytes() == expected(stored("a")) + b"\n" + expected(stored("b")) + b"\n"


def test_missing_files_folders_and_the_input_itself_are_refused(
    run: Run, adapter_file: Path, source: Path, tmp_path: Path
) -> None:
    run([stored()])
    for arguments, says in (
        (["nothing.jsonl", "-o", "x", "--adapter-file", str(adapter_file)], "cannot read nothing.jsonl"),
        ([str(tmp_path), "-o", "x", "--adapter-file", str(adapter_file)], "cannot read"),
        ([str(source), "-o", "old.jsonl", "--adapter-file", str(adapter_file)], "both input and output"),
        ([str(source), "-o", "no/folder/x", "--adapter-file", str(adapter_file)], "cannot write"),
        ([str(source), "-o", "x", "--adapter-file", "none.safetensors"], "cannot read the adapter"),
        ([str(source), "-o", "x", "--adapter-file", str(source)], "not an adapter file"),
        ([str(source), "-o", "x", "--adapter", "identity"], "raw_vector holds already"),
        (["--topic", "t", "--to-topic", "t", "--adapter-file", str(adapter_file)], "both input and output"),
    ):
        done = CliRunner().invoke(app, ["realign", *arguments])
        assert isinstance(done.exception, AlignstreamError), (arguments, done.output)
        assert says in str(done.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.jsonl"],
        ["a.jsonl", "-o", "b", "--to-topic", "c"],
        ["a.jsonl", "-o", "b", "--topic", "c"],
        ["a.jsonl", "-o", "b", "--adapter", "c", "--adapter-file", "d"],
        ["a.jsonl", "-o", "b", "--version", "c", "--adapter-file", "d"],
        ["a.jsonl", "-o", "-", "--json"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["realign", *arguments]).exit_code == 2
