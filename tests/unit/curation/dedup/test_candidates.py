"""Candidate pairs of one band: all of a small group, linear work for a large one."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.curation.dedup.candidates import (
    LARGEST_FULL_GROUP,
    candidate_pairs,
    unique_pairs,
)


def band(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def test_by_hand() -> None:
    assert candidate_pairs(band([7, 3, 7, 9, 3, 7])).tolist() == [[0, 2], [0, 5], [1, 4], [2, 5]]


def test_nothing_in_common() -> None:
    for values in ([], [4], [1, 2, 3]):
        assert candidate_pairs(band(values)).shape == (0, 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=LARGEST_FULL_GROUP))
def test_small_groups_give_every_pair(values: list[int]) -> None:
    expected = [
        [i, j] for i, j in itertools.combinations(range(len(values)), 2) if values[i] == values[j]
    ]

    assert candidate_pairs(band(values)).tolist() == expected


def test_a_large_group_costs_two_pairs_a_row() -> None:
    """40 rows: 39 with the first, 39 with the next, of which (0, 1) is both."""
    found = candidate_pairs(band([1] * 40 + [2, 2]))

    assert len(found) == 39 + 38 + 1
    assert {tuple(pair) for pair in found.tolist()} == (
        {(0, j) for j in range(1, 40)} | {(j, j + 1) for j in range(39)} | {(40, 41)}
    )


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.integers(0, 2), min_size=2, max_size=150),
    seed=st.integers(0, 1000),
)
def test_with_a_rank_the_order_of_rows_does_not_matter(values: list[int], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(len(values))
    rank = np.arange(len(values))

    plain = candidate_pairs(band(values), rank)
    moved = candidate_pairs(band(values)[shuffled], rank[shuffled])
    assert np.array_equal(unique_pairs([np.sort(shuffled[moved], axis=1)], len(values)), plain)


def test_the_centre_of_a_large_group_is_the_best_ranked() -> None:
    rank = np.arange(50)[::-1].copy()

    assert {(i, 49) for i in range(49)} <= {
        (i, j) for i, j in candidate_pairs(band([5] * 50), rank).tolist()
    }


def test_pairs_of_several_bands_are_joined_once() -> None:
    parts = [np.array([[1, 2], [0, 3]]), np.array([[1, 2]])]

    assert unique_pairs(parts, 4).tolist() == [[0, 3], [1, 2]]
    assert unique_pairs([], 4).shape == (0, 2)
