from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.retriever.search.diversity import most_diverse
from plumbline.retriever.search.fusion import best_first, filled_up, reciprocal_rank_fusion


def test_ranks_are_summed_with_their_weights() -> None:
    """Row 7 is first and second: 1/61 + 0.5/62 = 0.0244579; row 3 second and first:
    1/62 + 0.5/61 = 0.0243258; row 9 is third in one ranking only: 0.5/63 = 0.0079365."""
    rows, scores = reciprocal_rank_fusion(
        [np.array([7, 3]), np.array([3, 7, 9])], (1.0, 0.5), rrf_k=60
    )

    assert rows.tolist() == [7, 3, 9]
    assert scores == pytest.approx([0.0244579, 0.0243258, 0.0079365], abs=1e-7)


def test_equal_sums_go_by_row() -> None:
    rows, scores = reciprocal_rank_fusion(
        [np.array([5, 2]), np.array([2, 5])], (1.0, 1.0), rrf_k=60
    )

    assert rows.tolist() == [2, 5]
    assert scores[0] == scores[1]


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 45))
def test_the_best_come_first_and_ties_in_order_of_rows(scores: list[int], limit: int) -> None:
    rows = np.arange(100, 100 + len(scores))

    found, found_scores = best_first(rows, np.array(scores, dtype=np.float32), limit)

    expected = sorted(zip(rows.tolist(), scores, strict=True), key=lambda pair: (-pair[1], pair[0]))
    assert list(zip(found.tolist(), found_scores.tolist(), strict=True)) == expected[:limit]


def test_a_short_ranking_is_filled_up_with_the_first_rows_that_it_lacks() -> None:
    rows, scores = filled_up(np.array([7, 2]), np.array([0.9, 0.5]), np.arange(1, 9), 5)

    assert rows.tolist() == [7, 2, 1, 3, 4]
    assert scores.tolist() == [0.9, 0.5, 0, 0, 0]
    assert filled_up(rows, scores, np.arange(1, 9), 3)[0] is rows


def test_diversity_prefers_what_is_unlike_those_before() -> None:
    """After the first pick the second candidate has relevance 0.9 and cosine 1 with it, the third
    0 and 0; with diversity 0.5 that is 0.45 - 0.5 = -0.05 against 0 - 0 = 0."""
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    scores = np.array([1.0, 0.9, 0.0])

    assert most_diverse(vectors, scores, 3, 0.5).tolist() == [0, 2, 1]
    assert most_diverse(vectors, scores, 3, 0.4).tolist() == [0, 1, 2]


def test_equally_relevant_candidates_are_picked_in_their_order() -> None:
    vectors = np.eye(3, dtype=np.float32)

    assert most_diverse(vectors, np.ones(3), 2, 0.7).tolist() == [0, 1]
    assert most_diverse(vectors[:0], np.ones(0), 2, 0.7).tolist() == []
