"""The page's figures on fitted labels are those of its command, on real text, where it is here."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from alignstream.export.figures import label_figures
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.shipped import packaged_adapter

#: Encoders on other machines differ in the last bits: a text or two of a hundred may fall to another label.
MAX_POINTS = 1.5


def rows_of(lines: Iterable[str]) -> dict[str, list[float]]:
    """Return the rows of tables that hold figures, by their first cell."""
    found = {}
    for line in lines:
        first, *others = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and others and others[0].replace(".", "").isdigit():
            found[first] = [float(cell) for cell in others]
    return found


def test_the_figures_of_the_page_are_those_of_its_command(cached_sources: Sources) -> None:
    adapter = packaged_adapter(cached_sources.encoder)
    assert adapter is not None
    printed = list(label_figures.tables(cached_sources, adapter))
    page = Path(__file__).parents[3] / "docs/pages/measurements/labels.md"
    written = rows_of(page.read_text(encoding="utf-8").splitlines())
    made = rows_of(printed)
    # Both sets have a row of plain labels; the last one is kept.
    assert written.keys() == made.keys()
    assert len(made) > 10
    for name, figures in written.items():
        accuracy = [0] if name.startswith(("plain", "fitted", "and")) else range(len(figures))
        for column in accuracy:
            assert made[name][column] == pytest.approx(figures[column], abs=MAX_POINTS), name
