"""Direct preference optimisation.

Legend: B pairs.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    *,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Per-pair DPO loss and implicit reward margin.

    Args:
        chosen_logprobs: [B] summed over response tokens, nats; the others alike.
        beta: > 0, pull towards the reference policy.
    Returns:
        losses [B], margins [B] (detached).
    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    policy_logratios = chosen_logprobs - rejected_logprobs
    ref_logratios = ref_chosen_logprobs - ref_rejected_logprobs
    margins = beta * (policy_logratios - ref_logratios)
    return -F.logsigmoid(margins), margins.detach()
