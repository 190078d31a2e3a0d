"""Sections that programs write: only what stands between the markers changes."""

import pytest

from alignstream.export.figures.marked_section import MarkedSection
from alignstream.models.errors import AlignstreamError

SECTION = MarkedSection("## Figures", "<!-- begin -->", "<!-- end -->")


def test_the_section_is_put_at_the_end_of_a_page_and_then_only_replaced() -> None:
    page = SECTION.written("# Page\n\nText.\n", ["| a |"])
    assert page == f"# Page\n\nText.\n\n{SECTION.heading}\n\n{SECTION.begin}\n\n| a |\n\n{SECTION.end}\n"
    later = page.replace("Text.", "Other text.") + "\n## After\n"
    again = SECTION.written(later, ["| b |"])
    assert again == later.replace("| a |", "| b |")
    assert SECTION.written(f"{SECTION.heading}\n", ["c"]).count(SECTION.heading) == 1


@pytest.mark.parametrize(
    "page",
    [
        SECTION.begin,
        SECTION.end,
        f"{SECTION.end}\n{SECTION.begin}",
        f"{SECTION.begin}\n{SECTION.end}\n{SECTION.begin}\n{SECTION.end}",
    ],
)
def test_markers_that_do_not_pair_are_refused(page: str) -> None:
    with pytest.raises(AlignstreamError, match="once each"):
        SECTION.written(page, [])
