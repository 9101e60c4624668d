from __future__ import annotations

import math

import pytest

from plumbline.core.statistics import mean, proportion, standard_deviation


def test_wilson_interval_matches_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    common, none = proportion(81, 263), proportion(0, 20)

    assert (common.low, common.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_nothing_measured_is_nothing_known() -> None:
    estimate = proportion(0, 0)

    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_mean_and_its_interval() -> None:
    """1, 2, 3: sd 1, standard error 1/sqrt(3) = 0.57735, times 1.95996 is 1.13159."""
    estimate = mean([1.0, 2.0, 3.0])

    assert estimate.value == 2.0
    assert estimate.high - estimate.value == pytest.approx(1.13159, abs=1e-5)
    assert standard_deviation([5.0]) == 0.0
