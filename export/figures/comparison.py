"""Compare every method on the same public texts, and write ``docs/pages/measurements/alignment.md``.

``make compare`` needs ALIGNSTREAM_DATA and the vectors that ``make adapter`` leaves in the cache. All methods see the
same fitting texts, and none sees what it is judged on.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs

from alignstream.export.data.public_vectors import N_TICO_LINES, TICO_LANGUAGES, Sources
from alignstream.export.data.vector_sets import LabelledTexts
from alignstream.export.encoders.embedded import cached_artifact
from alignstream.export.evaluate.set_report import (
    FROM_PIVOT,
    LABELS,
    TO_PIVOT,
    Transform,
    measure,
    similarity,
    transform_of,
)
from alignstream.export.evaluate.set_report import MIXED_POOL as POOL
from alignstream.export.figures.comparison_page import SHIPPED, LowResource, Row, render
from alignstream.export.figures.comparison_trained import adversarial_maps, refined_maps
from alignstream.export.figures.shipped_adapter import open_sources
from alignstream.export.figures.shipped_bank import Bank, attention, bank_sums, gather
from alignstream.export.fit.onboard import RANK, add_prototype, own_map
from alignstream.export.fit.pair_adapter import with_correction
from alignstream.export.fit.pooled_map import pooled_map
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.adapter.steps.step import Step
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import NotComparable
from alignstream.models.files import replace_file
from alignstream.models.fit.closed_form import PairSums, procrustes, ridge
from alignstream.models.fit.projection import fit_default
from alignstream.models.fit.self_learning import self_learn

PAGE: Final = Path("docs/pages/measurements/alignment.md")
#: Low-resource languages that NTREX-128 has, of nine families; those that TICO-19 has too come with their tag in it.
LOW_RESOURCE: Final = {
    "amh": "am", "hau": "ha", "ibo": None, "som": "so", "swa": "sw", "yor": None, "zul": "zu", "wol": None,
    "xho": None, "uig": None, "mya": "my", "kaz": None, "eus": None, "mlg": None, "tir": None, "khm": "km",
    "nep": "ne", "ckb-Arab": "ckb",
}  # fmt: skip
PAIR_COUNTS: Final = (0, 5, 10, 100, 600)
#: Settings of attention and map where they are not those of the shipped adapter itself.
COMMON: Final = 0.7
TEMPERATURE: Final = 0.05
STRENGTH: Final = 1.5
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
    bank : Bank
        What is fitted on.
    """

    def __init__(self, sources: Sources, bank: Bank) -> None:
        self.bank = bank
        tico = sources.sets.tico(TICO_LANGUAGES, n_lines=N_TICO_LINES)
        self.tico = sources.embed(tico.name, tico.by_language)
        dev = sources.dev()
        self.news, self.topics, self.topic_labels = dev.parallel, dev.topical, dev.labelled
        self.commands, self.intents = sources.commands()
        self.similarity = sources.similarity()
        self._raw_similarity = similarity(self.similarity, transform_of(_chain()))

    def judge(self, name: str, transform: Transform, *, needs: str, common: Array64 | None = None) -> Row:
        """Judge one method on everything."""
        start = time.perf_counter()
        tico = {language: transform(X, language) for language, X in self.tico.items()}
        seconds = time.perf_counter() - start
        figures = measure(tico, pivot="en")
        news = measure({language: transform(X, language) for language, X in self.news.items()}, pivot="eng")
        after = similarity(self.similarity, transform)
        changes = {language: after[language] - self._raw_similarity[language] for language in after}
        return Row(
            name=name,
            needs=needs,
            to_english=figures[TO_PIVOT],
            from_english=figures[FROM_PIVOT],
            pool=statistics.fmean(figures[POOL].values()),
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
        labels = LabelledTexts(prototypes=transform(labelled.prototypes, None), gold=labelled.gold)
        aligned = {language: transform(X, language) for language, X in texts.items()}
        return statistics.fmean(measure(aligned, labelled=labels, common=common)[LABELS].values())


def _chain(*steps: Step, dim: int = 384) -> Adapter:
    return Adapter(encoder="", dim=dim, steps=steps)


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


def methods(comparison: Comparison, shipped: Adapter) -> Iterator[Row]:
    """Judge every method in turn."""
    bank, judge = comparison.bank, comparison.judge
    means = np.stack([mean for mean, _ in bank.prototypes.values()])
    yield judge("raw cosine", transform_of(_chain()), needs="nothing")
    yield judge(
        "global centring", transform_of(_chain(Centre(means.mean(axis=0).astype(np.float32)))), needs="text"
    )
    by_tag = _chain(
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
        removed = _chain(*fit_default(means, rank=rank))
        yield judge(f"centring, {rank} directions removed", transform_of(removed), needs="text")
    full = _chain(attention(bank, common=0.0, temperature=0.05))
    yield judge("attention, no tags", _untagged(full), needs="text")
    yield judge("attention", transform_of(full), needs="text")
    yield judge("attention, all tags wrong", _wrong(full, wrong), needs="text")
    kept = attention(bank, common=COMMON, temperature=TEMPERATURE)
    adapter = _chain(kept)
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


def _whitened(comparison: Comparison) -> Iterator[Row]:
    bank = comparison.bank
    first = attention(bank, common=0.0, temperature=0.05)
    stack = np.stack([
        _chain(first).transform_many(X, Context(language=language)).astype(np.float64)
        for language, X in bank.news.items()
    ])  # fmt: skip
    residue = (stack - stack.mean(axis=0)).reshape(-1, stack.shape[2])
    for name, rows in (
        ("of everything", stack.reshape(-1, stack.shape[2])),
        ("within translations", residue),
    ):
        values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
        W = (vectors * (values + values.mean()) ** -0.5) @ vectors.T
        adapter = _chain(first, LinearMap(matrix=W.astype(np.float32)))
        yield comparison.judge(f"attention, whitening {name}", transform_of(adapter), needs="pairs")


def _own_maps(comparison: Comparison, base: Adapter) -> Iterator[Row]:
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


def _self_learned(bank: Bank, base: Adapter, target: Array64) -> dict[str, Array64]:
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


def _memory(comparison: Comparison, shipped: Adapter) -> Iterator[Row]:
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


def _trained(comparison: Comparison, base: Adapter, shipped: Adapter) -> Iterator[Row]:
    bank = comparison.bank
    for found in refined_maps(shipped, bank):
        yield comparison.judge(
            found.name, transform_of(found.adapter), needs="pairs", common=shipped.common_direction()
        )
    languages = sorted(_of_tico(bank))
    maps, n_kept = adversarial_maps(base, bank, languages)
    yield comparison.judge(
        f"attention, adversarial ({n_kept} of {len(languages)} kept)", _by_language(base, maps), needs="text"
    )


def _of_tico(bank: Bank) -> set[str]:
    """Return NTREX-128's names of the languages that TICO-19 has too."""
    return {name for name in _TICO_TO_NTREX.values() if name in bank.news}


def low_resource(comparison: Comparison, sources: Sources) -> list[LowResource]:
    """Leave each low-resource language out of everything, then bring it in with a number of pairs."""
    bank = comparison.bank
    dev = sources.sets.ntrex(["eng", *LOW_RESOURCE], is_dev=True, n_lines=100)
    news = sources.embed(dev.name, dev.by_language)
    tags = [tag for tag in LOW_RESOURCE.values() if tag is not None]
    other = sources.sets.tico(["en", *tags], n_lines=N_TICO_LINES)
    tico = sources.embed(other.name, other.by_language)
    found = []
    for language, tag in LOW_RESOURCE.items():
        tests = [("news", news[language], news["eng"], "eng")]
        if tag is not None:
            tests.append(("TICO-19", tico[tag], tico["en"], "en"))
        found.append(LowResource(language, _left_out(bank, language, tests)))
    return found


def _left_out(
    bank: Bank,
    language: str,
    tests: Sequence[tuple[str, Matrix, Matrix, str]],
) -> dict[tuple[str, str, int], float]:
    key = language_key(language)
    less = dataclasses.replace(
        bank,
        prototypes={name: value for name, value in bank.prototypes.items() if name != key},
        news={name: X for name, X in bank.news.items() if name != language},
    )
    first = attention(less, common=COMMON, temperature=TEMPERATURE)
    base = _chain(first, pooled_map(first, bank_sums(less, first), strength=STRENGTH))
    found: dict[tuple[str, str, int], float] = {}

    def judge(name: str, n: int, adapter: Adapter, target: Adapter) -> None:
        for test, X, Y, pivot in tests:
            x = adapter.transform_many(X, Context(language=language))
            y = target.transform_many(Y, Context(language=pivot))
            figures = measure({"x": x, "y": y}, pivot="y")
            found[test, name, n] = (figures[TO_PIVOT]["x"] + figures[FROM_PIVOT]["x"]) / 2.0

    judge("nothing", 0, _chain(), _chain())
    judge("onboarded", 0, base, base)
    english = base.transform_many(bank.news["eng"], Context(language="eng"))
    for n in PAIR_COUNTS[1:]:
        texts = bank.news[language][:n]
        own = _chain(add_prototype(first, str(key), texts), base.steps[1])
        judge("prototype", n, own, base)
        X = own.transform_many(texts, Context(language=language))
        W_own = own_map(X.astype(np.float64), english[:n].astype(np.float64))
        judge("onboarded", n, with_correction(own, str(key), W_own, rank=RANK), base)
        pairs = PairSums.of(X, english[:n])
        judge(
            "Procrustes", n, with_correction(own, str(key), procrustes(pairs, blend=1.0), rank=own.dim), base
        )
    return found


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
    parser = argparse.ArgumentParser(
        prog="python -m alignstream.export.figures.comparison", description=__doc__
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("ALIGNSTREAM_DATA"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=os.environ.get("ALIGNSTREAM_CACHE_DIR") or platformdirs.user_cache_dir("alignstream"),
    )
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("name the folder with the public sets: --data or ALIGNSTREAM_DATA")
    sources = open_sources(options.data, options.cache_dir, threads=0)
    shipped = packaged_adapter(sources.encoder)
    if shipped is None:
        parser.error("there is no shipped adapter for this encoder; fit it first")
    comparison = Comparison(sources, gather(sources))
    rows = []
    for row in methods(comparison, shipped):
        print(row.line(), flush=True)  # noqa: T201 (a program's progress)
        rows.append(row)
    page = render(
        rows,
        low_resource(comparison, sources),
        shipped,
        encode_microseconds=encode_microseconds(sources, options.cache_dir),
    )
    replace_file(options.page, page.encode())


if __name__ == "__main__":
    main()
