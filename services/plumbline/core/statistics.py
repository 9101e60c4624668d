"""Estimates with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval and sample size."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def proportion(successes: int, n: int) -> Estimate:
    """Share of successes with Wilson's score interval.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001. With n = 0 nothing is known: 0 to 1.
    """
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    share = successes / n
    scale = 1 + _Z**2 / n
    centre = (share + _Z**2 / (2 * n)) / scale
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / scale
    # At the ends the formula gives the end itself, up to rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high, n)


def mean(values: Sequence[float]) -> Estimate:
    """Mean with the normal interval from the sample's standard deviation."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    centre = math.fsum(values) / n
    half = _Z * standard_deviation(values) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


def standard_deviation(values: Sequence[float]) -> float:
    """Of a sample (n - 1 in the denominator); 0 for fewer than two values."""
    n = len(values)
    if n < 2:
        return 0.0
    centre = math.fsum(values) / n
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1))
