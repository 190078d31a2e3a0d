"""Lines and tags: no line is longer than memory allows, and what is no language is refused."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_languages import write

from alignstream.export.data.lines import MAX_LINE_BYTES, check_language, read_lines
from alignstream.export.data.parallel import read_parallel
from alignstream.export.data.public_sets import PublicSets
from alignstream.export.data.texts import read_texts
from alignstream.models.adapter.languages import is_known_tag, same_language
from alignstream.models.errors import TextError


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


def test_a_file_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 300 + ".jsonl"):
        with pytest.raises(TextError, match=r"cannot read .*File name too long"):
            read_texts([tmp_path / name])
        with pytest.raises(TextError, match=r"cannot read .*File name too long"):
            read_parallel(tmp_path / name)


def test_a_line_of_the_longest_size_is_read_and_a_longer_one_is_refused_with_its_line(tmp_path: Path) -> None:
    longest = "\u00e9" * (MAX_LINE_BYTES // 2 - 1)
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
        file.truncate(64 * MAX_LINE_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(TextError, match=r"endless\.txt, line 1: longer than 1000000 bytes"):
            list(read_lines(path))
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()
