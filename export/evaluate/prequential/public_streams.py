"""Streams to replay, made of the public sets. Every message and its place follow from a seed."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from alignstream.export.data.named_sets import NamedSets
from alignstream.export.data.public_sets import STS_LANGUAGES, TICO_LANGUAGES, XSID_LANGUAGES, PublicSets
from alignstream.export.data.selection import TextSelection, find_language
from alignstream.export.data.texts import evenly_spaced
from alignstream.export.evaluate.prequential.stream_index import NO_GROUP, Messages, concatenated
from alignstream.export.evaluate.prequential.stream_replay import Segment
from alignstream.export.evaluate.session import Session
from alignstream.models.adapter.languages import same_language
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.labels.label_set import render

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
#: Texts of a topic and language at most.
N_TOPIC_TEXTS: Final = 100
#: The topic of a stream of one topic: the most frequent.
TOPIC: Final = "science/technology"
#: Pairs of captions, with which the STS benchmark's development part begins; news and forums follow.
_N_CAPTIONS: Final = 625
#: NTREX-128's names of the languages of other sets, where they have several parts or three other letters.
_TO_NTREX: Final = {
    "es_LA": "spa",
    "tl": "fil",
    "zh": "zho-CN",
    "ku": "kmr",
    "ckb": "ckb-Arab",
    "sr": "srp-Latn",
}
#: Texts of a spammer, and words of a text of random words.
_N_SPAM: Final = 10
_WORDS_OF_NOISE: Final = 12


@dataclasses.dataclass(frozen=True, eq=False)
class NamedStream:
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
class StreamLines:
    """Vectors of parallel lines by tag, each of shape (n_lines, dim), float32, and the pivot's tag."""

    pivot: str
    by_language: dict[str, Matrix]
    texts: dict[str, list[str]]

    def part(self, start: int, stop: int) -> "StreamLines":
        """Return consecutive lines of every language, or fewer if the set ends."""
        return self.rows(range(start, min(stop, len(self))))

    def rows(self, lines: Sequence[int]) -> "StreamLines":
        """Return some lines of every language."""
        return StreamLines(
            self.pivot,
            {name: X[list(lines)] for name, X in self.by_language.items()},
            {name: [texts[line] for line in lines] for name, texts in self.texts.items()},
        )

    def only(self, languages: Sequence[str]) -> "StreamLines":
        """Return some languages."""
        return StreamLines(
            self.pivot,
            {name: self.by_language[name] for name in languages},
            {name: self.texts[name] for name in languages},
        )

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.by_language[self.pivot])


class Library:
    """The public sets as vectors, read and encoded on first use.

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

    def news(self, tags: Sequence[str]) -> StreamLines:
        """Return NTREX-128's 300 development lines in the languages of other sets' tags, as far as it has them."""
        known = self.sets.ntrex_languages()
        names = [name for tag in tags if (name := _ntrex_name(tag, known)) is not None]
        texts = self.sets.ntrex(list(dict.fromkeys(["eng", *names])), is_dev=True, n_lines=300)
        return self.encoded(texts.name, texts.pivot, texts.by_language)

    def medicine(self) -> StreamLines:
        """Return 600 lines of TICO-19."""
        texts = self.sets.tico(TICO_LANGUAGES, n_lines=600)
        return self.encoded(texts.name, texts.pivot, texts.by_language)

    def commands(self) -> StreamLines:
        """Return xSID's validation commands, each once."""
        texts, _ = self.sets.xsid(XSID_LANGUAGES, n_texts=300)
        return self.encoded("xsid", "en", texts)

    def reviews(self) -> StreamLines:
        """Return NusaX's 100 validation sentences, in 12 languages."""
        texts = self._named.parallel("nusax-valid", TextSelection())
        return self.encoded("nusax-valid", texts.pivot, texts.by_language)

    def captions(self) -> StreamLines:
        """Return 300 captions of the STS benchmark, short everyday sentences, in 11 languages."""
        pairs = self._named.scored(TextSelection(languages=list(STS_LANGUAGES)))
        texts = {name: column[:_N_CAPTIONS] for name, column in pairs.first.items()}
        return self.encoded("sts-captions", "en", texts, n_lines=300)

    def topics(self) -> tuple[dict[str, StreamLines], Matrix]:
        """Return lines of SIB-200's training part by topic, and vectors of label texts, in the same order."""
        by_language = {name: self.sets.sib_topics(name) for name in TOPIC_LANGUAGES}
        names = sorted(by_language[TOPIC_LANGUAGES[0]])
        lines = {}
        for topic in names:
            texts = {name: topics[topic][:N_TOPIC_TEXTS] for name, topics in by_language.items()}
            lines[topic] = self.encoded(f"sib-{topic}", TOPIC_LANGUAGES[0], texts)
        words = [render(self._session.template, topic) for topic in names]
        return lines, self._session.embed("labels", {"eng": words})["eng"]

    def encoded(
        self, part: str, pivot: str, texts: Mapping[str, Sequence[str]], *, n_lines: int | None = None
    ) -> StreamLines:
        """Return lines as vectors, without those whose pivot text occurred earlier."""
        lines = _distinct(texts, pivot)
        if n_lines is not None:
            keep = evenly_spaced(len(lines[pivot]), n_lines)
            lines = {name: [column[line] for line in keep] for name, column in lines.items()}
        return StreamLines(pivot, self._session.embed(part, lines), lines)

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


def woven(
    lines: StreamLines,
    *,
    seed: int,
    order: Order = "shuffled",
    is_tagged: bool = True,
    first_group: int = 0,
) -> Messages:
    """Return the messages of parallel lines as a stream.

    Parameters
    ----------
    lines : StreamLines
    seed : int
        Seed of the order: all texts shuffled, or line by line with the languages of each line shuffled.
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
    home: StreamLines,
    away: StreamLines,
    names: tuple[str, str],
    *,
    seed: int,
    order: Order = "shuffled",
    is_tagged: bool = True,
) -> tuple[Segment, ...]:
    """Return a stream that changes its domain and comes back; part of the remaining texts is held out."""

    def segment(name: str, lines: StreamLines, rest: StreamLines | None, number: int) -> Segment:
        return Segment(
            name=name,
            pivot=lines.pivot,
            messages=woven(lines, seed=seed + number, order=order, is_tagged=is_tagged),
            held_out=None if rest is None else woven(rest, seed=seed, is_tagged=is_tagged),
            is_change=number > 0,
            is_home=number != 1,
        )

    # News keeps its articles apart; what the other set holds out lies between what it streams, as its parts differ.
    half = min(N_LINES, len(home) // 3)
    rest = home.part(2 * half, 2 * half + N_HELD_OUT)
    n_left = min(N_HELD_OUT, len(away) // 3)
    left = evenly_spaced(len(away), n_left)
    streamed = sorted(set(range(len(away))) - set(left))
    chosen = [streamed[place] for place in evenly_spaced(len(streamed), N_CHANGED_LINES)]
    return (
        segment(names[0], home.part(0, half), None, 0),
        segment(names[1], away.rows(chosen), away.rows(left), 1),
        segment(f"{names[0]} again", home.part(half, 2 * half), rest, 2),
    )


def one_topic(library: Library, *, seed: int, is_own: bool) -> tuple[Segment, ...]:
    """Return a stream of one topic, or one in which each language has its own; texts of all topics are stored."""
    lines, labels = library.topics()
    topics = list(lines)
    own = {
        name: topics[place % len(topics)] if is_own else TOPIC for place, name in enumerate(TOPIC_LANGUAGES)
    }
    parts, gold = [], []
    for number, topic in enumerate(topics):
        parts.append(woven(lines[topic], seed=seed, first_group=number * N_TOPIC_TEXTS))
        gold += [number] * len(parts[-1])
    every = functools.reduce(concatenated, parts)
    is_asked = np.array(
        [own[name] == topics[number] for name, number in zip(every.languages, gold, strict=True)]
    )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(np.flatnonzero(is_asked))
    asked = dataclasses.replace(_rows(every, order), gold=np.array(gold)[order])
    rest = _rows(every, np.flatnonzero(~is_asked))
    return (Segment("topics", TOPIC_LANGUAGES[0], asked, stored=rest, prototypes=labels),)


def late(
    lines: StreamLines, home: StreamLines, languages: Sequence[str], *, seed: int
) -> tuple[Segment, ...]:
    """Return a stream in a new domain; some languages join after the others were learned."""
    others = [name for name in lines.by_language if name not in languages]
    early = [name for name in home.by_language if not any(same_language(name, one) for one in languages)]
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
        Their vectors; taken in turn.
    share : float
        Share of the victim's messages that are hostile, from 0 to below 1.
    seed : int
        Seed of their positions.
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
    library: Library, lines: StreamLines, spam: StreamLines, victim: str, kind: str, *, seed: int
) -> Matrix:
    """Return vectors of hostile texts; all name the victim's language.

    Parameters
    ----------
    library : Library
        Encodes random words.
    lines : StreamLines
        Lines of the stream's domain: texts of another language, and words.
    spam : StreamLines
        Lines of another domain: a text and those nearest to it.
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


def _rows(messages: Messages, places: Indices) -> Messages:
    rows = places.tolist()
    return Messages(
        messages.vectors[rows],
        tuple(messages.languages[row] for row in rows),
        tuple(messages.tags[row] for row in rows),
        messages.groups[rows],
    )
