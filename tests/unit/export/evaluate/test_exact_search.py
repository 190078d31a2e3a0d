"""Exact search: what brute force finds, in bounded memory; the corrections of scores are what they are defined as."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_languages import quarters, unit

from alignstream.export.evaluate import exact_search
from alignstream.export.evaluate.exact_search import (
    Centred,
    Stacked,
    csls_penalty,
    hubness,
    search,
    stream_blocks,
)
from alignstream.models.arrays import Matrix
from alignstream.models.errors import SearchError


def whole_centred(X: Matrix) -> Matrix:
    return Centred(X)[0 : len(X)]


def whole_stream(Q: Matrix, index: Matrix) -> Matrix:
    return np.concatenate(list(stream_blocks(Q, index)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_search_in_blocks_is_the_search_by_brute_force_with_ties_to_the_lowest_index(
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n_queries, n_candidates = data.draw(st.integers(1, 40)), data.draw(st.integers(2, 60))
    Q, C = quarters(rng, n_queries), quarters(rng, n_candidates)
    penalty = data.draw(st.sampled_from([None, (rng.integers(0, 3, n_candidates) / 16).astype(np.float32)]))
    exclude = data.draw(st.sampled_from([None, rng.integers(0, n_candidates, n_queries)]))
    k = data.draw(st.integers(1, n_candidates - (exclude is not None)))
    block_bytes = data.draw(st.integers(1, 40_000))

    expected = Q @ C.T
    if penalty is not None:
        expected -= penalty
    if exclude is not None:
        expected[np.arange(n_queries), exclude] = -np.inf
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    found, scores = search(Q, C, k, block_bytes=block_bytes, penalty=penalty, exclude=exclude)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, order, axis=1))


def test_a_search_needs_little_more_than_its_block() -> None:
    rng = np.random.default_rng(0)
    Q, C = unit(rng.standard_normal((600, 24))), unit(rng.standard_normal((40_000, 24)))
    block_bytes = 2 * 1024 * 1024
    tracemalloc.start()
    found, _ = search(Q, C, 10, block_bytes=block_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All similarities at once would take 96 MB.
    assert peak < 2 * block_bytes + 3 * found.nbytes
    np.testing.assert_array_equal(found[:5, 0], (Q[:5] @ C.T).argmax(axis=1))


def test_what_cannot_be_searched_is_refused() -> None:
    X = quarters(np.random.default_rng(0), 5)
    with pytest.raises(SearchError, match="the 6 nearest of only 5"):
        search(X, X, 6)
    with pytest.raises(SearchError, match="the 5 nearest of only 4"):
        search(X, X, 5, exclude=np.arange(5))
    with pytest.raises(SearchError, match="do not go together"):
        search(X, X[:, :3], 1)
    with pytest.raises(SearchError, match="penalty of shape"):
        search(X, X, 1, penalty=np.zeros(4, dtype=np.float32))
    broken = X.copy()
    broken[3, 0] = np.nan
    with pytest.raises(SearchError, match="not finite"):
        search(X, broken, 1)


def test_rows_that_are_made_where_they_are_read_are_found_as_arrays_are() -> None:
    rng = np.random.default_rng(4)
    parts = [quarters(rng, n) for n in (7, 1, 0, 30)]
    whole = np.concatenate(parts)
    stacked = Stacked(parts)
    assert (stacked.shape, len(stacked), stacked.starts) == ((38, 16), 38, [0, 7, 8, 8])
    for start in range(39):
        for stop in range(start, 39):
            np.testing.assert_array_equal(stacked[start:stop], whole[start:stop])
    for block_bytes in (100, 3000, 1 << 20):
        for expected, found in zip(
            search(whole, whole, 3),
            search(whole, stacked, 3, block_bytes=block_bytes),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)
    X = unit(rng.standard_normal((50, 8)) + 2.0)
    np.testing.assert_array_equal(Centred(X)[10:30], whole_centred(X)[10:30])
    np.testing.assert_array_equal(
        search(Centred(X), Centred(X), 4, block_bytes=2000)[0],
        search(whole_centred(X), whole_centred(X), 4)[0],
    )


def test_centred_rows_need_no_copy_of_their_list() -> None:
    X = unit(np.random.default_rng(5).standard_normal((40_000, 64)) + 1.0)
    block_bytes = 1024 * 1024
    tracemalloc.start()
    search(X[:2], Centred(X), 1, block_bytes=block_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside X: blocks of rows, and their norms. A copy would take 10 MB, however few the queries are.
    assert peak < 0.8 * X.nbytes


def test_csls_orders_candidates_as_its_definition_does() -> None:
    rng = np.random.default_rng(1)
    Q, C = unit(rng.standard_normal((40, 8))), unit(rng.standard_normal((50, 8)))
    cosines = Q.astype(np.float64) @ C.T
    r_query = np.sort(cosines, axis=1)[:, -10:].mean(axis=1, keepdims=True)
    r_candidate = np.sort(cosines, axis=0)[-10:].mean(axis=0)
    expected = (2 * cosines - r_query - r_candidate).argmax(axis=1)
    found, _ = search(Q, C, 1, penalty=csls_penalty(C, Q))
    np.testing.assert_array_equal(found[:, 0], expected)
    np.testing.assert_allclose(hubness(C, Q), r_candidate, atol=1e-6)
    assert hubness(C, Q[:3]).shape == (50,)


def test_centring_a_list_removes_its_mean_and_changes_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    X = unit(np.random.default_rng(2).standard_normal((50, 8)) + 2.0)
    before = X.copy()
    whole = whole_centred(X)
    np.testing.assert_allclose(whole, unit(X - X.mean(axis=0)), atol=1e-6)
    np.testing.assert_array_equal(X, before)
    monkeypatch.setattr(exact_search, "_ROWS", 7)
    np.testing.assert_array_equal(whole_centred(X), whole)
    same = np.tile(X[:1], (3, 1))
    np.testing.assert_array_equal(whole_centred(same), same)


def test_a_query_of_a_stream_sees_earlier_queries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_search, "_ROWS", 7)
    rng = np.random.default_rng(3)
    Q, index = unit(rng.standard_normal((40, 8)) + 1.0), unit(rng.standard_normal((30, 8)))
    found = whole_stream(Q, index)
    goal = index.mean(axis=0, dtype=np.float64)
    for t in (0, 1, 6, 7, 8, 39):
        mean = Q[:t].mean(axis=0, dtype=np.float64) if t else goal
        expected = Q[t] - t / (t + 20.0) * (mean - goal)
        np.testing.assert_allclose(found[t], expected / np.linalg.norm(expected), atol=1e-6)
    changed = Q.copy()
    changed[20:] = changed[20:][::-1]
    np.testing.assert_array_equal(whole_stream(changed, index)[:20], found[:20])
