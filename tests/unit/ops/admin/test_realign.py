"""A stored vector to another space: what the pipeline would have written there, or the reason against it."""

import base64
import dataclasses
import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.models.adapter.adapter import Adapter, identity, space
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Vector32
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.models.serving.tenant_map import TenantMap
from alignstream.ops.admin.realign import (
    AdapterSpace,
    Realigned,
    RefusalReason,
    Refused,
    Unchanged,
    VectorSpace,
    realign,
)
from alignstream.streams.wire.codec import SourceRecord, float16_field, read_float16
from alignstream.streams.wire.records import VectorAlignedV1
from alignstream.streams.worker.admission import Policy
from alignstream.streams.worker.pipeline import DocumentsPipeline

DIM = 8
ENCODER = FakeEncoder(dim=DIM)
POLICY = Policy(
    adapter="default",
    label_set=None,
    template="This is about {label}.",
    tenants=None,
    max_document_bytes=100_000,
    max_output_bytes=100_000,
    max_nesting_depth=64,
    vector_encoding="base64-f32le",
    raw_vector=True,
)


def centre(shift: float, position: int = 0) -> Adapter:
    mean = np.zeros(DIM, dtype=np.float32)
    mean[position] = shift
    return Adapter(ENCODER.fingerprint, DIM, (Centre(mean),))


OLD, NEW = centre(0.2), centre(-0.3, 3)
TO_NEW = AdapterSpace("default", NEW)


class Rounded:
    """The encoder, but its vectors are those that are read back from float16."""

    fingerprint, dim = ENCODER.fingerprint, DIM

    def tokenize(self, texts: list[str]) -> list[Tokens]:
        return ENCODER.tokenize(texts)

    def encode(self, tokens: list[Tokens]) -> Any:
        X = ENCODER.encode(tokens)
        return np.stack([read_float16(float16_field(x), x.size) for x in X])


def written(adapter: Adapter, *, encoder: Any = ENCODER, policy: Policy = POLICY, **document: Any) -> bytes:
    """Return what a worker with this adapter writes for a document."""
    catalogue = Catalogue(
        MappingProxyType(
            {
                "default": Served(adapter, "registry", 0.0),
                "identity": Served(identity(adapter.encoder, adapter.dim), "built-in", 0.0),
            }
        ),
        MappingProxyType({}),
    )

    class Silent:
        def stage(self, name: str, seconds: float) -> None: ...

        def tokens(self, count: int) -> None: ...

    pipeline = DocumentsPipeline(encoder, policy, clock=lambda: 0.0, now=lambda: 0.0, observer=Silent())
    value = json.dumps({"text": "one two", **document}).encode()
    (outcome,) = pipeline.run([SourceRecord("documents.v1", 0, 0, None, b"k", value)], catalogue)
    assert outcome.outputs[0].value is not None
    return outcome.outputs[0].value


def moved(value: bytes, destination: Any = TO_NEW) -> bytes:
    result = realign(value, destination)
    assert isinstance(result, Realigned), result
    return result.value


# -- laws ----------------------------------------------------------------------------------------------------

texts = st.text(alphabet="abc ", min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
fields = st.fixed_dictionaries(
    {},
    optional={
        "language": st.sampled_from(["de", "pt-BR", "xx"]),
        "id": st.text(min_size=1, max_size=5),
        "metadata": st.dictionaries(
            st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False) | st.none(), max_size=2
        ),
        "tenant": st.just("acme"),
    },
)


@settings(max_examples=60, deadline=None)
@given(text=texts, document=fields, encoding=st.sampled_from(["base64-f32le", "json"]))
def test_the_vector_is_byte_for_byte_the_one_that_the_worker_writes_for_the_same_raw_vector(
    text: str, document: dict[str, Any], encoding: Literal["base64-f32le", "json"]
) -> None:
    policy = dataclasses.replace(POLICY, vector_encoding=encoding)
    stored = written(OLD, policy=policy, text=text, **document)
    expected = json.loads(written(NEW, encoder=Rounded(), policy=policy, text=text, **document))
    body = json.loads(moved(stored))
    assert body.pop("raw_vector") == json.loads(stored)["raw_vector"], "it can be moved again"
    del expected["raw_vector"]
    assert body == expected


@settings(max_examples=60, deadline=None)
@given(text=texts, document=fields)
def test_moving_there_twice_changes_nothing_and_any_way_there_gives_the_same(
    text: str, document: dict[str, Any]
) -> None:
    stored = written(OLD, text=text, **document)
    once = moved(stored)
    assert realign(once, TO_NEW) == Unchanged(once)
    detour = moved(stored, AdapterSpace("default", centre(0.4, 5)))
    assert moved(detour) == once
    assert moved(moved(once, AdapterSpace("default", OLD))) == once


def test_a_raw_vector_that_float16_holds_exactly_gives_the_very_record_of_the_worker() -> None:
    class Exact(Rounded):
        def encode(self, tokens: list[Tokens]) -> Any:
            return np.stack([np.array([0.5, 0.5, -0.5, 0, 0, 0.5, 0, 0], dtype=np.float32)] * len(tokens))

    document = {"id": "a", "language": "fr", "metadata": {"a": [1.5, "é"]}}
    assert moved(written(OLD, encoder=Exact(), **document)) == written(NEW, encoder=Exact(), **document)


def test_the_language_of_the_record_steers_the_adapter_as_it_did_in_the_worker() -> None:
    shipped = packaged_adapter(embedded_fingerprint())
    assert shipped is not None
    assert any(isinstance(item, PrototypeAttention) for item in shipped.steps)
    draw = np.random.default_rng(1).standard_normal(shipped.dim)
    x = np.asarray(draw / np.linalg.norm(draw), dtype=np.float32)
    body = json.loads(written(OLD, id="a")) | {
        "dim": shipped.dim, "encoder": shipped.encoder, "adapter_version": "0", "space": space(shipped.encoder, "0"),
        "vector": [1.0] + [0.0] * (shipped.dim - 1), "encoding": "json", "raw_vector": float16_field(x),
    }  # fmt: skip
    there = AdapterSpace("default", shipped)
    plain = json.loads(moved(json.dumps(body).encode(), there))["vector"]
    german = json.loads(moved(json.dumps(body | {"language": "de"}).encode(), there))["vector"]
    assert plain != german
    assert json.loads(moved(json.dumps(body | {"language": "deu"}).encode(), there))["vector"] == german


# -- what stays and what goes --------------------------------------------------------------------------------


def test_what_belongs_to_the_old_adapter_goes_and_all_else_stays_to_the_byte() -> None:
    stored = written(OLD, id="é", explain=True, metadata={"n": 1})
    assert "explain" in json.loads(stored)
    extra = b',"query_vector":"AA","hubness":0.1,"epoch":7,"own" : {"b": 1.50, "a":"\\u00e9"}}'
    stored = stored[:-1].replace(b'"metadata":{"n": 1}', b'"metadata":{"n" : 1e999}') + extra
    result = moved(stored)
    assert b'"metadata":{"n" : 1e999}' in result
    assert b'"own":{"b": 1.50, "a":"\\u00e9"}' in result
    names = [
        name for name in json.loads(stored) if name not in {"explain", "query_vector", "hubness", "epoch"}
    ]
    assert list(json.loads(result)) == names, "the order of fields is part of the contract"


def test_a_vector_that_is_there_already_needs_no_raw_vector_and_keeps_its_explanation() -> None:
    stored = written(NEW, policy=dataclasses.replace(POLICY, raw_vector=False), explain=True)
    assert realign(stored, AdapterSpace("another name", NEW)) == Unchanged(stored)


def test_a_destination_may_add_a_step_of_the_tenant_to_the_vector_and_the_space() -> None:
    class Mirrored(AdapterSpace):
        def space_of(self, record: VectorAlignedV1) -> VectorSpace:
            return dataclasses.replace(super().space_of(record), space=f"mirror of {record.tenant}")

        def align(self, x: Vector32, record: VectorAlignedV1) -> Vector32:
            return -super().align(x, record)

    there = Mirrored("default", NEW)
    mirrored, plain = moved(written(OLD, tenant="acme"), there), moved(written(OLD, tenant="acme"))
    assert json.loads(mirrored)["space"] == "mirror of acme"
    assert (vector_of(mirrored) == -vector_of(plain)).all()
    assert realign(mirrored, there) == Unchanged(mirrored)


def vector_of(value: bytes) -> Any:
    return np.frombuffer(base64.b64decode(json.loads(value)["vector"]), "<f4")


# -- what is refused -----------------------------------------------------------------------------------------


def with_fields(**changed: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        body = json.loads(written(OLD)) | changed
        return json.dumps({name: value for name, value in body.items() if value is not None}).encode()

    return make


def half(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f2").tobytes()).decode()


def single(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("make", "reason", "says"),
    [
        pytest.param(lambda: b"", "bad-json", "not JSON", id="nothing"),
        pytest.param(lambda: b"\x80\x02", "bad-json", "byte 0 is not UTF-8", id="binary"),
        pytest.param(lambda: written(OLD)[:-9], "bad-json", "not JSON", id="cut short"),
        pytest.param(
            lambda: written(OLD)[:-1] + b',"own":"\xff"}', "bad-json", "not UTF-8", id="not UTF-8 where it is ignored"
        ),
        pytest.param(lambda: b'{"own":' + b"[" * 100_000, "bad-json", "nested too deep", id="deep"),
        pytest.param(lambda: b"null", "not-a-vector", "vectors.aligned.v1", id="null"),
        pytest.param(lambda: b'{"text":"a"}', "not-a-vector", "`id`", id="a document"),
        pytest.param(with_fields(dim="8"), "not-a-vector", "dim", id="a wrong type"),
        pytest.param(with_fields(space=None), "not-a-vector", "space", id="a missing field"),
        pytest.param(with_fields(encoding="f8"), "not-a-vector", "encoding", id="an unknown encoding"),
        pytest.param(with_fields(language="x" * 99), "not-a-vector", "language", id="no language tag"),
        pytest.param(with_fields(encoder="e" * 64), "other-encoder", "eeeeeeeeeeee", id="another encoder"),
        pytest.param(with_fields(dim=4), "damaged-vector", "dim=4", id="another dim"),
        pytest.param(with_fields(vector=[1.0] * 8), "damaged-vector", "encoding", id="numbers as base64"),
        pytest.param(with_fields(encoding="json"), "damaged-vector", "encoding", id="base64 as numbers"),
        pytest.param(with_fields(vector="*"), "damaged-vector", "base64", id="not base64"),
        pytest.param(with_fields(vector="é"), "damaged-vector", "base64", id="not even ASCII"),
        pytest.param(with_fields(vector=single(1, 0)), "damaged-vector", "2 numbers instead of 8", id="short"),
        pytest.param(with_fields(vector=single(*[0] * 8)), "damaged-vector", "length", id="a zero vector"),
        pytest.param(with_fields(vector=single(*[np.nan] * 8)), "damaged-vector", "nan", id="not a number"),
        pytest.param(
            with_fields(vector=[1e308] * 8, encoding="json"), "damaged-vector", "length", id="too large numbers"
        ),
        pytest.param(lambda: written(OLD, align={"strength": 0.5}), "overridden", "strength", id="strength"),
        pytest.param(lambda: written(NEW, align={"temperature": 1.0}), "overridden", "temperature", id="same version"),
        pytest.param(with_fields(raw_vector=None), "no-raw-vector", "ALIGNSTREAM_RAW_VECTOR=true", id="no raw vector"),
        pytest.param(with_fields(raw_vector=7), "not-a-vector", "raw_vector", id="a raw vector that is a number"),
        pytest.param(with_fields(raw_vector=half(1, 0)), "damaged-vector", "2 numbers", id="a short raw vector"),
        pytest.param(with_fields(raw_vector="*"), "damaged-vector", "raw_vector", id="a raw vector that is not base64"),
        pytest.param(with_fields(raw_vector=half(*[0] * 8)), "damaged-vector", "length", id="an empty raw vector"),
    ],
)  # fmt: skip
def test_what_cannot_be_moved_honestly_is_refused_with_its_reason(
    make: Callable[[], bytes], reason: str, says: str
) -> None:
    result = realign(make(), TO_NEW)
    assert isinstance(result, Refused)
    assert result.reason == reason
    assert says in result.message
    assert reason in get_args(RefusalReason)


def test_a_message_that_asked_for_the_whole_adapter_or_for_another_one_overrode_nothing() -> None:
    whole, other = written(OLD, align={"strength": 1.0}), written(OLD, align={"adapter": "identity"})
    assert moved(whole) == moved(other) == moved(written(OLD))


@given(value=st.binary(max_size=60))
def test_no_bytes_make_it_raise(value: bytes) -> None:
    assert isinstance(realign(value, TO_NEW), Refused)


@settings(deadline=None)
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_single_changed_byte_makes_it_raise_or_give_a_vector_that_is_none(
    position: int, byte: int
) -> None:
    value = bytearray(written(OLD, language="de"))
    value[position % len(value)] = byte
    result = realign(bytes(value), TO_NEW)
    if isinstance(result, Realigned):
        assert np.linalg.norm(vector_of(result.value)) == pytest.approx(1.0, abs=1e-6)


def test_a_tenants_own_map_follows_the_adapter_and_is_named() -> None:
    maps = LanguageMaps(
        left=np.eye(DIM, dtype=np.float32)[None, :, :1],
        right=np.eye(DIM, dtype=np.float32)[None, 1:2] * np.float32(0.5),
        languages=("fr-Latn",),
    )
    own = TenantMap(maps, NEW.version)
    mapped = AdapterSpace("default", NEW, {"default": own})
    stored = written(OLD, language="fr")
    there = realign(stored, mapped)
    assert isinstance(there, Realigned)
    record = msgspec.json.decode(there.value, type=VectorAlignedV1)
    assert record.tenant_map == own.version
    assert record.space == space(NEW.encoder, NEW.version, tenant_map=own.version)
    assert record.vector != msgspec.json.decode(moved(stored), type=VectorAlignedV1).vector
    assert isinstance(realign(there.value, mapped), Unchanged), "twice changes nothing"
    assert realign(there.value, TO_NEW) == Realigned(moved(stored)), (
        "and back again: as if it had never been there"
    )
    stale = AdapterSpace("default", NEW, {"default": TenantMap(maps, "another"), "other": own})
    assert realign(stored, stale) == Realigned(moved(stored)), (
        "a map of another adapter version or tenant does nothing"
    )
