"""Temperature and calibration error of reward models, against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from plumbline.trainer.calibration import (
    TEMPERATURES,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    score_deciles,
)


def test_temperature_matches_a_hand_worked_optimum() -> None:
    # Three of four pairs are right by 2: sigmoid(2 / T) has to be 3/4, so T = 2 / ln 3.
    assert fit_temperature(tensor([2.0, 2.0, 2.0, -2.0])) == pytest.approx(2 / math.log(3))


def test_temperature_undoes_a_stretch() -> None:
    # Labels drawn from sigmoid(lead); leads reported three times too large.
    generator = torch.Generator().manual_seed(0)
    leads = torch.randn(20_000, generator=generator)
    right = torch.rand(20_000, generator=generator) < torch.sigmoid(leads.abs())
    signed = torch.where(right, leads.abs(), -leads.abs())

    # The standard error of 1 / T is about 1 / sqrt(20000 * 0.15) = 0.018 at T = 1, so 0.06 at 3.
    assert fit_temperature(3 * signed) == pytest.approx(3.0, abs=0.2)


def test_temperature_is_the_best_of_a_fine_grid() -> None:
    leads = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3
    grid = torch.linspace(0.1, 10, 9901, dtype=torch.float64)
    losses = -F.logsigmoid(leads[None] / grid[:, None]).mean(dim=1)

    assert fit_temperature(leads) == pytest.approx(float(grid[losses.argmin()]), abs=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_leads_that_no_temperature_explains_end_at_the_bounds(size: float) -> None:
    assert fit_temperature(size * tensor([-1.0, -2.0, 1.0])) == TEMPERATURES[1]
    if size >= 1:
        assert fit_temperature(size * tensor([1.0, 2.0])) == TEMPERATURES[0]


def test_calibration_error_matches_hand_worked_bins() -> None:
    """sigmoid(ln 3) = 0.75 and sigmoid(ln 9) = 0.9.

    1. Three of four right at 0.75: no error. At 0.9: |0.9 - 0.75| = 0.15.
    2. One right at 0.75 and one wrong at 0.9: (0.25 + 0.9) / 2 = 0.575.
    3. A tie is half right at 0.5: no error.
    """
    pattern = tensor([1.0, 1.0, 1.0, -1.0])

    assert expected_calibration_error(math.log(3) * pattern) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(math.log(9) * pattern) == pytest.approx(0.15)
    two = tensor([math.log(3), -math.log(9)])
    assert expected_calibration_error(two) == pytest.approx(0.575)
    assert expected_calibration_error(tensor([0.0])) == 0.0


def test_each_half_is_scaled_by_the_other() -> None:
    # Even and odd pairs alike are right three times of four, by ln 9: T = ln 9 / ln 3 = 2.
    leads = math.log(9) * tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0] * 5)

    found = calibrate(leads)

    assert found is not None
    assert found.temperature == pytest.approx(2.0)
    assert found.error == pytest.approx(0.15)
    assert found.scaled_error == pytest.approx(0, abs=1e-6)
    # Odd pairs stretched tenfold: each half gets the wrong temperature, 20 and 2.
    leads[1::2] *= 10
    apart = calibrate(leads)
    assert apart is not None
    # sigmoid(ln 9 / 20) = 0.527437; 9^(10 / 2) leaves 1 of 59050 doubts.
    expected = (abs(0.527437 - 0.75) + abs(59049 / 59050 - 0.75)) / 2
    assert apart.scaled_error == pytest.approx(expected, abs=1e-5)


def test_few_pairs_leave_scores_as_they_are() -> None:
    assert calibrate(torch.ones(19)) is None
    assert calibrate(torch.ones(20)) is not None


def test_deciles_divide_held_out_scores_into_tenths() -> None:
    # 41 scores 0 to 40, in any order: the tenths lie 4 apart.
    scores = torch.arange(41.0)[torch.randperm(41, generator=torch.Generator().manual_seed(0))]
    assert score_deciles(scores) == pytest.approx(tuple(range(4, 40, 4)))
    assert score_deciles(torch.arange(39.0)) is None
