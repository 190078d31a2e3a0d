"""ops → streams | export → models, one way; serving without torch; help without anything heavy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "optimum")
#: What `alignstream --help` must not wait for.
SLOW = (
    "numpy",
    "faust",
    "mode",
    "aiokafka",
    "kafka",
    "onnxruntime",
    "onnx",
    "tokenizers",
    "redis",
    "msgspec",
    *HEAVY,
)


def loaded_after(code: str, folder: Path) -> set[str]:
    """Run code in a new process; return the top-level names of the modules that it loaded."""
    program = (
        f"{code}\nimport json, sys\n"
        "print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_layers_import_one_way() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_worker_runs_without_torch(tmp_path: Path) -> None:
    loaded = loaded_after("import alignstream.streams.worker.app", tmp_path)
    assert {"faust", "onnxruntime"} <= loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_command_line_and_its_help_are_instant(tmp_path: Path) -> None:
    assert loaded_after("import alignstream.ops.cli", tmp_path).isdisjoint(SLOW)
    code = (
        "import sys\n"
        "from alignstream.ops.cli import main\n"
        "sys.argv = ['alignstream', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    )
    assert loaded_after(code, tmp_path).isdisjoint(SLOW)


@pytest.mark.parametrize(
    "arguments", [["worker", "--help"], ["topics", "--help"], ["encode", "--help"], ["--version"]]
)
def test_help_of_a_command_is_instant_too(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from alignstream.ops.cli import main\n"
        f"sys.argv = ['alignstream', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    )
    assert loaded_after(code, tmp_path).isdisjoint(SLOW)


def test_the_streams_package_under_another_name_is_refused(tmp_path: Path) -> None:
    """``faust -A streams.app`` would start a second, empty app beside the real one."""
    done = subprocess.run(
        [sys.executable, "-c", "import streams.app"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "this package is 'alignstream.streams'" in done.stderr


def test_models_know_nothing_of_the_event_loop(tmp_path: Path) -> None:
    modules = [
        ".".join(["alignstream", *path.relative_to(ROOT).with_suffix("").parts])
        for path in sorted((ROOT / "models").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    loaded = loaded_after("\n".join(f"import {name}" for name in modules), tmp_path)
    assert loaded.isdisjoint({"faust", "mode", "aiokafka", "kafka", *HEAVY})
