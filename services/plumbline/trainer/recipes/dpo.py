"""Direct preference optimisation: preferences teach the policy without a reward model.

Legend: B pairs of a step.

Source: Rafailov et al. 2023, arXiv:2305.18290.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Preference
from plumbline.models.batching import pad_right
from plumbline.models.chat import ChatFormat
from plumbline.models.logprobs import counted_logprobs
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.config import DPOConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import sequence_logprobs
from plumbline.trainer.losses.dpo import dpo_loss


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One preference as token ids; the prompt's ids begin both sides."""

    chosen: list[int]
    rejected: list[int]
    prompt_tokens: int

    def masks(self) -> tuple[list[bool], list[bool]]:
        """True at response tokens, chosen and rejected."""
        sides = (self.chosen, self.rejected)
        chosen, rejected = (
            [position >= self.prompt_tokens for position in range(len(side))] for side in sides
        )
        return chosen, rejected

    @property
    def width(self) -> int:
        """Tokens of the longer side."""
        return max(len(self.chosen), len(self.rejected))


def encode_pairs(
    preferences: Sequence[Preference], chat: ChatFormat, *, max_length: int
) -> list[EncodedPair]:
    """Token ids of preferences; a long prompt loses its beginning, on both sides alike.

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
        prompt = prompt[-room:]
        pairs.append(EncodedPair(prompt + chosen, prompt + rejected, len(prompt)))
    return pairs


def reference_logprobs(
    reference: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    *,
    pad_id: int,
    tokens_per_batch: int,
) -> tuple[Tensor, Tensor]:
    """Summed logprobs [N] of chosen and of rejected responses, computed once for the whole run."""
    masks = [pair.masks() for pair in pairs]
    totals = sequence_logprobs(
        reference,
        [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs],
        [mask[0] for mask in masks] + [mask[1] for mask in masks],
        pad_id=pad_id,
        tokens_per_batch=tokens_per_batch,
    )
    chosen, rejected = totals.split(len(pairs))
    return chosen, rejected


def train_dpo(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    reference: tuple[Tensor, Tensor],
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


def plan_steps(pairs: Sequence[EncodedPair], config: DPOConfig) -> list[list[int]]:
    """Indices of each step's pairs."""
    return step_batches(
        [pair.width for pair in pairs],
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        max_steps=config.max_steps,
    )


def _train_step(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    reference: tuple[Tensor, Tensor],
    config: DPOConfig,
    indices: Sequence[int],
    *,
    step: int,
    pad_id: int,
) -> dict[str, float]:
    """Gradients of one step; returns its mean loss, margin and accuracy."""
    device = model.get_input_embeddings().weight.device
    widths = {index: 2 * pairs[index].width for index in indices}
    loss_sum = margin_sum = correct_sum = 0.0
    budget = config.tokens_per_microbatch
    for part in microbatches(indices, widths, tokens_per_microbatch=budget):
        members = [pairs[index] for index in part]
        masks = [pair.masks() for pair in members]
        ids, _ = pad_right([p.chosen for p in members] + [p.rejected for p in members], pad_id)
        counted, _ = pad_right([m[0] for m in masks] + [m[1] for m in masks], False)
        summed = counted_logprobs(model, ids.to(device), counted.bool().to(device)).sum(dim=1)
        chosen, rejected = summed.split(len(part))
        ref_chosen, ref_rejected = (side[part].to(device) for side in reference)
        losses, margins = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=config.beta)
        loss = losses.sum() / len(indices)
        loss_sum += loss.item()
        check_finite(loss_sum, step=step, batch=f"pairs {list(part)[:8]}")
        loss.backward()
        margin_sum += float(margins.sum())
        correct_sum += float((margins > 0).sum())
    n = len(indices)
    return {"loss": loss_sum, "margin": margin_sum / n, "accuracy": correct_sum / n}
