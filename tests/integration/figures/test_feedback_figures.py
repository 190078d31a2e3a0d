"""The page's figures on what feedback changes are those of its command, on real text, where it is here."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from alignstream.export.figures.feedback_figures import (
    EXAMPLE_SEEDS,
    N_PAIRS,
    SECTION,
    SEEDS,
    label_table,
)
from alignstream.export.figures.feedback_labels import command_examples
from alignstream.export.figures.feedback_memory import recalled, remembered
from alignstream.export.figures.feedback_pairs import (
    LOW_RESOURCE,
    Searched,
    search_after,
    search_lines,
    tico,
)
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.shipped import packaged_adapter

PAGE = Path(__file__).parents[3] / "docs/pages/measurements/feedback.md"
#: Encoders on other machines differ in the last bits: a text or two of a hundred may fall to another side.
MAX_POINTS = 1.5


def rows(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the cells of all rows by their first one."""
    found = {}
    for line in lines:
        if line.startswith("|"):
            first, *cells = [cell.strip() for cell in line.strip("|\n").split("|")]
            found[first] = cells
    return found


@pytest.fixture(scope="module")
def page() -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    return rows(text[text.index(SECTION.begin) : text.index(SECTION.end)].splitlines())


def test_the_figures_of_pairs_are_those_of_the_page(
    cached_sources: Sources, page: dict[str, list[str]]
) -> None:
    adapter = packaged_adapter(cached_sources.encoder)
    assert adapter is not None
    lines = tico(cached_sources, adapter)
    # One language tells whether the way is still the same; all take minutes.
    language = "om"
    told = [float(cell) for cell in page[language]]
    plain = search_lines(lines, language, None)
    made = [plain, *(Searched.mean(search_after(lines, language, n, seeds=SEEDS)) for n in N_PAIRS[:2])]
    n = 1 + len(N_PAIRS)
    for place, item in enumerate(made):
        assert item.to_english == pytest.approx(told[place], abs=MAX_POINTS)
        assert item.from_english == pytest.approx(told[n + place], abs=MAX_POINTS)
    assert set(LOW_RESOURCE) <= page.keys()


def test_the_figures_of_the_memory_hold_for_a_language(cached_sources: Sources) -> None:
    adapter = packaged_adapter(cached_sources.encoder)
    assert adapter is not None
    runs = [
        recalled(remembered(cached_sources, tico(cached_sources, adapter)), "so", 100, seed)
        for seed in range(2)
    ]
    change = {key: np.mean([run[key][1] - run[key][0] for run in runs]) for key in runs[0]}
    assert change["a remembered source", "English"] > 5.0
    assert change["the same, one word in 5 left out", "English"] > 5.0
    assert change["news", "English"] > -0.7
    assert change["another text of the domain", "English"] > -0.7


def test_the_figures_of_label_examples_are_those_of_the_page(
    cached_sources: Sources, page: dict[str, list[str]]
) -> None:
    adapter = packaged_adapter(cached_sources.encoder)
    assert adapter is not None
    made = rows(label_table(command_examples(cached_sources, adapter), "Label examples, xSID", EXAMPLE_SEEDS))
    examples = [name for name in made if re.fullmatch(r"\d+, en", name)]
    assert len(examples) == 3
    for name in examples:
        assert float(made[name][0]) == pytest.approx(float(page[name][0]), abs=MAX_POINTS)


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
