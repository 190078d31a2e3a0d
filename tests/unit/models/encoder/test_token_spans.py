"""Tokens and the characters they stand for: prefix, special tokens, white space and limits left out."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.models.encoder.token_spans import PlacingTokenizer, TokenVectors
from alignstream.models.errors import TextNotUnicode, TextWithoutTokens

PREFIX = "query: "
PIECES = ["▁query", ":", "▁", "▁cat", "▁cats", "▁sat", "s", "猫", "坐", "é", "Ġ"]


def made(folder: Path, *, prefix: str = PREFIX, max_tokens: int = 12) -> PlacingTokenizer:
    """Write a tokenizer as XLM-R's is laid out: pieces of words, a mark where one starts."""
    pieces = [
        ("<s>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -20.0),
        *((piece, -float(len(piece) < 2)) for piece in PIECES),
    ]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = tokenizers.normalizers.NFKC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return PlacingTokenizer(folder / "tokenizer.json", prefix=prefix, max_tokens=max_tokens)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PlacingTokenizer:
    return made(tmp_path_factory.mktemp("tokenizer"), max_tokens=64)


def test_spans_are_those_of_the_text_without_prefix_special_tokens_and_spaces(
    tokenizer: PlacingTokenizer,
) -> None:
    text = "  cats \t 猫坐 cat s"
    (found,) = tokenizer.place([text])
    assert [text[start:end] for start, end in found.spans] == ["cats", "猫", "坐", "cat", "s"]
    assert found.names[:3] == ("▁cats", "猫", "坐")
    assert len(found.ids.input_ids) > len(found.positions) + 2
    assert found.ids == tokenizer.encode([text])[0]


def test_a_character_that_the_tokenizer_writes_otherwise_keeps_its_place(tokenizer: PlacingTokenizer) -> None:
    text = "cat e\u0301 cats"
    (found,) = tokenizer.place([text])
    assert [text[start:end] for start, end in found.spans] == ["cat", "e\u0301", "cats"]


def test_a_mark_that_the_text_itself_holds_is_a_token_of_it(tokenizer: PlacingTokenizer) -> None:
    (found,) = tokenizer.place(["▁"])
    assert (found.names, found.spans) == (("▁",), ((0, 1),))


def test_without_a_prefix_nothing_is_shifted(tmp_path: Path) -> None:
    (found,) = made(tmp_path, prefix="").place(["猫 cats"])
    assert found.spans == ((0, 1), (2, 6))


def test_what_is_behind_the_limit_is_counted_and_has_no_span(tmp_path: Path) -> None:
    text = " ".join(["cat"] * 20)
    (found,) = made(tmp_path).place([text])
    assert len(found.ids.input_ids) == 12
    # Two special tokens and two of the prefix leave eight.
    assert (len(found.spans), found.ids.dropped) == (8, 12)
    assert found.spans[-1] == (28, 31)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_without_tokens_is_refused(tokenizer: PlacingTokenizer, text: str) -> None:
    with pytest.raises(TextWithoutTokens, match=r"text 1 \('.*'\) is empty"):
        tokenizer.place(["cat", text])


def test_a_text_that_is_no_unicode_is_refused(tokenizer: PlacingTokenizer) -> None:
    # What Python makes of the bytes FF FE on a command line.
    with pytest.raises(TextNotUnicode, match=r"text 1 \('\\udcff\\udcfe'\) holds a lone surrogate"):
        tokenizer.place(["cat", "\udcff\udcfe"])


def test_a_prefix_that_leaves_no_room_is_said(tmp_path: Path) -> None:
    with pytest.raises(TextWithoutTokens, match="the prefix fills the limit of 4 tokens"):
        made(tmp_path, max_tokens=4).place(["cat"])


@given(text=st.text(alphabet="cats 猫坐é\u0301\u3000\u200d▁:xﬁ", max_size=20))
@settings(deadline=None)
def test_spans_lie_in_the_text_in_order_and_begin_and_end_with_what_is_no_space(
    tokenizer: PlacingTokenizer, text: str
) -> None:
    try:
        (found,) = tokenizer.place([text])
    except TextWithoutTokens:
        return
    assert list(found.spans) == sorted(found.spans)
    assert list(found.positions) == sorted(set(found.positions))
    for start, end in found.spans:
        assert 0 <= start < end <= len(text)
        assert text[start:end].strip() == text[start:end]


def test_vectors_are_those_of_the_kept_tokens_and_a_copy(tokenizer: PlacingTokenizer) -> None:
    (found,) = tokenizer.place(["cats cat"])
    X = np.arange(3.0 * len(found.ids.input_ids), dtype=np.float32).reshape(-1, 3)
    vectors = found.with_vectors(X)
    np.testing.assert_array_equal(vectors.vectors, X[list(found.positions)])
    assert not np.shares_memory(vectors.vectors, X)


def test_as_many_tokens_spans_and_vectors_are_needed() -> None:
    with pytest.raises(ValueError, match="1 tokens, 2 spans"):
        TokenVectors(("a",), ((0, 1), (1, 2)), np.zeros((2, 3), dtype=np.float32))
