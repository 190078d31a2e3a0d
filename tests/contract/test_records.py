"""The wire contract: schemas, documented examples and golden bytes agree with what the service does."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import jsonschema
import msgspec
import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from alignstream.models.adapter.adapter import IDENTITY, Adapter, identity
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.labels.label_set import MAX_LABELS, LabelSet
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.ops.admin import schemas as schema_files
from alignstream.streams.observe.sensors import Metrics
from alignstream.streams.wire import topics
from alignstream.streams.wire.codec import Rejected, SourceRecord, Stage, decode_document, encode_record
from alignstream.streams.wire.contract import RECORDS, schemas
from alignstream.streams.wire.dead_letter import replacement
from alignstream.streams.wire.epoch_log import EpochV1, EpochVersion
from alignstream.streams.wire.records import (
    Applied,
    DocumentV1,
    Explanation,
    LabelFeedbackV1,
    LabelsZeroShotV1,
    LanguageWeight,
    PairScoredV1,
    PairV1,
    Score,
    VectorAlignedV1,
)
from alignstream.streams.worker.admission import Document, Policy, admit
from alignstream.streams.worker.pipeline import OUTPUT_SCHEMAS, DocumentsPipeline

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "pages/reference/records.md").read_text(encoding="utf-8")
FENCE = re.compile(r'^```json title="(\S+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
EXAMPLES = [(match[1], match[2]) for match in FENCE.finditer(TEXT)]
ENCODER = FakeEncoder(dim=8)
POLICY = Policy(
    adapter="default",
    label_set=None,
    template="This text is about {label}.",
    tenants=None,
    max_document_bytes=900_000,
    max_output_bytes=1_000_000,
    max_nesting_depth=64,
    vector_encoding="base64-f32le",
)


def centre() -> Adapter:
    mean = np.zeros(8, dtype=np.float32)
    mean[0] = 0.25
    return Adapter(ENCODER.fingerprint, 8, (Centre(mean),))


CATALOGUE = Catalogue(
    MappingProxyType(
        {
            IDENTITY: Served(identity(ENCODER.fingerprint, 8), "built-in", 0.0),
            "default": Served(centre(), "package", 0.0),
        }
    ),
    MappingProxyType({"desk-topics": Served(LabelSet(("travel", "sports")), "registry", 0.0)}),
)
VALIDATORS = {
    topic: jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for topic, schema in schemas().items()
}


def resolve(value: bytes) -> Document | Rejected:
    source = SourceRecord("documents.v1", 0, 5, None, b"k", value)
    decoded = decode_document(
        source, max_bytes=POLICY.max_document_bytes, max_nesting_depth=POLICY.max_nesting_depth
    )
    if isinstance(decoded, Rejected):
        return decoded
    return admit(source, decoded, catalogue=CATALOGUE, policy=POLICY)


# -- schemas ------------------------------------------------------------------------------------------------


def test_the_schema_files_are_those_of_the_records() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "schemas").iterdir()}
    assert found == schema_files.files(), (
        "write them again: python -m alignstream.ops.admin.schemas docs/schemas"
    )


def test_schemas_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    written = schema_files.write(tmp_path / "new")
    assert {path.name for path in written} == {*(f"{topic}.json" for topic in RECORDS), "asyncapi.json"}
    assert {path.name: path.read_text(encoding="utf-8") for path in written} == schema_files.files()


def test_the_asyncapi_document_names_every_topic_and_refers_to_files_that_exist() -> None:
    document = schema_files.asyncapi()
    assert set(document["channels"]) == {spec.name for spec in topics.specs()}
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            if "payload" in message:
                assert (DOCS / "schemas" / message["payload"]["$ref"]).is_file()
            else:
                assert message["headers"]["properties"]["alignstream.error.reason"]["enum"] == list(
                    topics.REASONS
                )
    channels = {
        operation["channel"]["$ref"].removeprefix("#/channels/")
        for operation in document["operations"].values()
    }
    assert channels == set(document["channels"])


@pytest.mark.parametrize("topic", RECORDS)
def test_each_schema_is_a_schema(topic: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas()[topic])


def test_there_is_a_record_for_every_topic_that_carries_json() -> None:
    names = {spec.name for spec in topics.specs()}
    assert set(RECORDS) == names - {topics.DEAD_LETTERS}


names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
documents = st.fixed_dictionaries(
    {"text": st.text(max_size=20)},
    optional={
        "id": st.text(min_size=1, max_size=20) | st.none() | st.integers(),
        "language": st.sampled_from(["en", "pt-BR", "zh_Hans", "x", "en\n", "1", "", None]),
        "tenant": names | st.sampled_from(["a\n", "", " ", "é"]),
        "labels": st.lists(st.text(max_size=5), max_size=3),
        "multi_label": st.booleans() | st.integers(0, 1) | st.none(),
        "align": st.fixed_dictionaries(
            {}, optional={"strength": st.floats(-0.5, 1.5) | st.text(max_size=2), "adapter": names}
        ),
        "explain": st.booleans() | st.none(),
        "metadata": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        "unknown": st.integers(),
    },
)


@settings(max_examples=200, deadline=None)
@given(body=documents)
def test_whatever_the_decoder_accepts_the_schema_accepts_and_the_other_way_round(
    body: dict[str, Any],
) -> None:
    """But for labels: how many, and whether one stands twice, is judged at admission."""
    decoded = decode_document(
        SourceRecord("t", 0, 0, None, None, json.dumps(body).encode()), max_bytes=10**6, max_nesting_depth=64
    )
    labels = body.get("labels")
    is_judged_later = labels is not None and (not labels or len(set(labels)) < len(labels))
    if not is_judged_later:
        assert isinstance(decoded, DocumentV1) == VALIDATORS["documents.v1"].is_valid(body)


def test_the_schema_knows_how_many_labels_there_may_be() -> None:
    labels = [str(number) for number in range(MAX_LABELS + 1)]
    assert VALIDATORS["documents.v1"].is_valid({"text": "a", "labels": labels[:-1]})
    assert not VALIDATORS["documents.v1"].is_valid({"text": "a", "labels": labels})


# -- documentation ------------------------------------------------------------------------------------------


def test_there_are_examples_of_every_topic() -> None:
    assert {name for name, _ in EXAMPLES} >= {*RECORDS, topics.DEAD_LETTERS}
    assert TEXT.count("```json") == len(EXAMPLES)


@pytest.mark.parametrize(("name", "text"), [item for item in EXAMPLES if item[0] in RECORDS])
def test_an_example_is_valid_and_is_read_by_the_real_decoder(name: str, text: str) -> None:
    body = json.loads(text)
    VALIDATORS[name].validate(body)
    record = msgspec.json.decode(text, type=RECORDS[name], strict=True)
    assert set(body) <= set(record.__struct_fields__), "an example must not show a field that does not exist"
    if name == topics.DOCUMENTS:
        assert isinstance(resolve(text.encode()), Document)


@pytest.mark.parametrize(("reason", "text"), [item for item in EXAMPLES if item[0] in topics.REASONS])
def test_an_example_of_what_is_refused_is_refused_for_that_reason(reason: str, text: str) -> None:
    rejected = resolve(text.encode())
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


def test_every_example_is_of_a_topic_or_a_reason() -> None:
    assert {name for name, _ in EXAMPLES} <= {*RECORDS, topics.DEAD_LETTERS, *topics.REASONS}


def test_the_example_of_a_replaced_value_has_the_fields_of_a_real_one() -> None:
    (text,) = [text for name, text in EXAMPLES if name == topics.DEAD_LETTERS]
    value, _ = replacement(SourceRecord("documents.v1", 3, 14, None, None, b"abc"))
    assert json.loads(text).keys() == json.loads(value).keys()


def test_the_vector_of_an_example_is_one() -> None:
    bodies = [json.loads(text) for name, text in EXAMPLES if name == topics.VECTORS]
    assert bodies
    for body in bodies:
        vector = np.frombuffer(base64.b64decode(body["vector"]), "<f4")
        assert vector.shape == (body["dim"],)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def section(heading: str) -> str:
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    (found,) = [part for part in parts if part.startswith(heading)]
    return found


def rows(text: str) -> list[str]:
    """Return what stands in the first column of the tables, name by name."""
    cells = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_reason_is_documented_once_with_what_to_do() -> None:
    listed = [name for name in rows(section("`documents.dead-letter.v1`")) if name in topics.REASONS]
    assert tuple(listed) == topics.REASONS


def test_every_field_is_documented() -> None:
    inner = {f"align.{name}" for name in ("adapter", "strength", "shrinkage", "temperature", "follow")}
    expected = set(DocumentV1.__struct_fields__) - {"align"} | inner
    assert set(rows(section("`documents.v1`"))) == expected
    assert set(rows(section("`vectors.aligned.v1`"))) == set(VectorAlignedV1.__struct_fields__)
    assert set(rows(section("`labels.zero-shot.v1`"))) == set(LabelsZeroShotV1.__struct_fields__)
    sides = {f"{side}.{name}" for side in ("source", "target") for name in ("text", "language")}
    assert set(rows(section("`pairs.v1`"))) == set(PairV1.__struct_fields__) - {"source", "target"} | sides
    assert set(rows(section("`pairs.scored.v1`"))) == set(PairScoredV1.__struct_fields__)
    assert set(rows(section("`label-feedback.v1`"))) == set(LabelFeedbackV1.__struct_fields__)
    versions = {f"current.{name}" for name in EpochVersion.__struct_fields__}
    assert set(rows(section("`epochs.v1`"))) == set(EpochV1.__struct_fields__) - {"current"} | versions


def test_every_header_is_documented() -> None:
    outputs = set(rows(section("Headers of both outputs")))
    (outcome,) = run(b'{"text":"a"}')
    assert {name for name, _ in outcome.outputs[0].headers} <= outputs
    assert outputs <= {name for name, _ in outcome.outputs[0].headers} | {"traceparent", "tracestate", "ce_*"}
    for _, schema in OUTPUT_SCHEMAS:
        assert f"`{schema.decode()}`" in TEXT
    letters = set(rows(section("`documents.dead-letter.v1`")))
    own = {topics.HEADER_ERROR_PREFIX + name for name in topics.ERROR_FIELDS} | {topics.HEADER_REPLACED}
    assert letters - set(topics.REASONS) == own


def test_every_stage_is_documented() -> None:
    for stage in get_args(Stage):
        assert f"`{stage}`" in section("`documents.dead-letter.v1`")


def test_every_topic_is_documented() -> None:
    for spec in topics.specs():
        assert f"| `{spec.name}` |" in TEXT


# -- golden bytes and round trips ---------------------------------------------------------------------------


def run(value: bytes) -> list[Any]:
    pipeline = DocumentsPipeline(ENCODER, POLICY, clock=lambda: 0.0, now=lambda: 0.0, observer=Metrics())
    return pipeline.run([SourceRecord("documents.v1", 0, 5, None, b"k", value)], CATALOGUE)


def test_golden_bytes_of_both_outputs() -> None:
    """Whoever stored or compares bytes finds the same ones: an order of fields is part of the contract."""
    y = np.array([0.5, -0.5, 0.5, -0.5], dtype=np.float32)
    vector = VectorAlignedV1(
        id="1", tenant="default", vector=base64.b64encode(y.tobytes()).decode(), encoding="base64-f32le",
        dim=4, encoder="e", adapter="a", adapter_version="v", space="s", tokens=3, tokens_dropped=0,
        truncated=False, language="fr", metadata=msgspec.Raw(b'{"b": 1}'),
    )  # fmt: skip
    assert encode_record(vector) == (
        b'{"id":"1","tenant":"default","vector":"AAAAPwAAAL8AAAA/AAAAvw==","encoding":"base64-f32le","dim":4,'
        b'"encoder":"e","adapter":"a","adapter_version":"v","space":"s","tokens":3,"tokens_dropped":0,'
        b'"truncated":false,"language":"fr","metadata":{"b": 1}}'
    )
    labels = LabelsZeroShotV1(
        id="1", tenant="default", label="é", scores=[Score("é", 0.75), Score("b", 0.25)], label_set=None,
        template="{label}", multi_label=False, space="s",
    )  # fmt: skip
    assert (
        encode_record(labels)
        == (
            '{"id":"1","tenant":"default","label":"é","scores":[{"label":"é","score":0.75},{"label":"b","score":0.25}],'
            '"label_set":null,"template":"{label}","multi_label":false,"space":"s"}'
        ).encode()
    )


floats = st.floats(0, 1, allow_nan=False, width=32)
texts = st.text(min_size=1, max_size=20)
vectors = st.builds(
    VectorAlignedV1,
    id=texts, tenant=names, vector=texts | st.lists(floats, max_size=4),
    encoding=st.sampled_from(["base64-f32le", "json"]), dim=st.integers(1, 4096), encoder=texts, adapter=names,
    adapter_version=texts, space=texts, tokens=st.integers(0, 512), tokens_dropped=st.integers(0, 10**6),
    truncated=st.booleans(), language=st.just(msgspec.UNSET) | st.sampled_from(["fr", "pt-BR"]),
    explain=st.just(msgspec.UNSET) | st.builds(
        Explanation, adapter=names, adapter_version=texts, adapter_from=st.sampled_from(["message", "worker"]),
        strength=floats, strength_from=st.sampled_from(["message", "worker"]), steps=st.lists(texts, max_size=2),
        hyper_parameters=st.dictionaries(texts, st.builds(Applied, floats, texts), max_size=3),
        languages=st.lists(st.builds(LanguageWeight, texts, floats), max_size=3),
        cosine_to_raw=floats,
    ),
    metadata=st.just(msgspec.UNSET), raw_vector=st.just(msgspec.UNSET) | texts,
)  # fmt: skip
label_records = st.builds(
    LabelsZeroShotV1,
    id=texts, tenant=names, label=texts | st.none(), scores=st.lists(st.builds(Score, texts, floats), max_size=3),
    label_set=names | st.none(), template=texts, multi_label=st.booleans(), space=texts,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(record=vectors | label_records)
def test_a_written_record_is_read_back_as_it_was_and_its_schema_agrees(
    record: VectorAlignedV1 | LabelsZeroShotV1,
) -> None:
    written = encode_record(record)
    assert msgspec.json.decode(written, type=type(record), strict=True) == record
    topic = next(topic for topic, kind in RECORDS.items() if kind is type(record))
    VALIDATORS[topic].validate(json.loads(written))


@pytest.mark.parametrize(
    "make",
    [
        lambda: b'{"text":"a"}',
        lambda: b'{"text":"a","language":"fr","explain":true,"labels":["x","y"],"metadata":[1]}',
        lambda: b'{"text":"a","label_set":"desk-topics","align":{"adapter":"identity","strength":0.5}}',
    ],
)
def test_what_the_pipeline_writes_is_what_the_schemas_say(make: Callable[[], bytes]) -> None:
    (outcome,) = run(make())
    assert outcome.rejected is None
    for output in outcome.outputs:
        VALIDATORS[output.topic].validate(json.loads(output.value))
        for absent in ("tenant_map", "epoch", "query_vector", "hubness", "raw_vector"):
            assert absent not in json.loads(output.value)
