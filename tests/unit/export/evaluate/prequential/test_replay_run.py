"""Whole replays: of all public streams, with every promise judged, and of people's own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from toy_streams import DIM, ENCODER, TAGS, encode, lines, toy_adapter, unit, write_stream

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.stream_file import StreamText, read_stream
from alignstream.export.evaluate.measures import LABELS, MIXED_POOL, TO_PIVOT
from alignstream.export.evaluate.prequential import public_streams, replay_page, replay_run
from alignstream.export.evaluate.prequential.own_stream import own_segments
from alignstream.export.evaluate.prequential.promises import goals
from alignstream.export.evaluate.prequential.public_streams import NamedStream, StreamLines, there_and_back
from alignstream.export.evaluate.prequential.replay_report import HostileDamage
from alignstream.export.evaluate.prequential.replay_run import play, replay_own
from alignstream.export.evaluate.prequential.stream_index import MEASURES, NO_GROUP, Messages
from alignstream.export.evaluate.prequential.stream_replay import EPOCHS, IDEAL, STATIC, Replay, Segment
from alignstream.export.evaluate.session import Session
from alignstream.models.arrays import Matrix
from alignstream.models.errors import TextError

ADAPTER = toy_adapter()


@pytest.fixture
def session(tmp_path: Path) -> Session:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    return Session(cache=cache, adapter=ADAPTER, adapter_name="toy")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_stream(tmp_path / "own.jsonl")


def test_goals_are_held_against_their_bounds() -> None:
    segments = there_and_back(
        lines(120, seed=1), lines(150, seed=2, domain=0.5, noise=1.2), ("news", "away"), seed=0
    )
    found = play(ADAPTER, NamedStream("Toy", "A toy.", segments), live_texts=100, rate=50.0, seed=0)
    attack = HostileDamage("noise", ["sw"], 90.0, 91.0, 89.4, 92.0, 91.0, -0.05, -0.2)
    by_name = {goal.name: goal for goal in goals([found], [attack])}
    kept = by_name["share of the ideal's gain that epochs keep, toy, by cosine"]
    away = found.segments[1]
    static, epochs, ideal = (
        float(np.mean([item.mean(column.name) for item in away.measures]))
        for column in (STATIC, EPOCHS, IDEAL)
    )
    assert kept.holds == (epochs - static >= 0.9 * (ideal - static))
    assert f"{ideal - static:+.2f}" in kept.found
    assert not by_name["search of the language attacked, noise"].holds
    assert by_name["search of other languages, noise"].holds
    at_home = by_name["search at home, before a change and after it"]
    changes = [
        measure.mean("epochs") - measure.mean("static")
        for segment in (found.segments[0], found.segments[2])
        for measure in segment.measures
    ]
    assert at_home.holds == (min(changes) >= -0.2)
    assert f"at worst {min(changes):+.2f}" in at_home.found
    rows = replay_page.summary_rows(found)
    assert [row[0] for row in rows if row[0]] == ["news", "away", "news again"]
    assert all(len(row) == len(replay_page.headings(found)) for row in rows)
    assert all(len(row) == len(replay_page.CHANGE_HEADINGS) for row in replay_page.change_rows(found))
    assert "90 % made good after" in " ".join(replay_page.stream_notes(found))


class ToyLibrary:
    """Toy lines in place of the public sets."""

    def __init__(self, *_: object) -> None:
        pass

    def news(self, _: Sequence[str]) -> StreamLines:
        return lines(60, seed=1)

    def away(self) -> StreamLines:
        return lines(60, seed=2, domain=0.5, noise=1.2)

    medicine = captions = commands = reviews = away

    def topics(self) -> tuple[dict[str, StreamLines], Matrix]:
        prototypes = unit(np.random.default_rng(5).standard_normal((2, DIM)).astype(np.float32))
        return {
            name: lines(30, seed=len(name), domain=0.3) for name in ("science/technology", "travel")
        }, prototypes

    def embed(self, _: str, texts: Sequence[str]) -> Matrix:
        assert len(texts) == 20
        return lines(20, seed=77).by_language["ta"]


def test_all_streams_are_replayed_and_every_promise_is_judged(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_run, "Library", ToyLibrary)
    monkeypatch.setattr(replay_run, "VICTIMS", ("sw", "deu"))
    monkeypatch.setattr(replay_run, "N_LINES", 20)
    monkeypatch.setattr(public_streams, "N_LINES", 20)
    monkeypatch.setattr(public_streams, "TOPIC_LANGUAGES", TAGS)
    told: list[str] = []
    found = replay_run.replay_public_sets(session, tmp_path, rate=10.0, status=told.append)
    assert found.live_texts == 20
    assert told[: len(found.streams)] == [stream.name for stream in found.streams]
    named = {stream.name: stream for stream in found.streams}
    own = {segment.name: segment for segment in named["News, commands, news"].segments}
    assert list(own) == ["news", "commands", "news again"]
    assert own["commands"].recovery is not None
    (topics,) = named["One topic"].segments
    assert topics.n_messages == 30 * len(TAGS)
    assert {measure.name for measure in topics.measures} == {*MEASURES, LABELS}
    (apart,) = named["A topic for each language"].segments
    # Two languages each write of either topic.
    assert apart.n_messages == 30 * len(TAGS)
    assert apart.measures != topics.measures
    # Each language but the pivot is late once: 3 of 16 texts each, for all there are 20.
    assert [(item.n_first, item.n_texts) for item in found.late] == [(16, 48), (32, 60)]
    assert set(found.late[0].figures) == {TO_PIVOT, MIXED_POOL}
    assert [item.victims for item in found.hostile] == [["sw", "de"]] * 3
    assert len({item.static for item in found.hostile}) == 1, "hostile texts change no stored vector"
    assert len({item.epochs for item in found.hostile}) > 1
    promised = [goal.name for goal in found.goals]
    assert "search at home, before a change and after it" in promised
    assert "search, one topic" in promised
    assert sum(name.startswith("search of other languages") for name in promised) == 3
    text = replay_page.to_markdown(found)
    for title in ("## Goals", "## A language that comes late", "## Hostile texts", "by language"):
        assert title in text
    assert found.to_json()["goals"]


def test_segments_hold_the_messages_of_a_stream_in_order() -> None:
    texts = [
        StreamText("one", "en", "1", "stream"),
        StreamText("eins", "de", "1", "stream"),
        StreamText("zwei", "de", None, "stream"),
        StreamText("drei", None, None, "later"),
    ]
    segments = own_segments(
        texts, lambda texts: np.eye(len(texts), 8, dtype=np.float32), pivot=None, uses_tags=True, where="s"
    )
    assert [segment.name for segment in segments] == ["stream", "later"]
    assert segments[0].pivot == "en"
    assert segments[0].messages.groups.tolist() == [0, 0, NO_GROUP]
    assert segments[1].messages.tags == (None,)


def test_an_own_stream_gives_what_its_messages_give(session: Session, own: Path) -> None:
    found = replay_own(session, read_stream(own), name=str(own), rate=50.0)
    assert found.live_texts == 100
    (segment,) = found.streams[0].segments
    assert (segment.n_messages, segment.n_languages, segment.pivot) == (240, 4, "en")
    by_line = [line for line in range(60) for _ in TAGS]
    expected = Messages(
        encode([f"{tag} {line}" for line in range(60) for tag in TAGS]),
        TAGS * 60,
        TAGS * 60,
        np.array(by_line),
    )
    item = Replay(ADAPTER, live_texts=100).play(Segment("own", "en", expected))
    assert segment.measures[0].mean("epochs") == pytest.approx(
        100.0 * np.mean([np.mean(values) for values in item.per_query[EPOCHS][TO_PIVOT].values()])
    )
    untagged = dataclasses.replace(session, uses_tags=False)
    other = replay_own(untagged, read_stream(own), name=str(own), pivot="deu")
    assert other.streams[0].segments[0].pivot == "de"
    assert other.streams[0].segments[0].measures != segment.measures
    with pytest.raises(TextError, match="no language 'fr'"):
        replay_own(session, read_stream(own), name=str(own), pivot="fr")
