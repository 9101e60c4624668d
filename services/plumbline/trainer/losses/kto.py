"""Kahneman-Tversky optimisation: single responses, each desirable or not.

Legend: B responses.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reference_point(mismatched_logratios: Tensor) -> Tensor:
    """The divergence from the reference that gains are seen against; at least 0, no gradient.

    Args:
        mismatched_logratios: [B] log p - log p_ref of responses that belong to other prompts.
    Source: Ethayarajh et al. 2024, arXiv:2402.01306, section 4.2.
    """
    return mismatched_logratios.detach().mean().clamp_min(0.0)


def kto_loss(
    logratios: Tensor,
    desirable: Tensor,
    point: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Per-response loss: the weight times one minus the value of what was gained.

    Args:
        logratios: [B] log p - log p_ref of the responses, nats.
        desirable: [B], True where the response is a good one.
        point: scalar of `reference_point`.
        beta: above 0; how fast gains saturate.
    Returns:
        losses [B].
    Source: Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8.
    """
    gains = beta * torch.where(desirable, logratios - point, point - logratios)
    weights = torch.where(desirable, desirable_weight, undesirable_weight)
    return weights * (1 - gains.sigmoid())
