"""The figures of neighbours: damage shows, and what leaves meaning alone is not taken for damage."""

from collections.abc import Iterable

import numpy as np
import pytest
from toy_languages import DIM, ENCODER, LANGUAGES, direction, toy_vectors

from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.export.figures.feedback_pairs import FeedbackLines
from alignstream.export.figures.neighbour_changes import vector_changes
from alignstream.export.figures.neighbour_figures import MAPS, MEMORY, change_table, map_table
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.errors import AlignstreamError

KEYS = ("en-Latn", "de-Latn", "sw-Latn", "ta-Taml")


def shipped() -> Adapter:
    """Return attention over prototypes, and a map, as the shipped adapter has them."""
    means = np.stack([X.mean(axis=0) for X in toy_vectors(60).values()])
    attention = PrototypeAttention(
        means=means, languages=KEYS, counts=(60,) * 4, spreads=np.ones(4, dtype=np.float32), temperature=0.1,
        tag_evidence=4.0, common=0.5,
    )  # fmt: skip
    return Adapter(ENCODER, DIM, (attention, LinearMap(np.eye(DIM, dtype=np.float32))))


def rows(printed: Iterable[str], n_named: int = 1) -> dict[str, list[str]]:
    """Return the cells of all rows by the first ones."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed]
    return {" ".join(row[:n_named]): row[n_named:] for row in cells}


def scored() -> dict[str, ScoredVectors]:
    """Return pairs whose scores follow from what they have in common."""
    shares = np.linspace(0, 1, 40)[:, None]
    own, other = (np.stack([direction(f"{name} {row}") for row in range(40)]) for name in ("own", "other"))
    mixed = shares * own + (1 - shares) * other
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    return {"en": ScoredVectors(own, mixed.astype(np.float32), shares[:, 0])}


def test_damage_shows_and_every_change_is_told() -> None:
    sets = {"news": toy_vectors(40), "few": toy_vectors(30)}
    changes = list(vector_changes(shipped(), LANGUAGES))
    table = rows(change_table(changes, sets, scored(), pivot="en"))
    assert set(table) >= {change.name for change in changes}
    assert len(table) == len(changes) + 2
    destroyed, damaged = table["each text with the vector of another"], table["noise of 0.05 a dimension"]
    kept = table["shipped"]
    assert kept[2] == "0 of 8"
    assert destroyed[2] == "8 of 8"
    assert float(destroyed[3].split(",")[0]) < -50
    assert float(destroyed[0].split()[0]) < float(damaged[0].split()[0]) < float(kept[0].split()[0])
    # The mildest change stands first, the worst last.
    assert list(table)[-1] == "each text with the vector of another"


def test_a_turn_of_a_language_keeps_neighbours_and_loses_translations() -> None:
    table = rows(
        change_table(vector_changes(shipped(), LANGUAGES), {"news": toy_vectors(40)}, scored(), pivot="en")
    )
    turned, kept = table["dimensions shuffled, for each language anew"], table["shipped"]
    assert turned[:2] == kept[:2]
    assert float(turned[3].split(",")[0]) < -50


def test_changes_need_prototypes() -> None:
    with pytest.raises(AlignstreamError, match="no prototypes"):
        next(vector_changes(Adapter(ENCODER, DIM), LANGUAGES))


def test_maps_are_fitted_to_some_lines_and_judged_on_others() -> None:
    lines = FeedbackLines(shipped(), toy_vectors(80))
    table = rows(map_table(lines, languages=("de", "sw"), sizes=(30,)), n_named=2)
    assert list(table)[2:] == [f"{name} 30" for name in (*MAPS, MEMORY)]
    own, turned, loose = (table[f"{name} 30"] for name in ("a tenant's map", "Procrustes", "least squares"))
    assert own[1] == "0 of 2"
    assert turned[0] == "100 (100)"
    # Shuffled pairs cost an orthogonal map its translations, not its neighbours; a map toward 0 loses both.
    assert turned[3] == "100 (100)"
    assert float(turned[5]) < float(turned[2])
    assert loose[4] == "2 of 2"
