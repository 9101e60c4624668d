"""Logprobs of given tokens under a causal language model, projecting only what is asked for.

Legend: B batch, T tokens, V vocabulary, N counted positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

# Architectures that change their logits after the head; for these the whole forward runs.
_LOGIT_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def transforms_logits(model: PreTrainedModel) -> bool:
    """True when the model's logits are more than a projection of its last hidden states."""
    return any(getattr(model.config, name, None) is not None for name in _LOGIT_TRANSFORMS)


def hidden_states(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None = None
) -> Tensor:
    """Last hidden states [B, T, H].

    Args:
        attention_mask: [B, T], True at tokens; None for sequences padded on the right, where no
            token sees padding and the faster causal kernel applies.
    """
    if attention_mask is None:
        output = model.base_model(input_ids=input_ids, use_cache=False)
    else:
        positions = (attention_mask.long().cumsum(dim=1) - 1).clamp_min(0)
        output = model.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask.long(),
            position_ids=positions,
            use_cache=False,
        )
    states: Tensor = output.last_hidden_state
    return states


def predictive_mask(counted: Tensor) -> Tensor:
    """Positions [B, T - 1] whose logits predict the counted tokens [B, T]."""
    return counted[:, 1:].bool()


def counted_logits(
    model: PreTrainedModel, input_ids: Tensor, counted: Tensor, hidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [N, V] that predict the counted tokens, and those tokens [N], row by row.

    The logits of token t stand at position t - 1; a counted first token has none and is left out.

    Args:
        counted: [B, T], True = counts.
        hidden: [B, T, H] of `hidden_states`, when the caller has them.
    """
    if transforms_logits(model):
        everything: Tensor = model(input_ids=input_ids, use_cache=False).logits
        selected = everything[:, :-1][predictive_mask(counted)]
    else:
        if hidden is None:
            hidden = hidden_states(model, input_ids)
        selected = model.get_output_embeddings()(hidden[:, :-1][predictive_mask(counted)])
    return selected.float(), input_ids[:, 1:][predictive_mask(counted)]


def counted_logprobs(
    model: PreTrainedModel, input_ids: Tensor, counted: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Logprobs [B, T], nats, of the counted tokens; 0 elsewhere.

    Args:
        input_ids: [B, T], padded on the right.
        counted: [B, T], True = counts.
        temperature: above 0; logits are divided by it, as they were when sampling.
    """
    logits, targets = counted_logits(model, input_ids, counted)
    return scatter_counted(gather_logprobs(logits / temperature, targets), counted)


def gather_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Logprobs [N] of targets [N] under logits [N, V]."""
    return -F.cross_entropy(logits, targets, reduction="none")


def scatter_counted(values: Tensor, counted: Tensor) -> Tensor:
    """Lay values [N] of the counted tokens out as [B, T], 0 elsewhere."""
    mask = torch.zeros_like(counted, dtype=torch.bool)
    mask[:, 1:] = predictive_mask(counted)
    return torch.zeros(counted.shape, dtype=values.dtype, device=values.device).masked_scatter(
        mask, values
    )
