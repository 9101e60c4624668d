"""Direct preference optimisation and its variants.

Legend: B pairs. A preference logit is how much more the policy's chosen response has gained on the
rejected one than the reference's: (log p - log p_ref)(chosen) - (log p - log p_ref)(rejected).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def preference_logits(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
) -> Tensor:
    """[B] nats, from summed logprobs [B] of the response tokens."""
    policy_logratios = chosen_logprobs - rejected_logprobs
    return policy_logratios - (ref_chosen_logprobs - ref_rejected_logprobs)


def dpo_loss(logits: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Per-pair DPO loss -log sigmoid(beta * logit), or its conservative form.

    Args:
        logits: [B] of `preference_logits`.
        beta: above 0, pull towards the reference policy.
        label_smoothing: assumed share of preferences that point the wrong way, below 0.5.
    Returns:
        losses [B].
    Sources: Rafailov et al. 2023, arXiv:2305.18290, equation 7; with smoothing, Mitchell 2023,
        "A note on DPO with noisy preferences", equation 3.
    """
    rewards = beta * logits
    right, wrong = -F.logsigmoid(rewards), -F.logsigmoid(-rewards)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def ipo_loss(logits: Tensor, *, beta: float) -> Tensor:
    """Per-pair squared distance of the logit from 1 / (2 beta), at which it stops growing.

    Args:
        logits: [B] of `preference_logits`.
        beta: above 0, pull towards the reference policy (the paper's tau).
    Returns:
        losses [B].
    Source: Azar et al. 2023, arXiv:2310.12036, equation 17.
    """
    return (logits - 1 / (2 * beta)).square()
