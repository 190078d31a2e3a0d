"""Fit the shipped bank: prototypes of every language, and one map pooled over all of their translations.

Settings are tried on development texts, under a guard: meaning within a language may not suffer.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from alignstream.export.data.vector_sets import DevTexts, LabelledTexts, ScoredVectors
from alignstream.export.evaluate.measures import (
    LABELS,
    TO_PIVOT,
    neighbours_kept,
    retrieval,
    similarity,
    transform_of,
    transformed,
)
from alignstream.export.evaluate.set_report import aligned_labels, measure
from alignstream.export.figures.sources import Sources
from alignstream.export.fit.pooled_map import pair_sums, pooled_map
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import Step
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks import gate
from alignstream.models.errors import AdapterError
from alignstream.models.fit.closed_form import PairSums
from alignstream.models.fit.projection import fit_default
from alignstream.models.fit.spreads import fit_spreads

#: Evidence of a tag: at this value wrong tags cost nothing, and right ones help as much as certainty would.
TAG_EVIDENCE: Final = 4.0
#: Weight of encyclopaedic pairs; news weighs 1.
ENCYCLOPAEDIC: Final = 0.6
#: The settings that are tried: the share of the common part that stays, the temperature of the attention, and the
#: strength of the ridge.
COMMONS: Final = (0.55, 0.65, 0.7, 0.8)
TEMPERATURES: Final = (0.05, 0.1)
STRENGTHS: Final = (1.0, 1.5, 2.0, 3.0)
#: The guard: Spearman's correlation within a language must not fall by this many points in any language. A published
#: adapter may lose 0.5 (``gate``); on other texts than these it should not lose more.
MAX_SIMILARITY_LOSS: Final = 0.4
#: The share of neighbours that must stay, in points.
MIN_POINTS_KEPT: Final = 100.0 * gate.MIN_NEIGHBOURS_KEPT
#: Directions that the comparison method removes: best for it when it was the default.
COMPARED_RANK: Final = 18


@dataclasses.dataclass(frozen=True)
class BankSettings:
    """One choice.

    Parameters
    ----------
    common : float
        Share of the common part that stays.
    temperature : float
        Temperature of the attention over prototypes.
    strength : float
        λ of the pooled ridge.
    """

    common: float
    temperature: float
    strength: float

    def __str__(self) -> str:
        """Name the choice, for tables."""
        return f"common {self.common:g}, temperature {self.temperature:g}, ridge {self.strength:g}"


class BankTrial(msgspec.Struct, frozen=True):
    """How one choice does on development texts, in points, averaged over languages."""

    name: str
    measures: dict[str, float]
    score: float
    worst_similarity: float
    kept: float

    @property
    def is_safe(self) -> bool:
        """Whether meaning within a language survives."""
        return self.worst_similarity >= -MAX_SIMILARITY_LOSS and self.kept >= MIN_POINTS_KEPT


@dataclasses.dataclass(frozen=True)
class PrototypeBank:
    """Prototypes with the pairs that the map is fitted to.

    Parameters
    ----------
    prototypes : dict of str to (ndarray of shape (dim,), int)
        By language key: mean and texts behind it.
    spreads : dict of str to float
        By language key, how far its texts lie from its prototype.
    news, encyclopaedic : dict of str to ndarray of shape (n, dim)
        Raw vectors by language, row by row translations of the pivot.
    news_pivot, encyclopaedic_pivot : str
        English in each.
    """

    prototypes: dict[str, tuple[Array64, int]]
    spreads: dict[str, float]
    news: Mapping[str, Matrix]
    encyclopaedic: Mapping[str, Matrix]
    news_pivot: str
    encyclopaedic_pivot: str


def gather(sources: Sources) -> PrototypeBank:
    """Read the fitting texts and place every language's prototype between the two domains.

    NTREX-128 is news, SIB-200 encyclopaedic, and the difference of the two, measured on languages that both
    have, is nearly as large as that between languages. The means of each set are moved half of it, so that
    the domain does not count as language.
    """
    news, encyclopaedic, bridge = sources.ntrex_fit(), sources.sib_fit(), sources.bridge()
    shift = np.mean([_mean(texts) - _mean(news[language]) for language, texts in bridge.items()], axis=0)
    english = sources.sib_name("eng")
    prototypes: dict[str, tuple[Array64, int]] = {}
    for texts_by_language, move in ((news, shift / 2), (encyclopaedic, -shift / 2)):
        for language, texts in texts_by_language.items():
            key = language_key(language)
            # Dari after Persian, Twi after Akan: one key, and the first text of it is enough.
            if key is not None and key not in prototypes and language != english:
                prototypes[key] = (_mean(texts) + move, len(texts))
    bank = PrototypeBank(
        prototypes=dict(sorted(prototypes.items())),
        spreads={},
        news=news,
        encyclopaedic=encyclopaedic,
        news_pivot="eng",
        encyclopaedic_pivot=english,
    )
    return dataclasses.replace(bank, spreads=_spreads(bank, bridge))


def _spreads(bank: PrototypeBank, bridge: Mapping[str, Matrix]) -> dict[str, float]:
    """Measure the spreads of languages; the domains are made comparable by languages that both have."""
    plain = attention(bank, common=0.0, temperature=TEMPERATURES[0])
    news, encyclopaedic, both = (
        fit_spreads(plain, texts) for texts in (bank.news, bank.encyclopaedic, bridge)
    )
    of_news = statistics.fmean(news[language] for language in both)
    of_encyclopaedia = statistics.fmean(both.values())
    usual = (of_news + of_encyclopaedia) / 2.0
    comparable: dict[str, float] = {}
    for spreads, domain in ((news, of_news), (encyclopaedic, of_encyclopaedia)):
        for language, spread in spreads.items():
            comparable.setdefault(str(language_key(language)), spread * usual / domain)
    return comparable


def attention(bank: PrototypeBank, *, common: float, temperature: float) -> PrototypeAttention:
    """Return the step that knows the bank's languages."""
    return PrototypeAttention(
        means=np.stack([mean for mean, _ in bank.prototypes.values()]).astype(np.float32),
        languages=tuple(bank.prototypes),
        counts=tuple(count for _, count in bank.prototypes.values()),
        spreads=np.array([bank.spreads.get(key, 1.0) for key in bank.prototypes], dtype=np.float32),
        temperature=temperature,
        tag_evidence=TAG_EVIDENCE,
        common=common,
    )


@dataclasses.dataclass(frozen=True)
class BankDev:
    """What settings are chosen on.

    Parameters
    ----------
    texts : DevTexts
        Parallel news, and encyclopaedic texts with their topics.
    commands : mapping of str to ndarray of shape (n_texts, dim), float32
        Raw vectors of commands to an assistant: a domain that nothing is fitted on.
    commands_pivot : str
        The language that their translations are looked for in.
    intents : LabelledTexts
        Their labels.
    similarity : mapping of str to ScoredVectors
        The guard.
    """

    texts: DevTexts
    commands: Mapping[str, Matrix]
    commands_pivot: str
    intents: LabelledTexts
    similarity: Mapping[str, ScoredVectors]


@dataclasses.dataclass(frozen=True)
class ChosenBank:
    """The bank's steps, the settings, and everything that was tried: the best first."""

    steps: tuple[Step, ...]
    settings: BankSettings
    trials: list[BankTrial]
    chosen: BankTrial
    runner_up: BankTrial


def bank_sums(bank: PrototypeBank, first: PrototypeAttention) -> list[tuple[dict[str, PairSums], float]]:
    """Return the sums of the bank's translations behind attention, set by set with its weight."""
    return [
        (pair_sums(first, bank.news, bank.news_pivot), 1.0 - ENCYCLOPAEDIC),
        (pair_sums(first, bank.encyclopaedic, bank.encyclopaedic_pivot), ENCYCLOPAEDIC),
    ]


def choose_bank(bank: PrototypeBank, dev: BankDev) -> ChosenBank:
    """Try every choice on development texts; the best score among those that pass the guard wins."""
    means = np.stack([mean for mean, _ in bank.prototypes.values()])
    raw = similarity(dev.similarity).figures
    made: dict[str, tuple[tuple[Step, ...], BankSettings]] = {}
    plain = attention(bank, common=0.0, temperature=TEMPERATURES[0])
    trials = [
        try_steps((), "vectors as encoded", dev, raw),
        try_steps(
            fit_default(means, rank=COMPARED_RANK), f"centre, {COMPARED_RANK} directions removed", dev, raw
        ),
        try_steps((plain,), "attention alone, common 0", dev, raw),
    ]
    for temperature in TEMPERATURES:
        sets = bank_sums(bank, attention(bank, common=0.0, temperature=temperature))
        for strength, common in itertools.product(STRENGTHS, COMMONS):
            settings = BankSettings(common, temperature, strength)
            first = attention(bank, common=common, temperature=temperature)
            steps = (first, pooled_map(first, sets, strength=strength))
            made[str(settings)] = (steps, settings)
            trials.append(try_steps(steps, str(settings), dev, raw))
    trials.sort(key=lambda trial: (not trial.is_safe, -trial.score))
    safe = [trial for trial in trials if trial.name in made and trial.is_safe]
    if len(safe) < 2:
        raise AdapterError("no setting keeps meaning within a language; nothing can be shipped")
    chosen, runner_up = safe[:2]
    return ChosenBank(*made[chosen.name], trials=trials, chosen=chosen, runner_up=runner_up)


def try_steps(steps: tuple[Step, ...], name: str, dev: BankDev, raw: Mapping[str, float]) -> BankTrial:
    """Measure a chain of steps on development texts.

    Parameters
    ----------
    raw : mapping of str to float
        Similarity within each language of vectors as encoded, in points.
    """
    vectors = dev.texts.parallel
    adapter = Adapter(encoder="", dim=vectors[dev.texts.pivot].shape[1], steps=steps)
    transform = transform_of(adapter)
    parallel = transformed(vectors, transform)
    figures = measure(parallel, pivot=dev.texts.pivot)
    for kind, texts, labelled in (
        ("topics", dev.texts.topical, dev.texts.labelled),
        ("intents", dev.commands, dev.intents),
    ):
        if labelled is not None:
            labels, common = aligned_labels(labelled, transform), adapter.common_direction()
            figures[kind] = measure(transformed(texts, transform), labelled=labels, common=common)[LABELS]
    commands = retrieval(transformed(dev.commands, transform), dev.commands_pivot)
    figures["commands"] = commands[TO_PIVOT].figures
    measures = {name: statistics.fmean(by_language.values()) for name, by_language in figures.items()}
    after = similarity(dev.similarity, transform).figures
    return BankTrial(
        name=name,
        measures=measures,
        score=statistics.fmean(measures.values()),
        worst_similarity=min(after[language] - raw[language] for language in raw),
        kept=statistics.fmean(neighbours_kept(X, parallel[language]) for language, X in vectors.items()),
    )


def _mean(X: Matrix) -> Array64:
    mean: Array64 = X.mean(axis=0, dtype=np.float64)
    return mean


def trial_rows(trials: Sequence[BankTrial]) -> list[list[Any]]:
    """Return the trials as JSON values for the adapter's report: name, score, guard, whether it is safe."""
    return [
        [
            trial.name,
            round(trial.score, 2),
            round(trial.worst_similarity, 2),
            round(trial.kept, 1),
            trial.is_safe,
        ]
        for trial in trials
    ]
