"""Forward passes of training: packed where the architecture allows it, padded elsewhere.

Only the states that predict a counted token are projected onto the vocabulary.

Legend: N counted tokens, H hidden size, V vocabulary, B responses, R tokens of the longest one.
Responses of groups stand group by group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbline.models.batching import pad_right
from plumbline.models.logprobs import (
    counted_logits,
    gather_logprobs,
    hidden_states,
    predictive_mask,
    transforms_logits,
)
from plumbline.models.packing import (
    PackedRow,
    PromptGroup,
    pack_groups,
    pack_texts,
    packed_states,
    supports_packing,
)
from plumbline.models.projection import projected_cross_entropy, projected_logprobs


def counted_loss(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    *,
    denominator: float,
    pad_id: int,
) -> Tensor:
    """Cross entropy of the counted tokens, summed and divided by the step's denominator.

    Args:
        texts: token ids.
        counted: for each text, True at the tokens that count.
        denominator: counted tokens of the whole optimizer step.
    """
    if not _projects_plainly(model):
        logits, targets = counted_logits(model, *_padded(model, texts, counted, pad_id))
        return F.cross_entropy(logits, targets, reduction="sum") / denominator
    if supports_packing(model):
        states, targets = _packed_states(model, pack_texts(texts, counted))
    else:
        states, targets = _padded_states(model, texts, counted, pad_id)
    weight = model.get_output_embeddings().weight
    return projected_cross_entropy(states, weight, targets, denominator=denominator)


def response_states(
    model: PreTrainedModel, groups: Sequence[PromptGroup], *, pad_id: int
) -> Tensor:
    """Hidden states [N, H] that predict the response tokens, response by response.

    Args:
        model: with a vocabulary head or without.
    """
    return _group_states(model, groups, pad_id)[0]


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
    device = model.get_input_embeddings().weight.device
    if transforms_logits(model):
        logits, targets = counted_logits(model, *_padded_groups(model, groups, pad_id))
        return scatter_responses(gather_logprobs(logits / temperature, targets), groups)
    if states is None:
        states = response_states(model, groups, pad_id=pad_id)
    targets = torch.tensor([t for g in groups for r in g.responses for t in r], device=device)
    head = model.get_output_embeddings()
    if _projects_plainly(model):
        found = projected_logprobs(states, head.weight, targets, temperature=temperature)
    else:
        found = gather_logprobs(head(states).float() / temperature, targets)
    return scatter_responses(found, groups)


def response_mask(groups: Sequence[PromptGroup], device: torch.device | None = None) -> Tensor:
    """[B, R], True at response tokens, which begin in the first column."""
    lengths = torch.tensor([len(r) for group in groups for r in group.responses], device=device)
    return torch.arange(int(lengths.max()), device=device) < lengths[:, None]


def scatter_responses(values: Tensor, groups: Sequence[PromptGroup]) -> Tensor:
    """Lay values [N] of the response tokens out as [B, R], 0 beyond a response's end."""
    mask = response_mask(groups, values.device)
    empty = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return empty.masked_scatter(mask, values)


def _projects_plainly(model: PreTrainedModel) -> bool:
    """Whether logits are the states times one matrix."""
    head = model.get_output_embeddings()
    return type(head) is nn.Linear and head.bias is None and not transforms_logits(model)


def _group_states(
    model: PreTrainedModel, groups: Sequence[PromptGroup], pad_id: int
) -> tuple[Tensor, Tensor]:
    if supports_packing(model):
        return _packed_states(model, pack_groups(groups))
    ids, counted = _padded_groups(model, groups, pad_id)
    return _predictive_states(model, ids, counted)


def _packed_states(model: PreTrainedModel, row: PackedRow) -> tuple[Tensor, Tensor]:
    """States [N, H] that predict the counted tokens, and these tokens [N]."""
    row = row.to(model.get_input_embeddings().weight.device)
    return packed_states(model, row)[row.predictors], row.targets


def _padded_states(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    pad_id: int,
) -> tuple[Tensor, Tensor]:
    return _predictive_states(model, *_padded(model, texts, counted, pad_id))


def _predictive_states(
    model: PreTrainedModel, ids: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    mask = predictive_mask(counted)
    return hidden_states(model, ids)[:, :-1][mask], ids[:, 1:][mask]


def _padded_groups(
    model: PreTrainedModel, groups: Sequence[PromptGroup], pad_id: int
) -> tuple[Tensor, Tensor]:
    texts = [[*group.prompt, *response] for group in groups for response in group.responses]
    marks = [
        [False] * len(group.prompt) + [True] * len(response)
        for group in groups
        for response in group.responses
    ]
    return _padded(model, texts, marks, pad_id)


def _padded(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    pad_id: int,
) -> tuple[Tensor, Tensor]:
    """Token ids and marks [B, T], padded on the right, on the model's device."""
    device = model.get_input_embeddings().weight.device
    ids, marks = pad_right(texts, pad_id)[0], pad_right(counted, False)[0]
    return ids.to(device), marks.bool().to(device)
