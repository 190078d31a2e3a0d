"""What is installed: one namespace, every folder of it, nothing else, and it works in an empty environment."""

import base64
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = tuple(SETUPTOOLS["package-dir"].values())
TEXTS = ["Hello world", "Bonjour le monde"]
#: For maintainers alone: what only writes our own tables and the shipped adapter.
NOT_SHIPPED = Path("export/figures")
#: Nothing listens there: a reserved port that needs root.
NOWHERE = "redis://127.0.0.1:1/0"
#: Multilingual e5 puts everything near everything; a translation is nearer than this, rubbish is not.
MIN_COSINE = 0.5


def run(*command: object, cwd: Path, text: str | None = None, **environment: str) -> str:
    """Run a command without any setting of ours in its environment; return what it wrote."""
    clean = {key: value for key, value in os.environ.items() if not key.upper().startswith("ALIGNSTREAM_")}
    clean.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean | environment, input=text, text=True,
        capture_output=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tracked_files() -> list[Path]:
    """Return what a commit of the working tree would hold."""
    listed = run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", cwd=ROOT
    )
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked_files():
        target = folder / "source" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    # With a setuptools of its own where there is none that is new enough.
    has_setuptools = any(item.name == "setuptools" for item in importlib.metadata.distributions()) and (
        int(importlib.metadata.version("setuptools").split(".")[0]) >= 80
    )
    options = ["--no-isolation"] if has_setuptools else []
    run(
        sys.executable, "-m", "build", "--wheel", *options, "--outdir", folder / "dist", folder / "source",
        cwd=folder,
    )  # fmt: skip
    (built,) = (folder / "dist").glob("*.whl")
    return built


def packages_on_disk() -> Iterable[str]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / NOT_SHIPPED):
                continue
            yield ".".join(("alignstream", *path.parent.relative_to(ROOT).parts))


def test_the_list_of_packages_is_the_folders_that_hold_python() -> None:
    assert sorted(set(packages_on_disk())) == sorted(SETUPTOOLS["packages"])


def test_every_package_is_a_package() -> None:
    for name in SETUPTOOLS["packages"]:
        folder = ROOT.joinpath(*name.split(".")[1:])
        assert (folder / "__init__.py").is_file(), name


def test_the_namespace_itself_has_no_init_so_that_portions_can_share_it() -> None:
    assert "alignstream" not in SETUPTOOLS["packages"]
    for folder in FOLDERS:
        assert (ROOT / folder / "py.typed").is_file(), folder


def test_every_pattern_of_package_data_finds_a_file() -> None:
    for package, patterns in SETUPTOOLS["package-data"].items():
        if package == "*":
            continue
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            assert any(path.is_file() for path in folder.glob(pattern)), f"{package}: {pattern}"


def test_the_lock_holds_every_exact_pin() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = {line.partition("==")[0].lower(): line.partition("==")[2] for line in lines if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(item for extra in extras for item in extra)]:
        name, is_exact, version = requirement.partition("==")
        if is_exact:
            assert locked[name.partition("[")[0].lower()] == version, requirement


def test_the_wheel_holds_the_namespace_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    version = PROJECT["project"]["version"]
    assert {name.split("/")[0] for name in names} == {"alignstream", f"alignstream-{version}.dist-info"}
    assert not [name for name in names if "test" in name.lower() or "__pycache__" in name]


def test_the_wheel_holds_every_module_and_every_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    modules = [path for path in tracked_files() if path.parts[0] in FOLDERS and path.suffix == ".py"]
    kept_back = {f"alignstream/{path}" for path in modules if path.is_relative_to(NOT_SHIPPED)}
    assert kept_back
    assert inside.isdisjoint(kept_back)
    expected = {f"alignstream/{path}" for path in modules} - kept_back
    for package, patterns in SETUPTOOLS["package-data"].items():
        for name in SETUPTOOLS["packages"] if package == "*" else [package]:
            folder = ROOT.joinpath(*name.split(".")[1:])
            expected |= {
                f"alignstream/{path.relative_to(ROOT)}"
                for pattern in patterns
                for path in folder.glob(pattern)
                if path.is_file()
            }
    assert expected <= inside


def test_the_wheel_carries_licence_notice_and_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"alignstream-{PROJECT['project']['version']}.dist-info"
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(archive.namelist())
    assert "alignstream = alignstream.ops.cli:main" in archive.read(f"{info}/entry_points.txt").decode()


@pytest.mark.integration
def test_the_wheel_works_in_an_empty_environment_without_redis_and_broker(
    wheel: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment)
    python, alignstream = environment / "bin" / "python", environment / "bin" / "alignstream"
    # What runs compiles what it imports: a fraction of what is installed.
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check",
        "--no-compile", "-c", ROOT / "constraints.txt", f"{wheel}[embedded]", cwd=tmp_path,
    )  # fmt: skip
    assert PROJECT["project"]["version"] in run(alignstream, "--version", cwd=tmp_path)
    assert (
        run(python, "-c", "import importlib.util as u; print(u.find_spec('torch'))", cwd=tmp_path) == "None\n"
    )
    run(
        alignstream, "encode", "-", "--output", "out.jsonl", cwd=tmp_path, text="".join(f"{text}\n" for text in TEXTS),
        ALIGNSTREAM_REDIS_URL=NOWHERE, ALIGNSTREAM_CACHE_DIR=str(tmp_path / "cache"),
        ALIGNSTREAM_STATE_DIR=str(tmp_path / "state"),
    )  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(records) == len(TEXTS)
    assert {record["adapter"] for record in records} == {"default"}
    assert len({record["space"] for record in records}) == 1
    X = np.stack([np.frombuffer(base64.b64decode(record["vector"]), "<f4") for record in records])
    assert X.shape == (len(TEXTS), records[0]["dim"])
    assert np.linalg.norm(X, axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    assert float(X[0] @ X[1]) > MIN_COSINE
