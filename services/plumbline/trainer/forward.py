"""Forward passes that project response positions only.

Legend: B batch, T tokens, H hidden size, N counted positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.models.batching import length_sorted_batches, pad_right
from plumbline.models.logprobs import (
    counted_logits,
    counted_logprobs,
    hidden_states,
    predictive_mask,
    transforms_logits,
)
from plumbline.trainer.losses.cross_entropy import (
    cross_entropy_loss,
    projected_cross_entropy_loss,
)


def counted_loss(
    model: PreTrainedModel, input_ids: Tensor, counted: Tensor, *, denominator: float
) -> Tensor:
    """Cross entropy of the counted tokens, summed and divided by the step's denominator.

    Args:
        input_ids: [B, T], padded on the right.
        counted: [B, T], True = counts.
        denominator: counted tokens of the whole optimizer step.
    """
    head = model.get_output_embeddings()
    if transforms_logits(model) or getattr(head, "bias", None) is not None:
        logits, targets = counted_logits(model, input_ids, counted)
        return cross_entropy_loss(logits, targets, denominator=denominator)
    mask = predictive_mask(counted)
    hidden = hidden_states(model, input_ids)[:, :-1][mask]
    return projected_cross_entropy_loss(
        hidden, head.weight, input_ids[:, 1:][mask], denominator=denominator
    )


@torch.no_grad()
def sequence_logprobs(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    masks: Sequence[Sequence[bool]],
    *,
    pad_id: int,
    tokens_per_batch: int,
) -> Tensor:
    """Summed logprobs [N] of the counted tokens of N sequences, nats, in their order."""
    device = model.get_input_embeddings().weight.device
    totals = torch.zeros(len(sequences))
    lengths = [len(sequence) for sequence in sequences]
    for batch in length_sorted_batches(lengths, tokens_per_batch=tokens_per_batch):
        ids, _ = pad_right([sequences[i] for i in batch], pad_id)
        counted, _ = pad_right([masks[i] for i in batch], False)
        summed = counted_logprobs(model, ids.to(device), counted.bool().to(device)).sum(dim=1)
        totals[batch] = summed.cpu()
    return totals
