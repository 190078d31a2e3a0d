"""The benchmark reads the worker's log: what it looks for is what the worker says."""

from pathlib import Path

import pytest

from tests.bench import start

STREAMS = Path(__file__).parents[2] / "streams"


@pytest.mark.parametrize("words", [start._IMPORTED, start._LOADED, start._ADAPTED])
def test_the_words_that_the_benchmark_waits_for_are_logged(words: str) -> None:
    assert any(words in path.read_text(encoding="utf-8") for path in STREAMS.rglob("*.py"))
