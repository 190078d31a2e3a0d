"""Programs that write into a page: what would go wrong is told before the work, and what is printed is written."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from alignstream.export.figures import program
from alignstream.export.figures.marked_section import MarkedSection

SECTION = MarkedSection("## Figures", "<!-- begin -->", "<!-- end -->")


def run(lines: Callable[[argparse.Namespace], Iterable[str]], *arguments: str | Path) -> None:
    program.run_section(program.parser_of("toy", "A toy."), [*map(str, arguments)], SECTION, lines)


def test_a_page_that_cannot_take_the_figures_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: argparse.Namespace) -> Iterator[str]:
        raise AssertionError("the work was done")

    page = tmp_path / "page.md"
    page.write_text(SECTION.begin, encoding="utf-8")
    for document, told in ((page, "once each"), (tmp_path, "cannot write")):
        with pytest.raises(SystemExit) as ended:
            run(refuse, "--data", tmp_path, "--document", document)
        assert ended.value.code == 1
        assert told in capsys.readouterr().err
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)
    with pytest.raises(SystemExit) as ended:
        run(refuse)
    assert ended.value.code == 2
    assert "ALIGNSTREAM_DATA" in capsys.readouterr().err


def test_the_program_prints_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: Sequence[str] = ["| [bold] | 1 |", "", "a line that is " + "long " * 60]
    page = tmp_path / "page.md"
    run(lambda _: iter(made), "--data", tmp_path, "--document", page)
    assert capsys.readouterr().out.splitlines() == list(made)
    assert page.read_text(encoding="utf-8") == SECTION.written("", made)
