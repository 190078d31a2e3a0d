"""The figures of feedback: measured the way that the service goes, and told as they are."""

from collections.abc import Iterable

import numpy as np
import pytest

from alignstream.export.figures.feedback_figures import by_language, label_table, memory_table, pair_tables
from alignstream.export.figures.feedback_labels import ExampleTask
from alignstream.export.figures.feedback_learning import learn, pairs_of, shuffled
from alignstream.export.figures.feedback_memory import Remembered, without_words
from alignstream.export.figures.feedback_pairs import FeedbackLines
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.serving.query_adaptation import QueryAdaptation
from alignstream.streams.learner.learning import Learning, Opened
from alignstream.streams.wire.codec import float16_field
from alignstream.streams.wire.observations import ObservedPair, ObservedSide, Origin, packed

DIM = 48
N = 160
ENCODER = "e" * 64
#: Learner and figures read the same vectors, but the learner's went through 16 bits before they were made unit again.
MAX_HALF_ERROR = 2e-3


def unit(X: Matrix) -> Matrix:
    found: Matrix = (X / np.linalg.norm(X, axis=-1, keepdims=True)).astype(np.float32)
    return found


def lines(noise: float = 0.9) -> FeedbackLines:
    """Return English, and two languages that say the same with a bend that pairs can take out."""
    rng = np.random.default_rng(0)
    english = rng.standard_normal((N, DIM))
    raw = {"en": unit(english)}
    for number, language in enumerate(("so", "zu")):
        bend = np.eye(DIM) + 1.6 * np.random.default_rng(number + 1).standard_normal((DIM, DIM)) / np.sqrt(
            DIM
        )
        raw[language] = unit(english @ bend + noise * rng.standard_normal((N, DIM)))
    return FeedbackLines(Adapter(ENCODER, DIM, (Centre(np.zeros(DIM, dtype=np.float32)),)), raw)


def rows(printed: Iterable[str]) -> dict[str, list[str]]:
    """Return the cells of all rows by their first one."""
    found = {}
    for line in printed:
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|"):
            found[first] = cells
    return found


def test_what_is_measured_is_what_the_learner_publishes() -> None:
    parallel = lines()
    chosen = parallel.chosen(80, seed=0)
    learned = learn(parallel.adapter, parallel.pairs("so", chosen))
    items = [
        ObservedPair(
            origin=Origin("pairs.v1", 0, row),
            tenant="default",
            id=f"{row:04}",
            source=ObservedSide(float16_field(x), "so"),
            target=ObservedSide(float16_field(y), "en"),
        )
        for row, (x, y) in enumerate(zip(parallel.raw["so"][chosen], parallel.raw["en"][chosen], strict=True))
    ]
    learning = Learning(lambda _encoder, _dim: parallel.adapter, max_tenants=1)
    (record,) = packed(items, encoder=ENCODER, dim=DIM)
    (decision,) = learning.take(0, 0, record)
    assert isinstance(decision, Opened)
    assert decision.epoch.tenant_map is not None
    assert learned.is_accepted
    assert len(decision.maps) == len(learned.judged) == 1
    assert learned.adaptation is not None
    served = QueryAdaptation(parallel.adapter, decision.epoch)
    context = Context(language="so")
    for x in parallel.raw["so"][:20]:
        for name in ("vector", "query"):
            one, other = getattr(served, name)(x, context), getattr(learned.adaptation, name)(x, context)
            np.testing.assert_allclose(one, other, atol=MAX_HALF_ERROR)
        assert not np.allclose(
            served.vector(x, context), parallel.adapter.transform_one(x, context), atol=0.01
        )


def test_the_table_of_pairs_shows_what_they_gain_and_that_wrong_ones_are_refused() -> None:
    printed = list(pair_tables(lines(), "Pairs", ("so", "zu"), (10, 40, 80), seeds=2))
    found = rows(printed)
    none, many = found["0"], found["80"]
    assert many[0] == "4 of 4"
    assert float(many[1]) > float(none[1]) + 5.0
    assert float(many[3]) > float(none[3]) + 5.0
    assert many[4] == "4, 0 of 4"
    assert found["40, all of them shuffled"][0] == "0 of 2"
    assert float(found["40, all of them shuffled"][1]) == pytest.approx(float(none[1]), abs=0.05)
    assert {
        "10, 20% of them shuffled",
        "40, 20% of them shuffled",
        "80, 20% of them shuffled",
    } <= found.keys()
    # By language: X to English before and after, then back; the means are those of the first table.
    for column, before in ((0, none[1]), (3, many[1]), (4, none[3]), (7, many[3])):
        mean = np.mean([float(found[language][column]) for language in ("so", "zu")])
        assert mean == pytest.approx(float(before), abs=0.11)
    widths = {line.count("|") for line in printed if line.startswith("|") and line.count("|") > 8}
    assert widths == {10}, "rows, head and rule of the table by language have as many cells"


def test_pairs_are_drawn_from_lines_that_are_not_judged() -> None:
    parallel = lines()
    for seed in range(3):
        chosen = parallel.chosen(70, seed)
        assert len(set(chosen)) == 70
        assert not set(chosen) & set(parallel.judged)


def test_shuffled_pairs_change_as_many_targets_as_they_say() -> None:
    for n, share, expected in ((10, 0.2, 2), (100, 0.2, 20), (10, 0.01, 2), (50, 1.0, 50)):
        rows_ = shuffled(n, share, seed=3)
        assert sorted(rows_) == list(range(n))
        assert sum(row != place for place, row in enumerate(rows_)) == expected
    X, Y = lines().raw["so"][:3], lines().raw["en"][:3]
    pairs = pairs_of(X, Y, "som", targets=[1, 0, 2])
    np.testing.assert_array_equal([pair.target.vector for pair in pairs], Y[[1, 0, 2]])
    assert {pair.source.language for pair in pairs} == {"so-Latn"}
    assert {pair.target.language for pair in pairs} == {"en-Latn"}


def test_the_table_of_the_memory_shows_repeats_and_what_must_not_move() -> None:
    parallel = lines()
    rng = np.random.default_rng(5)
    nearly = {"so": unit(parallel.raw["so"][N // 2 :] + 0.02 * rng.standard_normal((N // 2, DIM)))}
    news = {language: unit(rng.standard_normal((30, DIM))) for language in ("so", "en")}
    found: dict[tuple[str, str], list[str]] = {}
    for line in memory_table(Remembered(parallel, nearly, news), ("so", "zu"), (10, 40), seeds=2):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "→" in cells[-1] and line.startswith("|"):
            found[cells[0], cells[1]] = cells[2:]
    for query in ("a remembered source", "the same, one word in 5 left out"):
        before, after = map(float, found[query, "English"][1].split(" → "))
        assert after > before + 5.0
        assert after > 95.0
    before, after = found["news", "English"][1].split(" → ")
    assert before == after
    assert len(found) == 6


def test_words_are_left_out_evenly_and_never_all() -> None:
    assert without_words("a b c d e f g h i j k") == "a b c d f g h i k"
    assert without_words("one") == "one"


def labelled() -> ExampleTask:
    rng = np.random.default_rng(2)
    topics = unit(rng.standard_normal((3, DIM)))
    gold = np.arange(90) % 3
    adapter = Adapter(ENCODER, DIM, (Centre(np.zeros(DIM, dtype=np.float32)),))

    def texts(n: int) -> Matrix:
        return unit(topics[np.arange(n) % 3] + 0.25 * rng.standard_normal((n, DIM)))

    # Sentences about a topic lie off from the texts about it: examples say where these are.
    prototypes = unit(topics + 0.35 * rng.standard_normal((3, DIM)))
    return ExampleTask(
        adapter, ("a", "b", "c"), prototypes, {"eng_Latn": texts(90)}, gold, {"so": texts(90)}, gold
    )


def test_the_table_of_labels_shows_what_examples_gain() -> None:
    task = labelled()
    found = rows(label_table(task, "Topics", seeds=3))
    plain, many = float(found["none"][0]), float(found["20, eng_Latn"][0])
    assert many > plain + 3.0
    low, high = map(float, found["20, eng_Latn"][1].split(" to "))
    assert low <= many <= high
    assert found["20, eng_Latn"][2] == "1, 0 of 1"
    assert "20 of one label alone, eng_Latn" in found
    assert plain == pytest.approx(
        np.mean(list(task.right(np.zeros(0, dtype=np.int64), "").values())), abs=0.05
    )


def test_gains_and_losses_by_language_are_both_told() -> None:
    task = labelled()
    more, less = [line for line in by_language(task, 20, "eng_Latn", seeds=2) if line[:1] == "*"]
    assert more.startswith("* 1 languages find more: so ")
    assert less == "* 0 languages find less: none"
