"""Bytes to documents: what is good is decoded strictly, what is bad becomes a reason, never an exception."""

import base64
import json
import time
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alignstream.models.encoder.artifact import decode_vector
from alignstream.models.labels.label_set import MAX_LABELS
from alignstream.streams.wire.codec import (
    Rejected,
    SourceRecord,
    decode_document,
    decode_feedback,
    decode_pair,
    encode_record,
    float16_field,
    is_deeper,
    read_float16,
    vector_field,
)
from alignstream.streams.wire.dead_letter import dead_letter_headers, replacement
from alignstream.streams.wire.records import DocumentV1, LabelsZeroShotV1, Score
from alignstream.streams.wire.topics import (
    ERROR_FIELDS,
    HEADER_ERROR_PREFIX,
    MAX_ERROR_MESSAGE_BYTES,
    REASONS,
    Headers,
    Reason,
    header,
    specs,
)

MAX_BYTES = 900_000
MAX_DEPTH = 64
#: Ten times what the slowest scan of the largest value takes, and a thousandth of a quadratic one.
LINEAR_SECONDS = 5.0


def record(value: bytes | None, headers: Headers = ()) -> SourceRecord:
    return SourceRecord("documents.v1", 3, 14, 1.5, b"key", value, headers)


def decode(value: bytes | None, headers: Headers = ()) -> DocumentV1 | Rejected:
    return decode_document(record(value, headers), max_bytes=MAX_BYTES, max_nesting_depth=MAX_DEPTH)


def reason_of(value: bytes | None, headers: Headers = ()) -> str:
    decoded = decode(value, headers)
    return decoded.reason if isinstance(decoded, Rejected) else "good"


def document(**fields: object) -> bytes:
    return json.dumps({"text": "hello", **fields}).encode()


def nested(depth: int) -> bytes:
    return b'{"text":"a","metadata":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_every_field_arrives_as_it_was_sent() -> None:
    decoded = decode(
        document(
            id="a", language="pt-BR", tenant="acme", labels=["x", "y"], template="On {label}.",
            multi_label=True, align={"adapter": "mine", "strength": 0.5, "follow": False}, explain=True,
            metadata={"n": 1},
        )
    )  # fmt: skip
    assert isinstance(decoded, DocumentV1)
    assert (decoded.id, decoded.language, decoded.tenant, decoded.labels) == (
        "a",
        "pt-BR",
        "acme",
        ["x", "y"],
    )
    assert decoded.align is not None
    assert (decoded.align.adapter, decoded.align.strength, decoded.align.follow) == ("mine", 0.5, False)
    assert (decoded.template, decoded.multi_label, decoded.explain) == ("On {label}.", True, True)
    assert bytes(decoded.metadata) == b'{"n": 1}'


def test_unknown_fields_are_ignored_and_the_last_of_duplicate_keys_wins() -> None:
    decoded = decode(b'{"text":"a","new":{"deep":[1]},"text":"b","tenant":"x","tenant":"y"}')
    assert isinstance(decoded, DocumentV1)
    assert (decoded.text, decoded.tenant) == ("b", "y")


@pytest.mark.parametrize("whole", [b'{"a" :  1}', b"[1e999, -0]", b'"\\u0000\xc3\xa9"', b"null", b"9" * 400])
def test_metadata_stays_raw_bytes(whole: bytes) -> None:
    decoded = decode(b'{"text":"a","metadata":' + whole + b"}")
    assert isinstance(decoded, DocumentV1)
    assert bytes(decoded.metadata) == whole


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "bad-json"),
        (b"hello", "bad-json"),
        (b'{"text":"a"', "bad-json"),
        (b'{"text":"a"} tail', "bad-json"),
        (b'\xef\xbb\xbf{"text":"a"}', "bad-json"),
        (b'{"text":"a","align":{"strength":NaN}}', "bad-json"),
        (b'{"text":"a","anything":Infinity}', "bad-json"),
        (b'{"text":"\\ud800"}', "bad-json"),
        (b'{"text":"\\udc00 low first"}', "bad-json"),
        (b'{"text":"\\ud800\\u0041"}', "bad-json"),
        (b'{"text":"a","id":"\\ud83d"}', "bad-json"),
        (b'{"text":"a","metadata":{"a":"\\ud800"}}', "bad-json"),
        (b'{"text":"a\x00b"}', "bad-json"),
        (b'{"text":"\xff"}', "bad-utf8"),
        (b'{"text":"\xed\xa0\x80"}', "bad-utf8"),  # a surrogate, written as if it were a character
        (b'{"text":"\xc0\x80"}', "bad-utf8"),  # an overlong zero
        (b"null", "bad-schema"),
        (b"[]", "bad-schema"),
        (b'"text"', "bad-schema"),
        (b"{}", "bad-schema"),
        (b'{"text":null}', "bad-schema"),
        (b'{"text":1}', "bad-schema"),
        (b'{"text":["a"]}', "bad-schema"),
        (b'{"Text":"a"}', "bad-schema"),
        (b'{"text":"a","id":""}', "bad-schema"),
        (b'{"text":"a","id":7}', "bad-schema"),
        (b'{"text":"a","language":"x"}', "bad-schema"),
        (b'{"text":"a","language":"en\\n"}', "bad-schema"),
        (b'{"text":"a","tenant":"acme\\n"}', "bad-schema"),
        (b'{"text":"a","tenant":"../etc"}', "bad-schema"),
        (b'{"text":"a","tenant":null}', "bad-schema"),
        (b'{"text":"a","labels":"x"}', "bad-schema"),
        (b'{"text":"a","labels":[1]}', "bad-schema"),
        (b'{"text":"a","labels":[""]}', "bad-schema"),
        (b'{"text":"a","multi_label":1}', "bad-schema"),
        (b'{"text":"a","explain":"true"}', "bad-schema"),
        (b'{"text":"a","align":{"strength":"0.5"}}', "bad-schema"),
        (b'{"text":"a","align":{"strength":true}}', "bad-schema"),
        (b'{"text":"a","align":{"strength":1.01}}', "bad-schema"),
        (b'{"text":"a","align":{"strength":1e999}}', "bad-schema"),
        (b'{"text":"a","align":{"strength":' + b"9" * 5000 + b"}}", "bad-schema"),
        (b'{"text":"a","anything":' + b"9" * 5000 + b"}", "good"),
        (b'{"text":"a","anything":1e999}', "good"),
        (b'{"text":"a","align":{"strength":1}}', "good"),
        (b'{"text":"\\ud83d\\ude00 \xf0\x9f\x98\x80 \xe2\x80\xae \\u0000"}', "good"),
    ],
)  # fmt: skip
def test_each_kind_of_bad_value_has_its_reason(value: bytes, reason: str) -> None:
    assert reason_of(value) == reason


#: For each kind of message: how it is decoded, its schema, and a good one around a text as JSON.
OTHERS: dict[str, tuple[Any, str, bytes]] = {
    "document": (decode_document, "documents", b'{"text":%s}'),
    "pair": (
        decode_pair,
        "pairs",
        b'{"source":{"text":%s,"language":"de"},"target":{"text":"b"},"learn":true}',
    ),
    "feedback": (decode_feedback, "label-feedback", b'{"text":%s,"label_set":"topics","label":"sports"}'),
}


def reason_for(kind: str, value: bytes | None, headers: Headers = ()) -> str:
    function, _, _ = OTHERS[kind]
    found = function(record(value, headers), max_bytes=MAX_BYTES, max_nesting_depth=MAX_DEPTH)
    return found.reason if isinstance(found, Rejected) else "good"


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'"a"', "good"),
        (b'""', "good"),
        (b'"a","anything":1e999', "good"),
        (b'"a","anything":{"deep":[1]}', "good"),
        (b'"\\ud83d\\ude00 \xf0\x9f\x98\x80"', "good"),
        (b'"\\ud800"', "bad-json"),
        (b'"\\udc00 low first"', "bad-json"),
        (b'"a\x00b"', "bad-json"),
        (b'"a', "bad-json"),
        (b"NaN", "bad-json"),
        (b'"\xff"', "bad-utf8"),
        (b'"\xed\xa0\x80"', "bad-utf8"),
        (b'"\xc0\x80"', "bad-utf8"),
        (b"null", "bad-schema"),
        (b"1", "bad-schema"),
        (b'["a"]', "bad-schema"),
        (b'{"a":1}', "bad-schema"),
        (b'"a","tenant":"../etc"', "bad-schema"),
        (b"[" * 100 + b"]" * 100, "too-deep"),
        (b'"' + b"a" * MAX_BYTES + b'"', "too-large"),
    ],
)
def test_every_kind_of_message_is_read_as_strictly(kind: str, text: bytes, reason: str) -> None:
    value = OTHERS[kind][2].replace(b"%s", text)
    if b'"tenant"' in text:
        # Pairs hold their texts one level deeper than what says whose they are.
        value = OTHERS[kind][2].replace(b"%s", b'"a"')[:-1] + b',"tenant":"../etc"}'
    assert reason_for(kind, value) == reason


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("value", [b"", b"hello", b'{"text":"a"', b"\xef\xbb\xbf{}"])
def test_no_kind_of_message_takes_what_is_no_json(kind: str, value: bytes) -> None:
    assert reason_for(kind, value) == "bad-json"
    assert reason_for(kind, OTHERS[kind][2].replace(b"%s", b'"a"') + b" tail") == "bad-json"


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("value", [b"null", b"[]", b'"text"', b"{}", b"7"])
def test_no_kind_of_message_takes_json_of_another_shape(kind: str, value: bytes) -> None:
    assert reason_for(kind, value) == "bad-schema"


@pytest.mark.parametrize("kind", OTHERS)
def test_a_header_names_one_kind_of_message_and_its_major_version(kind: str) -> None:
    _, schema, whole = OTHERS[kind]
    value = whole.replace(b"%s", b'"a"')
    for name, expected in (
        (f"{schema}/1", "good"), (f"{schema}/1.7", "good"), (f"{schema}/2", "unknown-schema"),
        (schema, "unknown-schema"), ("other/1", "unknown-schema"),
    ):  # fmt: skip
        assert reason_for(kind, value, (("alignstream-schema", name.encode()),)) == expected


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("pair", b'"learn":1'), ("pair", b'"learn":null'), ("pair", b'"id":""'), ("pair", b'"target":null'),
        ("pair", b'"target":{"text":"b","language":"x"}'), ("pair", b'"source":"a"'), ("pair", b'"source":[]'),
        ("feedback", b'"label":""'), ("feedback", b'"label":1'), ("feedback", b'"label_set":null'),
        ("feedback", b'"label_set":"a b"'), ("feedback", b'"id":7'), ("feedback", b'"language":"en\\n"'),
        ("feedback", b'"label":"' + b"l" * 201 + b'"'),
    ],
)  # fmt: skip
def test_fields_of_pairs_and_feedback_are_not_coerced(kind: str, fields: bytes) -> None:
    good = OTHERS[kind][2].replace(b"%s", b'"a"')
    assert reason_for(kind, good) == "good"
    assert reason_for(kind, good[:-1] + b"," + fields + b"}") == "bad-schema", (
        "the last of equal names counts"
    )


@pytest.mark.parametrize("kind", OTHERS)
@given(value=st.binary(max_size=100))
@settings(deadline=None, max_examples=50)
def test_whatever_bytes_come_no_kind_of_message_raises(kind: str, value: bytes) -> None:
    assert reason_for(kind, value) in {*REASONS, "good"}


def test_the_size_is_judged_before_anything_looks_inside() -> None:
    assert reason_of(b"\xff" * (MAX_BYTES + 1)) == "too-large"
    assert reason_of(b"\xff" * MAX_BYTES) == "bad-utf8"


def test_a_null_value_is_never_decoded_as_a_document() -> None:
    assert isinstance(decode(None), Rejected)


@pytest.mark.parametrize("n_labels", [MAX_LABELS + 1, 5000])
@pytest.mark.parametrize("wrong", [{"language": 7}, {"text": 1}, {"align": []}])
def test_too_many_labels_are_told_as_such_whatever_else_is_wrong(
    n_labels: int, wrong: dict[str, Any]
) -> None:
    labels: list[Any] = [f"label {number}" for number in range(n_labels)]
    assert reason_of(document(labels=labels, **wrong)) == "too-many-labels"
    assert reason_of(document(labels=[*labels, None])) == "too-many-labels"


def test_sixty_four_labels_with_a_wrong_one_are_a_wrong_schema() -> None:
    labels: list[Any] = [f"label {number}" for number in range(MAX_LABELS - 1)]
    assert reason_of(document(labels=labels)) == "good"
    assert reason_of(document(labels=[*labels, 1])) == "bad-schema"


# -- depth --------------------------------------------------------------------------------------------------


def test_the_deepest_value_allowed_is_read_and_one_level_more_is_refused() -> None:
    assert reason_of(nested(MAX_DEPTH)) == "good"
    assert reason_of(nested(MAX_DEPTH + 1)) == "too-deep"
    assert reason_of(b"[" * 100_000) == "too-deep"


def test_brackets_in_strings_do_not_count() -> None:
    text = "[{" * 1000 + '\\"' + "[" * 1000 + "\\"
    assert reason_of(document(text=text)) == "good"
    assert reason_of(document(metadata={text: [text, {"a": [text]}]})) == "good"


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 65 + b'"' + b'\\"' * 440_000,
        b'"' + b'\\"' * 440_000 + b"[" * 65,
        b"[" * 65 + b'"' * 800_001,
        b"[" * 65 + b'"\\' * 400_000,
        b"[" * 65 + b"\\" * 800_001,
        b'"' + b"\\" * 800_001 + b"[" * 65,
        b"]" * 400_000 + b"[" * 400_000,
        (b"[" * 60 + b'"\\"[' + b"]" * 60) * 6000,
    ],
)
def test_no_value_makes_the_depth_scan_slow(value: bytes) -> None:
    started = time.monotonic()
    is_deeper(value[:MAX_BYTES], MAX_DEPTH)
    assert time.monotonic() - started < LINEAR_SECONDS


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(item) for item in value), default=0)
    return 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{}é\n', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a"[\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=json_values, ascii_only=st.booleans(), limit=st.integers(0, 6))
def test_the_depth_scan_agrees_with_a_parser(value: object, ascii_only: bool, limit: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert is_deeper(text, limit) == (depth_of(json.loads(text)) > limit)


@settings(max_examples=300, deadline=None)
@given(value=st.binary(max_size=60) | st.text(alphabet='{}[]":,\\xu\x00te1-', max_size=60).map(str.encode))
def test_no_bytes_make_the_decoder_raise(value: bytes) -> None:
    decoded = decode(value)
    assert isinstance(decoded, DocumentV1) or decoded.reason in REASONS


# -- the schema header --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"documents/1", b"documents/1.4", b"documents/1.0.2", b"documents/01"])
def test_a_known_major_version_is_read(name: bytes) -> None:
    assert reason_of(document(), (("alignstream-schema", name),)) == "good"


@pytest.mark.parametrize(
    "name",
    [
        b"documents/2",
        b"documents/0",
        b"documents",
        b"pairs/1",
        b"documents/1x",
        b"",
        b"\xff",
        b"documents/1\n",
    ],
)
def test_an_unknown_version_is_refused(name: bytes) -> None:
    assert reason_of(document(), (("alignstream-schema", name),)) == "unknown-schema"


def test_of_repeated_headers_the_last_one_counts() -> None:
    one, two = ("alignstream-schema", b"documents/1"), ("alignstream-schema", b"documents/2")
    assert reason_of(document(), (one, two)) == "unknown-schema"
    assert reason_of(document(), (two, one)) == "good"
    assert header((("a", b"1"), ("b", b"2"), ("a", None)), "a") is None


# -- the messages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"text": 1, "metadata": "s3cret"},
        {"language": "s3cret!"},
        {"tenant": "s3cret!"},
        {"labels": ["s3cret", 5]},
        {"align": {"adapter": "s3cret!"}},
        {"template": "s3cret" * 100},
    ],
)
def test_a_message_never_quotes_the_value(fields: dict[str, Any]) -> None:
    decoded = decode(document(**fields))
    assert isinstance(decoded, Rejected)
    assert "s3cret" not in decoded.message


# -- dead letters -------------------------------------------------------------------------------------------


def test_a_dead_letter_carries_the_original_headers_and_says_why_in_ours() -> None:
    original: Headers = (("a", b"1"), ("a", b"2"), ("null", None))
    rejected = Rejected("bad-schema", "decode", "é" * 300, attempts=2)
    headers = dead_letter_headers(record(b"x", original), rejected, now=0.25)
    assert headers[:3] == original
    own = dict(headers[3:])
    assert set(own) == {HEADER_ERROR_PREFIX + name for name in ERROR_FIELDS}
    assert own["alignstream.error.reason"] == b"bad-schema"
    assert own["alignstream.error.stage"] == b"decode"
    assert own["alignstream.error.time"] == b"1970-01-01T00:00:00.250+00:00"
    assert [own[HEADER_ERROR_PREFIX + name] for name in ("topic", "partition", "offset", "attempts")] == [
        b"documents.v1", b"3", b"14", b"2",
    ]  # fmt: skip
    message = own["alignstream.error.message"]
    assert message is not None
    assert len(message) <= MAX_ERROR_MESSAGE_BYTES
    assert set(message.decode()) == {"é"}


def test_error_headers_of_a_replayed_dead_letter_are_replaced_not_repeated() -> None:
    first = dead_letter_headers(record(b"x"), Rejected("bad-json", "decode", "old"), now=0.0)
    again = dead_letter_headers(record(b"x", first), Rejected("bad-schema", "decode", "new"), now=1.0)
    names = [name for name, _ in again]
    assert len(names) == len(set(names)) == len(ERROR_FIELDS)
    assert header(again, "alignstream.error.reason") == b"bad-schema"


def test_headers_that_would_fill_the_dead_letter_are_left_out() -> None:
    headers = dead_letter_headers(
        record(b"x", (("big", b"h" * 61 * 1024),)), Rejected("bad-json", "decode", "m"), now=0.0
    )
    assert [name for name, _ in headers] == [HEADER_ERROR_PREFIX + name for name in ERROR_FIELDS]


def test_a_replacement_names_the_bytes_that_it_stands_for() -> None:
    value, extra = replacement(record(b"abc"))
    body = json.loads(value)
    assert body == {
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "length_bytes": 3, "topic": "documents.v1", "partition": 3, "offset": 14,
    }  # fmt: skip
    assert extra == ("alignstream.error.value-replaced", b"true")


def test_the_dead_letter_topic_accepts_64_kib_more_than_the_input() -> None:
    limits = {spec.name: int(spec.config["max.message.bytes"]) for spec in specs()}
    assert limits["documents.dead-letter.v1"] == limits["documents.v1"] + 64 * 1024


def test_the_list_of_reasons_is_the_one_of_the_contract() -> None:
    assert set(get_args(Reason)) == {
        "bad-utf8", "bad-json", "bad-schema", "unknown-schema", "too-large", "too-deep", "empty-text",
        "too-many-labels", "unknown-label-set", "unknown-adapter", "tenant-not-allowed", "inference-failed",
        "output-too-large", "learner-unreachable",
    }  # fmt: skip


# -- outputs ------------------------------------------------------------------------------------------------


def test_a_vector_survives_both_encodings_bit_for_bit() -> None:
    y = np.array([0.1, -1e-38, 3.4028235e38, 0.0, -0.0, 1 / 3], dtype=np.float32)
    assert decode_vector(str(vector_field(y, "base64-f32le"))).tobytes() == y.tobytes()
    numbers = json.loads(json.dumps(vector_field(y, "json")))
    assert np.array(numbers, dtype=np.float32).tobytes() == y.tobytes()


unit_vectors = (
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)
    .map(lambda numbers: np.array(numbers, dtype=np.float32))
    .filter(lambda x: float(np.linalg.norm(x)) > 1e-3)
    .map(lambda x: np.asarray(x / np.linalg.norm(x), dtype=np.float32))
)


@given(x=unit_vectors)
def test_a_raw_vector_comes_back_within_float16_at_length_one_and_always_the_same(
    x: NDArray[np.float32],
) -> None:
    text = float16_field(x)
    back = read_float16(text, x.size)
    assert back.dtype == np.float32
    assert float(np.linalg.norm(back.astype(np.float64))) == pytest.approx(1.0, abs=1e-6)
    # Half a step of float16 at 1, twice: rounding, and the length that it changes.
    np.testing.assert_allclose(back, x, rtol=0, atol=2 * 2**-11)
    assert read_float16(text, x.size).tobytes() == back.tobytes()


def test_what_float16_holds_exactly_comes_back_bit_for_bit() -> None:
    x = np.array([0.5, -0.5, 0.5, 0.5, 0.0], dtype=np.float32)
    assert (
        float16_field(x) == base64.b64encode(np.array([0.5, -0.5, 0.5, 0.5, 0.0], "<f2").tobytes()).decode()
    )
    assert read_float16(float16_field(x), 5).tobytes() == x.tobytes()


@pytest.mark.parametrize(
    ("numbers", "dim", "complaint"),
    [
        pytest.param([1.0, 0.0], 3, "2 numbers instead of 3", id="too short"),
        pytest.param([1.0, 0.0], 1, "2 numbers instead of 1", id="too long"),
        pytest.param([0.0, 0.0], 2, "length is 0 instead of 1", id="nothing"),
        pytest.param([1.0, 0.1], 2, "length is 1.005 instead of 1", id="too far from length one"),
        pytest.param([np.nan, 1.0], 2, "length is nan", id="not a number"),
        pytest.param([np.inf, 0.0], 2, "length is", id="infinite"),
    ],
)
def test_a_raw_vector_that_is_none_is_refused(numbers: list[float], dim: int, complaint: str) -> None:
    text = base64.b64encode(np.array(numbers, dtype="<f2").tobytes()).decode()
    with pytest.raises(ValueError, match=complaint):
        read_float16(text, dim)


@pytest.mark.parametrize("text", ["*", "é", "AA", "AAA=", "AAAA", ""])
def test_text_that_is_no_raw_vector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_float16(text, 1)


def test_an_abstained_label_is_written_as_null() -> None:
    written = encode_record(
        LabelsZeroShotV1(
            id="1", tenant="default", label=None, scores=[Score("a", 0.25)], label_set=None,
            template="{label}", multi_label=True, space="s",
        )
    )  # fmt: skip
    body = json.loads(written)
    assert body["label"] is None
    assert body["label_set"] is None
