"""What the page on feedback tells holds on a sample of the same real texts; its command measures all of them."""

from pathlib import Path

import numpy as np
import pytest

from alignstream.export.figures.feedback_figures import SECTION
from alignstream.export.figures.feedback_labels import ExampleTask
from alignstream.export.figures.feedback_learning import stored_by_language
from alignstream.export.figures.feedback_memory import Remembered, recalled, without_words
from alignstream.export.figures.feedback_pairs import (
    LOW_RESOURCE,
    FeedbackLines,
    Searched,
    search_after,
    search_lines,
)
from alignstream.export.figures.sources import Sources

PAGE = Path(__file__).parents[3] / "docs/pages/measurements/feedback.md"
#: Lines of each language of TICO-19: half of them judged, half to teach with.
N_LINES = 180
N_PAIRS = 80
N_NEWS = 100
EXAMPLES, JUDGED = "eng_Latn", ("deu_Latn", "swh_Latn")


@pytest.fixture(scope="module")
def lines(cached_sources: Sources) -> FeedbackLines:
    texts = cached_sources.sets.tico(("en", "om", "so"), n_lines=N_LINES)
    return FeedbackLines(
        cached_sources.shipped_adapter(), cached_sources.embed(texts.name, texts.by_language)
    )


def test_pairs_of_a_language_that_the_encoder_hardly_knows_help_search_both_ways(
    lines: FeedbackLines,
) -> None:
    assert "om" in LOW_RESOURCE
    plain = search_lines(lines, "om", None)
    after = Searched.mean(search_after(lines, "om", N_PAIRS, seeds=2))
    assert after.is_accepted
    assert after.to_english > plain.to_english + 1.0
    assert after.from_english > plain.from_english + 1.0
    assert after.query_to_english > plain.query_to_english - 2.0


def test_a_memory_finds_what_it_was_told_and_leaves_the_rest_alone(
    cached_sources: Sources, lines: FeedbackLines
) -> None:
    texts = cached_sources.sets.tico(("so",), n_lines=N_LINES).by_language["so"]
    nearly = [without_words(text) for text in texts[lines.n // 2 :]]
    news = cached_sources.sets.ntrex(("eng", "som"), is_dev=True, n_lines=N_NEWS)
    vectors = cached_sources.embed(news.name, news.by_language)
    remembered = Remembered(
        lines,
        cached_sources.embed("tico-19-words", {"so": nearly}),
        {"en": vectors["eng"], "so": vectors["som"]},
    )
    runs = [recalled(remembered, "so", N_PAIRS, seed) for seed in range(2)]
    change = {key: np.mean([run[key][1] - run[key][0] for run in runs]) for key in runs[0]}
    assert change["a remembered source", "English"] > 5.0
    assert change["the same, one word in 5 left out", "English"] > 5.0
    # A text of a hundred is a point.
    assert change["news", "English"] > -2.0
    assert change["another text of the domain", "English"] > -2.0


def test_examples_in_english_move_labels_of_other_languages(cached_sources: Sources) -> None:
    adapter = cached_sources.shipped_adapter()
    given, given_labels = cached_sources.sets.sib_examples(EXAMPLES)
    texts, gold = cached_sources.sets.sib_dev(JUDGED)
    labels = tuple(sorted(set(gold)))
    labelled = cached_sources.labelled(gold, {label: label for label in gold})
    task = ExampleTask(
        adapter, labels, adapter.transform_many(labelled.prototypes),
        cached_sources.embed("sib-train", {EXAMPLES: given}),
        np.array([labels.index(label) for label in given_labels]),
        stored_by_language(adapter, cached_sources.embed("sib-dev", texts)), labelled.gold,
    )  # fmt: skip
    plain = np.mean(list(task.right(np.zeros(0, dtype=np.int64), "").values()))
    after = [np.mean([list(run.values()) for run in task.drawn(n, EXAMPLES, 3)]) for n in (1, 20)]
    assert after[1] > plain + 2.0
    assert after[0] > plain - 2.0


def test_the_page_takes_the_figures_again() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(SECTION.begin) == 1
    before, _, rest = page.partition(SECTION.begin)
    after = rest.partition(SECTION.end)[2]
    again = SECTION.written(page, ["the figures"])
    assert again.startswith(before)
    assert again.endswith(after)
    assert again[len(before) : len(again) - len(after)].split("\n") == [
        SECTION.begin,
        "",
        "the figures",
        "",
        SECTION.end,
    ]
