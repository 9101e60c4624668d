"""Expected best and median of N responses against every subset of them."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.evaluation.temperatures.best_of_n import expected_max, expected_median


def test_hand_worked_values() -> None:
    """Rewards 4, 1, 2. Pairs (1, 2), (1, 4), (2, 4): best 2, 4, 4, on average 10/3; middle 1.5, 2.5
    and 3, on average 7/3. Singly 7/3; all three: best 4, median 2."""
    rewards = np.array([[4.0, 1.0, 2.0]])

    assert [expected_max(rewards, n).item() for n in (1, 2, 3)] == pytest.approx([7 / 3, 10 / 3, 4])
    assert [expected_median(rewards, n).item() for n in (1, 2, 3)] == pytest.approx(
        [7 / 3, 7 / 3, 2]
    )


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_mean_over_all_subsets(n: int) -> None:
    rewards = np.random.default_rng(n).normal(size=(3, 7)).round(1)  # rounded, for some ties

    subsets = [list(itertools.combinations(row, n)) for row in rewards.tolist()]
    best = [statistics.fmean(map(max, of_row)) for of_row in subsets]
    median = [statistics.fmean(map(statistics.median, of_row)) for of_row in subsets]

    assert expected_max(rewards, n).tolist() == pytest.approx(best, abs=1e-12)
    assert expected_median(rewards, n).tolist() == pytest.approx(median, abs=1e-12)


def test_fewer_of_more_responses_expect_the_same_as_all_of_fewer() -> None:
    """Unbiased: over many sets of 20, the best of 5 is on average the best of sets of 5."""
    rewards = np.random.default_rng(0).normal(size=(20_000, 20))

    of_twenty, of_five = expected_max(rewards, 5), rewards[:, :5].max(axis=1)

    # The two means differ by a standard error of 0.005; the best of 5 normal deviates is 1.163.
    assert of_twenty.mean() == pytest.approx(1.163, abs=0.01)
    assert of_twenty.mean() == pytest.approx(of_five.mean(), abs=0.02)
    assert of_twenty.std() < of_five.std()


def test_many_responses_do_not_overflow() -> None:
    rewards = np.arange(1.0, 1025.0)[None]

    # The largest of n without replacement out of 1 to M is on average n (M + 1) / (n + 1).
    assert expected_max(rewards, 512).item() == pytest.approx(512 * 1025 / 513)
    assert expected_median(rewards, 512).item() == pytest.approx(1025 / 2)


@pytest.mark.parametrize("n", [0, 4])
def test_a_subset_has_one_to_all_responses(n: int) -> None:
    rewards = np.ones((2, 3))

    with pytest.raises(InvalidInputError, match=f"n={n} of 3 responses; accepted: 1 to 3"):
        expected_max(rewards, n)
    with pytest.raises(InvalidInputError, match=f"n={n} of 3 responses; accepted: 1 to 3"):
        expected_median(rewards, n)
