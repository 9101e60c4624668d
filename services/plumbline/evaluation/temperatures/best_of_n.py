"""Expected best and median reward of N responses, from M >= N of them.

The mean over all subsets of N out of the M responses, without drawing one. Unlike the maximum of
the first N it uses every response, and unlike N draws with replacement it is unbiased.

Shapes: P prompts, M responses to each.

Source: for the maximum Tang et al. 2020, arXiv:2004.13705; pass@k in Chen et al. 2021,
arXiv:2107.03374, equation 1, is its case of rewards 0 and 1. What it is taken of: Llama 2,
arXiv:2307.09288, figures 7 and 8.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import InvalidInputError

Floats = NDArray[np.float64]


def expected_max(rewards_PM: Floats, n: int) -> Floats:
    """Expected highest reward of n responses.

    Args:
        rewards_PM: [P, M], in any order.
        n: 1 to M.
    Returns:
        [P]
    Raises:
        InvalidInputError: n is out of range.
    """
    samples = rewards_PM.shape[1]
    _check(samples, n)
    return _weighted(rewards_PM, _order_statistic_weights(samples, n, n))


def expected_median(rewards_PM: Floats, n: int) -> Floats:
    """Expected median reward of n responses: of an even n, the mean of the two in the middle.

    Args, returns and raises as `expected_max`.
    """
    samples = rewards_PM.shape[1]
    _check(samples, n)
    lower = _order_statistic_weights(samples, n, (n + 1) // 2)
    upper = _order_statistic_weights(samples, n, n // 2 + 1)
    return _weighted(rewards_PM, (lower + upper) / 2)


def _check(samples: int, n: int) -> None:
    if not 1 <= n <= samples:
        raise InvalidInputError(f"n={n} of {samples} responses; accepted: 1 to {samples}")


def _weighted(rewards_PM: Floats, weights: Floats) -> Floats:
    # Not a matrix product, whose order of summation depends on the number of threads.
    result: Floats = (np.sort(rewards_PM, axis=1) * weights).sum(axis=1)
    return result


@cache
def _order_statistic_weights(samples: int, n: int, rank: int) -> Floats:
    """[M] probabilities that the i-th smallest of M is the rank-th smallest of a subset of n.

    C(i-1, rank-1) C(M-i, n-rank) / C(M, n), in whole numbers until the division.
    """
    subsets = math.comb(samples, n)
    return np.array(
        [
            math.comb(below, rank - 1) * math.comb(samples - 1 - below, n - rank) / subsets
            for below in range(samples)
        ]
    )
