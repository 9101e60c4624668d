"""ROUGE-L against worked sums and a brute-force oracle."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.curation.normalize import tokens
from plumbline.curation.synthesis.rouge import Nearest, RougeIndex, lcs_length, rouge_l

SEQUENCES = st.lists(st.sampled_from("abcde"), max_size=14)


def slow_lcs(left: list[str], right: list[str]) -> int:
    """By the recursion that defines it."""

    @cache
    def longest(i: int, j: int) -> int:
        if i == len(left) or j == len(right):
            return 0
        if left[i] == right[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    return longest(0, 0)


def test_it_matches_hand_worked_values() -> None:
    """LCS "the cat on mat" is 4 of 6 and 5 tokens: F = 2 * 4 / 11.

    In Chinese, 写 一 首 诗 of 写 一 首 关 于 海 的 诗 is 4 of 8 and 4 characters: F = 8 / 12.
    """
    reference = tokens("The cat sat on the mat")
    assert rouge_l(reference, tokens("the cat on a mat")) == pytest.approx(8 / 11)
    assert rouge_l(tokens("写一首关于海的诗"), tokens("写一首诗")) == pytest.approx(8 / 12)
    assert rouge_l(reference, reference) == 1.0
    assert rouge_l(reference, []) == rouge_l([], []) == 0.0
    # Order counts: of "a b" and "b a" one token is common in order.
    assert rouge_l(["a", "b"], ["b", "a"]) == 0.5


@given(SEQUENCES, SEQUENCES)
def test_the_common_subsequence_is_that_of_the_definition(
    left: list[str], right: list[str]
) -> None:
    assert lcs_length(left, right) == slow_lcs(left, right)
    assert rouge_l(left, right) == rouge_l(right, left)


@given(st.lists(SEQUENCES, max_size=12), SEQUENCES, st.sampled_from([0.0, 0.4, 0.7, 1.0]))
def test_the_nearest_is_that_of_a_full_search(
    pool: list[list[str]], query: list[str], at_least: float
) -> None:
    index = RougeIndex()
    for number, sequence in enumerate(pool):
        index.add(str(number), sequence)
    index.discard("3")
    scores = [(rouge_l(s, query), -n) for n, s in enumerate(pool) if n not in (3, 5)]
    reached = [(s, n) for s, n in scores if s >= at_least and s > 0]

    found = index.nearest(query, at_least=at_least, other_than="5")

    expected = None
    if reached:
        score, negative = max(reached)
        expected = Nearest(str(-negative), score)
    assert found == expected


def test_an_empty_index_has_no_nearest() -> None:
    assert RougeIndex().nearest(["a"]) is None


def test_a_long_pair_agrees_with_the_oracle() -> None:
    """More tokens than a machine word has bits."""
    rng = random.Random(5)
    left, right = ([rng.choice("abcdef") for _ in range(n)] for n in (150, 131))
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    assert lcs_length(left, right) == table[-1][-1]
