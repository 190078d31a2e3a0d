"""The second act of the demonstration: its texts, its stream, and the figures of search."""

import json
import re
import unicodedata
from collections import Counter
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from alignstream.ops.admin.gate_texts import load_texts
from alignstream.ops.demo import measure, picture, sample, show
from alignstream.ops.demo.search import Found, Index, Judged, figures
from alignstream.streams.wire import records

CLINIC = sample.load_clinic()
STREAM = sample.stream_of(load_texts(), CLINIC)
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
    assert domains == sorted(domains, key=[sample.EVERYDAY, sample.CLINIC].index)
    found = {domain: {m.language for m in STREAM if m.domain == domain} for domain in set(domains)}
    assert found[sample.CLINIC] - found[sample.EVERYDAY] == {CLINIC.newcomer}
    assert found[sample.EVERYDAY] < found[sample.CLINIC]


def test_the_first_domain_is_long_enough_for_a_change_to_be_noticed() -> None:
    """Eight texts of a language come before it is tested; four windows of 32 texts before anything is said."""
    counts = Counter(message.language for message in STREAM if message.domain == sample.EVERYDAY)
    assert sum(count - 8 for count in counts.values()) > 2 * 4 * 32


def test_the_stream_has_the_same_order_every_time_and_languages_are_mixed_in_it() -> None:
    assert sample.stream_of(load_texts(), CLINIC) == STREAM
    assert len({message.language for message in STREAM[:32]}) > 8


def test_nothing_is_learned_from_what_is_stored_and_each_record_is_a_document() -> None:
    for kind, follow in ((sample.STORED, False), (sample.STREAMED, None)):
        key, value, _ = sample.stream_documents(STREAM[:1], run="r", kind=kind, tenant="t")[0]
        document = msgspec.json.decode(value or b"", type=records.DocumentV1)
        assert document.tenant == "t"
        assert (document.align.follow if document.align else None) is follow
        assert key
        assert document.id == sample.document_id("r", kind, STREAM[0].key, STREAM[0].language)


# Three meanings in three languages; German "b" lies on English "c".
MEANING = ("a", "b", "c") * 3
LANGUAGES = ("en",) * 3 + ("de",) * 3 + ("lg",) * 3
PLACES = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 2, 2, 0, 1, 2]]


def test_a_text_finds_its_translations_and_not_itself() -> None:
    index = Index(PLACES, MEANING, LANGUAGES)
    assert index.find(0, PLACES[0]) == Found(1.0, None, {"de": 1.0, "lg": 1.0})
    found = index.find(4, PLACES[4])
    assert found.to_pivot == 0.0
    assert found.share == 0.0
    assert index.find(4, PLACES[1]).to_pivot == 1.0
    assert index.find(1, PLACES[1]).from_pivot == {"de": 0.0, "lg": 1.0}


def test_a_language_without_the_counterpart_says_nothing() -> None:
    index = Index(PLACES[:-1], MEANING[:-1], LANGUAGES[:-1])
    assert list(index.find(2, PLACES[2]).from_pivot) == ["de"]


def test_shares_are_those_of_the_pool_that_the_first_act_measures() -> None:
    generator = np.random.default_rng(3)
    X = generator.normal(size=(24, 8)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    meaning = np.arange(24) % 6
    index = Index(X, [str(number) for number in meaning], ["en", "de", "lg", "fr"] * 6)
    shares = [index.find(row, x).share for row, x in enumerate(X)]
    assert np.mean(shares) == pytest.approx(measure.r_precision(X, meaning))


def judged(position: int, language: str, static: float, following: float, domain: str = "clinic") -> Judged:
    if language == "en":
        pair = [Found(value, None, {"lg": value, "de": 1.0}) for value in (static, following)]
    else:
        pair = [Found(value, value, {}) for value in (static, following)]
    return Judged(position, domain, language, 1, *pair)


def test_figures_of_one_language_are_of_its_queries_and_of_english_ones_for_it() -> None:
    items = [judged(0, "de", 1.0, 1.0), judged(1, "lg", 0.0, 0.5), judged(2, "en", 0.0, 1.0)]
    own = figures(items, "lg")
    assert own["r_precision"] == {"static": 0.0, "following": 0.5, "n": 1.0}
    assert own["to_english"] == {"static": 0.0, "following": 0.5, "n": 1.0}
    assert own["from_english"] == {"static": 0.0, "following": 1.0, "n": 1.0}
    everyone = figures(items)
    assert everyone["r_precision"]["n"] == 3.0
    assert everyone["from_english"] == {"static": 0.5, "following": 1.0, "n": 2.0}
    assert figures([]) == {}


def test_the_picture_is_drawn_from_few_texts_too(tmp_path: Path) -> None:
    items = [judged(0, "de", 1.0, 1.0, "everyday"), judged(1, "de", 0.5, 0.5), judged(2, "lg", 0.5, 0.6)]
    picture.draw_stream(tmp_path / "x.png", items, [(1, "drift")], newcomer="lg", name="Luganda")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_fits_a_terminal_of_eighty_cells_and_hides_no_loss() -> None:
    full = {name: {"static": 1.0, "following": 1.0, "n": 3.0} for name in ("r_precision", "to_english")}
    worse = {name: {"static": 0.5, "following": 0.25, "n": 3.0} for name in ("r_precision", "from_english")}
    rows = [
        {"domain": "everyday", "epoch": 0, "reason": None, "n_learned": None, "n_queries": 64, "all": full,
         "newcomer": {}},
        {"domain": "clinic", "epoch": 12, "reason": "doubling", "n_learned": 1536, "n_queries": 1100, "all": full,
         "newcomer": worse},
    ]  # fmt: skip
    console = Console(width=80, record=True)
    console.print(show.by_epoch(rows, "Luganda"))
    printed = console.export_text()
    assert "…" not in printed
    assert "50.0→25.0" in printed
    assert max(map(len, printed.splitlines())) <= 80
