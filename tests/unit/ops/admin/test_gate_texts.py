"""The gate's texts are complete, parallel in form, and written in the scripts that they declare."""

import json
import unicodedata
from collections import Counter
from importlib import resources
from typing import Any

import msgspec
import pytest

from alignstream.streams.wire import records

#: A script as declared, and how the Unicode names of its letters begin.
LETTER_NAMES = {
    "Latin": ("LATIN ",),
    "Cyrillic": ("CYRILLIC ",),
    "Greek": ("GREEK ",),
    "Arabic": ("ARABIC ",),
    "Hebrew": ("HEBREW ",),
    "Devanagari": ("DEVANAGARI ",),
    "Bengali": ("BENGALI ",),
    "Tamil": ("TAMIL ",),
    "Thai": ("THAI ",),
    "Han": ("CJK ",),
    "Japanese": ("HIRAGANA ", "KATAKANA", "CJK "),
    "Hangul": ("HANGUL ",),
}
#: Room for a foreign word in a text; the corpus itself has none.
LEAST_SHARE_OF_SCRIPT = 0.9
#: A sentence, in words of English.
ENGLISH_WORDS = range(12, 26)
#: A sentence in the densest script, Han, still has more.
LEAST_CHARACTERS = 12


def load(room: str, name: str) -> dict[str, Any]:
    content = resources.files(f"alignstream.ops.{room}").joinpath(name).read_text(encoding="utf-8")
    decoded: dict[str, Any] = json.loads(content)
    return decoded


SAMPLE = load("admin", "gate-texts.json")
LANGUAGES: dict[str, dict[str, str]] = SAMPLE["languages"]
ENTRIES = [
    pytest.param(entry["text"][language], language, id=f"{entry['key']}-{language}")
    for entry in SAMPLE["texts"]
    for language in LANGUAGES
]


def test_there_are_at_least_twenty_languages_in_eight_scripts() -> None:
    assert len(LANGUAGES) >= 20
    assert len({language["script"] for language in LANGUAGES.values()}) >= 8
    assert len({language["name"] for language in LANGUAGES.values()}) == len(LANGUAGES)


def test_every_tag_is_one_that_a_document_may_carry() -> None:
    for language in LANGUAGES:
        assert msgspec.convert({"text": "x", "language": language}, records.DocumentV1).language == language


def test_there_are_seven_topics_with_five_texts_each() -> None:
    assert len(SAMPLE["labels"]) == 7
    assert Counter(entry["topic"] for entry in SAMPLE["texts"]) == dict.fromkeys(SAMPLE["labels"], 5)


def test_the_template_holds_the_label_once() -> None:
    assert SAMPLE["template"].count("{label}") == 1


def test_the_keys_are_unique() -> None:
    keys = [entry["key"] for entry in SAMPLE["texts"]]
    assert len(set(keys)) == len(keys)


def test_every_text_is_there_in_exactly_the_declared_languages() -> None:
    for entry in SAMPLE["texts"]:
        assert list(entry["text"]) == list(LANGUAGES), entry["key"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_stands_twice_in_a_language(language: str) -> None:
    texts = [entry["text"][language].casefold() for entry in SAMPLE["texts"]]
    assert len(set(texts)) == len(texts)


def test_no_text_stands_in_two_languages() -> None:
    for entry in SAMPLE["texts"]:
        assert len(set(entry["text"].values())) == len(LANGUAGES), entry["key"]


def test_english_texts_have_the_length_of_one_sentence() -> None:
    for entry in SAMPLE["texts"]:
        assert len(entry["text"]["en"].split()) in ENGLISH_WORDS, entry["key"]


@pytest.mark.parametrize(("text", "language"), ENTRIES)
def test_a_text_is_clean_and_in_the_script_of_its_language(text: str, language: str) -> None:
    assert len(text) >= LEAST_CHARACTERS
    assert text == " ".join(text.split())
    assert unicodedata.is_normalized("NFC", text)
    letters = [character for character in text if unicodedata.category(character).startswith("L")]
    beginnings = LETTER_NAMES[LANGUAGES[language]["script"]]
    of_script = sum(unicodedata.name(letter).startswith(beginnings) for letter in letters)
    assert of_script / len(letters) >= LEAST_SHARE_OF_SCRIPT


def test_japanese_texts_use_kana() -> None:
    for entry in SAMPLE["texts"]:
        assert any(unicodedata.name(c, "").startswith("HIRAGANA ") for c in entry["text"]["ja"]), entry["key"]
