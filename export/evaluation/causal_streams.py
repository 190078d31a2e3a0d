"""Streams to replay, made of the public sets. Every message and its place follow from a seed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from alignstream.export.datasets import evenly_spaced
from alignstream.export.evaluation.causal import Segment
from alignstream.export.evaluation.causal_index import NO_GROUP, Messages
from alignstream.export.evaluation.formats import find_language
from alignstream.export.evaluation.session import Session
from alignstream.export.evaluation.sets import Choice, NamedSets
from alignstream.export.public_sets import PublicSets
from alignstream.export.sources import STS_LANGUAGES, TICO_LANGUAGES, XSID_LANGUAGES
from alignstream.models.alignment.languages import same_language
from alignstream.models.alignment.members import Matrix
from alignstream.models.tasks.labels import render

Order = Literal["shuffled", "line by line"]

#: Lines of each language in a segment, and those that are held out to judge epochs on.
N_LINES: Final = 100
N_CHANGED_LINES: Final = 200
N_HELD_OUT: Final = 100
#: SIB-200's names of the languages of streams of topics: 13 families, 11 scripts.
TOPIC_LANGUAGES: Final = (
    "eng_Latn", "deu_Latn", "fra_Latn", "rus_Cyrl", "arb_Arab", "hin_Deva", "tam_Taml", "kat_Geor", "tur_Latn",
    "fin_Latn", "jpn_Jpan", "kor_Hang", "zho_Hans", "vie_Latn", "ind_Latn", "swh_Latn", "yor_Latn", "amh_Ethi",
)  # fmt: skip
#: Training texts of a topic that a stream of one topic begins with, of each language.
N_TOPIC_TEXTS: Final = 100
#: The topic of a stream of one topic: the most frequent.
TOPIC: Final = "science/technology"
#: NTREX-128's names of the languages of other sets, where they have several parts or three other letters.
_TO_NTREX: Final = {
    "es_LA": "spa",
    "tl": "fil",
    "zh": "zho-CN",
    "ku": "kmr",
    "ckb": "ckb-Arab",
    "sr": "srp-Latn",
}
#: Columns of spam and random words: texts of each language that hostile ones are made of.
_N_SPAM: Final = 10
_WORDS_OF_NOISE: Final = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """A stream to replay.

    Parameters
    ----------
    name, what : str
        For people: a short name, and a sentence.
    segments : tuple of Segment
    """

    name: str
    what: str
    segments: tuple[Segment, ...]


@dataclasses.dataclass(frozen=True)
class Lines:
    """Vectors of parallel lines by tag, each of shape (n_lines, dim), float32, and the pivot's tag."""

    pivot: str
    by_language: dict[str, Matrix]
    texts: dict[str, list[str]]

    def part(self, start: int, stop: int) -> "Lines":
        """Return some lines of every language."""
        return Lines(
            self.pivot,
            {name: X[start:stop] for name, X in self.by_language.items()},
            {name: texts[start:stop] for name, texts in self.texts.items()},
        )

    def only(self, languages: Sequence[str]) -> "Lines":
        """Return some languages."""
        return Lines(
            self.pivot,
            {name: self.by_language[name] for name in languages},
            {name: self.texts[name] for name in languages},
        )

    def __len__(self) -> int:
        """Count the lines."""
        return len(self.by_language[self.pivot])


class Library:
    """The public sets as vectors, read and encoded when they are asked for.

    Parameters
    ----------
    session : Session
        Encodes, through its cache.
    root : Path
        ALIGNSTREAM_DATA.
    """

    def __init__(self, session: Session, root: Path) -> None:
        self._session = session
        self.sets = PublicSets(root)
        self._named = NamedSets(root)

    def news(self, tags: Sequence[str]) -> Lines:
        """Return NTREX-128's 300 development lines in the languages of other sets' tags, as far as it has them."""
        known = self.sets.ntrex_languages()
        names = [name for tag in tags if (name := _ntrex_name(tag, known)) is not None]
        found = self.sets.ntrex(list(dict.fromkeys(["eng", *names])), is_dev=True, n_lines=300)
        return self.encoded(found.name, found.pivot, found.by_language)

    def medicine(self) -> Lines:
        """Return 600 lines of TICO-19."""
        found = self.sets.tico(TICO_LANGUAGES, n_lines=600)
        return self.encoded(found.name, found.pivot, found.by_language)

    def commands(self) -> Lines:
        """Return xSID's validation commands, each once."""
        texts, _ = self.sets.xsid(XSID_LANGUAGES, n_texts=300)
        return self.encoded("xsid", "en", texts)

    def reviews(self) -> Lines:
        """Return NusaX's 100 validation sentences, in 12 languages."""
        found = self._named.parallel("nusax-valid", Choice())
        return self.encoded("nusax-valid", found.pivot, found.by_language)

    def sentences(self) -> Lines:
        """Return 300 short sentences of the STS benchmark, captions for the most part, in 11 languages."""
        found = self._named.scored(Choice(languages=list(STS_LANGUAGES), limit=1500))
        keep = evenly_spaced(len(found.first["en"]), 1500)
        texts = {name: [column[line] for line in keep] for name, column in found.first.items()}
        lines = _distinct(texts, "en")
        return self.encoded("sts-a", "en", lines, n_lines=300)

    def topics(self) -> tuple[Lines, Mapping[str, Mapping[str, Matrix]], list[str], Matrix]:
        """Return SIB-200's development lines, training texts by topic and language, gold topics, and label vectors."""
        dev, gold = self.sets.sib_dev(TOPIC_LANGUAGES)
        train: dict[str, dict[str, list[str]]] = {}
        for language in TOPIC_LANGUAGES:
            for topic, texts in self._named.sib_topics(language).items():
                own = topic_of(language, gold)
                if topic in {TOPIC, own}:
                    train.setdefault(topic, {})[language] = texts[:N_TOPIC_TEXTS]
        vectors = {topic: self._session.embed(f"sib-{topic}", texts) for topic, texts in train.items()}
        words = [render(self._session.template, label) for label in sorted(set(gold))]
        labels = self._session.embed("labels", {"eng": words})["eng"]
        return self.encoded("sib-dev", "eng_Latn", dev), vectors, gold, labels

    def encoded(
        self, part: str, pivot: str, texts: Mapping[str, Sequence[str]], *, n_lines: int | None = None
    ) -> Lines:
        """Return lines as vectors, those whose text in the pivot stands earlier left out."""
        lines = _distinct(texts, pivot)
        if n_lines is not None:
            keep = evenly_spaced(len(lines[pivot]), n_lines)
            lines = {name: [column[line] for line in keep] for name, column in lines.items()}
        return Lines(pivot, self._session.embed(part, lines), lines)

    def embed(self, part: str, texts: Sequence[str]) -> Matrix:
        """Return vectors of texts."""
        return self._session.embed(part, {"texts": texts})["texts"]


def _distinct(texts: Mapping[str, Sequence[str]], pivot: str) -> dict[str, list[str]]:
    first: dict[str, int] = {}
    for line, text in enumerate(texts[pivot]):
        first.setdefault(text, line)
    return {name: [column[line] for line in first.values()] for name, column in texts.items()}


def _ntrex_name(tag: str, known: Sequence[str]) -> str | None:
    wanted = _TO_NTREX.get(tag, tag)
    return next((name for name in known if name == wanted or same_language(name, wanted)), None)


def topic_of(language: str, gold: Sequence[str]) -> str:
    """Return the topic of a language, where each has its own."""
    topics = sorted(set(gold))
    return topics[TOPIC_LANGUAGES.index(language) % len(topics)]


def woven(
    lines: Lines,
    *,
    seed: int,
    order: Order = "shuffled",
    is_tagged: bool = True,
    first_group: int = 0,
) -> Messages:
    """Return the messages of parallel lines as a stream.

    Parameters
    ----------
    lines : Lines
    seed : int
        Of the order: all texts shuffled, or line by line with the languages of each line shuffled.
    order : str
    is_tagged : bool
        Whether messages name their language.
    first_group : int
        Group of the first line.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    names, n_lines = list(lines.by_language), len(lines)
    if order == "shuffled":
        places = [divmod(place, n_lines) for place in generator.permutation(len(names) * n_lines).tolist()]
    else:
        places = [
            (place, line) for line in range(n_lines) for place in generator.permutation(len(names)).tolist()
        ]
    languages = tuple(names[place] for place, _ in places)
    return Messages(
        vectors=np.stack([lines.by_language[names[place]][line] for place, line in places]),
        languages=languages,
        tags=languages if is_tagged else (None,) * len(languages),
        groups=np.array([first_group + line for _, line in places], dtype=np.int64),
    )


def there_and_back(
    home: Lines,
    away: Lines,
    names: tuple[str, str],
    *,
    seed: int,
    order: Order = "shuffled",
    is_tagged: bool = True,
) -> tuple[Segment, ...]:
    """Return a stream that changes its domain and comes back; what is not in the stream is held out."""

    def segment(name: str, lines: Lines, rest: Lines | None, number: int) -> Segment:
        return Segment(
            name=name,
            pivot=lines.pivot,
            messages=woven(lines, seed=seed + number, order=order, is_tagged=is_tagged),
            held_out=None if rest is None else woven(rest, seed=seed, is_tagged=is_tagged),
            is_change=number > 0,
        )

    half = min(N_LINES, len(home) // 3)
    rest = home.part(2 * half, 2 * half + N_HELD_OUT)
    n_away = len(away) - N_HELD_OUT if len(away) > 2 * N_HELD_OUT - 1 else len(away)
    n_away = min(n_away, N_CHANGED_LINES)
    left = away.part(n_away, n_away + N_HELD_OUT) if n_away < len(away) else None
    return (
        segment(names[0], home.part(0, half), None, 0),
        segment(names[1], away.part(0, n_away), left, 1),
        segment(f"{names[0]} again", home.part(half, 2 * half), rest, 2),
    )


def one_topic(library: Library, *, seed: int, is_own: bool) -> tuple[Segment, ...]:
    """Return a stream of one topic, or one in which each language has its own: training texts, then texts to judge."""
    lines, train, gold, labels = library.topics()
    topics = {name: topic_of(name, gold) if is_own else TOPIC for name in lines.by_language}
    positions = {label: number for number, label in enumerate(sorted(set(gold)))}
    first = [(name, x) for name, topic in topics.items() for x in train[topic][name]]
    generator = np.random.Generator(np.random.PCG64(seed))
    first = [first[place] for place in generator.permutation(len(first)).tolist()]
    beginning = Messages(
        np.stack([x for _, x in first]),
        tuple(name for name, _ in first),
        tuple(name for name, _ in first),
        np.full(len(first), NO_GROUP, dtype=np.int64),
    )
    every = woven(lines, seed=seed)
    is_asked = np.array([
        gold[group] == topics[name] for name, group in zip(every.languages, every.groups.tolist(), strict=True)
    ])  # fmt: skip
    asked, rest = _rows(every, is_asked), _rows(every, ~is_asked)
    asked = dataclasses.replace(
        asked, gold=np.array([positions[gold[group]] for group in asked.groups.tolist()])
    )
    return (
        Segment("what it learns from", lines.pivot, beginning),
        Segment("texts to judge", lines.pivot, asked, stored=rest, prototypes=labels),
    )


def late(lines: Lines, home: Lines, languages: Sequence[str], *, seed: int) -> tuple[Segment, ...]:
    """Return a stream in a new domain that some languages join when the others were learned from."""
    others = [name for name in lines.by_language if name not in languages]
    early = [name for name in home.by_language if not any(same_language(name, item) for item in languages)]
    return (
        Segment("before", home.pivot, woven(home.only(early).part(0, N_LINES), seed=seed)),
        Segment("without them", lines.pivot, woven(lines.only(others).part(0, N_LINES), seed=seed + 1)),
        Segment("with them", lines.pivot, woven(lines.part(N_LINES, 2 * N_LINES), seed=seed + 2)),
    )


def with_hostile(messages: Messages, victim: str, vectors: Matrix, *, share: float, seed: int) -> Messages:
    """Return messages with hostile ones among them that name one language.

    Parameters
    ----------
    messages : Messages
    victim : str
        The language that hostile messages name, as they report it.
    vectors : ndarray of shape (n, dim), float32
        What they hold; taken in turn.
    share : float
        Of the victim's messages, from 0 to below 1.
    seed : int
        Of their places.
    """
    n_clean = messages.languages.count(victim)
    n = round(n_clean * share / (1.0 - share))
    X = vectors[np.arange(n) % len(vectors)]
    generator = np.random.Generator(np.random.PCG64(seed))
    places = np.sort(generator.integers(0, len(messages) + 1, size=n))
    tags, languages = list(messages.tags), list(messages.languages)
    for place in places[::-1].tolist():
        tags.insert(place, victim)
        languages.insert(place, victim)
    return Messages(
        np.insert(messages.vectors, places, X, axis=0),
        tuple(languages),
        tuple(tags),
        np.insert(messages.groups, places, NO_GROUP),
    )


HOSTILE: Final = ("texts of another language", "one subject again and again", "random words")


def hostile_vectors(
    library: Library, lines: Lines, spam: Lines, victim: str, kind: str, *, seed: int
) -> Matrix:
    """Return vectors of hostile texts, all of which name the victim's language.

    Parameters
    ----------
    library : Library
        Encodes random words.
    lines : Lines
        Of the stream's domain: another language's texts, and words.
    spam : Lines
        Of another domain: a text and those nearest to it.
    victim : str
        Tag in ``lines``.
    kind : str
        One of ``HOSTILE``.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    names = [name for name in lines.by_language if name not in {victim, lines.pivot}]
    if kind == HOSTILE[0]:
        return lines.by_language[names[int(generator.integers(len(names)))]]
    if kind == HOSTILE[1]:
        X = spam.by_language[find_language(victim, list(spam.by_language), "spam")]
        near = np.argsort(-(X @ X[int(generator.integers(len(X)))]), kind="stable")[:_N_SPAM]
        return X[near]
    words = [word for text in lines.texts[victim] for word in text.split()]
    if len(words) < len(lines):
        words = [character for text in lines.texts[victim] for character in text]
    texts = [" ".join(generator.choice(words, size=_WORDS_OF_NOISE).tolist()) for _ in range(len(lines))]
    return library.embed(f"random-words.{victim}", texts)


def _rows(messages: Messages, kept: NDArray[np.bool_]) -> Messages:
    rows = np.flatnonzero(kept).tolist()
    return Messages(
        messages.vectors[rows],
        tuple(messages.languages[row] for row in rows),
        tuple(messages.tags[row] for row in rows),
        messages.groups[rows],
    )
