"""The command line as a whole: quick help, and wrong usage."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from alignstream.ops.cli import app


def test_help_loads_neither_the_broker_client_nor_numpy() -> None:
    code = "import sys, alignstream.ops.cli; print(*sorted({'kafka', 'numpy', 'faust', 'msgspec'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["produce", "-", "--key", "a", "--key-field", "b"],
        ["produce", "-", "--labels", "a", "--label-set", "b"],
        ["produce", "-", "--raw", "--language", "de"],
        ["tail"],
        ["skip", "documents.v1", "-1", "0"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
