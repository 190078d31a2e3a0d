"""How many pairs a low-resource language needs: each is left out of everything, then brought in with its first ones."""

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.export.evaluate.measures import FROM_PIVOT, TO_PIVOT, retrieval
from alignstream.export.figures.comparison_page import LowResource
from alignstream.export.figures.shipped_bank import PrototypeBank, attention, bank_sums
from alignstream.export.figures.sources import N_TICO_LINES, Sources
from alignstream.export.fit.language_prototype import add_prototype
from alignstream.export.fit.onboarding import RANK, own_map
from alignstream.export.fit.pair_adapter import with_correction
from alignstream.export.fit.pooled_map import pooled_map
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.step import Step
from alignstream.models.arrays import Matrix
from alignstream.models.fit.closed_form import PairSums, procrustes

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


def chain(*steps: Step, dim: int = 384) -> Adapter:
    """Return an adapter of no encoder in particular."""
    return Adapter(encoder="", dim=dim, steps=steps)


def low_resource(bank: PrototypeBank, sources: Sources) -> list[LowResource]:
    """Leave each low-resource language out of everything, then bring it in with a number of pairs."""
    dev = sources.sets.ntrex(["eng", *LOW_RESOURCE], is_dev=True, n_lines=100)
    news = sources.embed(dev.name, dev.by_language)
    tags = [tag for tag in LOW_RESOURCE.values() if tag is not None]
    other = sources.sets.tico(["en", *tags], n_lines=N_TICO_LINES)
    tico = sources.embed(other.name, other.by_language)
    languages = []
    for language, tag in LOW_RESOURCE.items():
        tests = [("news", news[language], news["eng"], "eng")]
        if tag is not None:
            tests.append(("TICO-19", tico[tag], tico["en"], "en"))
        languages.append(LowResource(language, _left_out(bank, language, tests)))
    return languages


def _left_out(
    bank: PrototypeBank,
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
    base = chain(first, pooled_map(first, bank_sums(less, first), strength=STRENGTH))
    accuracy: dict[tuple[str, str, int], float] = {}

    def judge(name: str, n: int, adapter: Adapter, target: Adapter) -> None:
        for test, X, Y, pivot in tests:
            x = adapter.transform_many(X, Context(language=language))
            y = target.transform_many(Y, Context(language=pivot))
            both_ways = retrieval({"x": x, "y": y}, "y")
            accuracy[test, name, n] = (
                both_ways[TO_PIVOT].figures["x"] + both_ways[FROM_PIVOT].figures["x"]
            ) / 2.0

    judge("nothing", 0, chain(), chain())
    judge("onboarded", 0, base, base)
    english = base.transform_many(bank.news["eng"], Context(language="eng"))
    for n in PAIR_COUNTS[1:]:
        texts = bank.news[language][:n]
        own = chain(add_prototype(first, str(key), texts), base.steps[1])
        judge("prototype", n, own, base)
        X = own.transform_many(texts, Context(language=language))
        W_own = own_map(X.astype(np.float64), english[:n].astype(np.float64))
        judge("onboarded", n, with_correction(own, str(key), W_own, rank=RANK), base)
        pairs = PairSums.of(X, english[:n])
        judge(
            "Procrustes", n, with_correction(own, str(key), procrustes(pairs, blend=1.0), rank=own.dim), base
        )
    return accuracy
