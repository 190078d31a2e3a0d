"""The demonstration corpus is complete, parallel in form and written in the scripts that it declares."""

import base64
import json
import unicodedata
from collections import Counter
from importlib import resources
from typing import Any

import msgspec
import pytest

from alignstream.models.labels import label_set as labels
from alignstream.streams.wire import records, topics

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
#: Made at run time, decided by the worker's own settings, or not caused by a value.
NOT_IN_BAD_RECORDS = {"too-large", "tenant-not-allowed", "inference-failed", "output-too-large"}


def load(room: str, name: str) -> dict[str, Any]:
    content = resources.files(f"alignstream.ops.{room}").joinpath(name).read_text(encoding="utf-8")
    decoded: dict[str, Any] = json.loads(content)
    return decoded


SAMPLE = load("admin", "gate-texts.json")
BAD_RECORDS: list[dict[str, Any]] = load("demo", "bad-records.json")["records"]
LANGUAGES: dict[str, dict[str, str]] = SAMPLE["languages"]
ENTRIES = [
    pytest.param(entry["text"][language], language, id=f"{entry['key']}-{language}")
    for entry in SAMPLE["texts"]
    for language in LANGUAGES
]


def named(name: str) -> dict[str, Any]:
    return next(record for record in BAD_RECORDS if record["name"] == name)


def value(record: dict[str, Any]) -> bytes:
    return base64.b64decode(record["value_base64"], validate=True)


def nesting(x: object) -> int:
    depth = 0
    while isinstance(x, list):
        depth, x = depth + 1, x[0] if x else None
    return depth


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


def test_every_bad_record_has_a_value_and_a_known_reason() -> None:
    for record in BAD_RECORDS:
        assert value(record), record["name"]  # an empty value would be read as a tombstone by some clients
        assert record["reason"] in topics.REASONS
        assert record["why"].endswith(".")


def test_the_bad_records_have_names_of_their_own() -> None:
    assert len({record["name"] for record in BAD_RECORDS}) == len(BAD_RECORDS)


def test_the_bad_records_cover_every_reason_that_a_value_alone_can_cause() -> None:
    reasons = {record["reason"] for record in BAD_RECORDS}
    assert reasons == set(topics.REASONS) - NOT_IN_BAD_RECORDS


def test_a_bad_record_is_readable_up_to_the_point_of_its_reason() -> None:
    for record in BAD_RECORDS:
        reason, content = record["reason"], value(record)
        if reason == "bad-utf8":
            with pytest.raises(UnicodeDecodeError):
                content.decode()
        elif reason == "bad-json":
            with pytest.raises(msgspec.DecodeError):
                msgspec.json.decode(content)
        elif reason == "bad-schema":
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(content, type=records.DocumentV1)
        else:
            assert msgspec.json.decode(content, type=records.DocumentV1).id, record["name"]


def test_a_bad_record_is_bad_in_the_way_that_its_reason_says() -> None:
    decoder = msgspec.json.Decoder(records.DocumentV1)
    assert named("schema-of-the-future")["headers"] == {topics.HEADER_SCHEMA: "documents/9"}
    assert nesting(json.loads(value(named("nested-too-deep")))["metadata"]) == 200
    assert not decoder.decode(value(named("text-empty"))).text
    assert decoder.decode(value(named("text-blank"))).text.isspace()
    assert len(decoder.decode(value(named("too-many-labels"))).labels or ()) == labels.MAX_LABELS + 1
    assert decoder.decode(value(named("label-set-unknown"))).label_set
    align = decoder.decode(value(named("adapter-unknown"))).align
    assert align is not None
    assert align.adapter
