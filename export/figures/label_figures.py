"""What fitting labels gains and costs on the public sets: ``python -m alignstream.export.figures.label_figures``.

It prints the tables of ``docs/pages/measurements/labels.md``. Labels are fitted to English texts and judged on
development texts in all languages, with the shipped adapter. Needs ALIGNSTREAM_DATA; new texts are encoded, for
a minute.
"""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.public_sets import INTENTS, TEMPLATE, XSID_LANGUAGES
from alignstream.export.data.texts import evenly_spaced
from alignstream.export.evaluate.statistics import losses, wins
from alignstream.export.figures import program
from alignstream.export.figures.sources import N_BRIDGE_TEXTS, N_XSID_TEXTS, Sources
from alignstream.export.fit.label_fit import LabelFitOutcome, align_tagged, fit_labels
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.labels.calibration import balanced_accuracy, calibration_error
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.labels.zero_shot import MULTI_LABEL_ACCEPT, answers, label_cosines, label_scores

#: Languages that the figures are averaged over: all sizes and scripts, some that the encoder never saw.
LANGUAGES: Final = (
    "eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "rus_Cyrl", "zho_Hans", "arb_Arab", "hin_Deva", "ben_Beng",
    "jpn_Jpan", "kor_Hang", "tur_Latn", "vie_Latn", "tha_Thai", "fin_Latn", "yor_Latn", "kab_Latn", "wol_Latn",
    "tat_Cyrl", "uig_Arab", "xho_Latn", "zul_Latn", "ceb_Latn", "jav_Latn", "amh_Ethi", "kaz_Cyrl", "swh_Latn",
)  # fmt: skip
#: Every n-th English text becomes an example: of SIB-200's 701, and of xSID's 181.
TOPIC_STEP: Final = 10
INTENT_STEP: Final = 3


@dataclasses.dataclass(frozen=True)
class LabelTask:
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
    sample_gold: Indices
    judged: Mapping[str, Matrix]
    gold: Indices

    def fit(self, sample: Matrix, *, multi_label: bool = False, **options: Any) -> LabelFitOutcome:  # noqa: ANN401
        """Fit the labels to a sample; options are those of ``fit_labels``."""
        return fit_labels(
            LabelSet(self.labels, template=TEMPLATE, multi_label=multi_label),
            adapter=self.adapter, template=TEMPLATE, prototypes=self.prototypes, sample=sample, **options,
        )  # fmt: skip

    def with_examples(self, step: int, **options: Any) -> LabelFitOutcome:  # noqa: ANN401 (as of fit)
        """Fit with every ``step``-th text as an example, and leave it out of the sample."""
        is_example = np.arange(len(self.sample)) % step == 0
        gold = np.eye(len(self.labels), dtype=np.bool_)[self.sample_gold[is_example]]
        return self.fit(self.sample[~is_example], examples=self.sample[is_example], gold=gold, **options)

    def scores(self, outcome: LabelFitOutcome | None, language: str) -> NDArray[np.float64]:
        """Return the scores of a language's texts; None: what serves without a fit."""
        fitted = None if outcome is None else outcome.labels.fitted
        multi_label = False if outcome is None else outcome.labels.multi_label
        prototypes = self.prototypes if fitted is None else fitted.matrix
        cosines = label_cosines(self.judged[language], prototypes, self.adapter.common_direction())
        return label_scores(cosines, multi_label=multi_label, fitted=fitted)

    def accuracy(self, outcome: LabelFitOutcome | None, language: str, topic: int | None = None) -> float:
        """Return right labels in points: of all texts, or of those of one topic."""
        right = self.scores(outcome, language).argmax(axis=1) == self.gold
        return 100.0 * float((right if topic is None else right[self.gold == topic]).mean())

    def mean(self, outcome: LabelFitOutcome | None, topic: int | None = None) -> float:
        """Return the mean accuracy over languages, in points."""
        return statistics.fmean(self.accuracy(outcome, language, topic) for language in self.judged)

    def line(self, name: str, outcome: LabelFitOutcome | None) -> str:
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

    def balanced(self, outcome: LabelFitOutcome) -> float:
        """Return balanced accuracy of a multi-label set: the mean over languages, in points."""
        gold = np.eye(len(self.labels), dtype=np.bool_)[self.gold]
        return 100.0 * statistics.fmean(
            balanced_accuracy(self.scores(outcome, language) >= MULTI_LABEL_ACCEPT, gold)
            for language in self.judged
        )


def news(sources: Sources, adapter: Adapter) -> LabelTask:
    """Return SIB-200: 7 topics; training texts of English, development texts of 27 languages."""
    texts, gold = sources.sets.sib_dev(LANGUAGES)
    english, english_gold = sources.sets.sib_examples("eng_Latn")
    labels = tuple(sorted(set(gold)))
    prototypes = sources.labelled(gold, {label: label for label in labels})
    sample = sources.embed("sib-train", {"eng_Latn": english})["eng_Latn"]
    return LabelTask(
        adapter, labels, adapter.transform_many(prototypes.prototypes), _english(adapter, sample),
        np.array([labels.index(label) for label in english_gold]),
        _aligned(adapter, sources.embed("sib-dev", texts)), prototypes.gold,
    )  # fmt: skip


def held_back(sources: Sources, topics: LabelTask) -> LabelTask:
    """Return SIB-200's training texts: some sentences in 20 languages, and the others in English as the sample."""
    rows = evenly_spaced(len(topics.sample), N_BRIDGE_TEXTS)
    return dataclasses.replace(
        topics,
        sample=np.delete(topics.sample, rows, axis=0),
        sample_gold=np.delete(topics.sample_gold, rows),
        judged=_aligned(topics.adapter, sources.bridge()),
        gold=topics.sample_gold[rows],
    )


class OtherCommands(NamedTuple):
    """xSID's English commands that nothing is judged on.

    Parameters
    ----------
    labels : tuple of str
        Words of each intent.
    vectors : ndarray of shape (n, dim), float32
        As encoded.
    gold : ndarray of shape (n,), int64
        Their intents.
    """

    labels: tuple[str, ...]
    vectors: Matrix
    gold: Indices


def other_commands(sources: Sources) -> OtherCommands:
    """Return xSID's English commands but for those that are judged."""
    every, intents = sources.sets.xsid(["en"], n_texts=sys.maxsize)
    judged = set(sources.sets.xsid(["en"], n_texts=N_XSID_TEXTS)[0]["en"])
    rows = [row for row, text in enumerate(every["en"]) if text not in judged]
    names = sorted(INTENTS)
    return OtherCommands(
        tuple(INTENTS[name] for name in names),
        sources.embed("xsid-others", {"en": [every["en"][row] for row in rows]})["en"],
        np.array([names.index(intents[row]) for row in rows]),
    )


def commands(sources: Sources, adapter: Adapter) -> LabelTask:
    """Return xSID: 15 intents; English validation texts, and others of them in 15 languages."""
    vectors, labelled = sources.commands()
    others = other_commands(sources)
    return LabelTask(
        adapter, others.labels, adapter.transform_many(labelled.prototypes),
        _english(adapter, others.vectors), others.gold,
        _aligned(adapter, {language: vectors[language] for language in XSID_LANGUAGES}), labelled.gold,
    )  # fmt: skip


def _english(adapter: Adapter, X: Matrix) -> Matrix:
    return align_tagged(adapter, X, ["en"] * len(X))


def _aligned(adapter: Adapter, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {language: align_tagged(adapter, X, [language] * len(X)) for language, X in vectors.items()}


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
        calibrated = topics.with_examples(TOPIC_STEP, wrong_cost=cost)
        n_examples = calibrated.report["examples"]
        yield topics.line(f"and {n_examples} examples, --wrong-cost {cost:g}", calibrated)
    other = _english(adapter, sources.ntrex_fit()["eng"])
    yield topics.line(f"fitted to {len(other)} texts of news (NTREX-128)", topics.fit(other))
    yield from ("", "xSID validation texts, 15 languages, 15 intents", "", *head)
    yield intents.line("plain", None)
    forced = intents.fit(intents.sample, force=True)
    yield intents.line(f"fitted, {len(intents.sample)} English texts (--force: fewer than 200)", forced)
    calibrated = intents.with_examples(INTENT_STEP, force=True, wrong_cost=1.0)
    yield intents.line(f"and {calibrated.report['examples']} examples", calibrated)
    yield from _by_language(topics, fitted)
    yield from _one_topic(topics)
    multi = [topics.fit(topics.sample[:1], multi_label=True), topics.fit(topics.sample, multi_label=True)]
    multi.append(topics.with_examples(TOPIC_STEP, multi_label=True))
    figures = ", ".join(
        f"{name} {topics.balanced(outcome):.1f}"
        for name, outcome in zip(("plain", "fitted", "with examples"), multi, strict=True)
    )
    yield from ("", f"As a multi-label set, mean of true positive and true negative rate: {figures}")
    others = held_back(sources, topics)
    plain, refined = others.mean(None), others.mean(others.fit(others.sample))
    facts = f"{len(others.judged)} languages, {len(others.gold)} training texts that the sample lacks"
    yield from ("", f"SIB-200, {facts}: plain {plain:.1f}, fitted {refined:.1f}")


def _by_language(topics: LabelTask, fitted: LabelFitOutcome) -> Iterator[str]:
    yield from ("", "By language, plain to fitted", "")
    before, after = (
        {language: topics.accuracy(outcome, language) for language in topics.judged}
        for outcome in (None, fitted)
    )
    gains = {language: after[language] - before[language] for language in before}
    for name, languages in (("more", wins(gains)), ("less", losses(gains))):
        in_order = [language for language in gains if language in languages]
        changes = ", ".join(f"{key} {before[key]:.1f} → {after[key]:.1f}" for key in in_order)
        yield f"* {len(languages)} languages find {name}: {changes or 'none'}"


def _one_topic(topics: LabelTask) -> Iterator[str]:
    yield from ("", "Samples of one topic: right labels of that topic's texts", "")
    yield from ("| sample | plain | with labels fit | with --force |", "|---|---|---|---|")
    for topic, label in enumerate(topics.labels):
        texts = topics.sample[topics.sample_gold == topic]
        held, forced = topics.fit(texts), topics.fit(texts, force=True)
        own = [topics.mean(outcome, topic) for outcome in (None, held, forced)]
        yield f"| {len(texts)} texts of {label} | " + " | ".join(f"{value:.1f}" for value in own) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    program.run(program.parser_of("label_figures", __doc__), arguments, _run)


def _run(options: argparse.Namespace) -> Iterator[str]:
    sources = program.open_sources(options)
    return tables(sources, sources.shipped_adapter())


if __name__ == "__main__":
    main()
