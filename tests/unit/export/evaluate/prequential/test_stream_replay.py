"""Replay: nothing sees what comes later, and epochs alone change anything."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from toy_streams import DIM, TAGS, lines, toy_adapter, unit

from alignstream.export.evaluate.columns import RAW
from alignstream.export.evaluate.measures import FROM_PIVOT, LABELS, MIXED_POOL, TO_PIVOT
from alignstream.export.evaluate.prequential import replay_page, stream_replay
from alignstream.export.evaluate.prequential.public_streams import there_and_back, with_hostile, woven
from alignstream.export.evaluate.prequential.replay_report import ReplayedStream, segment_of
from alignstream.export.evaluate.prequential.replay_run import recovery
from alignstream.export.evaluate.prequential.stream_index import (
    MEASURES,
    NO_GROUP,
    Messages,
    PerQuery,
    StreamIndex,
    quality,
)
from alignstream.export.evaluate.prequential.stream_replay import (
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
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.arrays import Matrix
from alignstream.models.errors import ReplayError
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation

ADAPTER = toy_adapter()


def played(segments: Sequence[Segment], *, live_texts: int = 100, **options: Any) -> list[Played]:
    replay = Replay(ADAPTER, live_texts=live_texts, **options)
    return [replay.play(segment) for segment in segments]


def mean(item: Played, column: Any, measure: str) -> float:
    return float(np.mean([np.mean(values) for values in item.per_query[column][measure].values()]))


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
    assert first.per_query == second.per_query
    assert {item.position for item in first.opened} >= {64, 128}


def test_before_the_first_epoch_queries_are_what_is_stored() -> None:
    (item,) = played([Segment("s", "en", woven(lines(BATCH_TEXTS // 4, seed=1), seed=0))])
    for column in (EPOCHS, LIVE, WITH_HUBNESS[EPOCHS]):
        assert item.per_query[column] == item.per_query[STATIC]
    assert item.before is None
    assert [opened.position for opened in item.opened] == [BATCH_TEXTS]
    assert item.per_query[IDEAL] != item.per_query[STATIC], (
        "an epoch before every message is there from the second on"
    )


def test_the_same_seed_gives_the_same_figures_and_another_one_another_order() -> None:
    def found(seed: int) -> list[Any]:
        segments = there_and_back(lines(60, seed=1), lines(40, seed=2, domain=1.0), ("a", "b"), seed=seed)
        return [item.per_query for item in played(segments)]

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
    monkeypatch.setattr(stream_replay, "judge_epoch", lambda *_: "canaries got worse")
    (item,) = played([Segment("s", "en", woven(lines(60, seed=1, domain=0.5), seed=0))])
    assert item.opened == []
    assert set(item.refusals) == {"canaries got worse"}
    assert item.per_query[EPOCHS] == item.per_query[STATIC]
    found = segment_of(item, seed=0)
    assert found is not None
    (note,) = replay_page.stream_notes(ReplayedStream("toy", "", [found]))
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

    monkeypatch.setattr(stream_replay, "QueryAdaptation", Recording)
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
    index = StreamIndex(messages, messages.vectors, "en")
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
    assert attacked.per_query[STATIC] == clean.per_query[STATIC]
    assert attacked.per_query[EPOCHS] != clean.per_query[EPOCHS]


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


def test_changes_are_those_from_static() -> None:
    (item,) = played([Segment("s", "en", woven(lines(60, seed=1, domain=0.5), seed=0))])
    found = segment_of(item, seed=0)
    assert found is not None
    by_name = {column.name: column for column in found.measures[-1].columns}
    assert by_name["static"].change is None
    change = by_name["epochs"].change
    assert change is not None
    assert change.mean == pytest.approx(by_name["epochs"].mean - by_name["static"].mean)
