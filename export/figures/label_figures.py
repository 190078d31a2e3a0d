"""What fitting labels gains and costs on the public sets: ``python -m alignstream.export.figures.label_figures``.

It prints the tables of ``docs/pages/measurements/labels.md``. Labels are fitted to English texts and judged on
development texts in all languages, with the shipped adapter. Needs ALIGNSTREAM_DATA; what is not in the cache is
encoded, for a minute.
"""

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs
from numpy.typing import NDArray
from rich.console import Console

from alignstream.export.data.public_vectors import (
    INTENTS,
    N_BRIDGE_TEXTS,
    N_XSID_TEXTS,
    TEMPLATE,
    XSID_LANGUAGES,
    Sources,
)
from alignstream.export.data.texts import evenly_spaced
from alignstream.export.figures.shipped_adapter import open_sources
from alignstream.export.fit.label_fit import Outcome, align, fit_labels
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AlignstreamError
from alignstream.models.labels.calibration import balanced_accuracy, calibration_error
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.labels.zero_shot import MULTI_LABEL_ACCEPT, answers, label_cosines, label_scores

#: Languages that the figures are averaged over: all sizes and scripts, some that the encoder never saw.
LANGUAGES: Final = (
    "eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "rus_Cyrl", "zho_Hans", "arb_Arab", "hin_Deva", "ben_Beng",
    "jpn_Jpan", "kor_Hang", "tur_Latn", "vie_Latn", "tha_Thai", "fin_Latn", "yor_Latn", "kab_Latn", "wol_Latn",
    "tat_Cyrl", "uig_Arab", "xho_Latn", "zul_Latn", "ceb_Latn", "jav_Latn", "amh_Ethi", "kaz_Cyrl", "swh_Latn",
)  # fmt: skip
#: One English text of so many becomes an example: of SIB-200's 701, and of xSID's 181.
TOPIC_STEP: Final = 10
INTENT_STEP: Final = 3
#: A change of at most this many points is neither a win nor a loss.
TIE_POINTS: Final = 0.5


@dataclasses.dataclass(frozen=True)
class Task:
    """Labels, English texts to fit them to, and texts in other languages to judge them on; all aligned.

    Parameters
    ----------
    adapter : Adapter
    labels : tuple of str
        Words of each label.
    prototypes : ndarray of shape (n_labels, dim), float32
    sample : ndarray of shape (n, dim), float32
        English texts.
    sample_gold : ndarray of shape (n,), int64
        Their labels, for examples and for samples of one topic.
    judged : mapping of str to ndarray of shape (n_judged, dim), float32
        Texts by language.
    gold : ndarray of shape (n_judged,), int64
    """

    adapter: Adapter
    labels: tuple[str, ...]
    prototypes: Matrix
    sample: Matrix
    sample_gold: NDArray[np.int64]
    judged: Mapping[str, Matrix]
    gold: NDArray[np.int64]

    def fit(self, sample: Matrix, *, multi_label: bool = False, **options: Any) -> Outcome:  # noqa: ANN401
        """Fit the labels to a sample; options are those of ``fit_labels``."""
        return fit_labels(
            LabelSet(self.labels, template=TEMPLATE, multi_label=multi_label),
            adapter=self.adapter, template=TEMPLATE, prototypes=self.prototypes, sample=sample, **options,
        )  # fmt: skip

    def with_examples(self, step: int, **options: Any) -> Outcome:  # noqa: ANN401 (as of fit)
        """Fit with one text of so many as an example, which is then none of the sample."""
        is_example = np.arange(len(self.sample)) % step == 0
        gold = np.eye(len(self.labels), dtype=np.bool_)[self.sample_gold[is_example]]
        return self.fit(self.sample[~is_example], examples=self.sample[is_example], gold=gold, **options)

    def scores(self, outcome: Outcome | None, language: str) -> NDArray[np.float64]:
        """Return the scores of a language's texts; None: what serves without a fit."""
        fitted = None if outcome is None else outcome.labels.fitted
        multi_label = False if outcome is None else outcome.labels.multi_label
        prototypes = self.prototypes if fitted is None else fitted.matrix
        cosines = label_cosines(self.judged[language], prototypes, self.adapter.common_direction())
        return label_scores(cosines, multi_label=multi_label, fitted=fitted)

    def accuracy(self, outcome: Outcome | None, language: str, topic: int | None = None) -> float:
        """Return right labels in points: of all texts, or of those of one topic."""
        right = self.scores(outcome, language).argmax(axis=1) == self.gold
        return 100.0 * float((right if topic is None else right[self.gold == topic]).mean())

    def mean(self, outcome: Outcome | None, topic: int | None = None) -> float:
        """Return the mean accuracy over languages, in points."""
        return statistics.fmean(self.accuracy(outcome, language, topic) for language in self.judged)

    def line(self, name: str, outcome: Outcome | None) -> str:
        """Return a row of the table of fits."""
        scores = np.concatenate([self.scores(outcome, language) for language in self.judged])
        right = scores.argmax(axis=1) == np.tile(self.gold, len(self.judged))
        fitted = None if outcome is None else outcome.labels.fitted
        margin = 0.0 if fitted is None else fitted.abstain_margin
        answered = answers(scores, multi_label=False, abstain_margin=margin)
        return (
            f"| {name} | {self.mean(outcome):.1f} | {calibration_error(scores.max(axis=1), right):.3f} | "
            f"{100.0 * (1.0 - answered.mean()):.0f} | {100.0 * right[answered].mean():.1f} |"
        )

    def balanced(self, outcome: Outcome) -> float:
        """Return balanced accuracy of a multi-label set: the mean over languages, in points."""
        gold = np.eye(len(self.labels), dtype=np.bool_)[self.gold]
        found = [
            balanced_accuracy(self.scores(outcome, language) >= MULTI_LABEL_ACCEPT, gold)
            for language in self.judged
        ]
        return 100.0 * statistics.fmean(found)


def news(sources: Sources, adapter: Adapter) -> Task:
    """Return SIB-200: 7 topics; training texts of English, development texts of 27 languages."""
    texts, gold = sources.sets.sib_dev(LANGUAGES)
    english, english_gold = sources.sets.sib_examples("eng_Latn")
    labels = tuple(sorted(set(gold)))
    prototypes = sources.labelled(gold, {label: label for label in labels})
    sample = sources.embed("sib-train", {"eng_Latn": english})["eng_Latn"]
    return Task(
        adapter, labels, adapter.transform_many(prototypes.prototypes), _english(adapter, sample),
        np.array([labels.index(label) for label in english_gold]),
        _aligned(adapter, sources.embed("sib-dev", texts)), prototypes.gold,
    )  # fmt: skip


def held_back(sources: Sources, topics: Task) -> Task:
    """Return SIB-200's training texts: some sentences in 20 languages, and the others in English as the sample."""
    rows = evenly_spaced(len(topics.sample), N_BRIDGE_TEXTS)
    return dataclasses.replace(
        topics,
        sample=np.delete(topics.sample, rows, axis=0),
        sample_gold=np.delete(topics.sample_gold, rows),
        judged=_aligned(topics.adapter, sources.bridge()),
        gold=topics.sample_gold[rows],
    )


def commands(sources: Sources, adapter: Adapter) -> Task:
    """Return xSID: 15 intents; English validation texts, and others of them in 15 languages."""
    vectors, labelled = sources.commands()
    every, intents = sources.sets.xsid(["en"], n_texts=sys.maxsize)
    judged = set(sources.sets.xsid(["en"], n_texts=N_XSID_TEXTS)[0]["en"])
    rows = [row for row, text in enumerate(every["en"]) if text not in judged]
    names = sorted(INTENTS)
    sample = sources.embed("xsid-others", {"en": [every["en"][row] for row in rows]})["en"]
    return Task(
        adapter, tuple(INTENTS[name] for name in names), adapter.transform_many(labelled.prototypes),
        _english(adapter, sample), np.array([names.index(intents[row]) for row in rows]),
        _aligned(adapter, {language: vectors[language] for language in XSID_LANGUAGES}), labelled.gold,
    )  # fmt: skip


def _english(adapter: Adapter, X: Matrix) -> Matrix:
    return align(adapter, X, ["en"] * len(X))


def _aligned(adapter: Adapter, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {language: align(adapter, X, [language] * len(X)) for language, X in vectors.items()}


def tables(sources: Sources, adapter: Adapter) -> Iterator[str]:
    """Yield the lines of all tables."""
    topics, intents = news(sources, adapter), commands(sources, adapter)
    head = [
        "| labels | right | calibration error | no label | right of the answers |",
        "|---|---|---|---|---|",
    ]
    fitted = topics.fit(topics.sample)
    yield from ("SIB-200 development texts, 27 languages, 7 topics", "", *head)
    yield topics.line("plain", None)
    yield topics.line(f"fitted, {len(topics.sample)} English texts", fitted)
    for cost in (1.0, 4.0):
        found = topics.with_examples(TOPIC_STEP, wrong_cost=cost)
        yield topics.line(f"and {found.report['examples']} examples, --wrong-cost {cost:g}", found)
    other = _english(adapter, sources.ntrex_fit()["eng"])
    yield topics.line(f"fitted to {len(other)} texts of news (NTREX-128)", topics.fit(other))
    yield from ("", "xSID validation texts, 15 languages, 15 intents", "", *head)
    yield intents.line("plain", None)
    forced = intents.fit(intents.sample, force=True)
    yield intents.line(f"fitted, {len(intents.sample)} English texts (--force: fewer than 200)", forced)
    found = intents.with_examples(INTENT_STEP, force=True, wrong_cost=1.0)
    yield intents.line(f"and {found.report['examples']} examples", found)
    yield from _by_language(topics, fitted)
    yield from _one_topic(topics)
    multi = [topics.fit(topics.sample[:1], multi_label=True), topics.fit(topics.sample, multi_label=True)]
    multi.append(topics.with_examples(TOPIC_STEP, multi_label=True))
    figures = ", ".join(
        f"{name} {topics.balanced(item):.1f}"
        for name, item in zip(("plain", "fitted", "with examples"), multi, strict=True)
    )
    yield from ("", f"As a multi-label set, mean of true positive and true negative rate: {figures}")
    others = held_back(sources, topics)
    plain, refined = others.mean(None), others.mean(others.fit(others.sample))
    told = f"{len(others.judged)} languages, {len(others.gold)} training texts that the sample lacks"
    yield from ("", f"SIB-200, {told}: plain {plain:.1f}, fitted {refined:.1f}")


def _by_language(topics: Task, fitted: Outcome) -> Iterator[str]:
    yield from ("", "By language, plain to fitted", "")
    changes = {
        language: (topics.accuracy(None, language), topics.accuracy(fitted, language))
        for language in topics.judged
    }
    for name, sign in (("more", 1.0), ("less", -1.0)):
        those = {key: pair for key, pair in changes.items() if sign * (pair[1] - pair[0]) > TIE_POINTS}
        told = ", ".join(f"{key} {before:.1f} → {after:.1f}" for key, (before, after) in those.items())
        yield f"* {len(those)} languages find {name}: {told or 'none'}"


def _one_topic(topics: Task) -> Iterator[str]:
    yield from ("", "Samples of one topic: right labels of that topic's texts", "")
    yield from ("| sample | plain | with labels fit | with --force |", "|---|---|---|---|")
    for topic, label in enumerate(topics.labels):
        texts = topics.sample[topics.sample_gold == topic]
        held, forced = topics.fit(texts), topics.fit(texts, force=True)
        own = [topics.mean(item, topic) for item in (None, held, forced)]
        yield f"| {len(texts)} texts of {label} | " + " | ".join(f"{value:.1f}" for value in own) + " |"


def shipped_adapter(sources: Sources) -> Adapter:
    """Return the adapter that the package ships for the encoder of the sources."""
    found = packaged_adapter(sources.encoder)
    if found is None:
        raise AlignstreamError("the package ships no adapter for this encoder; fit it: make adapter")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m alignstream.export.figures.label_figures", description=__doc__
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("ALIGNSTREAM_DATA"))
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=os.environ.get("ALIGNSTREAM_CACHE_DIR") or platformdirs.user_cache_dir("alignstream"),
    )
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("name the folder with the public sets: --data or ALIGNSTREAM_DATA")
    try:
        sources = open_sources(options.data, options.cache_dir, threads=0)
        for line in tables(sources, shipped_adapter(sources)):
            Console(highlight=False, soft_wrap=True).print(line, markup=False)
    except AlignstreamError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
