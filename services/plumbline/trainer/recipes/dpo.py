"""Direct preference optimisation: preferences teach the policy without a reward model.

Legend: B pairs of a step.

Source: Rafailov et al. 2023, arXiv:2305.18290.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Preference
from plumbline.models.batching import packed_batches
from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.config import DPOConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import response_logprobs
from plumbline.trainer.losses.dpo import dpo_loss


def encode_pairs(
    preferences: Sequence[Preference], chat: ChatFormat, *, max_length: int
) -> list[PromptGroup]:
    """Prompts with their chosen and rejected responses, in this order, as token ids.

    A long prompt loses its beginning, for both responses alike.

    Raises:
        InvalidInputError: a response leaves no room for any prompt token.
    """
    pairs = []
    for preference in preferences:
        prompt = chat.encode_prompt(preference.prompt)
        chosen = chat.encode_response(preference.chosen)
        rejected = chat.encode_response(preference.rejected)
        room = max_length - max(len(chosen), len(rejected))
        if room < 1:
            raise InvalidInputError(
                f"preference {preference.id} has a response of {max_length - room} tokens; "
                f"max_length={max_length} leaves no room for its prompt",
                field="max_length",
            )
        pairs.append(PromptGroup(prompt[-room:], (chosen, rejected)))
    return pairs


@torch.no_grad()
def reference_logprobs(
    reference: PreTrainedModel,
    pairs: Sequence[PromptGroup],
    *,
    pad_id: int,
    tokens_per_batch: int,
) -> Tensor:
    """Summed logprobs [N, 2] of chosen and rejected responses, once for the whole run."""
    sums = torch.zeros(len(pairs), 2)
    lengths = [pair.tokens for pair in pairs]
    for batch in packed_batches(lengths, tokens_per_batch=tokens_per_batch):
        sums[batch] = _pair_logprobs(reference, [pairs[i] for i in batch], pad_id).cpu()
    return sums


def train_dpo(
    model: PreTrainedModel,
    pairs: Sequence[PromptGroup],
    reference: Tensor,
    run: TrainingRun,
    config: DPOConfig,
    plan: Sequence[Sequence[int]],
    *,
    pad_id: int,
) -> None:
    """Train on every step of a plan.

    Args:
        reference: of `reference_logprobs`, taken before training.
    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    model.train()
    for step in range(run.resume(), len(plan)):
        metrics = _train_step(model, pairs, reference, config, plan[step], step=step, pad_id=pad_id)
        norm = run.apply_gradients()
        rates = {"learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, len(plan), {**metrics, **rates})
    model.eval()


def plan_steps(pairs: Sequence[PromptGroup], config: DPOConfig) -> list[list[int]]:
    """Indices of each step's pairs."""
    return step_batches(
        [pair.tokens for pair in pairs],
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        max_steps=config.max_steps,
    )


def _train_step(
    model: PreTrainedModel,
    pairs: Sequence[PromptGroup],
    reference: Tensor,
    config: DPOConfig,
    indices: Sequence[int],
    *,
    step: int,
    pad_id: int,
) -> dict[str, float]:
    """Gradients of one step; returns its mean loss, margin and accuracy."""
    lengths = {index: pairs[index].tokens for index in indices}
    loss_sum = margin_sum = correct_sum = 0.0
    budget = config.tokens_per_microbatch
    for part in microbatches(indices, lengths, tokens_per_microbatch=budget):
        sums = _pair_logprobs(model, [pairs[index] for index in part], pad_id)
        chosen, rejected = sums.unbind(dim=1)
        ref_chosen, ref_rejected = reference[part].to(sums.device).unbind(dim=1)
        losses, margins = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=config.beta)
        loss = losses.sum() / len(indices)
        loss_sum += loss.item()
        check_finite(loss_sum, step=step, batch=f"pairs {list(part)[:8]}")
        loss.backward()
        margin_sum += float(margins.sum())
        correct_sum += float((margins > 0).sum())
    n = len(indices)
    return {"loss": loss_sum, "margin": margin_sum / n, "accuracy": correct_sum / n}


def _pair_logprobs(model: PreTrainedModel, pairs: Sequence[PromptGroup], pad_id: int) -> Tensor:
    """Summed logprobs [B, 2] of chosen and rejected responses, nats."""
    return response_logprobs(model, pairs, pad_id=pad_id).sum(dim=1).view(-1, 2)
