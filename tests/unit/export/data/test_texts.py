"""Monolingual texts: what people give is read exactly, or refused with its line."""

import json
from pathlib import Path

import pytest
from toy_languages import write

from alignstream.export.data.texts import evenly_spaced, read_texts
from alignstream.models.errors import TextError


def test_a_folder_a_table_and_json_lines_hold_the_same_texts(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder / "de.txt", "\ufeffEins\n\n  zwei \r\n")
    write(folder / "fr.txt", "un\u2028deux\n")
    write(folder / "notes.md", "not a language")
    table = write(tmp_path / "table.tsv", "de\tEins\nfr\tun\u2028deux\n\nde\tzwei\n")
    lines = write(
        tmp_path / "lines.jsonl",
        "".join(
            json.dumps({"language": language, "text": text, "id": 1}) + "\n"
            for language, text in (("fr", "un\u2028deux"), ("de", "Eins"), ("de", "zwei"))
        ),
    )
    expected = {"de": ["Eins", "zwei"], "fr": ["un\u2028deux"]}
    shouted = write(tmp_path / "SHOUTED.JSONL", lines.read_text(encoding="utf-8"))
    for path in (folder, table, lines, shouted):
        assert read_texts([path]).by_language == expected
    assert read_texts([folder, table, lines]).by_language == expected


def test_a_repeated_text_counts_once_and_is_counted(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "de\tja\nde\tja\nde\tja\nfr\tja\n")
    texts = read_texts([table])
    assert texts.by_language == {"de": ["ja"], "fr": ["ja"]}
    assert texts.n_repeated == {"de": 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"de\teins\nfr un\n", r"t\.tsv, line 2: language<TAB>text is needed"),
        ("t.tsv", b"de\teins\nfr\tu\xffn\n", r"t\.tsv, line 2: not UTF-8 at byte 5"),
        ("t.tsv", b"de\teins\n\tun\n", r"t\.tsv, line 2: '' is not a language tag"),
        ("t.tsv", b"two words\teins\n", r"t\.tsv, line 1: 'two words' is not a language tag"),
        (
            "t.tsv",
            b"language\ttext\nde\teins\n",
            r"t\.tsv, line 1: 'language' .*; take its code, or x- and a name",
        ),
        ("t.tsv", b"de\teins\ndeu\tzwei\n", "at least 2 languages .* hold 1: de, deu are one language"),
        ("t.tsv", b"de\teins\nde\tzwei\n", "at least 2 languages are needed.* hold 1"),
        ("t.tsv", b"", "at least 2 languages are needed.* hold 0"),
        ("t.tsv", b"de\teins\nfr\t \n", "no text for language fr"),
        ("t.jsonl", b'{"language": "de", "text": "eins"}\n{"language": "de"', r"t\.jsonl, line 2: not JSON"),
        ("t.jsonl", b'{"language": "de", "text": NaN}\n', r"t\.jsonl, line 1: an object with strings"),
        ("t.jsonl", b'{"language": 1, "text": "x"}\n', r"t\.jsonl, line 1: an object with strings"),
        ("t.jsonl", b"[1]\n", r"t\.jsonl, line 1: an object with strings"),
        ("t.jsonl", b"[" * 100_000 + b"\n", r"t\.jsonl, line 1: not JSON"),
        ("t.jsonl", b'{"language": "de", "text": "\\ud800"}\n', r"line 1: the text holds a lone surrogate"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_texts([path])


def test_an_empty_language_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "de.txt", "eins\n")
    write(tmp_path / "a" / "fr.TXT", "\n \n")
    (tmp_path / "b").mkdir()
    with pytest.raises(TextError, match="no text for language fr"):
        read_texts([tmp_path / "a"])
    with pytest.raises(TextError, match=r"holds no <language>\.txt"):
        read_texts([tmp_path / "b"])
    with pytest.raises(TextError, match=r"cannot read .*nowhere: No such file"):
        read_texts([tmp_path / "nowhere"])


def test_a_file_of_a_folder_that_is_no_language_is_named(tmp_path: Path) -> None:
    write(tmp_path / "de.txt", "eins\n")
    write(tmp_path / "fr.txt", "un\n")
    write(tmp_path / "README.txt", "Read me.\n")
    with pytest.raises(
        TextError, match=r"README\.txt: 'README' is not the tag .* rename the file, or move it away"
    ):
        read_texts([tmp_path])


def test_evenly_spaced_positions_are_distinct_and_start_at_the_first() -> None:
    for n, wanted in ((10, 3), (10, 10), (3, 10), (1697, 80), (0, 5)):
        found = evenly_spaced(n, wanted)
        assert len(found) == len(set(found)) == min(n, wanted)
        assert found == sorted(found)
        assert all(0 <= position < n for position in found)
