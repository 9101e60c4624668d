from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import NotFoundError
from plumbline.data.records import ValueSpec
from plumbline.retriever.search.dense import Rows, Vectors, exact_scores, nearest_rows
from plumbline.retriever.search.filters import FilterColumns, ValueQuery
from plumbline.retriever.search.fusion import best_first
from plumbline.retriever.search.stores import ExactStore

COUNT, WIDTH = 20_000, 64


def unit(rows: np.ndarray) -> Vectors:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, width: int, seed: int) -> Vectors:
    """Unit vectors around 50 centres, so that many scores lie close together."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, width))
    return unit(centres[rng.integers(0, 50, count)] + 0.3 * rng.standard_normal((count, width)))


def brute_force(vectors: Vectors, query: np.ndarray, rows: Rows, k: int) -> list[int]:
    """The k nearest in double precision, summed one row at a time."""
    scores = [float(vectors[row].astype(np.float64) @ query.astype(np.float64)) for row in rows]
    order = sorted(range(len(rows)), key=lambda place: (-scores[place], rows[place]))
    return [int(rows[place]) for place in order[:k]]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.025, 0.005])
def test_the_ten_nearest_are_always_found_under_a_filter(share: float) -> None:
    vectors = clustered(COUNT, WIDTH, seed=1)
    queries = clustered(20, WIDTH, seed=2)
    rng = np.random.default_rng(3)
    for query in queries:
        rows = np.flatnonzero(rng.random(COUNT) < share)

        found = nearest_rows(vectors, query, rows, 10)

        best, _ = best_first(found, exact_scores(vectors, query, found), 10)
        assert best.tolist() == brute_force(vectors, query, rows, 10)
        assert len(found) < 200


def test_a_score_does_not_depend_on_the_rows_beside_it() -> None:
    vectors = clustered(5000, 384, seed=4)
    query = clustered(1, 384, seed=5)[0]
    everything = exact_scores(vectors, query, np.arange(5000))

    for rows in (np.arange(0, 5000, 7), np.array([4999]), np.arange(1023, 1026)):
        assert exact_scores(vectors, query, rows).tolist() == everything[rows].tolist()


def test_duplicates_all_stay_in_the_running() -> None:
    """Single precision may order equal vectors at will, so the margin must keep all of them."""
    vectors = np.repeat(clustered(1, WIDTH, seed=6), 50, axis=0)

    assert nearest_rows(vectors, vectors[0], np.arange(50), 3).tolist() == list(range(50))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 300), limit=st.integers(1, 20))
def test_candidates_hold_the_nearest_and_nothing_else_than_what_is_admitted(
    seed: int, count: int, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    # A coarse grid has many equal and nearly equal scores.
    vectors = unit(rng.integers(-1, 2, (count, 8)) + 1e-7 * rng.standard_normal((count, 8)))
    query = unit(rng.integers(-1, 2, (1, 8)) + 1e-3)[0]
    rows = np.flatnonzero(rng.random(count) < rng.random())

    found = nearest_rows(vectors, query, rows, limit)

    assert set(found.tolist()) <= set(rows.tolist())
    best, _ = best_first(found, exact_scores(vectors, query, found), limit)
    assert best.tolist() == brute_force(vectors, query, rows, limit)


def test_the_store_in_this_process_searches_what_it_was_given() -> None:
    store = ExactStore()
    values = [ValueSpec(id=str(i), text="t", tenant="a" if i % 2 else "b") for i in range(40)]
    vectors = clustered(40, WIDTH, seed=7)
    store.upsert("first", vectors, FilterColumns.of(values))

    found = store.nearest("first", vectors[4], ValueQuery(tenant="a"), 5)

    assert len(found) == 5
    assert all(row % 2 for row in found)
    store.drop("first")
    store.drop("first")
    with pytest.raises(NotFoundError, match="first"):
        store.nearest("first", vectors[4], ValueQuery(), 5)
