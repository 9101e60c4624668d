"""Direct preference optimisation: preferences teach the policy without a reward model.

Legend: B pairs of a step, N of the run.

Sources: Rafailov et al. 2023, arXiv:2305.18290; of the variants, see `losses.dpo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.core.statistics import proportion
from plumbline.data.records import Preference
from plumbline.models.batching import packed_batches
from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.config import DPOConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import response_logprobs
from plumbline.trainer.held_out import EarlyStop, HeldOutFigure
from plumbline.trainer.losses.dpo import dpo_loss, ipo_loss, preference_logits

_REFERENCE = "reference_logprobs"


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
def pair_logprobs(
    model: PreTrainedModel, pairs: Sequence[PromptGroup], config: DPOConfig, *, pad_id: int
) -> Tensor:
    """Logprobs [N, 2] of chosen and rejected responses, summed or averaged as configured."""
    found = torch.zeros(len(pairs), 2)
    lengths = [pair.tokens for pair in pairs]
    for batch in packed_batches(lengths, tokens_per_batch=config.tokens_per_microbatch):
        found[batch] = _logprobs(model, [pairs[i] for i in batch], config, pad_id).cpu()
    return found


def train_dpo(
    model: PreTrainedModel,
    pairs: Sequence[PromptGroup],
    run: TrainingRun,
    config: DPOConfig,
    plan: Sequence[Sequence[int]],
    *,
    pad_id: int,
    held_out: Sequence[PromptGroup] = (),
    held_out_reference: Tensor | None = None,
) -> None:
    """Train on every step of a plan; the policy as it comes is the reference.

    Args:
        held_out: pairs of which an early stop watches the loss; the best weights are gone back to.
        held_out_reference: [N, 2], their logprobs of `pair_logprobs` before training.
    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    start = run.resume()
    if _REFERENCE not in run.tensors:
        # Once for the whole run: the weights are still those of the reference.
        run.tensors[_REFERENCE] = pair_logprobs(model, pairs, config, pad_id=pad_id)
    figure = None
    if held_out_reference is not None and len(held_out):
        measure = partial(_loss_of, model, held_out, held_out_reference, config, pad_id=pad_id)
        figure = HeldOutFigure("test.loss", measure, higher_is_better=False)
    early_stop = EarlyStop(run, figure)
    model.train()
    for step in range(start, len(plan)):
        if early_stop.stops:
            break
        metrics = _train_step(model, pairs, run, config, plan[step], step=step, pad_id=pad_id)
        norm = run.apply_gradients()
        rates = {"learning_rate": run.learning_rate, "gradient_norm": norm}
        tested = early_stop.check(step + 1)
        run.end_unit(step + 1, len(plan), {**metrics, **rates, **tested}, keep=bool(tested))
    early_stop.restore_best()
    model.eval()


def evaluate_dpo(
    model: PreTrainedModel,
    pairs: Sequence[PromptGroup],
    reference: Tensor,
    config: DPOConfig,
    *,
    pad_id: int,
) -> dict[str, float]:
    """Held-out accuracy, with its 95 % interval, and mean margin of the implicit reward.

    Args:
        reference: [N, 2] of `pair_logprobs`, before training.
    """
    gained = pair_logprobs(model, pairs, config, pad_id=pad_id) - reference
    margins = config.beta * (gained[:, 0] - gained[:, 1])
    share = proportion(int((margins > 0).sum()), len(pairs))
    return {
        "test.accuracy": share.value,
        "test.accuracy.low": share.low,
        "test.accuracy.high": share.high,
        "test.margin": float(margins.mean()),
        "pairs.test": float(len(pairs)),
    }


def _loss_of(
    model: PreTrainedModel,
    pairs: Sequence[PromptGroup],
    reference: Tensor,
    config: DPOConfig,
    *,
    pad_id: int,
) -> float:
    """Mean loss of pairs that are not trained on."""
    was_training = model.training
    model.eval()
    found = pair_logprobs(model, pairs, config, pad_id=pad_id)
    model.train(was_training)
    logits = preference_logits(*found.unbind(dim=1), *reference.unbind(dim=1))
    return float(_losses(logits, config).mean())


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
    run: TrainingRun,
    config: DPOConfig,
    indices: Sequence[int],
    *,
    step: int,
    pad_id: int,
) -> dict[str, float]:
    """Gradients of one step; returns its mean figures."""
    lengths = {index: pairs[index].tokens for index in indices}
    n = len(indices)
    totals = dict.fromkeys(("loss", "margin", "accuracy", "reward.chosen", "reward.rejected"), 0.0)
    budget = config.tokens_per_microbatch
    for part in microbatches(indices, lengths, tokens_per_microbatch=budget):
        found = _logprobs(model, [pairs[index] for index in part], config, pad_id)
        reference = run.tensors[_REFERENCE][part].to(found.device)
        logits = preference_logits(*found.unbind(dim=1), *reference.unbind(dim=1))
        loss = _losses(logits, config).sum() / n
        totals["loss"] += loss.item()
        check_finite(totals["loss"], step=step, batch=f"pairs {list(part)[:8]}")
        loss.backward()
        rewards = (config.beta * (found.detach() - reference)).sum(dim=0) / n
        totals["margin"] += config.beta * logits.detach().sum().item() / n
        totals["accuracy"] += (logits.detach() > 0).sum().item() / n
        totals["reward.chosen"] += rewards[0].item()
        totals["reward.rejected"] += rewards[1].item()
    return totals


def _losses(logits: Tensor, config: DPOConfig) -> Tensor:
    if config.loss == "ipo":
        return ipo_loss(logits, beta=config.beta)
    smoothing = config.label_smoothing if config.loss == "conservative" else 0.0
    return dpo_loss(logits, beta=config.beta, label_smoothing=smoothing)


def _logprobs(
    model: PreTrainedModel, pairs: Sequence[PromptGroup], config: DPOConfig, pad_id: int
) -> Tensor:
    """Logprobs [B, 2] of chosen and rejected responses, nats."""
    found = response_logprobs(model, pairs, pad_id=pad_id).sum(dim=1)
    if config.average_logprobs:
        lengths = [len(response) for pair in pairs for response in pair.responses]
        found = found / torch.tensor(lengths, device=found.device)
    return found.view(-1, 2)
