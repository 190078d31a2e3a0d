"""The whole way: a document in, vector and labels out, on a real encoder; a second client is the judge."""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import Place, Seen
from running_service import OpenService, Service, metric, ready
from tokenizers import Tokenizer

from alignstream.models.adapter import adapter as adapters
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.subspace import RemoveSubspace
from alignstream.models.encoder.artifact import decode_vector, read_manifest
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.labels.label_set import LabelSet
from alignstream.ops.admin.backfill import encode_file, open_pipeline
from alignstream.ops.admin.registry import push_adapter, push_label_set
from alignstream.streams.settings import Settings
from alignstream.streams.wire.topics import LABELS, VECTORS

SAMPLE = json.loads(resources.files("alignstream.ops.admin").joinpath("gate-texts.json").read_text("utf-8"))
LANGUAGES: list[str] = list(SAMPLE["languages"])
TOPICS = ("science", "travel", "sport")
#: float32 on the wire: a unit vector's length is 1 within this.
NORM_TOLERANCE = 1e-6
#: Scores are rounded to six digits each.
SUM_TOLERANCE = 1e-5
MAX_TOKENS = 512


def make_adapter(artifact: Path, seed: int) -> Adapter:
    """Return an adapter that moves every vector visibly, whatever the package ships."""
    manifest = read_manifest(artifact)
    draw = np.random.default_rng(seed)
    mean = (draw.standard_normal(manifest.dim) / np.sqrt(manifest.dim) / 2).astype(np.float32)
    basis, _ = np.linalg.qr(draw.standard_normal((manifest.dim, 4)))
    subspace = RemoveSubspace(np.ascontiguousarray(basis.T, dtype=np.float32))
    return Adapter(manifest.fingerprint, manifest.dim, (Centre(mean), subspace))


@pytest.fixture(scope="module")
def service(open_service: OpenService, embedded_artifact: Path) -> Iterator[Service]:
    def prepare(settings: Settings) -> None:
        push_adapter(settings, "default", make_adapter(embedded_artifact, 1).blob)
        push_adapter(settings, "other", make_adapter(embedded_artifact, 2).blob)
        push_label_set(settings, "news", LabelSet(labels=TOPICS, template="News about {label}."))
        push_label_set(settings, "tags", LabelSet(labels=TOPICS, multi_label=True))

    with open_service(embedded_artifact, prepare=prepare) as running:
        yield running


def vector_of(value: dict[str, Any]) -> NDArray[np.float32]:
    assert value["encoding"] == "base64-f32le"
    vector = decode_vector(value["vector"])
    assert vector.shape == (value["dim"],)
    return vector


def results(service: Service, documents: list[dict[str, Any]]) -> list[tuple[Seen, Seen | None]]:
    """Send documents, and return the vector and label record of each."""
    places: list[Place] = [service.send(document) for document in documents]
    service.outputs.wait_for(places)
    outputs = service.outputs
    return [
        (outputs.vector(place), outputs.labels(place) if outputs.of(LABELS, place) else None)
        for place in places
    ]


def test_texts_in_many_languages_become_the_vectors_that_the_pipeline_gives_without_a_broker(
    service: Service, embedded_artifact: Path, tmp_path: Path
) -> None:
    documents = [
        {
            "id": f"{entry['key']}-{language}",
            "text": entry["text"][language],
            "language": language,
            "labels": SAMPLE["labels"],
        }
        for entry in SAMPLE["texts"][::12]
        for language in LANGUAGES
    ]
    assert len(LANGUAGES) >= 20
    found = results(service, documents)

    file, vectors, labels = (tmp_path / name for name in ("in.jsonl", "vectors.jsonl", "labels.jsonl"))
    # Sorted otherwise: neither the batch nor the order may change a bit.
    shuffled = [documents[position] for position in np.random.default_rng(0).permutation(len(documents))]
    file.write_text("".join(f"{json.dumps(document)}\n" for document in shuffled))
    report = encode_file(
        open_pipeline(service.settings, None),
        file,
        vectors,
        labels_output=labels,
        on_rejected=lambda rejection: pytest.fail(str(rejection)),
    )
    assert report.n_vectors == report.n_labels == len(documents)
    expected = [
        {json.loads(line)["id"]: line for line in path.read_bytes().splitlines()}
        for path in (vectors, labels)
    ]
    manifest, adapter = read_manifest(embedded_artifact), make_adapter(embedded_artifact, 1)
    for document, (vector, label) in zip(documents, found, strict=True):
        assert label is not None
        assert vector.value == expected[0][document["id"]], "the same bytes"
        assert label.value == expected[1][document["id"]], "the same bytes"
        value = vector.json
        assert value["language"] == document["language"]
        assert (value["encoder"], value["dim"]) == (manifest.fingerprint, manifest.dim)
        assert (value["adapter"], value["adapter_version"]) == ("default", adapter.version)
        assert value["space"] == label.json["space"] == adapters.space(manifest.fingerprint, adapter.version)
        assert abs(float(np.linalg.norm(vector_of(value))) - 1.0) <= NORM_TOLERANCE
        assert (value["truncated"], value["tokens_dropped"]) == (False, 0)
        assert "metadata" not in value
        assert "explain" not in value


def test_a_vector_is_what_encoder_and_adapter_give_for_the_text_alone(
    service: Service, encoder: OnnxEncoder, embedded_artifact: Path
) -> None:
    text = SAMPLE["texts"][0]["text"]["ja"]
    x = encoder.encode_texts([text])[0]
    raw = service.vector({"text": text, "align": {"adapter": "identity"}})
    np.testing.assert_array_equal(vector_of(raw), x)
    aligned = service.vector({"text": text})
    np.testing.assert_array_equal(vector_of(aligned), make_adapter(embedded_artifact, 1).transform_one(x))
    assert float(vector_of(aligned) @ x) < 0.99, "the adapter of this test moves vectors"


def test_adapter_and_strength_of_a_message_change_the_space(
    service: Service, encoder: OnnxEncoder, embedded_artifact: Path
) -> None:
    text = "One text, aligned in several ways."
    asked: list[dict[str, Any] | None] = [
        None,
        {"strength": 1},
        {"strength": 0.5},
        {"adapter": "other"},
        {"adapter": "identity"},
        {"adapter": "other", "strength": 0.25},
    ]
    found = results(service, [{"text": text, "align": align} if align else {"text": text} for align in asked])
    values = [vector.json for vector, _ in found]
    first, same, *others = values
    assert first["space"] == same["space"]
    assert first["vector"] == same["vector"]
    assert len({value["space"] for value in values}) == len(asked) - 1
    assert len({value["vector"] for value in values}) == len(asked) - 1
    assert [value["adapter"] for value in others] == ["default", "other", "identity", "other"]
    other = make_adapter(embedded_artifact, 2)
    assert others[1]["adapter_version"] == other.version
    x = encoder.encode_texts([text])[0]
    np.testing.assert_array_equal(vector_of(others[3]), other.transform_one(x, Context(strength=0.25)))
    assert others[3]["space"] == adapters.space(encoder.fingerprint, other.version, Context(strength=0.25))


def test_a_message_that_asks_is_told_what_was_applied_and_why(
    service: Service, encoder: OnnxEncoder, embedded_artifact: Path
) -> None:
    adapter, text = make_adapter(embedded_artifact, 1), "Explain this."
    told = service.vector({"text": text, "explain": True})["explain"]
    x = encoder.encode_texts([text])[0]
    cosine = float(x.astype(np.float64) @ adapter.transform_one(x).astype(np.float64))
    assert told.pop("cosine_to_raw") == pytest.approx(cosine, abs=1e-6)
    assert told == {
        "adapter": "default",
        "adapter_version": adapter.version,
        "adapter_from": "worker",
        "strength": 1.0,
        "strength_from": "worker",
        "hyper_parameters": {
            "strength": {"value": 1.0, "reason": "the whole adapter"},
            "shrinkage": {"value": 0.0, "reason": "the message names no language"},
            "temperature": {"value": 1.0, "reason": "the adapter's own temperature"},
        },
        "languages": [],
        "steps": adapter.describe(),
    }
    align = {"adapter": "other", "strength": 0.5}
    told = service.vector({"text": text, "explain": True, "align": align})["explain"]
    assert (told["adapter"], told["adapter_from"]) == ("other", "message")
    assert (told["strength"], told["strength_from"]) == (0.5, "message")


def test_labels_come_from_the_message_or_from_a_named_set(service: Service, encoder: OnnxEncoder) -> None:
    text = "The goalkeeper saved a penalty in the last minute of the final match."
    found = results(
        service,
        [
            {"text": text, "labels": list(TOPICS), "align": {"adapter": "identity"}},
            {"text": text, "label_set": "news", "align": {"adapter": "identity"}},
            {"text": text, "label_set": "news", "template": "{label}!", "align": {"adapter": "identity"}},
            {"text": text, "label_set": "tags", "align": {"adapter": "identity"}},
            {"text": text, "labels": list(TOPICS), "multi_label": True, "align": {"adapter": "identity"}},
            {"text": text},
        ],
    )
    assert found[-1][1] is None, "none asked for, none made"
    own, named, templated, tags, several = [label.json for _, label in found[:-1] if label is not None]
    assert (own["label_set"], own["multi_label"]) == (None, False)
    assert own["template"] == service.settings.template
    assert (named["label_set"], named["template"]) == ("news", "News about {label}.")
    assert (templated["label_set"], templated["template"]) == ("news", "{label}!")
    assert (tags["label_set"], tags["multi_label"], several["multi_label"]) == ("tags", True, True)
    for value in (own, named, templated):
        scores = [item["score"] for item in value["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0, abs=SUM_TOLERANCE)
        assert value["label"] == value["scores"][0]["label"] == "sport"
        assert {item["label"] for item in value["scores"]} == set(TOPICS)
    x = encoder.encode_texts([text])[0]
    prototypes = encoder.encode_texts([f"News about {label}." for label in TOPICS])
    cosines = dict(zip(TOPICS, (prototypes @ x).tolist(), strict=True))
    assert [item["label"] for item in named["scores"]] == sorted(TOPICS, key=lambda label: -cosines[label])
    assert [item["score"] for item in tags["scores"]] == [item["score"] for item in several["scores"]]
    assert sum(item["score"] for item in tags["scores"]) > 1.0 + SUM_TOLERANCE, "each score for itself"
    best = tags["scores"][0]
    assert tags["label"] == (best["label"] if best["score"] >= 0.5 else None)


def test_key_metadata_and_trace_come_through_untouched(service: Service) -> None:
    metadata = rb'{ "b" : [1.50, 1e3,"\u00fc"], "a":{ "b":null }, "a": 123456789012345678901234567890 }'
    value = b'{"text": "With metadata.", "id": "m", "unknown": 1, "metadata": ' + metadata + b"}"
    passed = [
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", b"congo=t61rcWkgMzE"),
        ("ce_id", b"A234-1234-1234"),
        ("ce_source", b"/mycontext"),
    ]
    own = [("alignstream-schema", b"documents/1.7"), ("x-internal", b"stays behind")]
    place = service.send(
        value.replace(b'"id"', b'"labels": ["a", "b"], "id"'), key=b"\xff\x00key", headers=[*passed, *own]
    )
    service.outputs.wait_for([place])
    vector, labels = service.outputs.vector(place), service.outputs.labels(place)
    assert vector.value is not None
    assert vector.value.endswith(b'"metadata":' + metadata + b"}"), "byte for byte"
    for record, schema in ((vector, "vectors.aligned/1"), (labels, "labels.zero-shot/1")):
        assert record.key == b"\xff\x00key"
        assert record.json["id"] == "m"
        assert [header for header in record.headers if header in passed] == passed
        assert record.header("alignstream.source.topic") == f"{service.settings.topic_prefix}documents.v1"
        assert record.source == place
        assert record.header("alignstream-schema") == schema
        assert record.header("content-type") == "application/json"
        assert record.header("x-internal") is None


def test_a_document_without_id_or_key_is_known_by_its_place(service: Service) -> None:
    place = service.send({"text": "Nameless.", "labels": ["a", "b"]})
    service.outputs.wait_for([place])
    name = f"{service.settings.topic_prefix}documents.v1-{place[0]}-{place[1]}"
    for record in (service.outputs.vector(place), service.outputs.labels(place)):
        assert record.json["id"] == name
        assert record.json["tenant"] == "default"
        assert record.key is None


def test_a_tombstone_passes_to_both_outputs_in_its_turn(service: Service) -> None:
    first = service.send({"text": "To be deleted."}, key=b"same")
    place = service.send(None, key=b"same", headers=[("traceparent", b"00-1")])
    last = service.send({"text": "Back again."}, key=b"same")
    service.outputs.wait_for([first, place, last])
    vector, labels = service.outputs.vector(place), service.outputs.labels(place)
    for record in (vector, labels):
        assert (record.key, record.value) == (b"same", None)
        assert record.header("traceparent") == "00-1"
    before, after = service.outputs.vector(first), service.outputs.vector(last)
    assert before.partition == vector.partition == after.partition
    assert before.offset < vector.offset < after.offset


def test_a_long_text_is_cut_and_says_by_how_much(service: Service, embedded_artifact: Path) -> None:
    manifest = read_manifest(embedded_artifact)
    text = "Wort für Wort wird dieser Text länger und länger. " * 200
    tokenizer = Tokenizer.from_file(str(embedded_artifact / "tokenizer.json"))
    n_tokens = len(tokenizer.encode(manifest.prefix + text).ids)
    assert manifest.max_tokens == MAX_TOKENS < n_tokens
    value = service.vector({"text": text})
    assert (value["truncated"], value["tokens"]) == (True, MAX_TOKENS)
    assert value["tokens_dropped"] == n_tokens - MAX_TOKENS
    whole = "a " * (MAX_TOKENS - len(tokenizer.encode(manifest.prefix).ids))
    assert len(tokenizer.encode(manifest.prefix + whole).ids) == MAX_TOKENS
    value = service.vector({"text": whole})
    assert (value["tokens"], value["truncated"], value["tokens_dropped"]) == (MAX_TOKENS, False, 0)


def test_the_worker_counts_what_it_did_and_logs_no_text(service: Service) -> None:
    before = metric(service.worker, "records_consumed_total")
    place = service.send({"text": "Antidisestablishmentarianism", "labels": ["floccinaucinihili", "x"]})
    service.outputs.wait_for([place])
    assert metric(service.worker, "records_consumed_total") == before + 1
    n_vectors = len([record for record in service.outputs.records if record.topic == VECTORS])
    assert metric(service.worker, "records_published_total", topic=VECTORS) == n_vectors
    for stage in ("queue", "decode", "tokenize", "encode", "align", "classify", "publish"):
        assert metric(service.worker, "stage_duration_seconds_count", stage=stage) > 0, stage
    assert metric(service.worker, "end_to_end_latency_seconds_count") >= before + 1
    assert ready(service.worker) == (200, {"ready": True, "waiting": {}})
    log = service.worker.log()
    assert "loaded in" in log
    assert "Antidisestablishmentarianism" not in log
    assert "floccinaucinihili" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("broker", ["tansu"], indirect=True, scope="session")
def test_the_workers_own_label_set_holds_where_a_message_names_none(
    open_service: OpenService, tiny_artifact: Path
) -> None:
    def prepare(settings: Settings) -> None:
        push_label_set(settings, "usual", LabelSet(labels=("w1", "w2")))

    with open_service(
        tiny_artifact, prepare=prepare, adapter="identity", label_set="usual", template="{label} w9"
    ) as service:
        places = [service.send({"text": "w1 w5"}), service.send({"text": "w1 w5", "labels": ["w3", "w4"]})]
        service.outputs.wait_for(places)
        usual, own = (service.outputs.labels(place).json for place in places)
    assert (usual["label_set"], usual["template"], usual["label"]) == ("usual", "{label} w9", "w1")
    assert (own["label_set"], {item["label"] for item in own["scores"]}) == (None, {"w3", "w4"})
