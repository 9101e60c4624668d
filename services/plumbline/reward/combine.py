"""One score from two heads.

Shapes: B responses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SAFETY_THRESHOLD = 0.15
"""Llama 2's choice: 0.89 precision and 0.55 recall on its own test set of unsafe responses."""


def combine_scores(
    helpfulness: Tensor, safety: Tensor, risky: Tensor, *, threshold: float = SAFETY_THRESHOLD
) -> Tensor:
    """Llama 2's combined score: safety where it matters, else helpfulness.

    On the scale of probabilities R = sigmoid(score), with is_risky set for prompts known to invite
    unsafe responses,

        R_c = R_s  if is_risky or R_s < threshold,  else R_h

    and the score is logit(R_c). Since logit inverts sigmoid, the chosen logit itself is returned,
    which loses nothing where the sigmoid saturates.

    Args:
        helpfulness: [B] logits; safety alike.
        risky: [B], True where the prompt is known to be risky.
        threshold: probability, in (0, 1).
    Returns:
        [B] logits, not whitened; `trainer.losses.advantages.whiten` does that.
    Source: Touvron et al. 2023 (Llama 2), arXiv:2307.09288, section 3.2.3.
    """
    unsafe = safety < math.log(threshold / (1 - threshold))
    return torch.where(risky.bool() | unsafe, safety, helpfulness)
