"""What a tenant's pairs do to search among lines of the public sets, run by run."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.data.named_sets import NamedSets
from alignstream.export.data.public_sets import TICO_LANGUAGES
from alignstream.export.data.selection import TextSelection
from alignstream.export.figures.feedback_learning import (
    Learned,
    asked,
    learn,
    pairs_of,
    right_points,
    shuffled,
    stored,
    stored_by_language,
)
from alignstream.export.figures.shipped_adapter import REVIEWS
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.learner.observed import Pair

#: Languages of TICO-19 that the encoder knows less well.
LOW_RESOURCE: Final = ("am", "ckb", "ha", "km", "ku", "lg", "ln", "my", "ne", "om", "so", "sw", "ta", "zu")
#: TICO-19's lines that take part; pairs come from the second half, the first is judged.
N_LINES: Final = 600


@dataclasses.dataclass(frozen=True)
class FeedbackLines:
    """Parallel lines as encoded, the judged ones among them, and their vectors under the adapter alone.

    Parameters
    ----------
    adapter : Adapter
    raw : mapping of str to ndarray of shape (n_lines, dim), float32
    """

    adapter: Adapter
    raw: Mapping[str, Matrix]

    @property
    def n(self) -> int:
        """Number of lines."""
        return len(self.raw["en"])

    @property
    def judged(self) -> Indices:
        """The lines that are judged: the first half."""
        return np.arange(self.n // 2)

    def chosen(self, n: int, seed: int) -> Indices:
        """Return n lines of the second half."""
        rng = np.random.default_rng(seed)
        return self.n // 2 + np.sort(rng.choice(self.n - self.n // 2, n, replace=False))

    @functools.cached_property
    def plain(self) -> dict[str, Matrix]:
        """Vectors under the adapter alone, by language."""
        return stored_by_language(self.adapter, self.raw)

    def pairs(self, language: str, rows: Indices, targets: Sequence[int] | None = None) -> list[Pair]:
        """Return pairs of lines of a language with English."""
        return pairs_of(self.raw[language][rows], self.raw["en"][rows], language, targets=targets)


@dataclasses.dataclass(frozen=True)
class Searched:
    """Right first hits of one language's judged lines among all lines, in points."""

    to_english: float
    query_to_english: float
    from_english: float
    is_accepted: bool = False

    @classmethod
    def mean(cls, runs: Sequence["Searched"]) -> "Searched":
        """Average over runs."""
        means = {name: statistics.fmean(getattr(run, name) for run in runs) for name in FIGURES}
        return cls(**means, is_accepted=all(run.is_accepted for run in runs))


FIGURES: Final = ("to_english", "query_to_english", "from_english")


def search_lines(lines: FeedbackLines, language: str, learned: Learned | None) -> Searched:
    """Search lines of a language in English and back; None: with the adapter alone."""
    english, rows = lines.plain["en"], lines.judged
    adaptation = None if learned is None else learned.adaptation
    if adaptation is None:
        own = lines.plain[language]
        queries, questions = own[rows], english[rows]
    else:
        own = stored(adaptation, lines.adapter, lines.raw[language], language)
        queries = asked(adaptation, lines.raw[language][rows], language)
        questions = asked(adaptation, lines.raw["en"][rows], "en")
    return Searched(
        right_points(own[rows], english, rows),
        right_points(queries, english, rows),
        right_points(questions, own, rows),
        is_accepted=learned is not None and learned.is_accepted,
    )


def search_after(
    lines: FeedbackLines, language: str, n: int, *, share: float = 0.0, seeds: int
) -> list[Searched]:
    """Search after n pairs of a language, drawn anew for each seed, a share of them shuffled."""
    runs = []
    for seed in range(seeds):
        rows = lines.chosen(n, seed)
        targets = shuffled(n, share, seed) if share else None
        learned = learn(lines.adapter, lines.pairs(language, rows, targets))
        runs.append(search_lines(lines, language, learned))
    return runs


def tico(sources: Sources, adapter: Adapter) -> FeedbackLines:
    """Return lines of TICO-19 in all its languages that are read."""
    texts = sources.sets.tico(TICO_LANGUAGES, n_lines=N_LINES)
    return FeedbackLines(adapter, sources.embed(texts.name, texts.by_language))


def reviews(sources: Sources, adapter: Adapter) -> FeedbackLines:
    """Return reviews of NusaX in languages of Indonesia: another domain and other languages."""
    texts = NamedSets(sources.root).parallel(REVIEWS, TextSelection())
    return FeedbackLines(adapter, sources.embed(REVIEWS, texts.by_language))
