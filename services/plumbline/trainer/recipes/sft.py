"""Supervised fine-tuning: cross entropy on the assistant turns.

Source: Llama 2, arXiv:2307.09288, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Conversation
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import counted_loss


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """Examples that fit, and how many did not."""

    examples: list[EncodedConversation]
    cut: int
    """Examples that lost the beginning of their prompt."""
    left_out: int
    """Examples without room for one whole response."""


def encode_conversations(
    conversations: Sequence[Conversation], chat: ChatFormat, *, max_length: int
) -> EncodedDataset:
    """Token ids of conversations, cut from the left to `max_length` tokens.

    Raises:
        InvalidInputError: no conversation has an assistant turn that fits.
    """
    kept: list[EncodedConversation] = []
    cut = left_out = 0
    for conversation in conversations:
        for example in chat.encode_conversation(conversation.messages):
            if len(example.token_ids) <= max_length:
                kept.append(example)
                continue
            ids = example.token_ids[-max_length:]
            mask = example.response_mask[-max_length:]
            # A first token has no logits that predict it, so a prompt token has to stand first.
            if mask[0]:
                left_out += 1
                continue
            cut += 1
            kept.append(EncodedConversation(ids, mask))
    if not kept:
        raise InvalidInputError(
            f"none of {len(conversations)} conversations holds an assistant turn that fits "
            f"max_length={max_length} tokens"
        )
    return EncodedDataset(kept, cut, left_out)


def train_sft(
    model: PreTrainedModel,
    examples: Sequence[EncodedConversation],
    run: TrainingRun,
    plan: Sequence[Sequence[int]],
    *,
    pad_id: int,
    first_step: int = 0,
    start: int = 0,
    total: int | None = None,
) -> None:
    """Train on every step of a plan.

    Args:
        plan: indices of each step's examples, of `plan_steps`.
        first_step: number of the plan's first step within the run.
        start: steps of the run that are done already.
        total: steps of the run, where it holds more than this plan.
    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    model.train()
    total = total or first_step + len(plan)
    for offset, indices in enumerate(plan):
        step = first_step + offset
        if step < start:
            continue
        loss = _train_step(model, examples, run, indices, pad_id=pad_id, step=step)
        norm = run.apply_gradients()
        metrics = {"loss": loss, "learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, total, metrics)
    model.eval()


def plan_steps(
    examples: Sequence[EncodedConversation],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    max_steps: int | None = None,
) -> list[list[int]]:
    """Indices of each step's examples."""
    lengths = [len(example.token_ids) for example in examples]
    return step_batches(
        lengths, batch_size=batch_size, epochs=epochs, seed=seed, max_steps=max_steps
    )


def _train_step(
    model: PreTrainedModel,
    examples: Sequence[EncodedConversation],
    run: TrainingRun,
    indices: Sequence[int],
    *,
    pad_id: int,
    step: int,
) -> float:
    """Gradients of one step; returns the mean loss of its counted tokens."""
    lengths = {index: len(examples[index].token_ids) for index in indices}
    counted_tokens = sum(sum(examples[index].response_mask) for index in indices)
    total = 0.0
    budget = run.config.tokens_per_microbatch
    for part in microbatches(indices, lengths, tokens_per_microbatch=budget):
        loss = counted_loss(
            model,
            [examples[index].token_ids for index in part],
            [examples[index].response_mask for index in part],
            denominator=counted_tokens,
            pad_id=pad_id,
        )
        total += loss.item()
        check_finite(total, step=step, batch=f"examples {list(part)[:8]}")
        loss.backward()
    return total
