"""The texts of the second act, and its stream."""

import json
import re
import unicodedata
from collections import Counter
from importlib import resources
from pathlib import Path

import msgspec

from alignstream.ops.admin.gate_texts import load_texts
from alignstream.ops.demo import demo_documents
from alignstream.streams.wire import records

CLINIC = demo_documents.load_clinic()
STREAM = demo_documents.stream_of(load_texts(), CLINIC)
ROOT = Path(__file__).parents[4]


def test_every_text_of_the_clinic_is_there_in_every_language_and_unlike_all_others_of_it() -> None:
    assert all(list(text.text) == list(CLINIC.languages) for text in CLINIC.texts)
    for language in CLINIC.languages:
        texts = [text.text[language] for text in CLINIC.texts]
        assert len({text.casefold() for text in texts}) == len(texts), language
        assert all(text == " ".join(text.split()) for text in texts)
        assert all(unicodedata.is_normalized("NFC", text) for text in texts)


def test_no_text_of_the_clinic_was_left_in_english() -> None:
    for text in CLINIC.texts:
        assert [tag for tag, words in text.text.items() if words == text.text["en"]] == ["en"], text.key


def test_where_the_texts_of_the_clinic_come_from_is_told() -> None:
    raw = resources.files("alignstream.ops.demo").joinpath("clinic.json").read_text(encoding="utf-8")
    assert "CC0" in json.loads(raw)["about"]
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "ops/demo/clinic.json" in notice
    assert "TICO-19" in notice
    assert "Carnegie Mellon" in notice
    assert re.search(rf"holds {len(CLINIC.texts)} lines in {len(CLINIC.languages)} languages", notice)


def test_the_stream_turns_from_one_domain_to_the_other_once_and_the_newcomer_is_in_the_second_alone() -> None:
    domains = [message.domain for message in STREAM]
    assert domains == sorted(domains, key=[demo_documents.EVERYDAY, demo_documents.CLINIC].index)
    found = {domain: {m.language for m in STREAM if m.domain == domain} for domain in set(domains)}
    assert found[demo_documents.CLINIC] - found[demo_documents.EVERYDAY] == {CLINIC.newcomer}
    assert found[demo_documents.EVERYDAY] < found[demo_documents.CLINIC]


def test_the_first_domain_is_long_enough_for_a_change_to_be_noticed() -> None:
    """Eight texts of a language come before it is tested; four windows of 32 texts before anything is said."""
    counts = Counter(message.language for message in STREAM if message.domain == demo_documents.EVERYDAY)
    assert sum(count - 8 for count in counts.values()) > 2 * 4 * 32


def test_the_stream_has_the_same_order_every_time_and_languages_are_mixed_in_it() -> None:
    assert demo_documents.stream_of(load_texts(), CLINIC) == STREAM
    assert len({message.language for message in STREAM[:32]}) > 8


def test_nothing_is_learned_from_what_is_stored_and_each_record_is_a_document() -> None:
    for kind, follow in ((demo_documents.STORED, False), (demo_documents.STREAMED, None)):
        key, value, _ = demo_documents.stream_documents(STREAM[:1], run="r", kind=kind, tenant="t")[0]
        document = msgspec.json.decode(value or b"", type=records.DocumentV1)
        assert document.tenant == "t"
        assert (document.align.follow if document.align else None) is follow
        assert key
        assert document.id == demo_documents.document_id("r", kind, STREAM[0].key, STREAM[0].language)
