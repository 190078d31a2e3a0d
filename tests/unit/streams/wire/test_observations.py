"""What workers saw, as records: all of it, in order, and no record larger than a broker takes."""

import made_streams as made
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_streams import DIM, ENCODER

from alignstream.models.labels.label_set import MAX_LABEL_CHARACTERS
from alignstream.streams.wire import observations
from alignstream.streams.wire.codec import float16_field
from alignstream.streams.wire.observations import (
    EXCERPT_CHARACTERS,
    MAX_RECORD_BYTES,
    ObservationsV1,
    Observed,
    ObservedExample,
    ObservedPair,
    ObservedSide,
    ObservedText,
    Origin,
    decode,
    encode,
    key_hash,
    packed,
)
from alignstream.streams.wire.records import LabelFeedbackV1
from alignstream.streams.wire.topics import DEFAULT_MAX_MESSAGE_BYTES

#: Half a step of a 16-bit float beside 1, and the length brought back.
MAX_HALF_ERROR = 2.0**-10


def read(values: list[bytes]) -> list[ObservationsV1]:
    found = []
    for value in values:
        record = decode(value)
        assert isinstance(record, ObservationsV1)
        found.append(record)
    return found


def largest(kind: str, dim: int, offset: int) -> Observed:
    """The largest item that messages can ask for."""
    worst = "\x01"  # one character, six bytes
    vector = float16_field(made.unit(np.ones(dim)))
    source, tenant = Origin("t" * 249, 2**31, offset), "t" * 64
    tag = "-".join(["abcdefgh"] * 7)
    if kind == "text":
        return ObservedText(
            source, tenant, vector, tag, nearest_language="xxx-Xxxx", contradicts_tag=True, key="f" * 16
        )
    if kind == "pair":
        side = ObservedSide(vector, tag, worst * EXCERPT_CHARACTERS)
        return ObservedPair(source, tenant, worst * 512, side, side)
    return ObservedExample(source, tenant, worst * 512, "l" * 64, worst * MAX_LABEL_CHARACTERS, vector, tag)


@pytest.mark.parametrize("dim", [8, 384, 768, 1024])
@pytest.mark.parametrize("kind", ["text", "pair", "example"])
@pytest.mark.parametrize("n", [0, 1, 64, 700])
def test_all_items_stand_in_order_in_records_that_a_broker_takes(kind: str, dim: int, n: int) -> None:
    items = [largest(kind, dim, offset) for offset in range(n)]
    values = packed(items, encoder=ENCODER, dim=dim)
    records = read(values)
    assert [item for record in records for item in (*record.texts, *record.pairs, *record.examples)] == items
    assert all(len(value) <= MAX_RECORD_BYTES for value in values)
    assert all((record.encoder, record.dim) == (ENCODER, dim) for record in records)
    assert MAX_RECORD_BYTES < DEFAULT_MAX_MESSAGE_BYTES // 2


def test_a_record_is_filled_before_another_is_begun() -> None:
    items = [largest("text", 384, offset) for offset in range(700)]
    values = packed(items, encoder=ENCODER, dim=384)
    assert all(len(value) > MAX_RECORD_BYTES - 2000 for value in values[:-1])
    assert len(packed(items[:64], encoder=ENCODER, dim=384)) == 1, "a batch is one record"


def test_kinds_of_one_batch_stand_in_one_record() -> None:
    items: list[Observed] = [largest(kind, DIM, 1) for kind in ("text", "pair", "example", "text")]
    (record,) = read(packed(items, encoder=ENCODER, dim=DIM))
    assert (len(record.texts), len(record.pairs), len(record.examples)) == (2, 1, 1)


def test_an_item_that_is_too_large_by_itself_stands_alone() -> None:
    small, large = largest("text", 8, 0), largest("text", 100_000, 1)
    assert [len(record.texts) for record in read(packed([small, large, small], encoder="e", dim=8))] == [
        1,
        1,
        1,
    ]


def test_the_label_of_the_largest_item_is_as_long_as_a_label_may_be() -> None:
    fields = {"text": "a", "label_set": "s", "label": "l" * (MAX_LABEL_CHARACTERS + 1)}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, LabelFeedbackV1)
    msgspec.convert(fields | {"label": "l" * MAX_LABEL_CHARACTERS}, LabelFeedbackV1)


@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(2, 64))
@settings(deadline=None, max_examples=30)
def test_what_a_state_takes_is_what_was_seen(seed: int, dim: int) -> None:
    X = made.unit(np.random.default_rng(seed).standard_normal((2, dim)))
    x, y = X
    text = observations.text_of(
        made.observed_text(x, 0, language="de-AT", key=2**64 - 1, nearest_language="fr-Latn"), dim
    )
    assert (text.language, text.nearest_language, text.contradicts_tag, text.key) == (
        "de-Latn",
        "fr-Latn",
        False,
        2**64 - 1,
    )
    pair = observations.pair_of(made.observed_pair(x, y, 0, name="p", languages=("pt-BR", "en")), dim)
    assert (pair.id, pair.source.language, pair.target.language) == ("p", "pt-Latn", "en-Latn")
    example = observations.example_of(made.observed_example(y, 0, name="e"), dim)
    assert (example.id, example.label_set, example.label) == ("e", "topics", "sports")
    for found, original in (
        (text.vector, x),
        (pair.source.vector, x),
        (pair.target.vector, y),
        (example.vector, y),
    ):
        np.testing.assert_allclose(found, original, atol=MAX_HALF_ERROR)
        assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-6)


def test_a_tag_that_names_no_language_counts_as_none() -> None:
    x = made.unit(np.ones(DIM))
    for tag in ("und", "abcdefgh", None):
        assert observations.text_of(made.observed_text(x, 0, language=tag), DIM).language is None


@pytest.mark.parametrize("dim", [DIM - 1, DIM + 1, 0])
def test_a_vector_of_another_size_is_refused(dim: int) -> None:
    x = made.unit(np.ones(DIM))
    for take, item in (
        (observations.text_of, made.observed_text(x, 0)),
        (observations.pair_of, made.observed_pair(x, x, 0)),
        (observations.example_of, made.observed_example(x, 0)),
    ):
        with pytest.raises(ValueError, match="numbers instead of"):
            take(item, dim)  # type: ignore[operator]


def test_a_key_has_a_short_name_and_an_empty_one_has_none() -> None:
    assert key_hash(None) is None
    assert key_hash(b"") is None
    assert key_hash(b"a") == key_hash(b"a") != key_hash(b"b")
    (record,) = read(
        [encode(ObservationsV1(texts=(largest("text", 8, 0),)))]  # type: ignore[arg-type]
    )
    assert len(record.texts[0].key or "") == len(key_hash(b"a") or "") == 16


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "null"),
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b"[]", "got `array`"),
        (b'{"dim":-1}', ">= 0 - at `$.dim`"),
        (b'{"dim":"8"}', "got `str` - at `$.dim`"),
        (b'{"texts":[{}]}', "`origin` - at `$.texts[0]`"),
        (b"[" * 10_000, "got `array`"),
    ],
)
def test_what_is_no_record_is_told_in_words(value: bytes | None, says: str) -> None:
    found = decode(value)
    assert isinstance(found, str)
    assert says in found


def test_an_empty_record_says_nothing_and_is_one() -> None:
    assert decode(b"{}") == ObservationsV1()
