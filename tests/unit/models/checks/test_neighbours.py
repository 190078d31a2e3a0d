"""Neighbours that stay: whole and in blocks the same, however many copies of a text there are, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from toy_languages import unit

from alignstream.models.checks import neighbours
from alignstream.models.checks.neighbours import N_NEIGHBOURS, SAME_COSINE, neighbours_kept


@pytest.mark.parametrize("n", [2, 12, 60])
def test_it_is_what_its_definition_says_whatever_the_block(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(n)
    before = unit(rng.standard_normal((n, 16)))
    after = unit(before + 0.2 * rng.standard_normal((n, 16)))
    k, kept = min(N_NEIGHBOURS, n - 1), []
    for row in range(n):
        others = np.delete(np.arange(n), row)
        known = before[others] @ before[row]
        nearest = np.argsort(-(after[others] @ after[row]))[:k]
        kept.append((known[nearest] >= np.sort(known)[-k] - SAME_COSINE).mean())
    for n_cells in (1, 5 * n, 10**6):
        monkeypatch.setattr(neighbours, "_BLOCK_CELLS", n_cells)
        assert neighbours_kept(before, after) == pytest.approx(np.mean(kept), abs=1e-12)
        assert neighbours_kept(before, before) == 1.0


def test_of_near_copies_it_does_not_count_which_come_first() -> None:
    rng = np.random.default_rng(0)
    texts = unit(rng.standard_normal((8, 24)))
    copies = unit(np.repeat(texts, 20, axis=0) + 1e-4 * rng.standard_normal((160, 24)))
    assert neighbours_kept(copies, unit(copies + 1e-4 * rng.standard_normal(copies.shape))) == 1.0
    # The nearest of what looks are the copies of another text.
    assert neighbours_kept(copies, copies, queries=np.roll(copies, 20, axis=0)) < 0.1


def test_a_single_text_has_no_neighbour_to_lose() -> None:
    x = np.ones((1, 4), dtype=np.float32) / 2
    assert neighbours_kept(x, -x) == 1.0


def test_it_needs_no_matrix_of_all_texts_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_CELLS", 100_000)
    X = unit(np.random.default_rng(7).standard_normal((4000, 8)))
    tracemalloc.start()
    neighbours_kept(X, X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All similarities take 64 MB.
    assert peak < 4 * 1024 * 1024
