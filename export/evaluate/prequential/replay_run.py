"""Replay the streams that a service has to live with, and say which promises hold."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from alignstream.export.data.public_sets import TICO_LANGUAGES
from alignstream.export.data.stream_file import StreamText
from alignstream.export.evaluate.columns import RAW, Column
from alignstream.export.evaluate.measures import MIXED_POOL, TO_PIVOT
from alignstream.export.evaluate.prequential.own_stream import own_segments
from alignstream.export.evaluate.prequential.promises import goals
from alignstream.export.evaluate.prequential.public_streams import (
    HOSTILE,
    N_LINES,
    Library,
    NamedStream,
    Order,
    StreamLines,
    hostile_vectors,
    late,
    one_topic,
    there_and_back,
    with_hostile,
    woven,
)
from alignstream.export.evaluate.prequential.replay_report import (
    HostileDamage,
    LateLanguages,
    PrequentialReport,
    Recovery,
    ReplayedStream,
    segment_of,
)
from alignstream.export.evaluate.prequential.stream_index import Messages, quality
from alignstream.export.evaluate.prequential.stream_replay import (
    EPOCHS,
    STATIC,
    WITH_HUBNESS,
    Played,
    Replay,
    Segment,
)
from alignstream.export.evaluate.session import Session
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.languages import same_language

#: What ``live`` waits for.
LIVE_SECONDS: Final = 2.0
#: Texts a second: the embedded encoder's speed on the demonstration's texts, on one core.
RATE: Final = 65.0
#: Gains below this many points are too small to time a recovery.
_MIN_GAIN: Final = 0.5
#: The share of the gain after which search counts as recovered (*made good*).
_RECOVERED: Final = 0.9
_FIRST_TEXTS: Final = (16, 32)
_LATE_GROUPS: Final = 3
#: Languages that are attacked: a large one, middling ones, and one that the encoder knows badly.
VICTIMS: Final = ("fr", "hi", "sw", "am")
HOSTILE_SHARE: Final = 0.3

Status = Callable[[str], None]
#: Points by column, then by language.
Searched = dict[str, dict[str, float]]


def replay_public_sets(
    session: Session, root: Path, *, rate: float = RATE, status: Status = lambda _: None
) -> PrequentialReport:
    """Replay streams of the public sets.

    Parameters
    ----------
    session : Session
        Encoder and adapter; its seed orders the messages.
    root : Path
        ALIGNSTREAM_DATA.
    rate : float
        Texts a second.
    status : callable
        Called with the name of each stream that is replayed.

    Raises
    ------
    TextError
        A set cannot be read.
    """
    started = time.monotonic()
    library = Library(session, root)
    live_texts = max(1, round(LIVE_SECONDS * rate))
    streams = []
    for name, what, make in _streams(library, session.seed):
        status(name)
        stream = NamedStream(name, what, make())
        streams.append(play(session.adapter, stream, live_texts=live_texts, rate=rate, seed=session.seed))
    status("a language that comes late")
    late_languages = _late(library, session)
    status("hostile texts")
    hostile = _hostile(library, session)
    return PrequentialReport(
        encoder=session.adapter.encoder,
        adapter=session.adapter_name,
        adapter_version=session.adapter.version,
        seed=session.seed,
        rate=rate,
        live_texts=live_texts,
        seconds=time.monotonic() - started,
        streams=streams,
        late=late_languages,
        hostile=hostile,
        goals=goals(streams, hostile),
    )


def replay_own(
    session: Session,
    texts: Sequence[StreamText],
    *,
    name: str,
    pivot: str | None = None,
    rate: float = RATE,
) -> PrequentialReport:
    """Replay people's own stream.

    Parameters
    ----------
    session : Session
        Its ``uses_tags`` says whether messages name their language.
    texts : sequence of StreamText
        In the order of the log.
    name : str
        The file they came from.
    pivot : str, optional
        As in ``own_segments``.
    rate : float
        Texts a second.

    Raises
    ------
    TextError
        The pivot does not exist.
    """
    started = time.monotonic()
    live_texts = max(1, round(LIVE_SECONDS * rate))
    segments = own_segments(
        texts,
        lambda own: session.embed("stream", {"own": own})["own"],
        pivot=pivot,
        uses_tags=session.uses_tags,
        where=name,
    )
    stream = NamedStream(Path(name).name, "Given by the user, in the order of the file.", segments)
    replayed = play(session.adapter, stream, live_texts=live_texts, rate=rate, seed=session.seed)
    return PrequentialReport(
        encoder=session.adapter.encoder,
        adapter=session.adapter_name,
        adapter_version=session.adapter.version,
        seed=session.seed,
        rate=rate,
        live_texts=live_texts,
        seconds=time.monotonic() - started,
        streams=[replayed],
    )


def play(adapter: Adapter, stream: NamedStream, *, live_texts: int, rate: float, seed: int) -> ReplayedStream:
    """Replay one stream in all columns."""
    replay = Replay(adapter, live_texts=live_texts)
    segments = []
    for segment in stream.segments:
        played = replay.play(segment)
        replayed = segment_of(played, seed=seed, recovery=recovery(adapter, played, rate=rate))
        if replayed is not None:
            segments.append(replayed)
    return ReplayedStream(stream.name, stream.what, segments)


def recovery(adapter: Adapter, played: Played, *, rate: float) -> Recovery | None:
    """Return how soon search recovered after a change; None without a change or held-out texts."""
    segment = played.segment
    if not segment.is_change or segment.held_out is None or not played.opened:
        return None
    before = quality(adapter, segment.held_out, segment.pivot, played.before)
    each = [quality(adapter, segment.held_out, segment.pivot, epoch.adaptation) for epoch in played.opened]
    after = each[-1]
    if after - before < _MIN_GAIN:
        return Recovery(before, after, None, None)
    wanted = before + _RECOVERED * (after - before)
    n_texts = next(
        epoch.position for epoch, reached in zip(played.opened, each, strict=True) if reached >= wanted
    )
    return Recovery(before, after, n_texts, n_texts / rate)


def _streams(library: Library, seed: int) -> list[tuple[str, str, Callable[[], tuple[Segment, ...]]]]:
    """Return name, description and maker of every stream; a maker reads and encodes."""

    def change(
        read: Callable[[], StreamLines],
        names: tuple[str, str],
        *,
        more: Sequence[str] = (),
        order: Order = "shuffled",
        is_tagged: bool = True,
    ) -> tuple[Segment, ...]:
        lines = read()
        home = library.news([*more, *lines.by_language])
        return there_and_back(home, lines, names, seed=seed, order=order, is_tagged=is_tagged)

    medicine = ("news", "medicine")
    return [
        ("News, medicine, news", "NTREX-128, TICO-19 and NTREX-128 again, all texts shuffled.",
         lambda: change(library.medicine, medicine)),
        ("The same, line by line", "All translations of one line in a row: neighbours have the same topic.",
         lambda: change(library.medicine, medicine, order="line by line")),
        ("The same, without tags", "No message says its language.",
         lambda: change(library.medicine, medicine, is_tagged=False)),
        ("News, captions, news", "Short everyday sentences: captions of the STS benchmark.",
         lambda: change(library.captions, ("news", "captions"))),
        ("News, commands, news", "What people say to an assistant: xSID's validation part.",
         lambda: change(library.commands, ("news", "commands"))),
        ("News, reviews, news", "NusaX's validation part: the encoder hardly knows its languages, and most are new.",
         lambda: change(library.reviews, ("news", "reviews"), more=TICO_LANGUAGES)),
        ("One topic", "SIB-200's training texts about science and technology, looked up among texts of all topics.",
         lambda: one_topic(library, seed=seed, is_own=False)),
        ("A topic for each language", "The same, but each language writes of a topic of its own.",
         lambda: one_topic(library, seed=seed, is_own=True)),
    ]  # fmt: skip


def _late(library: Library, session: Session) -> list[LateLanguages]:
    lines = library.medicine()
    home = library.news(list(lines.by_language))
    names = [name for name in lines.by_language if name != lines.pivot]
    columns = (RAW, STATIC, EPOCHS, WITH_HUBNESS[EPOCHS])
    first: dict[tuple[int, str, str], list[float]] = {}
    for part in range(_LATE_GROUPS):
        languages = names[part::_LATE_GROUPS]
        replay = Replay(session.adapter, live_texts=1, columns=(EPOCHS,))
        for segment in late(lines, home, languages, seed=session.seed):
            played = replay.play(segment)
        for n in _FIRST_TEXTS:
            for measure in (TO_PIVOT, MIXED_POOL):
                for column in columns:
                    for language in languages:
                        values = played.per_query[column][measure][language][:n]
                        first.setdefault((n, measure, column.name), []).extend(values)
    return [
        LateLanguages(
            n,
            len(first[n, TO_PIVOT, RAW.name]),
            {
                measure: {
                    column.name: 100.0 * float(np.mean(first[n, measure, column.name])) for column in columns
                }
                for measure in (TO_PIVOT, MIXED_POOL)
            },
        )
        for n in _FIRST_TEXTS
    ]


def _hostile(library: Library, session: Session) -> list[HostileDamage]:
    """Attack every victim in turn in a stream of news that is otherwise as usual, in every way."""
    spam = library.medicine()
    home = library.news(list(spam.by_language))
    parts = [home.part(number * N_LINES, (number + 1) * N_LINES) for number in range(3)]
    clean = [woven(part, seed=session.seed + number) for number, part in enumerate(parts)]
    without = _searched(session.adapter, clean, home.pivot)
    victims = [next(name for name in home.by_language if same_language(name, wanted)) for wanted in VICTIMS]
    damages = []
    for kind in HOSTILE:
        attacked = {}
        for victim in victims:
            X = hostile_vectors(library, parts[1], spam, victim, kind, seed=session.seed)
            messages = with_hostile(clean[1], victim, X, share=HOSTILE_SHARE, seed=session.seed)
            attacked[victim] = _searched(session.adapter, [clean[0], messages, clean[2]], home.pivot)
        damages.append(_damage(kind, without, attacked))
    return damages


def _damage(kind: str, without: Searched, attacked: Mapping[str, Searched]) -> HostileDamage:
    """Compare streams with hostile texts, by the language attacked, with the same stream without them."""

    def own(side: Callable[[str], Searched], column: Column) -> float:
        return float(np.mean([side(victim)[column.name][victim] for victim in attacked]))

    epochs, hubness = EPOCHS, WITH_HUBNESS[EPOCHS]
    changes: dict[str, list[float]] = {}
    for victim, searched in attacked.items():
        for name, figure in searched[epochs.name].items():
            if name != victim:
                changes.setdefault(name, []).append(figure - without[epochs.name][name])
    return HostileDamage(
        kind=kind,
        victims=list(attacked),
        static=own(lambda _: without, STATIC),
        without=own(lambda _: without, epochs),
        epochs=own(attacked.__getitem__, epochs),
        without_hubness=own(lambda _: without, hubness),
        epochs_hubness=own(attacked.__getitem__, hubness),
        others=float(np.mean([change for each in changes.values() for change in each])),
        worst_other=min(float(np.mean(each)) for each in changes.values()),
    )


def _searched(adapter: Adapter, messages: Sequence[Messages], pivot: str) -> Searched:
    """Return search after the first of the segments: the mean of both measures, in points."""
    replay = Replay(adapter, live_texts=1, columns=(EPOCHS,))
    played = [replay.play(Segment("", pivot, part)) for part in messages][1:]
    searched: Searched = {}
    for column in (STATIC, EPOCHS, WITH_HUBNESS[EPOCHS]):
        values: dict[str, list[float]] = {}
        for segment in played:
            for measure in (TO_PIVOT, MIXED_POOL):
                for language, scores in segment.per_query[column][measure].items():
                    values.setdefault(language, []).append(100.0 * float(np.mean(scores)))
        searched[column.name] = {language: float(np.mean(each)) for language, each in values.items()}
    return searched
