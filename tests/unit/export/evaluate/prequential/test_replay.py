"""Streams replayed: nothing sees what comes later, epochs alone change anything, files are refused by line."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.evaluate.prequential import public_streams as causal_streams
from alignstream.export.evaluate.prequential import replay as causal_module
from alignstream.export.evaluate.prequential import replay_page as page_of
from alignstream.export.evaluate.prequential import replay_run as causal_run
from alignstream.export.evaluate.prequential.own_stream import own_segments, read_stream
from alignstream.export.evaluate.prequential.promises import goals
from alignstream.export.evaluate.prequential.public_streams import (
    Lines,
    Stream,
    there_and_back,
    with_hostile,
    woven,
)
from alignstream.export.evaluate.prequential.replay import (
    BATCH_TEXTS,
    EPOCHS,
    IDEAL,
    LIVE,
    STATIC,
    WITH_HUBNESS,
    Played,
    Replay,
    Segment,
)
from alignstream.export.evaluate.prequential.replay_page import BEGIN, END, write_document
from alignstream.export.evaluate.prequential.replay_report import (
    FORMAT,
    CausalStream,
    Hostile,
    segment_of,
)
from alignstream.export.evaluate.prequential.replay_run import evaluate_own, play, recovery
from alignstream.export.evaluate.prequential.stream_index import (
    MEASURES,
    NO_GROUP,
    Index,
    Messages,
    PerQuery,
    quality,
)
from alignstream.export.evaluate.session import Session
from alignstream.export.evaluate.tasks import FROM_PIVOT, LABELS, MIXED_POOL, RAW, TO_PIVOT
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AlignstreamError, EvaluationError, ReplayError, TextError
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.ops.cli import evaluate as command
from alignstream.ops.cli import replay as causal_command

ENCODER = "e" * 64
DIM = 24
TAGS = ("en", "de", "sw", "ta")
KEYS = ("en-Latn", "de-Latn", "sw-Latn", "ta-Taml")


def unit(X: Matrix) -> Matrix:
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def bias(tag: str) -> Matrix:
    return np.random.default_rng(TAGS.index(tag)).standard_normal(DIM).astype(np.float32)


def lines(n: int, *, seed: int, domain: float = 0.0, noise: float = 0.8) -> Lines:
    """Meanings, and what languages and a domain add to them; the domain adds to each language its own too."""
    rng = np.random.default_rng(seed)
    meanings = rng.standard_normal((n, DIM))
    common = np.random.default_rng(99).standard_normal(DIM)
    found = {}
    for tag in TAGS:
        own = np.random.default_rng(50 + TAGS.index(tag)).standard_normal(DIM)
        X = meanings + 2.0 * bias(tag) + noise * rng.standard_normal((n, DIM)) + domain * (common + 2.0 * own)
        found[tag] = unit(X.astype(np.float32))
    return Lines("en", found, {tag: [f"{tag} {line}" for line in range(n)] for tag in TAGS})


def toy_adapter() -> Adapter:
    means = np.stack([X.mean(axis=0) for X in lines(200, seed=7).by_language.values()])
    return Adapter(encoder=ENCODER, dim=DIM, steps=(LanguageCentre(means, KEYS, (200,) * 4),))


ADAPTER = toy_adapter()


def played(segments: Sequence[Segment], *, live_texts: int = 100, **options: Any) -> list[Played]:
    replay = Replay(ADAPTER, live_texts=live_texts, **options)
    return [replay.play(segment) for segment in segments]


def mean(item: Played, column: Any, measure: str) -> float:
    return float(np.mean([np.mean(values) for values in item.found[column][measure].values()]))


def test_later_messages_change_nothing_that_was_found_before() -> None:
    messages = woven(lines(60, seed=1, domain=1.0), seed=0)
    cut = 150
    vectors = messages.vectors.copy()
    vectors[cut:] = vectors[cut:][::-1]
    # What is stored must stay, so the stream alone is turned round: what is looked up in is stored beside it.
    stored = dataclasses.replace(messages, groups=messages.groups.copy())

    def asked(X: Matrix) -> Messages:
        groups = np.full(len(messages), NO_GROUP, dtype=np.int64)
        groups[:cut] = messages.groups[:cut] + 1000
        return dataclasses.replace(messages, vectors=X, groups=groups)

    first, second = (
        played(
            [Segment("s", "en", asked(X), stored=dataclasses.replace(stored, groups=stored.groups + 1000))]
        )[0]
        for X in (messages.vectors, vectors)
    )
    assert first.found == second.found
    assert {item.position for item in first.opened} >= {64, 128}


def test_before_the_first_epoch_queries_are_what_is_stored() -> None:
    (item,) = played([Segment("s", "en", woven(lines(BATCH_TEXTS // 4, seed=1), seed=0))])
    for column in (EPOCHS, LIVE, WITH_HUBNESS[EPOCHS]):
        assert item.found[column] == item.found[STATIC]
    assert item.before is None
    assert [opened.position for opened in item.opened] == [BATCH_TEXTS]
    assert item.found[IDEAL] != item.found[STATIC], (
        "an epoch before every message is there from the second on"
    )


def test_the_same_seed_gives_the_same_figures_and_another_one_another_order() -> None:
    def found(seed: int) -> list[Any]:
        segments = there_and_back(lines(60, seed=1), lines(40, seed=2, domain=1.0), ("a", "b"), seed=seed)
        return [item.found for item in played(segments)]

    assert found(3) == found(3)
    assert found(3) != found(4)


def test_epochs_find_more_where_a_domain_moves_languages_apart() -> None:
    segments = there_and_back(
        lines(120, seed=1), lines(150, seed=2, domain=0.5, noise=1.2), ("news", "away"), seed=0
    )
    assert [segment.name for segment in segments] == ["news", "away", "news again"]
    assert [segment.is_change for segment in segments] == [False, True, True]
    _, away, _ = played(segments)
    assert mean(away, EPOCHS, MIXED_POOL) > mean(away, STATIC, MIXED_POOL) + 0.02
    assert mean(away, IDEAL, MIXED_POOL) > mean(away, STATIC, MIXED_POOL) + 0.02
    assert away.before is not None
    assert away.n_live > len(away.opened)
    found = recovery(ADAPTER, away, rate=50.0)
    assert found is not None
    assert found.n_texts in {opened.position for opened in away.opened}
    assert found.seconds == (found.n_texts or 0) / 50.0


def test_an_epoch_that_its_gate_refuses_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_module, "judge_epoch", lambda *_: "canaries got worse")
    (item,) = played([Segment("s", "en", woven(lines(60, seed=1, domain=0.5), seed=0))])
    assert item.opened == []
    assert set(item.refusals) == {"canaries got worse"}
    assert item.found[EPOCHS] == item.found[STATIC]
    found = segment_of(item, seed=0)
    assert found is not None
    (note,) = page_of.stream_notes(CausalStream("toy", "", [found]))
    assert "refused by their gate, the last as canaries got worse" in note


def test_the_ideal_knows_the_messages_before_each_and_not_the_message_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: list[float] = []

    class Recording(QueryAdaptation):
        def __init__(self, adapter: Adapter, epoch: Epoch) -> None:
            if len(epoch.bank) == 0:
                known.append(sum(epoch.weights))
            super().__init__(adapter, epoch)

    monkeypatch.setattr(causal_module, "QueryAdaptation", Recording)
    played([Segment("s", "en", woven(lines(20, seed=1), seed=0))], columns=(IDEAL,))
    assert known == list(range(80))


def test_batches_go_on_across_segments() -> None:
    parts = [woven(lines(n, seed=n), seed=0) for n in (10, 30)]
    first, second = played([Segment(str(n), "en", item) for n, item in enumerate(parts)], columns=(EPOCHS,))
    assert first.opened == []
    assert second.opened[0].position == BATCH_TEXTS - 40


def test_live_waits_for_so_many_messages_and_for_the_end_of_a_batch() -> None:
    (item,) = played([Segment("s", "en", woven(lines(112, seed=1), seed=0))], live_texts=130)
    # 130, 260 and 390 messages are over at the ends of these batches; epochs by doubling come too.
    assert item.n_live == len({192, 320, 448} | {opened.position for opened in item.opened})


def test_an_index_finds_translations_and_not_the_text_itself() -> None:
    messages = Messages(
        np.eye(5, dtype=np.float32),
        ("en", "de", "en", "de", "sw"),
        (None,) * 5,
        np.array([0, 0, 1, 1, NO_GROUP]),
    )
    index = Index(messages, messages.vectors, "en")
    found: PerQuery = {}
    Q = unit(np.array([[0.9, 0.8, 0, 0, 0], [0.1, 0, 0, 0.9, 0]], dtype=np.float32))
    index.look_up(Q, np.array([0, 3]), None, found)
    assert found == {
        FROM_PIVOT: {"de": [1.0]},
        TO_PIVOT: {"de": [0.0]},
        MIXED_POOL: {"en": [1.0], "de": [0.0]},
    }
    again: PerQuery = {}
    index.look_up(Q[1:], np.array([3]), np.array([0.2, 0.0, 0.0, 0.0], dtype=np.float32), again)
    assert again[TO_PIVOT] == {"de": [1.0]}, "what is near to everything is found last"


def test_messages_without_a_group_are_learned_from_alone() -> None:
    messages = woven(lines(40, seed=1), seed=0)
    hostile = with_hostile(messages, "sw", lines(5, seed=9).by_language["ta"], share=0.3, seed=0)
    assert len(hostile) - len(messages) == round(40 * 0.3 / 0.7)
    kept = hostile.groups != NO_GROUP
    assert np.array_equal(hostile.vectors[kept], messages.vectors)
    assert {hostile.tags[row] for row in np.flatnonzero(~kept)} == {"sw"}
    clean, attacked = (
        played([Segment("s", "en", item)], columns=(EPOCHS,))[0] for item in (messages, hostile)
    )
    assert attacked.found[STATIC] == clean.found[STATIC]
    assert attacked.found[EPOCHS] != clean.found[EPOCHS]


def test_labels_are_those_of_stored_vectors_whatever_epoch_is_open() -> None:
    news = lines(60, seed=1, domain=1.0)
    messages = dataclasses.replace(woven(news, seed=0), gold=np.zeros(240, dtype=np.int64))
    prototypes = unit(np.random.default_rng(5).standard_normal((12, DIM)).astype(np.float32))
    (item,) = played([Segment("s", "en", messages, prototypes=prototypes)])
    assert set(item.results()[LABELS]) == {RAW, STATIC, EPOCHS}
    assert mean(item, EPOCHS, LABELS) != mean(item, STATIC, LABELS), "labelled by queries they would follow"
    with pytest.raises(ReplayError, match="have none"):
        played([Segment("s", "en", woven(news, seed=0), prototypes=prototypes)])


def test_orders_hold_every_text_once() -> None:
    news = lines(5, seed=1)
    by_line = woven(news, seed=0, order="line by line", is_tagged=False)
    assert by_line.groups.tolist() == [line for line in range(5) for _ in TAGS]
    assert set(by_line.tags) == {None}
    shuffled = woven(news, seed=0)
    pairs = list(zip(shuffled.languages, shuffled.groups.tolist(), strict=True))
    assert sorted(pairs) == sorted((tag, line) for tag in TAGS for line in range(5))
    for row, (tag, line) in enumerate(pairs):
        assert np.array_equal(shuffled.vectors[row], news.by_language[tag][line])


def test_messages_of_unequal_parts_are_refused() -> None:
    with pytest.raises(ReplayError, match=r"rows"):
        Messages(np.eye(2, dtype=np.float32), ("en",), (None, None), np.zeros(2, dtype=np.int64))


def test_quality_is_the_mean_of_the_measures() -> None:
    messages = woven(lines(30, seed=1, noise=1.5), seed=0)
    replay = Replay(ADAPTER, live_texts=1, columns=(EPOCHS,))
    item = replay.play(Segment("s", "en", messages))
    static = np.mean([mean(item, STATIC, measure) for measure in MEASURES])
    assert quality(ADAPTER, messages, "en", None) == pytest.approx(100.0 * static)


def test_goals_are_held_against_their_bounds() -> None:
    segments = there_and_back(
        lines(120, seed=1), lines(150, seed=2, domain=0.5, noise=1.2), ("news", "away"), seed=0
    )
    found = play(ADAPTER, Stream("Toy", "A toy.", segments), live_texts=100, rate=50.0, seed=0)
    attack = Hostile("noise", ["sw"], 90.0, 91.0, 89.4, 92.0, 91.0, -0.05, -0.2)
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
    rows = page_of.summary_rows(found)
    assert [row[0] for row in rows if row[0]] == ["news", "away", "news again"]
    assert all(len(row) == len(page_of.headings(found)) for row in rows)
    assert all(len(row) == len(page_of.CHANGE_HEADINGS) for row in page_of.change_rows(found))
    assert "90 % made good after" in " ".join(page_of.stream_notes(found))


def test_changes_are_those_from_static() -> None:
    (item,) = played([Segment("s", "en", woven(lines(60, seed=1, domain=0.5), seed=0))])
    found = segment_of(item, seed=0)
    assert found is not None
    by_name = {column.name: column for column in found.measures[-1].columns}
    assert by_name["static"].change is None
    change = by_name["epochs"].change
    assert change is not None
    assert change.mean == pytest.approx(by_name["epochs"].mean - by_name["static"].mean)


class ToyLibrary:
    """Toy lines in place of the public sets."""

    def __init__(self, *_: object) -> None:
        pass

    def news(self, _: Sequence[str]) -> Lines:
        return lines(60, seed=1)

    def away(self) -> Lines:
        return lines(60, seed=2, domain=0.5, noise=1.2)

    medicine = captions = commands = reviews = away

    def topics(self) -> tuple[dict[str, Lines], Matrix]:
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
    monkeypatch.setattr(causal_run, "Library", ToyLibrary)
    monkeypatch.setattr(causal_run, "VICTIMS", ("sw", "deu"))
    monkeypatch.setattr(causal_run, "N_LINES", 20)
    monkeypatch.setattr(causal_streams, "N_LINES", 20)
    monkeypatch.setattr(causal_streams, "TOPIC_LANGUAGES", TAGS)
    told: list[str] = []
    found = causal_run.evaluate_causal(session, tmp_path, rate=10.0, status=told.append)
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
    text = page_of.to_markdown(found)
    for title in ("## Goals", "## A language that comes late", "## Hostile texts", "by language"):
        assert title in text
    assert found.to_json()["goals"]


# --- people's own streams ------------------------------------------------------------------------------------


def write(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(f"{item if isinstance(item, str) else json.dumps(item)}\n" for item in records))
    return path


GOOD = [
    {"text": "one", "language": "en", "group": 1, "id": "x"},
    {"text": "eins", "language": "de", "group": "1"},
    {"text": "zwei", "language": "de"},
]


def test_a_stream_is_read_in_the_order_of_its_lines(tmp_path: Path) -> None:
    found = read_stream(write(tmp_path / "s.jsonl", [*GOOD, "", {"text": "drei", "segment": "later"}]))
    assert [item.text for item in found] == ["one", "eins", "zwei", "drei"]
    assert [item.group for item in found] == ["1", "1", None, None]
    assert [item.segment for item in found] == ["stream", "stream", "stream", "later"]
    segments = own_segments(
        found, lambda texts: np.eye(len(texts), 8, dtype=np.float32), pivot=None, uses_tags=True, where="s"
    )
    assert [segment.name for segment in segments] == ["stream", "later"]
    assert segments[0].pivot == "en"
    assert segments[0].messages.groups.tolist() == [0, 0, NO_GROUP]
    assert segments[1].messages.tags == (None,)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "line 4: not JSON"),
        ([], "line 4: an object with a string 'text' is needed"),
        ({"text": " "}, "line 4: an object with a string 'text' is needed"),
        ({"text": "\ud800"}, "line 4: the text holds a lone surrogate"),
        ({"text": "a", "language": "<de>"}, "line 4: '<de>' is not a language tag"),
        ({"text": "a", "language": 7}, "line 4: 'language' is no text"),
        ({"text": "a", "group": " "}, "line 4: 'group' is no text, or blank"),
        ({"text": "a", "group": True}, "line 4: 'group' is no text"),
    ],
)
def test_a_malformed_stream_is_refused_with_its_line(record: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [*GOOD, record])
    with pytest.raises(TextError, match=message) as refused:
        read_stream(path)
    assert str(refused.value).startswith(str(path))


def test_a_segment_stands_together_and_something_has_a_translation(tmp_path: Path) -> None:
    apart = [GOOD[0] | {"segment": "a"}, GOOD[1] | {"segment": "b"}]
    with pytest.raises(TextError, match="no text has a translation in its segment"):
        read_stream(write(tmp_path / "s.jsonl", apart))
    with pytest.raises(TextError, match="line 3: segment 'a' began before"):
        read_stream(write(tmp_path / "s.jsonl", [*apart, GOOD[0] | {"segment": "a"}]))


def encode(texts: Sequence[str]) -> Matrix:
    """Texts are ``tag line``: vectors of ``lines``."""
    news = lines(60, seed=1, domain=0.5)
    return np.stack([news.by_language[tag][int(line)] for tag, line in map(str.split, texts)])


@pytest.fixture
def session(tmp_path: Path) -> Session:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    return Session(cache=cache, adapter=ADAPTER, adapter_name="toy")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    records = [
        {"text": f"{tag} {line}", "language": tag, "group": line} for line in range(60) for tag in TAGS
    ]
    return write(tmp_path / "own.jsonl", records)


def test_an_own_stream_gives_what_its_messages_give(session: Session, own: Path) -> None:
    found = evaluate_own(session, read_stream(own), name=str(own), rate=50.0)
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
    (item,) = played([Segment("own", "en", expected)], live_texts=100)
    assert segment.measures[0].mean("epochs") == pytest.approx(100.0 * mean(item, EPOCHS, TO_PIVOT))
    untagged = dataclasses.replace(session, uses_tags=False)
    other = evaluate_own(untagged, read_stream(own), name=str(own), pivot="deu")
    assert other.streams[0].segments[0].pivot == "de"
    assert other.streams[0].segments[0].measures != segment.measures
    with pytest.raises(TextError, match="no language 'fr'"):
        evaluate_own(session, read_stream(own), name=str(own), pivot="fr")


# --- the command -------------------------------------------------------------------------------------------


def invoke(*arguments: str | Path) -> Any:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], terminal_width=200)


@pytest.fixture
def loaded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_session(_: str, __: Path | None, *, uses_tags: bool, seed: int, template: str | None) -> Session:
        return dataclasses.replace(session, uses_tags=uses_tags, seed=seed, template=template or "{label}")

    monkeypatch.setattr(command, "open_session", open_session)
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)


@pytest.mark.usefixtures("loaded")
def test_the_command_prints_tables_or_json_and_writes_a_page(own: Path, tmp_path: Path) -> None:
    page = tmp_path / "found.md"
    shown = invoke("--causal", "--stream", own, "--by-language", "--markdown", page, "--rate", "50")
    assert shown.exit_code == 0, shown.output
    for word in ("two seconds are 100 texts", "change from static", "by language", "ideal", "240 messages"):
        assert word in shown.output
    assert "| ta |" in page.read_text()
    assert page.read_text().startswith("# Streams\n")
    done = invoke("--causal", "--stream", own, "--json", "--no-tags", "--pivot", "de")
    value = json.loads(done.stdout)
    assert value["format"] == FORMAT
    columns = [item["name"] for item in value["streams"][0]["segments"][0]["measures"][0]["columns"]]
    assert columns == [
        "raw",
        "static",
        *(n for c in (EPOCHS, LIVE, IDEAL) for n in (c.name, f"{c.name} + hubness")),
    ]


def test_wrong_usage_is_refused_before_any_work(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Session:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr(command, "open_session", refuse)
    monkeypatch.delenv("ALIGNSTREAM_DATA", raising=False)
    page = write(tmp_path / "page.md", [BEGIN, END])
    wrong: list[tuple[str | Path, ...]] = [
        ("--stream", own),
        ("--causal", "pool", own),
        ("--seed", "1", "pool", own),
        ("--causal", "--rate", "0"),
        ("--causal", "--seed", "-1"),
        ("--causal", "--no-tags"),
        ("--causal", "--pivot", "de"),
        ("--causal", "--stream", own, "--document", page),
    ]
    for arguments in wrong:
        refused = invoke(*arguments)
        assert refused.exit_code == 2, (arguments, refused.output)
    failures: list[tuple[tuple[str | Path, ...], type[AlignstreamError], str]] = [
        (("--causal",), EvaluationError, "--stream"),
        (("--causal", "--stream", tmp_path / "nowhere"), TextError, "cannot read"),
        (("--causal", "--stream", write(tmp_path / "bad", ["{"])), TextError, "line 1"),
        (("--causal", "--document", write(tmp_path / "plain.md", ["no"])), AlignstreamError, "no markers"),
        (("--causal", "--stream", own, "--markdown", tmp_path), AlignstreamError, "it is a folder"),
    ]
    for arguments, kind, message in failures:
        failed = invoke(*arguments)
        assert isinstance(failed.exception, kind), (arguments, failed.output)
        assert message in str(failed.exception)


def test_a_document_is_written_between_its_markers(session: Session, own: Path, tmp_path: Path) -> None:
    found = evaluate_own(session, read_stream(own), name=str(own))
    page = write(tmp_path / "page.md", ["before", BEGIN, "old", END, "after"])
    write_document(page, found)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "own.jsonl" in text
    write_document(page, found)
    assert page.read_text() == text


def test_help_names_both_ways() -> None:
    shown = invoke("--help").output
    assert "--causal" in shown
    assert "retrieval" in shown
    assert causal_command.__doc__ is not None
