"""The losses of reward models.

Legend: B pairs, N responses.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(
    chosen_scores: Tensor, rejected_scores: Tensor, margins: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Per-pair loss -log sigmoid(chosen - rejected - margin), and which pairs are ranked right.

    Args:
        chosen_scores: [B] logits; rejected_scores alike.
        margins: [B], at least 0, by how much the chosen score has to lead; None means 0.
    Returns:
        losses [B], correct [B] in {0, 0.5, 1} (detached; a tie is half right; the margin does not
        count).
    Source: Llama 2, arXiv:2307.09288, equations 1 and 2.
    """
    leads = chosen_scores - rejected_scores
    correct = (leads.detach() > 0).float() + 0.5 * (leads.detach() == 0).float()
    demanded = leads if margins is None else leads - margins
    return -F.logsigmoid(demanded), correct


def safety_classification_loss(scores: Tensor, is_safe: Tensor, is_labelled: Tensor) -> Tensor:
    """Per-response binary cross entropy: sigmoid(score) as the probability of being safe.

    Args:
        scores: [N] logits.
        is_safe: [N], True = safe; read at labelled responses only.
        is_labelled: [N], True = somebody judged the response.
    Returns:
        losses [N], 0 where there is no label.
    Source: Llama 2, arXiv:2307.09288, appendix A.3.3, safety auxiliary loss.
    """
    losses = F.binary_cross_entropy_with_logits(scores, is_safe.to(scores.dtype), reduction="none")
    return losses.masked_fill(~is_labelled, 0.0)
