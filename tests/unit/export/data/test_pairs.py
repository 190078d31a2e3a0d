"""Translations from files: every format gives the same pairs, and every fault is named with its line."""

from pathlib import Path

import pytest

from alignstream.export.data.lines import MAX_LINE_BYTES
from alignstream.export.data.pairs import Pairs, check_overlap, read_pairs
from alignstream.models.errors import TextError

ROWS = [
    ("Habari ya asubuhi", "Good morning"),
    ("Asante sana", "Thank you very much"),
    ("Ninakuja", "I am coming"),
]

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header srclang="sw" creationtool="x" segtype="sentence"/><body>
{units}
</body></tmx>
"""


def unit(first: str, second: str, languages: tuple[str, str] = ("sw", "en")) -> str:
    return (
        f'<tu><tuv xml:lang="{languages[0]}"><seg>{first}</seg></tuv>'
        f'<tuv xml:lang="{languages[1]}"><seg>{second}</seg></tuv></tu>'
    )


def write(folder: Path, kind: str) -> Path:
    if kind == "moses":
        (folder / "corpus.sw").write_text("".join(f"{one}\n" for one, _ in ROWS), encoding="utf-8")
        (folder / "corpus.en").write_text("".join(f"{other}\n" for _, other in ROWS), encoding="utf-8")
        return folder / "corpus"
    text = {
        "tsv": "sw\ten\n" + "".join(f"{one}\t{other}\n" for one, other in ROWS),
        "jsonl": "".join(
            f'{{"source": "{one}", "target": "{other}", "source_language": "sw", "target_language": "en"}}\n'
            for one, other in ROWS
        ),
        # The second unit has its variants the other way round, as tools write them.
        "tmx": TMX.format(
            units="\n".join(
                unit(other, one, ("en", "sw")) if position == 1 else unit(one, other)
                for position, (one, other) in enumerate(ROWS)
            )
        ),
    }[kind]
    path = folder / f"pairs.{kind}"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "tmx", "moses"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, kind: str) -> None:
    pairs = read_pairs(write(tmp_path, kind))
    assert (pairs.source_language, pairs.target_language) == ("sw", "en")
    assert list(zip(pairs.source, pairs.target, strict=True)) == ROWS
    assert len(pairs) == len(pairs.lines) == 3
    turned = read_pairs(write(tmp_path, kind), target="sw")
    assert (turned.source, turned.target_language) == (pairs.target, "sw")


def test_text_in_inline_codes_is_left_out_and_spaces_are_one(tmp_path: Path) -> None:
    path = tmp_path / "m.tmx"
    path.write_text(
        TMX.format(units=unit("Asante <bpt i='1'>&lt;b></bpt> sana", "Thank  you")), encoding="utf-8"
    )
    pairs = read_pairs(path)
    assert (pairs.source, pairs.target) == (["Asante sana"], ["Thank you"])


def test_a_target_is_found_by_any_of_its_tags(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("yor_Latn\teng_Latn\nE kaaro\tGood morning\n", encoding="utf-8")
    for target in ("en", "eng", "EN", "en-US"):
        assert read_pairs(path, target=target).target == ["Good morning"]
    turned = read_pairs(path, target="yo")
    assert (turned.source_language, turned.target_language) == ("eng_Latn", "yor_Latn")
    with pytest.raises(TextError, match="neither is the target language 'de'"):
        read_pairs(path, target="de")


def test_the_target_of_plain_files_is_english_by_any_of_its_tags(tmp_path: Path) -> None:
    (tmp_path / "corpus.swh_Latn").write_text("Habari\n", encoding="utf-8")
    (tmp_path / "corpus.eng_Latn").write_text("Hello\n", encoding="utf-8")
    assert read_pairs(tmp_path / "corpus").target == ["Hello"]


def test_a_memory_may_write_the_tags_of_one_language_in_many_ways(tmp_path: Path) -> None:
    path = tmp_path / "m.tmx"
    units = [
        unit("Habari", "Hello", ("SW", "EN")),
        unit("Thank you", "Asante", ("en-US", "sw-KE")),
        unit("Kwaheri", "Goodbye", ("swh_Latn", "en")),
    ]
    path.write_text(
        TMX.replace('srclang="sw"', 'srclang="Sw"').format(units="\n".join(units)), encoding="utf-8"
    )
    pairs = read_pairs(path)
    assert (pairs.source_language, pairs.target_language) == ("SW", "EN")
    assert pairs.source == ["Habari", "Asante", "Kwaheri"]


@pytest.mark.parametrize("encoding", ["foo-9", "shift_jis"])
def test_an_encoding_that_cannot_be_read_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "m.tmx"
    path.write_text(TMX.replace("UTF-8", encoding).format(units=unit("A", "B")), encoding="utf-8")
    with pytest.raises(TextError, match=r"m\.tmx, line 1: the encoding .* convert the file to UTF-8"):
        read_pairs(path)


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "tmx", "moses"])
def test_a_text_of_megabytes_is_refused_with_its_line(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    file = tmp_path / "corpus.sw" if kind == "moses" else path
    long = "Ninakuja " * (MAX_LINE_BYTES // 9 + 1)
    file.write_text(file.read_text(encoding="utf-8").replace("Ninakuja", long), encoding="utf-8")
    line = {"tsv": 4, "jsonl": 3, "tmx": 5, "moses": 3}[kind]
    with pytest.raises(TextError, match=rf"{file.name}, line {line}: .*longer than 1000000 bytes"):
        read_pairs(path)


BAD = {
    "a cell is missing": ("x.tsv", "sw\ten\nHabari\tHello\nAsante\n", r"x\.tsv, line 3: two texts"),
    "a cell is blank": ("x.tsv", "sw\ten\nHabari\t \n", "line 2: two texts"),
    "three columns": ("x.tsv", "sw\ten\tde\nA\tB\tC\n", "line 1: a header of two language tags"),
    "no header": (
        "x.tsv",
        "Habari ya asubuhi\tGood morning\n",
        r"line 1: .* is not a language tag .* is the header missing\?",
    ),
    "no header, but words": (
        "x.tsv",
        "chat\tcat\nchien\tdog\n",
        r"x\.tsv, line 1: 'chat' is not the tag of a language.*; is the header missing\?",
    ),
    "a tag that nobody knows": (
        "x.jsonl",
        '{"source": "a", "target": "b", "source_language": "sw", "target_language": "english"}\n',
        "line 1: 'english' is not the tag of a language.*; take its code, or x- and a name",
    ),
    "a variant that nobody knows": (
        "x.tmx",
        TMX.format(units=unit("A", "B", ("sw", "jp"))),
        "line 3: 'jp' is not the tag of a language",
    ),
    "a pair twice": ("x.tsv", "sw\ten\nA\tB\nC\tD\nA\tB\n", "line 4: the pair of line 2 again"),
    "a pair twice, but for case and blanks": (
        "x.tsv",
        "sw\ten\nAsante sana\tThanks\nC\tD\nasante  SANA\tTHANKS\n",
        "line 4: the pair of line 2 again, but for case and spacing at most",
    ),
    "a copied column": ("x.tsv", "sw\ten\nA b\tA b\nC\tc\nD\tE\n", "line 2: sw and en are the same text"),
    "one language": ("x.tsv", "en\ten\nA\tB\n", r"x\.tsv, line 1: both sides are 'en'"),
    "one language by two tags": (
        "x.tsv",
        "yo\tyor_Latn\nA\tB\n",
        r"x\.tsv, line 1: both sides are one language, 'yo' and 'yor_Latn'",
    ),
    "one language by two tags of a memory": (
        "x.tmx",
        TMX.format(units=unit("A", "B", ("en-US", "EN"))),
        "line 3: both sides are one language, 'en-US' and 'EN'",
    ),
    "no pairs": ("x.tsv", "sw\ten\n", "there are no pairs"),
    "not JSON": ("x.jsonl", "{\n", "line 1: not JSON"),
    "a field is missing": ("x.jsonl", '{"source": "a", "target": "b"}\n', "line 1: an object with strings"),
    "a surrogate": (
        "x.jsonl",
        '{"source": "\\ud800", "target": "b", "source_language": "sw", "target_language": "en"}\n',
        "line 1: the text holds a lone surrogate",
    ),
    "not XML": ("x.tmx", "<tmx><body>", "line 1: not TMX"),
    "one variant": (
        "x.tmx",
        TMX.format(units='<tu><tuv xml:lang="sw"><seg>A</seg></tuv></tu>'),
        "line 3: a translation unit must have two variants",
    ),
    "languages change": (
        "x.tmx",
        TMX.format(units=unit("A", "B") + "\n" + unit("C", "D", ("sw", "de"))),
        "line 4: a pair of sw and de among pairs of sw and en",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_named_with_file_and_line(tmp_path: Path, name: str) -> None:
    file, text, message = BAD[name]
    path = tmp_path / file
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TextError, match=message):
        read_pairs(path)


def test_entities_of_a_document_are_not_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret words", encoding="utf-8")
    path = tmp_path / "m.tmx"
    body = TMX.format(units=unit("Asante &leak;", "Thank you")).split("\n", 1)
    path.write_text(
        f'{body[0]}\n<!DOCTYPE tmx [<!ENTITY leak SYSTEM "{secret}">]>\n{body[1]}', encoding="utf-8"
    )
    assert read_pairs(path).source == ["Asante"]


def test_moses_files_of_different_length_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "moses")
    (tmp_path / "corpus.en").write_text("Good morning\n", encoding="utf-8")
    with pytest.raises(TextError, match=r"has 3 lines, .* 1; line i of one translates line i of the other"):
        read_pairs(path)
    (tmp_path / "corpus.de").write_text("Guten Morgen\n", encoding="utf-8")
    with pytest.raises(TextError, match=r"found: corpus\.de, corpus\.en, corpus\.sw"):
        read_pairs(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot read"):
        read_pairs(tmp_path / "none.tsv")
    for suffix in ("", ".tsv", ".jsonl", ".tmx"):
        with pytest.raises(TextError, match=r"cannot read .*File name too long"):
            read_pairs(tmp_path / ("x" * 300 + suffix))
    (tmp_path / "x.tsv").write_bytes(b"sw\ten\nabc\t\xff\n")
    with pytest.raises(TextError, match="line 2: not UTF-8"):
        read_pairs(tmp_path / "x.tsv")
    with pytest.raises(TextError, match="neither is the target language 'de'"):
        read_pairs(write(tmp_path, "tsv"), target="de")


def test_text_that_is_judged_on_must_not_be_fitted_on() -> None:
    fit = Pairs("fit.tsv", "sw", "en", ["Habari", "Asante  SANA"], ["Hello", "Thanks"], [2, 3])
    dev = Pairs("dev.tsv", "sw", "en", ["asante sana"], ["Thank you"], [9])
    with pytest.raises(TextError, match=r"fit\.tsv, line 3: this source text is line 9 of dev\.tsv too"):
        check_overlap(fit, dev)
    check_overlap(fit, Pairs("dev.tsv", "sw", "en", ["Kwaheri"], ["Bye"], [2]))
