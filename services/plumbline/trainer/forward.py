"""Forward passes that project response positions only.

Legend: B batch, T tokens, H hidden size, N counted positions, V vocabulary, R tokens of the
longest response of a batch. Responses of groups stand group by group.
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
    gather_logprobs,
    hidden_states,
    predictive_mask,
    transforms_logits,
)
from plumbline.models.packing import PromptGroup
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


def response_mask(groups: Sequence[PromptGroup], device: torch.device | None = None) -> Tensor:
    """[B, R], True at response tokens, which begin in the first column."""
    lengths = torch.tensor([len(r) for group in groups for r in group.responses], device=device)
    return torch.arange(int(lengths.max()), device=device) < lengths[:, None]


def response_states(
    model: PreTrainedModel, groups: Sequence[PromptGroup], *, pad_id: int
) -> Tensor:
    """Hidden states [N, H] that predict the response tokens, response by response."""
    ids, counted = _laid_out(model, groups, pad_id)
    return hidden_states(model, ids)[:, :-1][predictive_mask(counted)]


def response_logprobs(
    model: PreTrainedModel,
    groups: Sequence[PromptGroup],
    *,
    pad_id: int,
    temperature: float = 1.0,
    states: Tensor | None = None,
) -> Tensor:
    """Logprobs [B, R] of the response tokens, nats; 0 beyond a response's end.

    Args:
        temperature: above 0; logits are divided by it, as they were when sampling.
        states: [N, H] of `response_states`, when the caller has them.
    """
    ids, counted = _laid_out(model, groups, pad_id)
    if states is None or transforms_logits(model):
        logits, targets = counted_logits(model, ids, counted)
    else:
        logits = model.get_output_embeddings()(states).float()
        targets = ids[:, 1:][predictive_mask(counted)]
    return scatter_responses(gather_logprobs(logits / temperature, targets), groups)


def scatter_responses(values: Tensor, groups: Sequence[PromptGroup]) -> Tensor:
    """Lay values [N] of the response tokens out as [B, R], 0 beyond a response's end."""
    mask = response_mask(groups, values.device)
    empty = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return empty.masked_scatter(mask, values)


def _laid_out(
    model: PreTrainedModel, groups: Sequence[PromptGroup], pad_id: int
) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] of prompts with responses, and where the response tokens stand [B, T]."""
    rows = [[*group.prompt, *response] for group in groups for response in group.responses]
    marks = [
        [False] * len(group.prompt) + [True] * len(response)
        for group in groups
        for response in group.responses
    ]
    device = model.get_input_embeddings().weight.device
    ids, counted = pad_right(rows, pad_id)[0], pad_right(marks, False)[0]
    return ids.to(device), counted.bool().to(device)


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
