"""Kahneman-Tversky optimisation on responses that are labelled good or bad.

Legend: B responses of a step, N of the run.

Source: Ethayarajh et al. 2024, arXiv:2402.01306.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import LabelledResponse
from plumbline.models.batching import packed_batches
from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.config import KTOConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import response_logprobs
from plumbline.trainer.losses.kto import kto_loss, reference_point

_REFERENCE, _MISMATCHED = "reference_logprobs", "mismatched_reference_logprobs"


@dataclass(frozen=True, slots=True)
class EncodedResponse:
    """One labelled response as token ids."""

    prompt: Sequence[int]
    response: Sequence[int]
    desirable: bool

    def after(self, prompt: Sequence[int]) -> PromptGroup:
        """The response behind some prompt, its own or another's."""
        return PromptGroup(prompt, (self.response,))


def encode_responses(
    records: Sequence[LabelledResponse], chat: ChatFormat, *, max_length: int
) -> list[EncodedResponse]:
    """Token ids of labelled responses; a long prompt loses its beginning.

    Raises:
        InvalidInputError: a response leaves no room for its prompt, or all labels are the same.
    """
    if len({record.desirable for record in records}) < 2:
        label = "desirable" if records[0].desirable else "undesirable"
        raise InvalidInputError(
            f"all {len(records)} responses are labelled {label}; accepted: both labels"
        )
    encoded = []
    for record in records:
        response = chat.encode_response(record.response)
        room = max_length - len(response)
        if room < 1:
            raise InvalidInputError(
                f"response {record.id} has {len(response)} tokens; max_length={max_length} leaves "
                "no room for its prompt",
                field="max_length",
            )
        prompt = chat.encode_prompt(record.prompt)[-room:]
        encoded.append(EncodedResponse(prompt, response, record.desirable))
    return encoded


def plan_steps(responses: Sequence[EncodedResponse], config: KTOConfig) -> list[list[int]]:
    """Indices of each step's responses."""
    return step_batches(
        [len(item.prompt) + len(item.response) for item in responses],
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        max_steps=config.max_steps,
    )


def mismatched(responses: Sequence[EncodedResponse], indices: Sequence[int]) -> list[PromptGroup]:
    """Each of a step's prompts with the response to the next one; the last with the first's."""
    following = [*indices[1:], indices[0]]
    return [
        responses[other].after(responses[own].prompt)
        for own, other in zip(indices, following, strict=True)
    ]


def train_kto(
    model: PreTrainedModel,
    responses: Sequence[EncodedResponse],
    run: TrainingRun,
    config: KTOConfig,
    plan: Sequence[Sequence[int]],
    *,
    pad_id: int,
) -> None:
    """Train on every step of a plan; the policy as it comes is the reference.

    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    start = run.resume()
    if _REFERENCE not in run.tensors:
        groups = [item.after(item.prompt) for item in responses]
        others = [group for indices in plan for group in mismatched(responses, indices)]
        run.tensors[_REFERENCE] = _frozen_logprobs(model, groups, config, pad_id)
        run.tensors[_MISMATCHED] = _frozen_logprobs(model, others, config, pad_id)
    model.train()
    for step in range(start, len(plan)):
        metrics = _train_step(model, responses, run, config, plan, step=step, pad_id=pad_id)
        norm = run.apply_gradients()
        rates = {"learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, len(plan), {**metrics, **rates})
    model.eval()


def _train_step(
    model: PreTrainedModel,
    responses: Sequence[EncodedResponse],
    run: TrainingRun,
    config: KTOConfig,
    plan: Sequence[Sequence[int]],
    *,
    step: int,
    pad_id: int,
) -> dict[str, float]:
    """Gradients of one step; returns its mean figures."""
    indices = plan[step]
    point = _point(model, responses, run, config, plan, step, pad_id)
    lengths = {i: len(responses[i].prompt) + len(responses[i].response) for i in indices}
    loss_sum = 0.0
    gains: dict[bool, list[float]] = {True: [], False: []}
    budget = config.tokens_per_microbatch
    for part in microbatches(indices, lengths, tokens_per_microbatch=budget):
        groups = [responses[index].after(responses[index].prompt) for index in part]
        found = response_logprobs(model, groups, pad_id=pad_id).sum(dim=1)
        logratios = found - run.tensors[_REFERENCE][part].to(found.device)
        labels = torch.tensor([responses[index].desirable for index in part], device=found.device)
        losses = kto_loss(
            logratios,
            labels,
            point.to(found.device),
            beta=config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )
        loss = losses.sum() / len(indices)
        loss_sum += loss.item()
        check_finite(loss_sum, step=step, batch=f"responses {list(part)[:8]}")
        loss.backward()
        for label, gain in zip(labels.tolist(), logratios.tolist(), strict=True):
            gains[label].append(config.beta * gain)
    means = {
        f"reward.{name}": sum(gains[label]) / len(gains[label])
        for label, name in ((True, "desirable"), (False, "undesirable"))
        if gains[label]
    }
    return {"loss": loss_sum, "kl": float(point), **means}


@torch.no_grad()
def _point(
    model: PreTrainedModel,
    responses: Sequence[EncodedResponse],
    run: TrainingRun,
    config: KTOConfig,
    plan: Sequence[Sequence[int]],
    step: int,
    pad_id: int,
) -> Tensor:
    first = sum(len(indices) for indices in plan[:step])
    groups = mismatched(responses, plan[step])
    reference = run.tensors[_MISMATCHED][first : first + len(groups)]
    return reference_point(_frozen_logprobs(model, groups, config, pad_id) - reference)


@torch.no_grad()
def _frozen_logprobs(
    model: PreTrainedModel, groups: Sequence[PromptGroup], config: KTOConfig, pad_id: int
) -> Tensor:
    """Summed logprobs [N] of groups with one response each, without dropout."""
    was_training = model.training
    model.eval()
    sums = torch.zeros(len(groups))
    lengths = [group.tokens for group in groups]
    for batch in packed_batches(lengths, tokens_per_batch=config.tokens_per_microbatch):
        found = response_logprobs(model, [groups[i] for i in batch], pad_id=pad_id)
        sums[batch] = found.sum(dim=1).cpu()
    model.train(was_training)
    return sums
