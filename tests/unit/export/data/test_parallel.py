"""Parallel texts: read by column, thinned evenly, and kept apart from what they are judged on."""

from pathlib import Path

import pytest
from toy_languages import write

from alignstream.export.data.parallel import (
    MAX_POOL_TEXTS,
    Parallel,
    check_no_overlap,
    check_rows,
    read_parallel,
)
from alignstream.models.errors import TextError


def test_parallel_text_is_read_by_column_and_its_first_language_is_the_pivot(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "en\tde\none\teins\n\ntwo\tzwei\n")
    found = read_parallel(path)
    assert (found.pivot, found.n_lines) == ("en", 2)
    assert found.by_language == {"en": ["one", "two"], "de": ["eins", "zwei"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("en\tde\none\teins\ntwo\n", r"line 3: 2 texts .* but there are 1 in 1 cells"),
        ("en\tde\none\teins\ntwo\t \n", r"line 3: 2 texts .* but there are 1 in 2 cells"),
        ("en\tde\none\teins\tun\n", r"line 2: 2 texts .* but there are 3 in 3 cells"),
        ("en\none\n", "line 1: the header must name at least two languages"),
        ("en\ten\none\teins\n", "each once"),
        ("yo\ten\tyor_Latn\na\tb\tc\n", "line 1: 'yo' and 'yor_Latn' are one language; .* each once"),
        ("cat\tchat\ndog\tchien\n", r"dev\.tsv, line 1: 'chat' is not the tag .*; is the header missing\?"),
        ("", "line 1: '' is not a language tag"),
        ("en\tde\none\teins\n", "at least two rows"),
    ],
)
def test_malformed_parallel_text_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        read_parallel(write(tmp_path / "dev.tsv", content))


def test_long_parallel_text_is_thinned_evenly_unless_every_row_is_asked_for(tmp_path: Path) -> None:
    rows = "".join(f"one {i}\teins {i}\n" for i in range(MAX_POOL_TEXTS))
    path = write(tmp_path / "dev.tsv", f"en\tde\n\n{rows}")
    assert read_parallel(path).n_lines == MAX_POOL_TEXTS // 2
    found = read_parallel(path, limit=10)
    assert found.by_language["de"] == [f"eins {i}" for i in (0, 2400, 4800, 7200, 9600)]
    assert found.lines == (3, 2403, 4803, 7203, 9603)
    everything = read_parallel(path, limit=None)
    assert everything.n_lines == MAX_POOL_TEXTS
    assert everything.lines == tuple(range(3, MAX_POOL_TEXTS + 3))


def test_a_row_that_stands_twice_is_read_and_refused_by_its_check(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "en\tde\none\teins\n\none\tein\nONE\tEins\n")
    parallel = read_parallel(path)
    assert (parallel.n_lines, parallel.lines) == (3, (2, 4, 5))
    with pytest.raises(TextError, match=r"/p\.tsv, line 5: the row is .*/p\.tsv, line 2 again"):
        check_rows(parallel)
    check_rows(Parallel("p", "en", {"en": ["one", "one"], "de": ["eins", "ein"]}))
    with pytest.raises(TextError, match="p, row 2: the row is p, row 1 again"):
        check_rows(Parallel("p", "en", {"en": ["one", "one"], "de": ["eins", "eins"]}))


def test_text_of_a_shared_language_in_what_is_fitted_on_and_judged_on_is_refused(tmp_path: Path) -> None:
    folders = [tmp_path / "fit", tmp_path / "dev"]
    for folder in folders:
        folder.mkdir()
    fitted = read_parallel(
        write(folders[0] / "p.tsv", "en\tyo\none\tokan\ntwo\teji\nthree\teta\n"), limit=None
    )
    held_out = read_parallel(write(folders[1] / "p.tsv", "fr\tyor_Latn\nquatre\terin\ndeux\t E\uff2aI \n"))
    with pytest.raises(TextError, match=r"fit/p\.tsv, line 3: this yo text is in .*dev/p\.tsv, line 3 too"):
        check_no_overlap(fitted, held_out)


def test_the_same_letters_in_another_language_or_script_are_no_overlap() -> None:
    fitted = Parallel("fit", "en", {"en": ["no"], "sr-Latn": ["ne"]})
    check_no_overlap(fitted, Parallel("dev", "it", {"it": ["no"], "sr-Cyrl": ["ne"]}))
