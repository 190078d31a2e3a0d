"""Texts to evaluate on: read exactly, or refused with their file and line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_languages import labelled_lines, write

from alignstream.export.data.labelled import read_labelled
from alignstream.export.data.parallel import read_parallel
from alignstream.export.data.scored_pairs import read_scored
from alignstream.export.data.selection import find_language, listed
from alignstream.export.data.terms import term_list
from alignstream.export.data.word_pairs import read_words
from alignstream.models.errors import TextError


def test_parallel_text_is_read_whole_and_its_pivot_may_be_any_code_of_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "\ufeffde\teng\n" + "eins\tone\r\n\n" * 7000)
    found = read_parallel(path, limit=None)
    assert (found.pivot, found.n_lines) == ("de", 7000)
    assert read_parallel(path, pivot="en").pivot == "eng"
    assert found.limited(3).by_language == {"de": ["eins"] * 3, "eng": ["one"] * 3}
    assert found.limited(3).where(2) == f"{path}, line {2 + 2 * 4666}"
    with pytest.raises(TextError, match=r"p\.tsv has no language 'fr'; it has de, eng"):
        read_parallel(path, pivot="fr")
    with pytest.raises(TextError, match="'en' and 'eng' are one language"):
        read_parallel(write(tmp_path / "p.tsv", "en\teng\na\tb\na\tb\n"))


def test_a_message_names_twenty_languages_at_most() -> None:
    names = [f"a{i}" for i in range(500)]
    with pytest.raises(TextError, match="and 480 more") as caught:
        find_language("y" * 5000, names, "a set")
    assert len(str(caught.value)) < 400
    assert listed(["a", "b"]) == "a, b"


def test_texts_that_a_head_is_trained_on_are_not_judged_on(tmp_path: Path) -> None:
    test = write(
        tmp_path / "test.jsonl",
        labelled_lines(
            ("Eins", "deu", "x"), ("Good  Morning", "eng", "x"), ("two", "en", "y"), ("two", "eng", "y")
        ),
    )
    train = write(
        tmp_path / "train.jsonl",
        labelled_lines(
            ("eins", "en", "x"), ("good morning", "en", "x"), ("three", "en", "y"), ("two", "de", "y")
        ),
    )
    with pytest.raises(TextError, match=r"test\.jsonl, line 2: .* at .*train\.jsonl, line 2; remove it"):
        read_labelled(test, train=train)
    with pytest.raises(TextError, match=r"line 1: .* \(3 more texts are in both\)"):
        read_labelled(
            write(tmp_path / "t.jsonl", labelled_lines(*[(f"{i}", "en", f"{i}") for i in range(4)])),
            train=tmp_path / "t.jsonl",
        )
    # The same word in another language is another text.
    apart = write(tmp_path / "apart.jsonl", labelled_lines(("three", "de", "x"), ("two", "en", "y")))
    assert read_labelled(apart, train=train).train_language == "en"


LABELLED = '{"text": "a", "language": "en", "label": "x"}\n'


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_parallel, "de\ten\neins\n", r"f, line 2: 2 texts .* there are 1 in 1 cells"),
        (read_parallel, "de\tde\na\tb\n", r"f, line 1: .* each once"),
        (read_parallel, "de\ten\neins\tone\n", "at least two rows"),
        (read_parallel, "", "line 1: '' is not a language tag"),
        (read_labelled, LABELLED + "{\n", r"f, line 2: not JSON"),
        (
            read_labelled,
            LABELLED + '{"text": "a", "language": "en"}\n',
            r"f, line 2: an object with strings",
        ),
        (read_labelled, LABELLED.replace('"a"', '" "'), r"f, line 1: .* none blank"),
        (
            read_labelled,
            LABELLED.replace('"a"', '"\\ud800"'),
            "line 1: the text holds a lone surrogate",
        ),
        (read_labelled, LABELLED.replace('"en"', '"e n"'), "line 1: 'e n' is not a language tag"),
        (read_labelled, LABELLED, "at least two labels"),
        (read_scored, "en\t1\ta\n", r"f, line 1: language, score and two texts .* 3 in 3 cells"),
        (read_scored, "en\t1\ta\tb\nen\tnan\ta\tb\n", r"f, line 2: 'nan' is not a score"),
        (read_scored, "en\t1\ta\tb\nen\t1\ta\tb\n", "all scores of en are the same"),
        (read_scored, "\n", "holds no pair"),
        (
            read_words,
            "en\tde\tlinks\na b\tc\t0-0 2-0\n",
            r"f, line 2: link 2-0 points beyond .* 2 and 1 words",
        ),
        (read_words, "en\tde\tlinks\na b\tc\t0:0\n", r"f, line 2: '0:0' is not a link"),
        (read_words, "en\tde\na b\tc\n", r"f, line 1: a header of two language tags"),
        (read_words, "en\tde\tlinks\na\tb\t0-0\n", "at least two sentence pairs"),
        (read_words, "en\tde\tlinks\n\tb\t0-0\n", "line 2: 3 cells"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    tmp_path: Path, read: Callable[[Path], object], content: str, message: str
) -> None:
    with pytest.raises(TextError, match=message):
        read(write(tmp_path / "f", content))


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"cannot read .*nowhere: No such file"):
        read_scored(tmp_path / "nowhere")
    path = tmp_path / "f"
    path.write_bytes(b"en\t1\ta\tb\nen\t2\ta\t\xff\n")
    with pytest.raises(TextError, match="line 2: not UTF-8 at byte 8"):
        read_scored(path)


def test_links_stand_beside_their_sentences_or_in_a_file_of_their_own(tmp_path: Path) -> None:
    beside = write(tmp_path / "a.tsv", "en\tde\tlinks\na b\tc\t0-0 1-0\nd\te f\t\n")
    apart = write(tmp_path / "b.tsv", "en\tde\na b\tc\nd\te f\n")
    links = write(tmp_path / "links", "0-0 1-0\n\n")
    first, second = read_words(beside), read_words(apart, alignments=links)
    assert first.pairs == second.pairs
    (pair, other) = first.pairs["en", "de"]
    assert (pair.source, pair.target, pair.links) == (("a", "b"), ("c",), {(0, 0), (1, 0)})
    assert other.links == frozenset()
    with pytest.raises(TextError, match=r"links, line 1: link 0-3 points beyond"):
        read_words(apart, alignments=write(tmp_path / "links", "0-3\n0-0\n"))
    with pytest.raises(TextError, match=r"line 3: .*links has no line for this pair"):
        read_words(apart, alignments=write(tmp_path / "links", "0-0\n"))
    with pytest.raises(TextError, match="has 3 lines, but"):
        read_words(apart, alignments=write(tmp_path / "links", "0-0\n0-0\n\n"))


def test_terms_that_are_the_same_in_both_languages_say_nothing_and_repeats_are_kept_once() -> None:
    found = term_list("de", "en", [("Bank", "bank"), ("Ufer", "shore"), ("Ufer", "bank"), ("Ufer", "shore")])
    assert (found.source, found.target, found.pairs) == (["Ufer"], ["shore", "bank"], [(0, 0), (0, 1)])
