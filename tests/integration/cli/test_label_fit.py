"""Fitting labels as a shell does it: with a real registry; and on real text, where it is here."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running_service import DONE, FAILED, IN_PART, MISUSED, Shell
from tiny_encoder import DIM, text_of

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.public_sets import PublicSets
from alignstream.export.encoders.embedded import cached_artifact, embedded_fingerprint
from alignstream.export.fit.label_fit import LabelFitOutcome, align_tagged, fit_labels
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.labels import refinement
from alignstream.models.labels.label_set import LabelSet, from_bytes, render
from alignstream.models.labels.zero_shot import label_cosines
from alignstream.ops.local.redis import RedisServer
from alignstream.streams.settings import load

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


# -- real text ------------------------------------------------------------------------------------------------

#: Near to English, in other scripts, and unknown to the encoder.
JUDGED = ("deu_Latn", "arb_Arab", "tha_Thai", "swh_Latn")


class Topics:
    """SIB-200: English training texts to fit on, development texts in other languages to judge on."""

    def __init__(self, data: Path) -> None:
        encoder = OnnxEncoder(cached_artifact(load().cache_dir))
        cache = EmbeddingCache(
            load().cache_dir, fingerprint=encoder.fingerprint, dim=encoder.dim, encode=encoder.encode_texts
        )
        found = packaged_adapter(embedded_fingerprint())
        assert found is not None
        self.adapter = found
        sets = PublicSets(data)
        texts, labels = sets.sib_dev(JUDGED)
        self.labels = LabelSet(tuple(sorted(set(labels))), template="This text is about {label}.")
        self.gold = np.array([self.labels.labels.index(label) for label in labels])
        english = sets.sib_train(["eng_Latn"], n_lines=701)["eng_Latn"]
        rendered = [render("This text is about {label}.", label) for label in self.labels.labels]
        X = cache.embed(
            {"sib-train.eng_Latn": english, "labels.eng": rendered}
            | {f"sib-dev.{language}": lines for language, lines in texts.items()}
        )
        self.sample = align_tagged(found, X["sib-train.eng_Latn"], ["en"] * len(english))
        self.prototypes = found.transform_many(X["labels.eng"])
        self.judged = {
            language: align_tagged(found, X[f"sib-dev.{language}"], [language] * len(lines))
            for language, lines in texts.items()
        }

    def fit(self, sample: Matrix, **options: Any) -> LabelFitOutcome:
        return fit_labels(
            self.labels, adapter=self.adapter, template="This text is about {label}.",
            prototypes=self.prototypes, sample=sample, **options,
        )  # fmt: skip

    def answers(self, outcome: LabelFitOutcome, Y: Matrix) -> NDArray[np.int64]:
        fitted = outcome.labels.fitted
        prototypes = self.prototypes if fitted is None else fitted.matrix
        bias = 0.0 if fitted is None else np.array(fitted.bias)
        answers: NDArray[np.int64] = (
            label_cosines(Y, prototypes, self.adapter.common_direction()) - bias
        ).argmax(axis=1)
        return answers

    def accuracy(self, outcome: LabelFitOutcome) -> float:
        """Return the mean over languages, in points."""
        return 100.0 * float(
            np.mean([(self.answers(outcome, Y) == self.gold).mean() for Y in self.judged.values()])
        )


@pytest.fixture(scope="module")
def topics() -> Topics:
    data = os.environ.get("ALIGNSTREAM_DATA")
    if not data:
        pytest.skip("ALIGNSTREAM_DATA is not set: the public sets are not here")
    return Topics(Path(data))


def nearest_topics(topics: Topics) -> NDArray[np.int64]:
    """Return the topic of each text of the sample as the plain labels see it: nobody's labels are read."""
    common = topics.adapter.common_direction()
    nearest: NDArray[np.int64] = label_cosines(topics.sample, topics.prototypes, common).argmax(axis=1)
    return nearest


def test_english_text_of_the_domain_refines_labels_for_other_languages(topics: Topics) -> None:
    plain = topics.fit(topics.sample[:10])
    assert plain.labels.fitted is None
    found = topics.fit(topics.sample)
    assert found.warnings == []
    assert topics.accuracy(found) > topics.accuracy(plain) + 1.5


def test_on_a_stream_of_one_topic_nothing_is_worse_than_without_a_fit(topics: Topics) -> None:
    nearest = nearest_topics(topics)
    for topic, label in enumerate(topics.labels.labels):
        texts = topics.sample[nearest == topic]
        stream = np.concatenate([texts] * (1 + refinement.MIN_TEXTS // len(texts)))
        found = topics.fit(stream)
        assert "one-sided" in found.warnings[0], label
        assert found.labels == topics.labels
        own = {language: Y[topics.gold == topic] for language, Y in topics.judged.items()}
        forced = topics.fit(stream, force=True)
        right = {
            name: np.mean([(topics.answers(outcome, Y) == topic).mean() for Y in own.values()])
            for name, outcome in {"as it is": found, "forced": forced}.items()
        }
        assert right["as it is"] > right["forced"], "the harm that is refused is real"


def test_neither_a_fit_nor_a_steady_mix_is_on_by_default(topics: Topics) -> None:
    assert not topics.labels.steady_mix
    assert topics.labels.fitted is None
