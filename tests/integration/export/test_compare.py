"""Token vectors of the embedded encoder, and ``alignstream compare`` on it."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from one_encoder import OneEncoder

from alignstream.export.encoders.parity_texts import SCRIPTS, parity_texts
from alignstream.models.attention.token_attention import attend, word_links
from alignstream.models.attention.words import word_spans
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.encoder.token_spans import TokenVectors
from alignstream.models.errors import AdapterError, AlignstreamError, TextWithoutTokens
from alignstream.ops.cli import compare as command

A, B = "The cat sits on the mat.", "Die Katze sitzt auf der Matte."


# -- token vectors ----------------------------------------------------------------------------------


def content(tokens: TokenVectors) -> tuple[object, ...]:
    return tokens.tokens, tokens.spans, tokens.dropped, tokens.vectors.tobytes()


def test_a_text_gives_the_same_token_vectors_alone_in_any_batch_in_any_order_and_under_any_padding(
    embedded_artifact: Path, one_encoder: OneEncoder
) -> None:
    """Texts in 18 scripts; one of them is behind the limit of 512 tokens."""
    texts = [text for _, text in parity_texts()]
    longest = max(texts, key=len)
    texts = [text for text in texts if len(text) < 200]
    encoder = one_encoder.load(embedded_artifact)
    alone = {text: content(encoder.encode_tokens([text])[0]) for text in texts}
    generator = random.Random(3)
    for max_batch_tokens, threads in ((2048, 0), (8192, 1)):
        del encoder  # or there would be two
        encoder = one_encoder.load(embedded_artifact, threads=threads, max_batch_tokens=max_batch_tokens)
        generator.shuffle(texts)
        assert [content(item) for item in encoder.encode_tokens(texts)] == [alone[text] for text in texts]
    # The longest beside the shortest: everything padded to 512.
    del encoder
    wide = one_encoder.load(embedded_artifact, max_batch_tokens=10**6)
    short = sorted(texts, key=len)[:6]
    first, *rest = wide.encode_tokens([longest, *short])
    assert [content(item) for item in rest] == [alone[text] for text in short]
    assert first.dropped > 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_spans_cover_the_text_in_every_script(encoder: OnnxEncoder, script: str) -> None:
    text = SCRIPTS[script]
    (found,) = encoder.encode_tokens([text])
    assert found.vectors.shape == (len(found.tokens), encoder.dim)
    assert found.vectors.dtype == np.float32
    assert list(found.spans) == sorted(found.spans)
    covered = {place for start, end in found.spans for place in range(start, end)}
    assert "".join(text[place] for place in sorted(covered)) == "".join(text.split())
    assert not {"<s>", "</s>", "▁query", ":"} & set(found.tokens)


def test_token_vectors_are_the_rows_of_the_graph(encoder: OnnxEncoder) -> None:
    (found,) = encoder.encode_tokens([A])
    (whole,) = encoder.token_matrices(encoder.tokenize([A]))
    # Before the text: one special token and three of "query:"; behind it another special one.
    np.testing.assert_array_equal(found.vectors, whole[4:-1])
    assert [A[start:end] for start, end in found.spans][:4] == ["The", "cat", "sit", "s"]


def test_a_long_text_is_cut_and_says_so(encoder: OnnxEncoder) -> None:
    (found,) = encoder.encode_tokens([" ".join(["cat"] * 1000)])
    assert found.dropped == 1000 - len(found.tokens)
    assert found.spans[-1][1] < 4 * encoder.manifest.max_tokens


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_text_without_tokens_is_refused(encoder: OnnxEncoder, text: str) -> None:
    with pytest.raises(TextWithoutTokens, match=r"text 1 .* is empty"):
        encoder.encode_tokens([A, text])
    assert encoder.encode_tokens([]) == []


def test_translations_score_higher_than_other_sentences_and_words_find_each_other(
    encoder: OnnxEncoder,
) -> None:
    other = "The central bank raised interest rates on Tuesday."
    first, second, third = encoder.encode_tokens([A, B, other])
    found = attend(first.vectors, second.vectors)
    assert found.score > attend(first.vectors, third.vectors).score + 0.3
    assert attend(first.vectors, first.vectors).score == pytest.approx(1.0)
    words = word_spans(A, first.spans), word_spans(B, second.spans)
    linked = {
        (A[slice(*words[0][link.a])], B[slice(*words[1][link.b])])
        for link in word_links(found.links, first.spans, second.spans, *words)
    }
    assert {("cat", "Katze"), ("sits", "sitzt"), ("on", "auf"), ("mat", "Matte")} <= linked


# -- the command ------------------------------------------------------------------------------------

Run = Callable[..., str]


@pytest.fixture
def run(encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command with the encoder loaded already; it gives standard output."""
    monkeypatch.setattr(command, "open_encoder", lambda _artifact: encoder)

    def call(*arguments: str) -> str:
        call_app(*arguments)
        return capsys.readouterr().out

    return call


def call_app(*arguments: str) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    app(["compare", *arguments], standalone_mode=False)


def test_compare_prints_cosines_score_links_and_what_has_none(
    embedded_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "map.png"
    tags = ("--language-a", "en", "--language-b", "de-AT")
    call_app(A, B, *tags, "--png", str(picture), "--artifact", str(embedded_artifact))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sentence cosine: 0.9")
    assert " aligned (adapter " in lines[0]
    assert lines[1].startswith("token attention score: 0.")
    assert any(line.split() == [line[:4], "cat", "-", "Kat"] for line in lines)
    assert lines[-3].startswith("unaligned tokens of A: ")
    assert lines[-2].startswith("unaligned tokens of B: ")
    assert lines[-1] == f"heat map: {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_compare_gives_json(run: Run) -> None:
    found = json.loads(run(A, B, "--language-a", "en", "--language-b", "de", "--json"))
    assert found["attention"]["centre"] == "languages"
    assert 0.5 < found["attention"]["score"] < 1.0
    assert found["adapter_version"]
    tokens, words = found["tokens"], found["words"]
    for side, text in (("a", A), ("b", B)):
        for item in tokens[side] + words[side]:
            assert text[item["start"] : item["end"]] == item["text"]
    pairs = {(tokens["a"][link["a"]]["text"], tokens["b"][link["b"]]["text"]) for link in found["links"]}
    assert ("mat", "Matt") in pairs
    pairs = {(words["a"][link["a"]]["text"], words["b"][link["b"]]["text"]) for link in found["word_links"]}
    assert ("mat", "Matte") in pairs
    for side in "ab":
        linked = [link[side] for link in found["links"]]
        assert sorted(linked + found["unaligned"][side]) == list(range(len(tokens[side])))


def test_compare_without_an_adapter_gives_one_cosine_twice(run: Run) -> None:
    found = json.loads(run(A, B, "--adapter", "identity", "--json"))
    assert found["adapter_version"] is None
    assert found["cosine"]["raw"] == found["cosine"]["aligned"]
    assert found["attention"]["centre"] == "own"


def test_a_text_equal_to_itself_scores_one(run: Run) -> None:
    found = json.loads(run(A, A, "--json"))
    assert found["attention"]["score"] == pytest.approx(1.0)
    assert found["cosine"] == pytest.approx({"raw": 1.0, "aligned": 1.0})
    assert found["unaligned"] == {"a": [], "b": []}


def test_compare_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    with pytest.raises(TextWithoutTokens, match="is empty"):
        run("", B)
    with pytest.raises(AlignstreamError, match="cannot read the adapter"):
        run(A, B, "--adapter", str(tmp_path / "nothing.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(AdapterError, match="not an adapter file"):
        run(A, B, "--adapter", str(tmp_path / "broken.safetensors"))


@pytest.mark.usefixtures("run")
def test_compare_warns_of_what_it_ignores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alignstream.models.adapter.shipped.packaged_adapter", lambda _encoder: None)
    call_app(A, "cat " * 600, "--language-a", "!", "--json")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["adapter_version"] is None
    assert "'!' names no language" in captured.err
    assert "tokens of B lie beyond the encoder's limit" in captured.err
    assert "ships no adapter for this encoder" in captured.err


def test_what_the_texts_hold_is_shown_and_not_acted_on(run: Run) -> None:
    printed = run("cat [bold]x[/] \x1b[31m", "Katze [/]")
    assert "\x1b" not in printed
    assert "bold" in printed
