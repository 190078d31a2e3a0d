"""The command line from end to end, as a shell calls it, on a running service."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounded import program, wait_until
from running_service import ALIGNSTREAM, DONE, FAILED, IN_PART, MISUSED, OpenService, Service, Shell
from started_servers import environment_of
from tiny_encoder import DIM

from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.encoder.artifact import decode_vector, read_manifest
from alignstream.models.labels.label_set import LabelSet
from alignstream.ops.admin.registry import push_adapter, push_label_set
from alignstream.ops.local.redis import RedisServer
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.topics import DEAD_LETTERS, DOCUMENTS, LABELS, VECTORS, specs


@pytest.fixture(scope="module")
def adapter(tiny_artifact: Path) -> Adapter:
    mean = Centre(np.full(DIM, 0.05, dtype=np.float32))
    return Adapter(read_manifest(tiny_artifact).fingerprint, DIM, (mean,), {"made by": "a test"})


@pytest.fixture(scope="module")
def service(open_service: OpenService, tiny_artifact: Path, adapter: Adapter) -> Iterator[Service]:
    def prepare(settings: Settings) -> None:
        push_adapter(settings, "default", adapter.blob)
        push_label_set(settings, "news", LabelSet(labels=("w1", "w2")))

    with open_service(tiny_artifact, prepare=prepare) as running:
        yield running


@pytest.fixture
def shell(service: Service) -> Shell:
    return Shell(environment_of(service.settings))


# -- topics and records ----------------------------------------------------------------------------


def test_topics_are_created_and_described(shell: Shell, topic_prefix: str) -> None:
    own: dict[str, Any] = {"topic_prefix": topic_prefix}
    out, _ = shell("topics", "describe", expect=IN_PART, **own)
    assert "missing" in out
    names = [topic_prefix + spec.name for spec in specs()]
    made = shell.json("topics", "create", "--partitions", "2", **own)
    assert made["created"] == names
    assert shell.json("topics", "create", "--partitions", "2", **own)["existing"] == names
    described = shell.json("topics", "describe", **own)["topics"]
    # The learner's topics have one partition, so that all of them has one order.
    expected = {topic_prefix + spec.name: spec.n_partitions or 2 for spec in specs()}
    assert {topic["name"]: len(topic["end_offsets"]) for topic in described} == expected


def test_documents_are_produced_and_their_results_tailed(
    service: Service, shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "documents.jsonl"
    lines = [
        '{"id": "one", "text": "w1 w2", "labels": ["w1", "w3"]}',
        "no JSON",
        '{"id": "two", "text": " "}',
    ]
    file.write_text("\n".join(lines))
    command = [ALIGNSTREAM, "tail", VECTORS, "--follow", "--limit", "1", "--json"]
    with program(command, env=shell.environment) as following:
        # It follows from where it starts; until then nothing of this comes.
        sent = 0
        while following.poll() is None:
            shell("produce", "-", stdin=b"w7 w8\n")
            sent += 1
            assert sent < 60, "'tail --follow --limit 1' did not end although 60 documents were sent"
            with contextlib.suppress(subprocess.TimeoutExpired):
                following.wait(1)
        assert following.returncode == DONE
        assert following.stdout is not None
        (line,) = following.stdout.read().splitlines()
    assert len(json.loads(line)["value"]["vector"]) == DIM

    report = shell.json("produce", file, "--key-field", "id", "--language", "de", expect=IN_PART)
    assert (report["confirmed"], [item["line"] for item in report["rejected"]]) == (2, [2])

    def found() -> list[Any]:
        return shell.json_lines("tail", VECTORS, LABELS, DEAD_LETTERS, "--from-beginning", "--id", "one")

    wait_until(lambda: len(found()) == 2, "vector and labels of document one")
    values = {record["topic"].removeprefix(service.settings.topic_prefix): record for record in found()}
    vector = values[VECTORS]["value"]
    assert (vector["id"], vector["language"], vector["dim"]) == ("one", "de", DIM)
    assert values[VECTORS]["key"] == "one"
    assert abs(sum(number**2 for number in vector["vector"]) - 1.0) < 1e-6
    assert values[LABELS]["value"]["label"] in {"w1", "w3"}
    out, _ = shell("tail", VECTORS, "--id", "one")
    assert "norm 1.000" in out
    out, _ = shell("tail", DEAD_LETTERS, "--id", "two")
    assert "empty-text" in out
    _, err = shell("tail", VECTORS, "--id", "nobody")
    assert "no record of nobody" in err


def test_dead_letters_are_listed_shown_and_replayed(service: Service, shell: Shell) -> None:
    places = [
        service.send({"id": "r1", "text": "w1", "label_set": "later"}, key=b"k"),
        service.send(b"\xff", key=b"k"),
        service.send(b'{"text": 7}', key=b"k"),
    ]
    service.outputs.wait_for(places)
    listed = shell.json("deadletters", "list", "--since", "10m")
    counts = {entry["reason"]: entry["count"] for entry in listed["reasons"]}
    assert {"unknown-label-set", "bad-utf8", "bad-schema"} <= counts.keys()
    assert listed["total"] == sum(counts.values())
    (shown,) = shell.json_lines("deadletters", "show", "--reason", "bad-utf8")
    assert (shown["error"]["reason"], shown["value_base64"]) == ("bad-utf8", "/w==")
    out, _ = shell("deadletters", "list", "--until", "1h")
    assert "no dead letters" in out

    shell("labels", "push", "later", "--label", "w1", "--label", "w2")
    tried = shell.json("deadletters", "replay", "--reason", "unknown-label-set", "--dry-run")
    assert (tried["dry_run"], tried["replayed"]) == (True, 1)
    done = shell.json("deadletters", "replay", "--reason", "unknown-label-set")
    assert (done["replayed"], done["by_reason"]) == (1, {"unknown-label-set": 1})
    wait_until(
        lambda: any(
            record.topic == LABELS and record.json["id"] == "r1" and record.key == b"k"
            for record in service.outputs.look()
            if record.value is not None
        ),
        "labels of the document that was replayed",
    )
    for wrong in (("--reason", "nonsense"), ("--since", "yesterday")):
        _, err = shell("deadletters", "list", *wrong, expect=FAILED)
        assert wrong[1] in err


def test_skip_moves_a_group_that_has_no_members_and_no_other(service: Service, shell: Shell) -> None:
    place = service.send({"text": "w1"})
    service.outputs.wait_for([place])
    partition, offset = map(str, place)
    report = shell.json("skip", DOCUMENTS, partition, offset, "--drop-others", group="nobody")
    assert (report["group"], report["committed"]) == ("nobody", place[1] + 1)
    _, err = shell("skip", DOCUMENTS, partition, offset, group="nobody", expect=FAILED)
    assert "already past" in err
    last = service.settings.topic_prefix + DOCUMENTS
    _, err = shell("skip", last, "99", "0", expect=FAILED)
    assert "no partition 99" in err


def test_encode_gives_what_the_service_gives(service: Service, shell: Shell, tmp_path: Path) -> None:
    documents = [{"id": f"e{number}", "text": f"w{number} w{number + 1}"} for number in range(5)]
    file, output = tmp_path / "in.jsonl", tmp_path / "out.npz"
    file.write_text("".join(f"{json.dumps(document)}\n" for document in documents))
    shell("encode", file, "--output", output, "--format", "npz")
    with np.load(output) as found:
        ids, vectors = found["ids"].tolist(), found["vectors"]
    assert ids == [document["id"] for document in documents]
    expected = [decode_vector(service.vector(document)["vector"]) for document in documents]
    np.testing.assert_array_equal(vectors, np.stack(expected))
    out, err = shell("encode", "-", "--output", "-", stdin=b'{"text": "w1"}\n{"text": 7}\n', expect=IN_PART)
    assert len(out.splitlines()) == 1
    assert "bad-schema" in err


def test_the_doctor_finds_a_well_service_well_and_says_what_is_not(shell: Shell) -> None:
    checks = {check["name"]: check for check in shell.json("doctor")}
    learner = checks.pop("learner")
    assert (learner["state"], "none has run yet" in learner["message"]) == ("warning", True)
    assert "alignstream learner" in learner["remedy"]
    assert {check["state"] for check in checks.values()} == {"ok"}, checks
    off = {check["name"]: check for check in shell.json("doctor", follow="off")}
    assert off["learner"]["state"] == "ok"
    assert {"settings", "broker", "redis", "encoder", "adapter"} <= checks.keys()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{unused.getsockname()[1]}"
        found = {
            check["name"]: check
            for check in shell.json("doctor", broker=away, redis_url=f"redis://{away}/0", expect=IN_PART)
        }
    assert found["broker"]["state"] == found["redis"]["state"] == "problem"
    assert away in found["broker"]["message"]
    assert found["redis"]["remedy"]
    assert found["encoder"]["state"] == "ok", "one that fails does not keep the others from running"
    out, _ = shell("doctor", adapter="missing", expect=IN_PART)
    assert "FAIL adapter" in out


# -- the registry ----------------------------------------------------------------------------------


def test_adapters_and_label_sets_are_pushed_listed_rolled_back_and_pulled(
    redis_server: RedisServer, adapter: Adapter, tmp_path: Path
) -> None:
    shell = Shell({"ALIGNSTREAM_REDIS_URL": redis_server.url.replace("/0", "/3")})
    other = Adapter(adapter.encoder, DIM, (Centre(np.full(DIM, -0.05, dtype=np.float32)),))
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "c.safetensors"]
    for file, blob in zip(files, (adapter.blob, other.blob, adapter.blob[:-1]), strict=True):
        file.write_bytes(blob)
    first = shell.json("adapters", "push", files[0], "--name", "ops", "--note", "the first", "--force")
    again = shell.json("adapters", "push", files[0], "--name", "ops")
    assert (first["version"], again["revision"]) == (adapter.version, first["revision"])
    _, err = shell("adapters", "push", files[1], "--name", "ops", expect=FAILED)
    assert "the gate cannot judge an adapter of encoder" in err
    second = shell.json("adapters", "push", files[1], "--name", "ops", "--force")
    assert (second["version"], second["revision"]) == (other.version, first["revision"] + 1)
    _, err = shell("adapters", "push", files[2], "--name", "ops", expect=FAILED)
    assert "not an adapter file" in err
    _, err = shell(
        "adapters", "push", files[0], "--name", "ops", "--force", "--expected-revision",
        str(first["revision"]), expect=FAILED,
    )  # fmt: skip
    assert "someone moved it" in err
    back = shell.json("adapters", "rollback", "ops")
    assert (back["version"], back["frozen"]) == (adapter.version, True)
    assert "forced past the gate" in second["note"]
    (listed,) = shell.json("adapters", "list")
    assert (listed["name"], listed["version"]) == ("ops", adapter.version)
    shown = shell.json("adapters", "show", "ops")
    assert (shown["report"], len(shown["history"])) == ({"made by": "a test"}, 3)
    shell("adapters", "pull", "ops", "--output", tmp_path / "pulled", "--version", other.version)
    assert (tmp_path / "pulled").read_bytes() == other.blob
    _, err = shell("adapters", "pull", "nothing", "--output", tmp_path / "none", expect=FAILED)
    assert "there are: ops" in err

    labels = tmp_path / "labels.txt"
    labels.write_text("sport\nPolitik\n\n")
    shell("labels", "push", "news", labels, "--multi-label")
    shown = shell.json("labels", "show", "news")
    assert (shown["labels"], shown["multi_label"]) == (["sport", "Politik"], True)
    assert [item["name"] for item in shell.json("labels", "list")] == ["news"]
    _, err = shell("labels", "push", "news", expect=FAILED)
    assert "--label" in err


def test_an_adapter_that_loses_translations_is_not_published(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    shell = Shell({"ALIGNSTREAM_REDIS_URL": redis_server.url.replace("/0", "/4")})
    shipped = packaged_adapter(embedded_fingerprint())
    assert shipped is not None
    mirror = LinearMap(np.diag(np.where(np.arange(shipped.dim) % 3, 1.0, 0.0)).astype(np.float32))
    harmless, harmful = tmp_path / "harmless.safetensors", tmp_path / "harmful.safetensors"
    harmless.write_bytes(shipped.blob)
    noise = np.random.default_rng(0).normal(size=(shipped.dim, shipped.dim)).astype(np.float32)
    collapsed = LinearMap((noise[:, :1] @ noise[:1] + 0.5 * noise).astype(np.float32))
    harmful.write_bytes(Adapter(shipped.encoder, shipped.dim, (*shipped.steps, mirror, collapsed)).blob)
    first = shell.json("adapters", "push", harmless, "--name", "judged")
    assert (first["version"], first["note"]) == (shipped.version, "")
    _, err = shell("adapters", "push", harmful, "--name", "judged", expect=FAILED)
    assert f"the gate refuses it: against version {shipped.version}: accuracy on 910 held-out pairs" in err
    assert "of neighbours within the language stay" in err
    assert shell.json("adapters", "show", "judged")["version"] == shipped.version
    forced = shell.json("adapters", "push", harmful, "--name", "judged", "--force")
    assert "forced past the gate: against version" in forced["note"]


# -- settings and errors ---------------------------------------------------------------------------


def test_config_shows_where_each_value_comes_from_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "alignstream.toml"
    file.write_text('group = "from-file"\nthreads = 3\n')
    shell = Shell(
        {
            "ALIGNSTREAM_CONFIG": str(file),
            "ALIGNSTREAM_THREADS": "2",
            "ALIGNSTREAM_REDIS_PASSWORD": "hunter2",
            "ALIGNSTREAM_REDIS_URL": "redis://someone:hunter2@127.0.0.1:1/0",
        }
    )
    rows = {row["name"]: row for row in shell.json("config")}
    assert (rows["group"]["value"], rows["group"]["from"]) == ("from-file", str(file))
    assert (rows["threads"]["value"], rows["threads"]["from"]) == ("2", "environment")
    assert rows["broker"]["from"] == "default"
    assert all(row["description"] for row in rows.values())
    out, _ = shell("config")
    assert "hunter2" not in out + json.dumps(rows)
    assert rows.keys() == dict(load()).keys()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"brokr": "127.0.0.1:9092"}, "ALIGNSTREAM_BROKR"),
        ({"threads": "many"}, "ALIGNSTREAM_THREADS"),
        ({"broker": "nowhere"}, "ALIGNSTREAM_BROKER"),
        ({"template": "no place"}, "ALIGNSTREAM_TEMPLATE"),
        ({"tenants": "acme"}, "JSON list"),
        ({"broker_security": "SASL_PLAINTEXT", "broker_username": "u"}, "allow_plaintext_password"),
    ],
)
def test_a_setting_that_is_unknown_or_malformed_stops_the_start_and_is_named(
    settings: dict[str, Any], named: str
) -> None:
    command = "worker" if "threads" in settings else "config"
    _, err = Shell({})(command, expect=FAILED, **settings)
    assert named in err
    assert err.startswith("error:")


def test_wrong_usage_and_a_broker_that_is_away_have_their_exit_codes(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{unused.getsockname()[1]}"
        shell = Shell({"ALIGNSTREAM_BROKER": away, "ALIGNSTREAM_REDIS_URL": f"redis://{away}/0"})
        for wrong in (("topics", "--nonsense"), ("nonsense",), ("skip", "t", "x", "0"), ("tail",)):
            _, err = shell(*wrong, expect=MISUSED)
            assert "Usage" in err
        for command in (
            ("topics", "create"),
            ("produce", "-"),
            ("tail", VECTORS),
            ("deadletters", "replay"),
            ("skip", DOCUMENTS, "0", "0"),
        ):
            _, err = shell(*command, stdin=b"w1\n", expect=FAILED)
            assert away in err
            assert "ALIGNSTREAM_BROKER" in err
        _, err = shell("adapters", "list", expect=FAILED)
        assert away in err
    _, err = shell("worker", "--artifact", tmp_path, expect=FAILED)
    assert "manifest.json is missing" in err
    _, err = shell("produce", tmp_path / "nothing", expect=FAILED)
    assert "cannot be read" in err
