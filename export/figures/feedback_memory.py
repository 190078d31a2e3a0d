"""What a tenant's translation memory does to search, without maps: texts it remembers, texts like them, and others."""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Final

import numpy as np

from alignstream.export.figures.feedback_learning import asked, learn, pairs_of, right_points, stored
from alignstream.export.figures.feedback_pairs import LOW_RESOURCE, N_LINES, FeedbackLines
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AlignstreamError

#: Low-resource languages that are written with spaces between words.
SPACED: Final = tuple(sorted(set(LOW_RESOURCE) - {"km", "my"}))
#: Those with news as well, by NTREX-128's names.
NEWS: Final = {"am": "amh", "ha": "hau", "my": "mya", "so": "som", "sw": "swa", "ta": "tam", "zu": "zul"}
N_NEWS: Final = 300
#: One word in this many is left out of a text that is nearly the remembered one.
WORD_STEP: Final = 5
#: Languages of paraphrases that people judged.
PARAPHRASED: Final = ("de", "es", "fr", "ja", "pl", "ru", "zh")
#: Similarity from which on two sentences count as paraphrases, of 5.
PARAPHRASE: Final = 4.0


@dataclasses.dataclass(frozen=True)
class Remembered:
    """The queries for a memory: lines, nearly the same lines, and texts of another domain.

    Parameters
    ----------
    lines : FeedbackLines
    nearly : mapping of str to ndarray of shape (n_lines - n_judged, dim), float32
        The lines that may be remembered, less some words, as encoded.
    news : mapping of str to ndarray of shape (n, dim), float32
        Other texts by language, ``en`` among them.
    """

    lines: FeedbackLines
    nearly: Mapping[str, Matrix]
    news: Mapping[str, Matrix]


def recalled(
    texts: Remembered, language: str, n: int, seed: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """Look up texts of a language with a memory of n pairs, and no maps.

    Returns
    -------
    dict of (str, str) to (float, float)
        Right first hits without and with the memory, in points, by query and by target.
    """
    lines = texts.lines
    rows = lines.chosen(n, seed)
    adaptation = learn(lines.adapter, lines.pairs(language, rows), with_maps=False).adaptation
    if adaptation is None:
        raise AlignstreamError(f"the gate refused a memory of {n} pairs of {language}")
    english, own = lines.plain["en"], lines.plain[language]
    queries = asked(adaptation, lines.raw[language][rows], language)
    others = [Y for key, Y in lines.plain.items() if key not in {"en", language}]
    known, elsewhere = "a remembered source", f"{len(others)} other languages"
    result = {
        (known, "English"): (right_points(own[rows], english, rows), right_points(queries, english, rows)),
        (known, elsewhere): (
            statistics.fmean(right_points(own[rows], Y, rows) for Y in others),
            statistics.fmean(right_points(queries, Y, rows) for Y in others),
        ),
        (known, "its own language"): (right_points(own[rows], own, rows), right_points(queries, own, rows)),
    }
    if language in texts.nearly:
        nearly = texts.nearly[language][rows - lines.n // 2]
        plain = stored(None, lines.adapter, nearly, language)
        result[f"the same, one word in {WORD_STEP} left out", "English"] = (
            right_points(plain, english, rows),
            right_points(asked(adaptation, nearly, language), english, rows),
        )
    judged = lines.judged
    queries = asked(adaptation, lines.raw[language][judged], language)
    result["another text of the domain", "English"] = (
        right_points(own[judged], english, judged),
        right_points(queries, english, judged),
    )
    if language in texts.news:
        news = texts.news[language]
        gold, C = np.arange(len(news)), stored(None, lines.adapter, texts.news["en"], "en")
        plain = stored(None, lines.adapter, news, language)
        result["news", "English"] = (
            right_points(plain, C, gold),
            right_points(asked(adaptation, news, language), C, gold),
        )
    return result


@dataclasses.dataclass(frozen=True)
class Paraphrases:
    """The number of paraphrases of remembered sources, and their first hits without and with the memory.

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
    # The same sentence may occur in many places.
    _, same = np.unique(index.round(5), axis=0, return_inverse=True)
    n = len(english[0])
    first, second = same.ravel()[:n], same.ravel()[n:]
    rows = np.flatnonzero(similar["en"].scores >= PARAPHRASE)
    figures = []
    for language in PARAPHRASED:
        X, Y = similar[language].first, similar[language].second[rows]
        pairs = pairs_of(X[rows], similar["en"].first[rows], language)
        adaptation = learn(adapter, pairs, with_maps=False).adaptation
        if adaptation is None:
            raise AlignstreamError(f"the gate refused the sentences of {language}")
        for queries in (stored(None, adapter, Y, language), asked(adaptation, Y, language)):
            hits = same.ravel()[(queries @ index.T).argmax(axis=1)]
            own = hits == second[rows]
            figures.append((100.0 * own.mean(), 100.0 * (own | (hits == first[rows])).mean()))
    before, after = np.mean(figures[::2], axis=0).tolist(), np.mean(figures[1::2], axis=0).tolist()
    return Paraphrases(len(rows), (before[0], after[0]), (before[1], after[1]))


def without_words(text: str) -> str:
    """Leave out one word in five, but not the first.

    Examples
    --------
    >>> without_words("one two three four five six")
    'one two three four six'
    """
    words = text.split()
    return " ".join(word for place, word in enumerate(words) if place % WORD_STEP != WORD_STEP - 1)


def remembered(sources: Sources, lines: FeedbackLines) -> Remembered:
    """Return the queries for a memory of TICO-19."""
    texts = sources.sets.tico(SPACED, n_lines=N_LINES).by_language
    nearly = {key: [without_words(text) for text in column[lines.n // 2 :]] for key, column in texts.items()}
    names = {**NEWS, "en": "eng"}
    news = sources.sets.ntrex(list(names.values()), is_dev=True, n_lines=N_NEWS)
    vectors = sources.embed(news.name, news.by_language)
    return Remembered(
        lines, sources.embed("tico-19-words", nearly), {key: vectors[name] for key, name in names.items()}
    )
