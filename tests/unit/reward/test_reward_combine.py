"""Llama 2's combined score, against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
from torch import tensor
from torch.testing import assert_close

from plumbline.reward.combine import combine_scores


def test_combined_scores_match_the_papers_formula() -> None:
    """On the scale of probabilities, with logit(p) = ln(p / (1 - p)):

    1. R_s = 0.6, not risky: 0.6 >= 0.15, so R_h = 0.9 counts.
    2. R_s = 0.6, risky: R_s counts.
    3. R_s = 0.1 < 0.15, not risky: R_s counts.
    4. R_s = 0.2, not risky: R_h = 0.9 counts.
    """
    probabilities_h = tensor([0.9, 0.9, 0.9, 0.9])
    probabilities_s = tensor([0.6, 0.6, 0.1, 0.2])
    risky = tensor([False, True, False, False])

    combined = combine_scores(probabilities_h.logit(), probabilities_s.logit(), risky)

    assert_close(combined, tensor([0.9, 0.6, 0.1, 0.9]).logit())
    assert combined[2].item() == pytest.approx(math.log(1 / 9), abs=1e-5)


def test_combined_scores_survive_logits_whose_sigmoid_saturates() -> None:
    combined = combine_scores(tensor([800.0, 5.0]), tensor([40.0, -800.0]), tensor([False, False]))
    assert combined.tolist() == [800.0, -800.0]


def test_the_threshold_is_an_argument() -> None:
    # sigmoid(0) = 0.5 is below 0.6 and not below 0.5.
    scores = tensor([3.0]), tensor([0.0]), tensor([False])
    assert combine_scores(*scores, threshold=0.6).item() == 0.0
    assert combine_scores(*scores, threshold=0.5).item() == 3.0
