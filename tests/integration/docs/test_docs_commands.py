"""Every command that tutorials, how-to pages and runbooks show is run, and prints what they show.

How blocks are run is said in ``doc_blocks``.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import doc_blocks
import pytest
from running_service import command_server

ROOT: Final = Path(__file__).parents[3]
DOCS: Final = ROOT / "docs/pages"
PAGES: Final = [
    *sorted((DOCS / "tutorial").glob("*.md")),
    *sorted((DOCS / "how-to").glob("*.md")),
    DOCS / "reference/python.md",
]
RUNBOOKS: Final = sorted((ROOT / "ops/runbooks").glob("*.md"))
#: This page starts a stack of its own and ends it, as its reader does.
OWN_STACK: Final = "first-vectors.md"
BASH: Final = shutil.which("bash") or "/bin/bash"
#: Columns that tables are printed for.
COLUMNS: Final = "100"
#: Seconds for one page: its commands load the encoder several times, beside other tests.
PAGE_SECONDS: Final = 420


def environment(state: Path, **more: str) -> dict[str, str]:
    """Return what a reader's shell has: the commands on its path, and no settings but the folders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNSTREAM_")}
    cache = os.environ.get("ALIGNSTREAM_CACHE_DIR")
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": COLUMNS,
        "OPENBLAS_NUM_THREADS": "1",
        "ALIGNSTREAM_STATE_DIR": str(state),
        **({"ALIGNSTREAM_CACHE_DIR": cache} if cache else {}),
        **more,
    }


def call(command: str, variables: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=dict(variables), text=True, capture_output=True,
        timeout=PAGE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start one local stack for all pages, and yield the environment of a shell that has taken it up.

    Its ``alignstream`` spares each command the second that imports take.
    """
    folder = tmp_path_factory.mktemp("stack")
    plain = environment(folder / "state", ALIGNSTREAM_RAW_VECTOR="true")
    plain["PATH"] = f"{command_server().write_command(folder).parent}{os.pathsep}{plain['PATH']}"
    try:
        exports = call("alignstream up", plain, folder)
        yield {**plain, **dict(re.findall(r"^export (\w+)=(.*)$", exports, re.MULTILINE))}
    finally:
        call("alignstream down", plain, folder)


def run(page: Path, variables: Mapping[str, str], folder: Path) -> None:
    """Run a page in a folder; fail at the first command that ends or prints otherwise than the page says."""
    script, steps = doc_blocks.script(page.read_text(encoding="utf-8"))
    (folder / "page.sh").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [BASH, "page.sh"], cwd=folder, env=dict(variables), text=True, capture_output=True,
        timeout=PAGE_SECONDS, check=False,
    )  # fmt: skip
    for number, step in enumerate(steps):
        where = f"{page.name}, the block at line {step.line}:\n$ {step.command.text}"
        output = folder / "out" / str(number)
        assert output.is_file(), f"{where}\nwas not run\n{done.stdout}{done.stderr}"
        printed = output.read_text(encoding="utf-8")
        is_last = not (folder / "out" / str(number + 1)).is_file()
        assert not (is_last and done.returncode), (
            f"{where}\nended otherwise than with {step.exit_code}:\n{printed}"
        )
        assert doc_blocks.matches(step.command.expected, printed), (
            f"{where}\nprinted:\n{printed}\nthe page shows:\n" + "\n".join(step.command.expected)
        )


@pytest.mark.timeout(PAGE_SECONDS + 60)
def test_the_commands_of_the_first_tutorial_do_what_it_shows(tmp_path: Path) -> None:
    variables = environment(tmp_path / "state")
    try:
        run(DOCS / "tutorial" / OWN_STACK, variables, tmp_path)
    finally:
        call("alignstream down", variables, tmp_path)


@pytest.mark.timeout(PAGE_SECONDS + 60)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != OWN_STACK], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_do_what_it_shows(page: Path, stack: dict[str, str], tmp_path: Path) -> None:
    run(page, stack, tmp_path)


@pytest.mark.timeout(PAGE_SECONDS + 60)
def test_the_commands_of_the_runbooks_work(stack: dict[str, str], tmp_path: Path) -> None:
    """Runbooks look at the same things: each command is run once, whatever it prints."""
    found = [block for page in RUNBOOKS for block in doc_blocks.blocks(page.read_text(encoding="utf-8"))]
    lines = dict.fromkeys(
        line.partition("  #")[0].rstrip()
        for block in found
        if block.language == "bash" and block.not_run is None
        for line in block.text.splitlines()
    )
    assert len(lines) > 8
    page = tmp_path / "runbooks.md"
    page.write_text("".join(f"```console\n$ {line}\n```\n" for line in lines), encoding="utf-8")
    run(page, stack, tmp_path)


def test_pages_are_there_and_show_commands() -> None:
    shown = [block for page in PAGES for block in doc_blocks.blocks(page.read_text(encoding="utf-8"))]
    n_run = sum(block.language in doc_blocks.RUN and block.not_run is None for block in shown)
    assert len(PAGES) > 10
    assert n_run > 30
