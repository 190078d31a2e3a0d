"""Compare every method on the same public texts, and write ``docs/pages/measurements/alignment.md``.

``make compare`` needs ALIGNSTREAM_DATA and the vectors that ``make adapter`` leaves in the cache. All methods see the
same fitting texts, and none sees the texts that it is judged on.
"""

import argparse
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from alignstream.export.data.public_sets import TICO_LANGUAGES
from alignstream.export.data.vector_sets import LabelledTexts
from alignstream.export.encoders.embedded import cached_artifact
from alignstream.export.evaluate.measures import (
    FROM_PIVOT,
    LABELS,
    MIXED_POOL,
    TO_PIVOT,
    Transform,
    similarity,
    transform_of,
    transformed,
)
from alignstream.export.evaluate.set_report import aligned_labels, measure
from alignstream.export.figures import program
from alignstream.export.figures.comparison_low_resource import COMMON, TEMPERATURE, chain, low_resource
from alignstream.export.figures.comparison_page import SHIPPED, MethodFigures, render
from alignstream.export.figures.comparison_trained import adversarial_maps, refined_maps
from alignstream.export.figures.shipped_bank import PrototypeBank, attention, gather
from alignstream.export.figures.sources import N_TICO_LINES, Sources
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import NotComparable
from alignstream.models.files import replace_file
from alignstream.models.fit.closed_form import PairSums, procrustes, ridge
from alignstream.models.fit.projection import fit_default
from alignstream.models.fit.self_learning import self_learn
from alignstream.models.fit.whitening import fit_whitening

PAGE: Final = Path("docs/pages/measurements/alignment.md")
#: Pairs of each language in the translation memory.
N_MEMORY: Final = 50
#: NTREX-128's names of TICO-19's languages, where methods need pairs of each.
_TICO_TO_NTREX: Final = {
    "am": "amh", "ar": "arb", "bn": "ben", "ckb": "ckb-Arab", "es_LA": "spa", "fa": "fas", "fr": "fra", "ha": "hau",
    "hi": "hin", "id": "ind", "km": "khm", "ku": "kmr", "my": "mya", "ne": "nep", "om": "orm", "pt_BR": "por",
    "ru": "rus", "so": "som", "sw": "swa", "ta": "tam", "tl": "fil", "ur": "urd", "zh": "zho-CN", "zu": "zul",
}  # fmt: skip


class Comparison:
    """The texts that every method is judged on.

    Parameters
    ----------
    sources : Sources
        The public sets.
    bank : PrototypeBank
        The texts to fit on.
    """

    def __init__(self, sources: Sources, bank: PrototypeBank) -> None:
        self.bank = bank
        tico = sources.sets.tico(TICO_LANGUAGES, n_lines=N_TICO_LINES)
        self.tico = sources.embed(tico.name, tico.by_language)
        dev = sources.dev()
        self.news, self.topics, self.topic_labels = dev.parallel, dev.topical, dev.labelled
        self.commands, self.intents = sources.commands()
        self.similarity = sources.similarity()
        self._raw_similarity = similarity(self.similarity).figures

    def judge(
        self, name: str, transform: Transform, *, needs: str, common: Array64 | None = None
    ) -> MethodFigures:
        """Judge one method on everything."""
        start = time.perf_counter()
        tico = transformed(self.tico, transform)
        seconds = time.perf_counter() - start
        figures = measure(tico, pivot="en")
        news = measure(transformed(self.news, transform), pivot="eng")
        after = similarity(self.similarity, transform).figures
        changes = {language: after[language] - self._raw_similarity[language] for language in after}
        return MethodFigures(
            name=name,
            needs=needs,
            to_english=figures[TO_PIVOT],
            from_english=figures[FROM_PIVOT],
            pool=statistics.fmean(figures[MIXED_POOL].values()),
            news=statistics.fmean([*news[TO_PIVOT].values(), *news[FROM_PIVOT].values()]),
            topics=self._labels(transform, self.topics, self.topic_labels, common),
            intents=self._labels(transform, self.commands, self.intents, common),
            similarity=statistics.fmean(changes.values()),
            worst_similarity=min(changes.values()),
            microseconds=1e6 * seconds / sum(map(len, self.tico.values())),
        )

    @staticmethod
    def _labels(
        transform: Transform,
        texts: Mapping[str, Matrix],
        labelled: LabelledTexts | None,
        common: Array64 | None,
    ) -> float:
        if labelled is None:
            raise ValueError("labels are needed")
        labels, aligned = aligned_labels(labelled, transform), transformed(texts, transform)
        return statistics.fmean(measure(aligned, labelled=labels, common=common)[LABELS].values())


def _wrong(adapter: Adapter, tags: Sequence[str]) -> Transform:
    """Return the adapter as it acts on texts whose tags are all wrong: each language has another one's."""
    turn = itertools.cycle(tags)
    given: dict[str, str] = {}

    def transform(X: Matrix, language: str | None) -> Matrix:
        if language is None:
            return adapter.transform_many(X)
        wrong = given.setdefault(language, next(turn))
        return adapter.transform_many(X, Context(language=wrong))

    return transform


def _untagged(adapter: Adapter) -> Transform:
    return lambda X, _: adapter.transform_many(X)


def methods(comparison: Comparison, shipped: Adapter) -> Iterator[MethodFigures]:
    """Judge every method in turn."""
    bank, judge = comparison.bank, comparison.judge
    means = np.stack([mean for mean, _ in bank.prototypes.values()])
    yield judge("raw cosine", transform_of(chain()), needs="nothing")
    yield judge(
        "global centring", transform_of(chain(Centre(means.mean(axis=0).astype(np.float32)))), needs="text"
    )
    by_tag = chain(
        LanguageCentre(
            means=means.astype(np.float32),
            languages=tuple(bank.prototypes),
            counts=tuple(count for _, count in bank.prototypes.values()),
        )
    )
    yield judge("centring by tag", transform_of(by_tag), needs="text, tags")
    wrong = tuple(bank.prototypes)[5::7]
    yield judge("centring by tag, all tags wrong", _wrong(by_tag, wrong), needs="text, tags")
    for rank in (15, 30):
        removed = chain(*fit_default(means, rank=rank))
        yield judge(f"centring, {rank} directions removed", transform_of(removed), needs="text")
    full = chain(attention(bank, common=0.0, temperature=0.05))
    yield judge("attention, no tags", _untagged(full), needs="text")
    yield judge("attention", transform_of(full), needs="text")
    yield judge("attention, all tags wrong", _wrong(full, wrong), needs="text")
    kept = attention(bank, common=COMMON, temperature=TEMPERATURE)
    adapter = chain(kept)
    yield judge(
        f"attention, {COMMON:g} of the common part kept",
        transform_of(adapter),
        needs="text",
        common=adapter.common_direction(),
    )
    yield judge(SHIPPED, transform_of(shipped), needs="pairs of other languages",
                common=shipped.common_direction())  # fmt: skip
    yield judge("shipped, no tags", _untagged(shipped), needs="pairs of other languages",
                common=shipped.common_direction())  # fmt: skip
    yield judge("shipped, all tags wrong", _wrong(shipped, wrong), needs="pairs of other languages",
                common=shipped.common_direction())  # fmt: skip
    yield from _whitened(comparison)
    yield from _own_maps(comparison, full)
    yield from _memory(comparison, shipped)
    yield from _trained(comparison, full, shipped)


def _whitened(comparison: Comparison) -> Iterator[MethodFigures]:
    bank = comparison.bank
    first = attention(bank, common=0.0, temperature=0.05)
    stack = np.stack([
        chain(first).transform_many(X, Context(language=language)).astype(np.float64)
        for language, X in bank.news.items()
    ])  # fmt: skip
    rows = stack.reshape(-1, stack.shape[2])
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    W = (vectors * (values + values.mean()) ** -0.5) @ vectors.T
    steps = {
        "of everything": LinearMap(matrix=W.astype(np.float32)),
        "within translations": fit_whitening(stack),
    }
    for name, step in steps.items():
        adapter = chain(first, step)
        yield comparison.judge(f"attention, whitening {name}", transform_of(adapter), needs="pairs")


def _own_maps(comparison: Comparison, base: Adapter) -> Iterator[MethodFigures]:
    """Judge maps of each language's own, fitted on its news pairs, on TICO-19."""
    bank = comparison.bank
    target = base.transform_many(bank.news["eng"], Context(language="eng")).astype(np.float64)
    fits: dict[str, Callable[[PairSums], Array64]] = {
        "own ridge, 600 pairs": lambda sums: ridge(sums, strength=1.0),
        "own Procrustes, 600 pairs": lambda sums: procrustes(sums, blend=1.0),
        "own Procrustes, half blended": lambda sums: procrustes(sums, blend=0.5),
    }
    learned = _self_learned(bank, base, target)
    for name, fit in fits.items():
        maps = {}
        for language in bank.news:
            if language == "eng":
                continue
            X = base.transform_many(bank.news[language], Context(language=language)).astype(np.float64)
            maps[language] = fit(PairSums.of(X, target))
        yield comparison.judge(f"attention, {name}", _by_language(base, maps), needs="pairs of each language")
    yield comparison.judge(
        "attention, self-learning, no pairs", _by_language(base, learned), needs="comparable text"
    )


def _self_learned(bank: PrototypeBank, base: Adapter, target: Array64) -> dict[str, Array64]:
    """Learn the maps of TICO-19's languages from news whose lines are shuffled."""
    maps = {}
    generator = np.random.Generator(np.random.PCG64(0))
    for language in sorted(_of_tico(bank)):
        X = base.transform_many(bank.news[language], Context(language=language)).astype(np.float64)
        try:
            maps[language] = self_learn(X[generator.permutation(len(X))], target).matrix
        except NotComparable:
            continue
    return maps


def _by_language(base: Adapter, maps: Mapping[str, Array64]) -> Transform:
    keys = {language_key(language): W for language, W in maps.items()}

    def transform(X: Matrix, language: str | None) -> Matrix:
        Y = base.transform_many(X, Context(language=language))
        W = keys.get(language_key(language)) if language else None
        if W is None:
            return Y
        mapped = Y.astype(np.float64) @ W
        unit: Matrix = (mapped / np.linalg.norm(mapped, axis=1, keepdims=True)).astype(np.float32)
        return unit

    return transform


def _memory(comparison: Comparison, shipped: Adapter) -> Iterator[MethodFigures]:
    bank = comparison.bank
    keys, values = [], []
    for name in _TICO_TO_NTREX.values():
        if name in bank.news:
            keys.append(shipped.transform_many(bank.news[name][:N_MEMORY], Context(language=name)))
            values.append(shipped.transform_many(bank.news["eng"][:N_MEMORY], Context(language="eng")))
    memory = TranslationMemory(keys=np.concatenate(keys), values=np.concatenate(values))
    adapter = dataclasses.replace(shipped, steps=(*shipped.steps, memory))
    yield comparison.judge(
        f"shipped, memory of {len(memory):,} pairs",
        transform_of(adapter),
        needs="pairs",
        common=shipped.common_direction(),
    )


def _trained(comparison: Comparison, base: Adapter, shipped: Adapter) -> Iterator[MethodFigures]:
    bank = comparison.bank
    for refined in refined_maps(shipped, bank):
        yield comparison.judge(
            refined.name, transform_of(refined.adapter), needs="pairs", common=shipped.common_direction()
        )
    languages = sorted(_of_tico(bank))
    maps, n_kept = adversarial_maps(base, bank, languages)
    yield comparison.judge(
        f"attention, adversarial ({n_kept} of {len(languages)} kept)", _by_language(base, maps), needs="text"
    )


def _of_tico(bank: PrototypeBank) -> set[str]:
    """Return NTREX-128's names of the languages that TICO-19 has too."""
    return {name for name in _TICO_TO_NTREX.values() if name in bank.news}


def encode_microseconds(sources: Sources, cache_dir: Path) -> float:
    """Measure what encoding a text of TICO-19 takes on one thread: the median of three rounds."""
    encoder = OnnxEncoder(cached_artifact(cache_dir), threads=1)
    texts = [
        lines[position]
        for lines in sources.sets.tico(TICO_LANGUAGES, n_lines=N_TICO_LINES).by_language.values()
        for position in range(0, N_TICO_LINES, 40)
    ]
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        encoder.encode_texts(texts)
        rounds.append(1e6 * (time.perf_counter() - start) / len(texts))
    return statistics.median(rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    parser = program.parser_of("comparison", __doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    program.run(parser, arguments, _run)


def _run(options: argparse.Namespace) -> Iterator[str]:
    sources = program.open_sources(options)
    shipped = sources.shipped_adapter()
    comparison = Comparison(sources, gather(sources))
    rows = []
    for row in methods(comparison, shipped):
        yield row.line()
        rows.append(row)
    page = render(
        rows,
        low_resource(comparison.bank, sources),
        shipped,
        encode_microseconds=encode_microseconds(sources, options.cache_dir),
    )
    replace_file(options.page, page.encode())


if __name__ == "__main__":
    main()
