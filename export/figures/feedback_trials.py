"""What a tenant's feedback does to search and labels of the public sets, run by run.

Pairs and examples go the way that they go in the service: into the state of a tenant, an epoch with its maps, both
gates, and what a worker serves with. ``feedback_figures`` makes tables of it.
"""

import dataclasses
import functools
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.public_vectors import INTENTS, N_XSID_TEXTS, TICO_LANGUAGES, Sources
from alignstream.export.evaluate.public_tasks import Choice, NamedSets
from alignstream.export.figures.label_figures import LANGUAGES
from alignstream.export.figures.shipped_adapter import REVIEWS
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AlignstreamError
from alignstream.models.labels.zero_shot import label_cosines
from alignstream.models.learner.observed import Example, Pair, Side
from alignstream.models.learner.regression_check import judge_epoch
from alignstream.models.learner.tenant_map_fit import MapVerdict, fit_tenant_map
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.serving.query_adaptation import QueryAdaptation

#: Languages of TICO-19 that the encoder knows less well.
LOW_RESOURCE: Final = ("am", "ckb", "ha", "km", "ku", "lg", "ln", "my", "ne", "om", "so", "sw", "ta", "zu")
#: Those written with spaces between words.
SPACED: Final = tuple(sorted(set(LOW_RESOURCE) - {"km", "my"}))
#: Those with news as well, by NTREX-128's names.
NEWS: Final = {"am": "amh", "ha": "hau", "my": "mya", "so": "som", "sw": "swa", "ta": "tam", "zu": "zul"}
#: Languages of paraphrases that people judged.
PARAPHRASED: Final = ("de", "es", "fr", "ja", "pl", "ru", "zh")
#: TICO-19's lines that take part; pairs come from the second half, the first is judged.
N_LINES: Final = 600
N_NEWS: Final = 300
#: One word of so many is left out of a text that is nearly the remembered one.
WORD_STEP: Final = 5
#: Similarity from which on two sentences count as paraphrases, of 5.
PARAPHRASE: Final = 4.0
#: Languages that examples are in, by SIB-200's names.
EXAMPLE_LANGUAGES: Final = ("eng_Latn", "fra_Latn", "swh_Latn")

_SET: Final = "figures"


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a worker serves a tenant with after its feedback, and what the gates said.

    Parameters
    ----------
    following : QueryAdaptation or None
        None: the gate refused the epoch.
    judged : tuple of MapVerdict
        Maps, by language.
    """

    following: QueryAdaptation | None
    judged: tuple[MapVerdict, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the epoch serves, with all the maps that were fitted."""
        return self.following is not None and all(item.verdict.is_accepted for item in self.judged)


def learn(
    adapter: Adapter, pairs: Iterable[Pair] = (), examples: Iterable[Example] = (), *, with_maps: bool = True
) -> Learned:
    """Take in a tenant's feedback and open an epoch, as the learner does.

    Parameters
    ----------
    adapter : Adapter
    pairs, examples : iterable
    with_maps : bool
        Without, pairs are remembered only: as those are that name no language on the side that would move.
    """
    state = TenantState(adapter.dim)
    for pair in pairs:
        state.take_pair(pair)
    for example in examples:
        state.take_example(example)
    candidate = state.epoch(encoder=adapter.encoder, tenant="default", reason="feedback")
    judged: list[MapVerdict] = []
    if with_maps:
        tenant_map, judged = fit_tenant_map(candidate.memory, candidate.bank, adapter)
        candidate = dataclasses.replace(candidate, tenant_map=tenant_map)
    refusal = judge_epoch(candidate, None, adapter)
    return Learned(QueryAdaptation(adapter, candidate) if refusal is None else None, tuple(judged))


def pairs_of(
    X: Matrix, Y: Matrix, language: str, *, targets: Sequence[int] | None = None, pivot: str = "en"
) -> list[Pair]:
    """Return row by row pairs of a language with English.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        As encoded.
    language, pivot : str
    targets : sequence of int, optional
        Rows of Y that stand for the right ones.
    """
    rows = range(len(X)) if targets is None else targets
    one, other = language_key(language), language_key(pivot)
    return [
        Pair(f"{row:04}", Side(x, one), Side(Y[target], other))
        for row, (x, target) in enumerate(zip(X, rows, strict=True))
    ]


def shuffled(n: int, share: float, seed: int) -> list[int]:
    """Return rows of which a share, but at least two, have changed places."""
    rows = list(range(n))
    chosen = np.random.default_rng(seed).choice(n, max(2, round(share * n)), replace=False)
    for row, other in zip(chosen, np.roll(chosen, 1), strict=True):
        rows[row] = int(other)
    return rows


def found(Q: Matrix, C: Matrix, gold: NDArray[np.int64]) -> float:
    """Return how many rows of Q have the row of C that gold names as their nearest, in points."""
    return 100.0 * float(((Q @ C.T).argmax(axis=1) == gold).mean())


@dataclasses.dataclass(frozen=True)
class Lines:
    """Parallel lines as encoded, those of them that are judged, and what the adapter alone makes of them.

    Parameters
    ----------
    adapter : Adapter
    raw : mapping of str to ndarray of shape (n_lines, dim), float32
    """

    adapter: Adapter
    raw: Mapping[str, Matrix]

    @property
    def n(self) -> int:
        """Count the lines."""
        return len(self.raw["en"])

    @property
    def judged(self) -> NDArray[np.int64]:
        """The lines that are judged: the first half."""
        return np.arange(self.n // 2)

    def chosen(self, n: int, seed: int) -> NDArray[np.int64]:
        """Return n lines of the second half."""
        rng = np.random.default_rng(seed)
        return self.n // 2 + np.sort(rng.choice(self.n - self.n // 2, n, replace=False))

    @functools.cached_property
    def plain(self) -> dict[str, Matrix]:
        """Vectors under the adapter alone, by language."""
        return {language: stored(None, self.adapter, X, language) for language, X in self.raw.items()}

    def pairs(
        self, language: str, rows: NDArray[np.int64], targets: Sequence[int] | None = None
    ) -> list[Pair]:
        """Return pairs of lines of a language with English."""
        return pairs_of(self.raw[language][rows], self.raw["en"][rows], language, targets=targets)


def stored(following: QueryAdaptation | None, adapter: Adapter, X: Matrix, language: str) -> Matrix:
    """Return vectors to store, shape (n, dim), float32."""
    context = Context(language=language)
    transform = adapter.transform_one if following is None else following.vector
    return np.stack([transform(x, context) for x in X])


def asked(following: QueryAdaptation, X: Matrix, language: str) -> Matrix:
    """Return query vectors, shape (n, dim), float32."""
    context = Context(language=language)
    return np.stack([following.query(x, context) for x in X])


# -- pairs ----------------------------------------------------------------------------------------------------


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
        found_by = {name: statistics.fmean(getattr(run, name) for run in runs) for name in FIGURES}
        return cls(**found_by, is_accepted=all(run.is_accepted for run in runs))


FIGURES: Final = ("to_english", "query_to_english", "from_english")


def search(lines: Lines, language: str, learned: Learned | None) -> Searched:
    """Search lines of a language in English and back; None: with the adapter alone."""
    english, rows = lines.plain["en"], lines.judged
    following = None if learned is None else learned.following
    if following is None:
        own = lines.plain[language]
        queries, questions = own[rows], english[rows]
    else:
        own = stored(following, lines.adapter, lines.raw[language], language)
        queries = asked(following, lines.raw[language][rows], language)
        questions = asked(following, lines.raw["en"][rows], "en")
    is_accepted = learned is not None and learned.is_accepted
    return Searched(
        found(own[rows], english, rows),
        found(queries, english, rows),
        found(questions, own, rows),
        is_accepted,
    )


def search_after(lines: Lines, language: str, n: int, *, share: float = 0.0, seeds: int) -> list[Searched]:
    """Search after n pairs of a language, drawn anew for each seed, a share of them shuffled."""
    runs = []
    for seed in range(seeds):
        rows = lines.chosen(n, seed)
        targets = shuffled(n, share, seed) if share else None
        runs.append(search(lines, language, learn(lines.adapter, lines.pairs(language, rows, targets))))
    return runs


# -- memory ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Remembered:
    """What is looked up with a memory: lines, nearly the same lines, and texts of another domain.

    Parameters
    ----------
    lines : Lines
    nearly : mapping of str to ndarray of shape (n_lines - n_judged, dim), float32
        The lines that may be remembered, less some words, as encoded.
    news : mapping of str to ndarray of shape (n, dim), float32
        Other texts by language, ``en`` among them.
    """

    lines: Lines
    nearly: Mapping[str, Matrix]
    news: Mapping[str, Matrix]


def recalled(
    texts: Remembered, language: str, n: int, seed: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """Look up texts of a language with a memory of n pairs, and no maps.

    Returns
    -------
    dict of (str, str) to (float, float)
        Right first hits without and with the memory, in points, by what is asked and what is looked up.
    """
    lines = texts.lines
    rows = lines.chosen(n, seed)
    learned = learn(lines.adapter, lines.pairs(language, rows), with_maps=False)
    if learned.following is None:
        raise AlignstreamError(f"the gate refused a memory of {n} pairs of {language}")
    following = learned.following
    english, own = lines.plain["en"], lines.plain[language]
    queries = asked(following, lines.raw[language][rows], language)
    others = [Y for key, Y in lines.plain.items() if key not in {"en", language}]
    known, elsewhere = "a remembered source", f"{len(others)} other languages"
    result = {
        (known, "English"): (found(own[rows], english, rows), found(queries, english, rows)),
        (known, elsewhere): (
            statistics.fmean(found(own[rows], Y, rows) for Y in others),
            statistics.fmean(found(queries, Y, rows) for Y in others),
        ),
        (known, "its own language"): (found(own[rows], own, rows), found(queries, own, rows)),
    }
    if language in texts.nearly:
        nearly = texts.nearly[language][rows - lines.n // 2]
        plain = stored(None, lines.adapter, nearly, language)
        result[f"the same, one word in {WORD_STEP} left out", "English"] = (
            found(plain, english, rows), found(asked(following, nearly, language), english, rows),
        )  # fmt: skip
    judged = lines.judged
    queries = asked(following, lines.raw[language][judged], language)
    result["another text of the domain", "English"] = (
        found(own[judged], english, judged), found(queries, english, judged),
    )  # fmt: skip
    if language in texts.news:
        news = texts.news[language]
        gold, C = np.arange(len(news)), stored(None, lines.adapter, texts.news["en"], "en")
        plain = stored(None, lines.adapter, news, language)
        result["news", "English"] = found(plain, C, gold), found(asked(following, news, language), C, gold)
    return result


@dataclasses.dataclass(frozen=True)
class Paraphrases:
    """How many paraphrases of remembered sources there are, and what they find first without and with the memory.

    Parameters
    ----------
    n : int
    own : tuple of float
        Points that find their own translation.
    either : tuple of float
        Points that find that, or the translation of the remembered source.
    """

    n: int
    own: tuple[float, float]
    either: tuple[float, float]


def paraphrases(sources: Sources, adapter: Adapter) -> Paraphrases:
    """Look up paraphrases of remembered sources: sentences of the STS benchmark that people found alike."""
    similar = sources.similarity()
    english = [stored(None, adapter, X, "en") for X in (similar["en"].first, similar["en"].second)]
    index = np.concatenate(english)
    # The same sentence may stand in many places.
    _, same = np.unique(index.round(5), axis=0, return_inverse=True)
    n = len(english[0])
    first, second = same.ravel()[:n], same.ravel()[n:]
    rows = np.flatnonzero(similar["en"].scores >= PARAPHRASE)
    figures = []
    for language in PARAPHRASED:
        X, Y = similar[language].first, similar[language].second[rows]
        learned = learn(adapter, pairs_of(X[rows], similar["en"].first[rows], language), with_maps=False)
        if learned.following is None:
            raise AlignstreamError(f"the gate refused the sentences of {language}")
        for queries in (stored(None, adapter, Y, language), asked(learned.following, Y, language)):
            hits = same.ravel()[(queries @ index.T).argmax(axis=1)]
            own = hits == second[rows]
            figures.append((100.0 * own.mean(), 100.0 * (own | (hits == first[rows])).mean()))
    before, after = np.mean(figures[::2], axis=0).tolist(), np.mean(figures[1::2], axis=0).tolist()
    return Paraphrases(len(rows), (before[0], after[0]), (before[1], after[1]))


# -- label examples -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Labels, texts to give as examples, and texts to judge on.

    Parameters
    ----------
    adapter : Adapter
    labels : tuple of str
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned.
    examples : mapping of str to ndarray of shape (n, dim), float32
        As encoded, by language.
    example_labels : ndarray of shape (n,), int64
        The same for all languages.
    judged : mapping of str to ndarray of shape (n_judged, dim), float32
        Aligned, by language.
    gold : ndarray of shape (n_judged,), int64
    """

    adapter: Adapter
    labels: tuple[str, ...]
    prototypes: Matrix
    examples: Mapping[str, Matrix]
    example_labels: NDArray[np.int64]
    judged: Mapping[str, Matrix]
    gold: NDArray[np.int64]

    def rows(self, n: int, seed: int) -> NDArray[np.int64]:
        """Return n texts of every label, or all where there are fewer."""
        rng = np.random.default_rng(seed)
        chosen = []
        for label in range(len(self.labels)):
            own = np.flatnonzero(self.example_labels == label)
            chosen.append(rng.choice(own, min(n, len(own)), replace=False))
        return np.concatenate(chosen)

    def right(self, rows: NDArray[np.int64], language: str) -> dict[str, float]:
        """Return right labels by language, in points, after these texts of a language were given."""
        common = self.adapter.common_direction()
        prototypes = self.prototypes
        if len(rows):
            key = language_key(language)
            given = [
                Example(str(row), _SET, self.labels[self.example_labels[row]], x, key)
                for row, x in zip(rows.tolist(), self.examples[language][rows], strict=True)
            ]
            following = learn(self.adapter, examples=given).following
            moved = None if following is None else following.prototypes(_SET, self.labels, prototypes, common)
            prototypes = prototypes if moved is None else moved
        return {
            name: 100.0 * float((label_cosines(Y, prototypes, common).argmax(axis=1) == self.gold).mean())
            for name, Y in self.judged.items()
        }

    def drawn(self, n: int, language: str, seeds: int) -> list[dict[str, float]]:
        """Return right labels after n examples of every label, for each draw."""
        return [self.right(self.rows(n, seed), language) for seed in range(seeds)]

    def one_sided(self, n: int, language: str, seeds: int) -> list[dict[str, float]]:
        """Return right labels after n examples of one label alone, for each label and draw."""
        runs = []
        for seed in range(seeds):
            rows = self.rows(n, seed)
            for label in range(len(self.labels)):
                own = rows[self.example_labels[rows] == label]
                if len(own):
                    runs.append(self.right(own, language))
        return runs


# -- the public sets ------------------------------------------------------------------------------------------


def tico(sources: Sources, adapter: Adapter) -> Lines:
    """Return lines of TICO-19 in all its languages that are read."""
    texts = sources.sets.tico(TICO_LANGUAGES, n_lines=N_LINES)
    return Lines(adapter, sources.embed(texts.name, texts.by_language))


def reviews(sources: Sources, adapter: Adapter) -> Lines:
    """Return reviews of NusaX in languages of Indonesia: another domain and other languages."""
    texts = NamedSets(sources.root).parallel(REVIEWS, Choice())
    return Lines(adapter, sources.embed(REVIEWS, texts.by_language))


def without_words(text: str) -> str:
    """Leave out one word in five, but not the first."""
    words = text.split()
    return " ".join(word for place, word in enumerate(words) if place % WORD_STEP != WORD_STEP - 1)


def remembered(sources: Sources, lines: Lines) -> Remembered:
    """Return what is looked up with a memory of TICO-19."""
    texts = sources.sets.tico(SPACED, n_lines=N_LINES).by_language
    nearly = {key: [without_words(text) for text in column[lines.n // 2 :]] for key, column in texts.items()}
    names = {**NEWS, "en": "eng"}
    news = sources.sets.ntrex(list(names.values()), is_dev=True, n_lines=N_NEWS)
    vectors = sources.embed(news.name, news.by_language)
    return Remembered(
        lines, sources.embed("tico-19-words", nearly), {key: vectors[name] for key, name in names.items()}
    )


def topics(sources: Sources, adapter: Adapter) -> Labelled:
    """Return SIB-200: training texts as examples, development texts to judge on."""
    texts, gold = sources.sets.sib_dev(LANGUAGES)
    given = {language: sources.sets.sib_examples(language) for language in EXAMPLE_LANGUAGES}
    first = given[EXAMPLE_LANGUAGES[0]][1]
    if any(labels != first for _, labels in given.values()):
        raise AlignstreamError("SIB-200's training parts do not hold the same sentences in all languages")
    labelled = sources.labelled(gold, {label: label for label in gold})
    labels = tuple(sorted(set(gold)))
    return Labelled(
        adapter, labels, adapter.transform_many(labelled.prototypes),
        sources.embed("sib-train", {language: column for language, (column, _) in given.items()}),
        np.array([labels.index(label) for label in first]),
        _aligned(adapter, sources.embed("sib-dev", texts)), labelled.gold,
    )  # fmt: skip


def commands(sources: Sources, adapter: Adapter) -> Labelled:
    """Return xSID: English commands as examples, others in 15 languages to judge on."""
    vectors, labelled = sources.commands()
    every, intents = sources.sets.xsid(["en"], n_texts=sys.maxsize)
    judged = set(sources.sets.xsid(["en"], n_texts=N_XSID_TEXTS)[0]["en"])
    rows = [row for row, text in enumerate(every["en"]) if text not in judged]
    names = sorted(INTENTS)
    return Labelled(
        adapter, tuple(INTENTS[name] for name in names), adapter.transform_many(labelled.prototypes),
        sources.embed("xsid-others", {"en": [every["en"][row] for row in rows]}),
        np.array([names.index(intents[row]) for row in rows]), _aligned(adapter, vectors), labelled.gold,
    )  # fmt: skip


def _aligned(adapter: Adapter, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {language: stored(None, adapter, X, language) for language, X in vectors.items()}
