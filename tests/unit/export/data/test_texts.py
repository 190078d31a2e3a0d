"""Texts and tags: what is one text or one language is seen as such, and what is neither is refused."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignstream.export.data import texts as datasets
from alignstream.export.data.public_sets import PublicSets
from alignstream.export.data.texts import (
    Parallel,
    check_language,
    check_no_overlap,
    check_rows,
    read_lines,
    read_parallel,
    read_texts,
)
from alignstream.models.adapter.languages import is_known_tag, same_language
from alignstream.models.errors import TextError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- tags --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag",
    [
        "de", "DE", "swh_Latn", "de-muc", "es_LA", "ti_ER", "zh-min-nan", "fuc", "ajp_Arab", "taq_Tfng", "aze-Latn",
        "sh", "ger", "kr", "qaa", "qtz-Latn", "x-mine", "i-klingon",
    ],
)  # fmt: skip
def test_a_tag_of_a_registered_or_private_language_is_known(tag: str) -> None:
    assert is_known_tag(tag)
    assert check_language(f" {tag} ", Path("f"), 1) == tag


@pytest.mark.parametrize(
    "tag", ["README", "notes", "chat", "english", "jp", "A", "x", "", "123", "-de", "\u00e9t\u00e9"]
)
def test_a_word_or_a_name_is_no_known_tag(tag: str) -> None:
    assert not is_known_tag(tag)


@given(tag=st.text(max_size=20))
def test_tags_of_any_characters_are_judged_and_compared_without_an_error(tag: str) -> None:
    assert isinstance(is_known_tag(tag), bool)
    assert same_language(tag, tag)


def test_tags_meet_by_language_and_script_and_unnamed_ones_by_their_letters() -> None:
    assert same_language("yo", "yor_Latn")
    assert same_language("EN", "en-US")
    assert not same_language("sr-Cyrl", "sr-Latn")
    assert not same_language("und", "mul")
    assert not same_language("und", "en")


@pytest.mark.skipif(not os.environ.get("ALIGNSTREAM_DATA"), reason="needs ALIGNSTREAM_DATA")
def test_every_name_in_the_public_sets_is_a_known_tag() -> None:
    root = Path(os.environ["ALIGNSTREAM_DATA"])
    public = PublicSets(root)
    ntrex = (root / "ntrex128" / "NTREX-128").glob("newstest2019-ref.*.txt")
    tico = (root / "tico19_parallel" / "testsets").glob("tico19-test.*")
    xsid = (root / "xsid" / "data" / "xSID-0.7").glob("*.conll")
    names = [
        *(path.name.split(".")[1] for path in ntrex),
        *public.sib_languages(),
        *(path.name.split(".")[1] for path in tico),
        *(path.name.split(".")[0] for path in xsid),
    ]
    assert len(names) > 380
    assert [name for name in names if not is_known_tag(name)] == []


def test_a_file_of_a_folder_that_is_no_language_is_named(tmp_path: Path) -> None:
    write(tmp_path / "de.txt", "eins\n")
    write(tmp_path / "fr.txt", "un\n")
    write(tmp_path / "README.txt", "Read me.\n")
    with pytest.raises(
        TextError, match=r"README\.txt: 'README' is not the tag .* rename the file, or move it away"
    ):
        read_texts([tmp_path])


# --- files -------------------------------------------------------------------------------------------------


def test_a_file_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 300 + ".jsonl"):
        with pytest.raises(TextError, match=r"cannot read .*File name too long"):
            read_texts([tmp_path / name])
        with pytest.raises(TextError, match=r"cannot read .*File name too long"):
            read_parallel(tmp_path / name)


def test_a_line_of_the_longest_size_is_read_and_a_longer_one_is_refused_with_its_line(tmp_path: Path) -> None:
    longest = "\u00e9" * (datasets.MAX_LINE_BYTES // 2 - 1)
    path = write(tmp_path / "long.txt", f"one\n{longest}\n\r\nlast")
    assert list(read_lines(path)) == [(1, "one"), (2, longest), (3, ""), (4, "last")]
    write(path, f"one\n{longest}\u00e9\n")
    with pytest.raises(TextError, match=r"long\.txt, line 2: longer than 1000000 bytes"):
        list(read_lines(path))
    lines = write(tmp_path / "long.jsonl", json.dumps({"language": "de", "text": "x" * 1_000_000}))
    with pytest.raises(TextError, match=r"long\.jsonl, line 1: longer than 1000000 bytes"):
        read_texts([lines])


def test_no_more_of_an_endless_line_is_in_memory_than_shows_that_it_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "endless.txt"
    with path.open("wb") as file:
        file.truncate(64 * datasets.MAX_LINE_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(TextError, match=r"endless\.txt, line 1: longer than 1000000 bytes"):
            list(read_lines(path))
        assert tracemalloc.get_traced_memory()[1] < 8 * datasets.MAX_LINE_BYTES
    finally:
        tracemalloc.stop()


# --- parallel texts ----------------------------------------------------------------------------------------


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
