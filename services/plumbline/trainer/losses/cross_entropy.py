"""Next-token cross entropy over the positions that count.

Legend: N counted positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def cross_entropy_loss(logits: Tensor, targets: Tensor, *, denominator: float) -> Tensor:
    """Summed cross entropy, nats, over a denominator.

    Args:
        logits: [N, V].
        targets: [N] token ids.
        denominator: counted tokens of the whole optimizer step, so that the gradients of its
            microbatches add up to those of one big batch.
    Returns:
        scalar.
    """
    return F.cross_entropy(logits, targets, reduction="sum") / denominator


def projected_cross_entropy_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    denominator: float,
    rows_per_chunk: int = 4096,
) -> Tensor:
    """`cross_entropy_loss` of hidden states under a vocabulary projection, in chunks.

    Only one chunk's logits are alive at a time; the backward pass computes them again, so memory
    does not grow with N * V.

    Args:
        hidden: [N, H] states of the counted positions only.
        weight: [V, H].
        targets: [N].
        rows_per_chunk: positions whose logits are alive together.
    Returns:
        scalar.
    """
    if hidden.shape[0] <= rows_per_chunk:
        return cross_entropy_loss((hidden @ weight.T).float(), targets, denominator=denominator)

    def chunk_loss(chunk: Tensor, chunk_targets: Tensor) -> Tensor:
        logits = (chunk @ weight.T).float()
        return cross_entropy_loss(logits, chunk_targets, denominator=denominator)

    total = hidden.new_zeros((), dtype=torch.float32)
    for rows, labels in zip(
        hidden.split(rows_per_chunk), targets.split(rows_per_chunk), strict=True
    ):
        total = total + checkpoint(chunk_loss, rows, labels, use_reentrant=False)
    return total
