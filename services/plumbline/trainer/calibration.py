"""How far a reward model's scores can be read as probabilities, and what makes them so.

A lead is the score of the chosen response less that of the rejected one. Divided by the
temperature T, the sigmoid of a lead is the probability that people prefer the response that it
favours; a margin in the loss stretches the leads, and T takes the stretch out again.

Legend: B held-out pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURES = (0.05, 20.0)
"""Bounds of the fitted temperature, which leads that are all right, or mostly wrong, run into."""
MINIMUM_PAIRS = 20
"""Below this no temperature is fitted: 1 stays."""
_BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """The temperature of all held-out pairs, and the calibration error before and after."""

    temperature: float
    error: float
    """Expected calibration error of the scores as they are, in [0, 0.5]."""
    scaled_error: float
    """The same after scaling, each half of the pairs by the temperature of the other half."""


def calibrate(leads: Tensor) -> Calibration | None:
    """Fit the temperature to leads [B]; None where there are too few to say."""
    if len(leads) < MINIMUM_PAIRS:
        return None
    leads = leads.double()
    even, odd = leads[0::2], leads[1::2]
    scaled = torch.cat([even / fit_temperature(odd), odd / fit_temperature(even)])
    return Calibration(
        temperature=fit_temperature(leads),
        error=expected_calibration_error(leads),
        scaled_error=expected_calibration_error(scaled),
    )


def score_deciles(scores: Tensor) -> tuple[float, ...] | None:
    """The nine bounds that divide held-out scores into ten equal parts.

    What a model in service scores is compared with them to notice drift.

    Args:
        scores: [B] of held-out responses.
    Returns:
        Rising; None below twice `MINIMUM_PAIRS` scores, which say too little.
    """
    if len(scores) < 2 * MINIMUM_PAIRS:
        return None
    shares = torch.arange(1, 10, dtype=torch.float64) / 10
    return tuple(scores.double().quantile(shares).tolist())


def fit_temperature(leads: Tensor) -> float:
    """The T that makes the held-out pairs most likely: the least mean of -log sigmoid(lead / T).

    Newton's method on 1 / T, in which the loss is convex, within a bracket that each step narrows.

    Args:
        leads: [B], at least one.
    Returns:
        T, within `TEMPERATURES`.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2, for the logit of a pair.
    """
    leads = leads.double()
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if _slope(leads, low) >= 0:
        return TEMPERATURES[1]
    if _slope(leads, high) <= 0:
        return TEMPERATURES[0]
    scale = 1.0
    # Each step that Newton would take out of the bracket halves it, so this is more than enough.
    for _ in range(100):
        slope = _slope(leads, scale)
        low, high = (scale, high) if slope < 0 else (low, scale)
        step = scale - slope / max(_curvature(leads, scale), 1e-300)
        if not low < step < high:
            step = (low + high) / 2
        if abs(step - scale) <= 1e-12 * scale:
            break
        scale = step
    return 1 / scale


def expected_calibration_error(leads: Tensor) -> float:
    """Mean distance between stated and actual accuracy, over bins of stated confidence.

    The confidence of a pair is sigmoid(|lead|), from 0.5 to 1; it is right where the lead is
    above 0, and half right at 0.

    Args:
        leads: [B], at least one.
    Returns:
        the error, from 0 to 0.5 for confidences that are too high, to 1 at most.
    Source: Guo et al. 2017, arXiv:1706.04599, equation 3, with 10 bins of equal width.
    """
    leads = leads.double()
    confidence = torch.sigmoid(leads.abs())
    right = (leads > 0).double() + 0.5 * (leads == 0).double()
    bins = ((confidence - 0.5) * 2 * _BINS).long().clamp_max(_BINS - 1)
    gaps = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, confidence - right)
    return float(gaps.abs().sum() / len(leads))


def _slope(leads: Tensor, scale: float) -> float:
    """Derivative of the mean loss by the scale 1 / T."""
    return -float((leads * torch.sigmoid(-scale * leads)).mean())


def _curvature(leads: Tensor, scale: float) -> float:
    right = torch.sigmoid(scale * leads)
    return float((leads.square() * right * (1 - right)).mean())
