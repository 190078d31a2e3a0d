"""Fitting labels as a shell does it: with a real registry; and on real text, where it is here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_service import DONE, FAILED, IN_PART, MISUSED, Shell
from tiny_encoder import DIM, text_of

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.labels.label_set import from_bytes
from alignstream.ops.local.redis import RedisServer

TOPICS = ("w1", "w2", "w3", "w4")


def topical(number: int) -> tuple[str, str]:
    """Return a label and a text that says it three times among other words."""
    label = TOPICS[number % len(TOPICS)]
    return label, f"{label} {label} {label} {text_of(1000 + number, 3)}"


@pytest.fixture
def shell(redis_server: RedisServer, tiny_artifact: Path, tmp_path: Path) -> Shell:
    return Shell(
        {
            "ALIGNSTREAM_REDIS_URL": redis_server.url.replace("/0", "/5"),
            "ALIGNSTREAM_ARTIFACT": str(tiny_artifact),
            "ALIGNSTREAM_ADAPTER": "mine",
            "ALIGNSTREAM_CACHE_DIR": str(tmp_path / "cache"),
            "ALIGNSTREAM_STATE_DIR": str(tmp_path / "state"),
        }
    )


def adapter_file(folder: Path, artifact: Path, shift: float) -> Path:
    mean = Centre(np.full(DIM, shift, dtype=np.float32))
    path = folder / f"{shift}.safetensors"
    path.write_bytes(Adapter(read_manifest(artifact).fingerprint, DIM, (mean,)).blob)
    return path


def doctor_of_labels(shell: Shell) -> dict[str, Any]:
    """Return what the doctor says of label sets; that no broker is there is another matter."""
    found = shell.json("doctor", expect=IN_PART, broker="127.0.0.1:1")
    return {check["name"]: check for check in found if check["name"].startswith("labels")}


def test_a_set_is_fitted_shown_used_outdated_and_rolled_back(
    shell: Shell, tiny_artifact: Path, tmp_path: Path
) -> None:
    shell("adapters", "push", adapter_file(tmp_path, tiny_artifact, 0.05), "--name", "mine", "--force")
    options = [option for label in TOPICS for option in ("--label", label)]
    plain = shell.json("labels", "push", "topics", *options, "--steady-mix")
    text, examples = tmp_path / "text.txt", tmp_path / "examples.tsv"
    text.write_text("\n".join(topical(i)[1] for i in range(300)))
    examples.write_text("\n".join("\t".join(topical(i)) for i in range(280, 340)))

    report = shell.json("labels", "fit", "topics", "--text", text, "--examples", examples)
    assert report["fitted"]
    assert (report["report"]["texts"], report["report"]["examples"]) == (280, 60)
    assert report["report"]["accuracy"][1] >= report["report"]["accuracy"][0]
    assert report["pointer"]["revision"] == plain["revision"] + 1
    assert "prototypes" not in json.dumps(report)
    shown = shell.json("labels", "show", "topics")
    assert shown["steady_mix"]
    assert shown["fitted"]["report"] == report["report"]
    assert doctor_of_labels(shell) == {}
    out, _ = shell("labels", "show", "topics")
    assert "fitted for adapter" in out
    assert "accuracy on 60 examples" in out

    documents = tmp_path / "documents.jsonl"
    documents.write_text("\n".join(json.dumps({"text": topical(i)[1]}) for i in range(400, 440)))
    answers = tmp_path / "labels.jsonl"
    shell("encode", documents, "-o", tmp_path / "v.jsonl", "--labels-output", answers, label_set="topics")
    found = [json.loads(line)["label"] for line in answers.read_text().splitlines()]
    right = [label == topical(400 + i)[0] for i, label in enumerate(found)]
    assert np.mean(right) > 0.8

    shell("adapters", "push", adapter_file(tmp_path, tiny_artifact, -0.05), "--name", "mine", "--force")
    check = doctor_of_labels(shell)["labels topics"]
    assert check["state"] == "warning"
    assert f"was fitted for adapter {report['adapter_version']} while" in check["message"]
    assert "labels fit topics" in check["remedy"]

    back = shell.json("labels", "rollback", "topics")
    assert (back["version"], back["frozen"]) == (plain["version"], True)
    assert shell.json("labels", "show", "topics")["fitted"] is None
    _, err = shell("labels", "rollback", "topics", "--to", "0" * 12, expect=FAILED)
    assert "is not in its history" in err


def test_what_cannot_be_fitted_says_why_and_publishes_nothing(
    shell: Shell, tiny_artifact: Path, tmp_path: Path
) -> None:
    shell("adapters", "push", adapter_file(tmp_path, tiny_artifact, 0.05), "--name", "mine", "--force")
    shell("labels", "push", "few", "--label", "w1", "--label", "w2")
    text = tmp_path / "text.txt"
    text.write_text("w1 w3\nw2 w4\n")
    out, err = shell("labels", "fit", "few", "--text", text, expect=IN_PART)
    assert "warning: 2 texts are too few; 200 are needed" in err
    assert "nothing was fitted" in out
    text.write_text("\n".join(f"w1 w1 w1 {text_of(i, 2)}" for i in range(300)))
    _, err = shell("labels", "fit", "few", "--text", text, expect=IN_PART)
    assert "one-sided" in err
    assert len(shell.json("labels", "show", "few")["history"]) == 1
    output = tmp_path / "forced.json"
    shell("labels", "fit", "few", "--text", text, "--force", "--output", output, expect=DONE)
    assert from_bytes(output.read_bytes()).fitted is not None
    assert len(shell.json("labels", "show", "few")["history"]) == 1

    shell("labels", "push", "pushed", output)
    assert shell.json("labels", "show", "pushed")["fitted"]["report"]["forced"]
    shell("labels", "push", "pushed", output, "--multi-label")
    assert shell.json("labels", "show", "pushed")["fitted"] is None, "a margin is no threshold"

    examples = tmp_path / "examples.tsv"
    examples.write_text("w1\ta\nw9\tb\n")
    for arguments, message in (
        (("nobody", "--text", text), "there is no label set 'nobody' in the registry"),
        (("few", "--text", tmp_path / "none"), "cannot read"),
        (("few", "--text", text, "--examples", examples), "line 2: no label 'w9'"),
    ):
        _, err = shell("labels", "fit", *arguments, expect=FAILED)
        assert message in err
    _, err = shell("labels", "fit", "few", "--text", text, "--language", "zzzz9", expect=MISUSED)
    assert "no registry knows the language" in err
    _, err = shell("labels", "rollback", "few", expect=FAILED)
    assert "label set 'few' has no older version" in err
