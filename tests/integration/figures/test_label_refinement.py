"""On real text of many languages, a fit of labels helps where it may and harms nowhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.public_sets import PublicSets
from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.export.fit.label_fit import LabelFitOutcome, align_tagged, fit_labels
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.arrays import Matrix
from alignstream.models.labels import refinement
from alignstream.models.labels.label_set import LabelSet, render
from alignstream.models.labels.zero_shot import label_cosines

#: Near to English, in other scripts, and unknown to the encoder.
JUDGED = ("deu_Latn", "arb_Arab", "tha_Thai", "swh_Latn")


class Topics:
    """SIB-200: English training texts to fit on, development texts in other languages to judge on."""

    def __init__(self, data: Path, cache: EmbeddingCache) -> None:
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
def topics(public_data: Path, vector_cache: EmbeddingCache) -> Topics:
    return Topics(public_data, vector_cache)


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
