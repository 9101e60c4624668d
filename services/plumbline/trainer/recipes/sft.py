"""Supervised fine-tuning: cross entropy on the assistant turns.

Source: Llama 2, arXiv:2307.09288, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Conversation, Document
from plumbline.models.batching import packed_batches
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.trainer.batches import cyclic_indices, microbatches, step_batches
from plumbline.trainer.config import TrainingConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import counted_loss
from plumbline.trainer.held_out import EarlyStop, HeldOutFigure
from plumbline.trainer.neftune import noisy_embeddings

TEST_LOSS = "test.loss"


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
        for example in chat.encode_conversation(
            conversation.messages, last_only=conversation.last_turn_only
        ):
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


def encode_texts(
    documents: Sequence[Document], chat: ChatFormat, *, max_length: int
) -> list[EncodedConversation]:
    """Texts in pieces of up to `max_length` tokens, all of which count."""
    opening = chat.tokenizer.bos_token_id
    begin = [] if opening is None else [int(opening)]
    pieces = []
    for document in documents:
        ids = [*begin, *chat.encode_response(document.text, literal=True)]
        for start in range(0, len(ids) - 1, max_length):
            piece = ids[start : start + max_length]
            pieces.append(EncodedConversation(piece, [True] * len(piece)))
    return pieces


def mix_examples(
    sources: Sequence[Sequence[EncodedConversation]], shares: Sequence[float], *, seed: int
) -> list[EncodedConversation]:
    """As many examples as all sources hold, each source with its share of them.

    A source with too few is gone through again, shuffled anew; from one with too many some are
    drawn.

    Args:
        shares: one for each source, adding up to 1.
    """
    total = sum(map(len, sources))
    mixed: list[EncodedConversation] = []
    for number, (source, share) in enumerate(zip(sources, shares, strict=True)):
        chosen = cyclic_indices(len(source), start=0, size=round(share * total), seed=seed + number)
        mixed += [source[index] for index in chosen]
    return mixed


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
    held_out: Sequence[EncodedConversation] = (),
    neftune_alpha: float = 0.0,
) -> None:
    """Train on every step of a plan.

    Args:
        plan: indices of each step's examples, of `plan_steps`.
        first_step: number of the plan's first step within the run.
        start: steps of the run that are done already.
        total: steps of the run, where it holds more than this plan.
        held_out: what an early stop watches the loss of; the best weights are gone back to.
        neftune_alpha: see `neftune`; 0 adds no noise.
    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    figure = HeldOutFigure(
        TEST_LOSS,
        lambda: evaluate_sft(model, held_out, run.config, pad_id=pad_id),
        higher_is_better=False,
    )
    early_stop = EarlyStop(run, figure if held_out else None)
    model.train()
    total = total or first_step + len(plan)
    for offset, indices in enumerate(plan):
        step = first_step + offset
        if step < start:
            continue
        if early_stop.stops:
            break
        loss = _train_step(
            model, examples, run, indices, pad_id=pad_id, step=step, neftune_alpha=neftune_alpha
        )
        norm = run.apply_gradients()
        metrics = {"loss": loss, "learning_rate": run.learning_rate, "gradient_norm": norm}
        tested = early_stop.check(step + 1)
        run.end_unit(step + 1, total, {**metrics, **tested}, keep=bool(tested))
    early_stop.restore_best()
    model.eval()


@torch.no_grad()
def evaluate_sft(
    model: PreTrainedModel,
    examples: Sequence[EncodedConversation],
    config: TrainingConfig,
    *,
    pad_id: int,
) -> float:
    """Mean cross entropy of the assistant's tokens, nats."""
    was_training = model.training
    model.eval()
    counted_tokens = sum(sum(example.response_mask) for example in examples)
    lengths = [len(example.token_ids) for example in examples]
    total = 0.0
    for part in packed_batches(lengths, tokens_per_batch=config.tokens_per_microbatch):
        total += counted_loss(
            model,
            [examples[index].token_ids for index in part],
            [examples[index].response_mask for index in part],
            denominator=counted_tokens,
            pad_id=pad_id,
        ).item()
    model.train(was_training)
    return total


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
    neftune_alpha: float,
) -> float:
    """Gradients of one step; returns the mean loss of its counted tokens."""
    lengths = {index: len(examples[index].token_ids) for index in indices}
    counted_tokens = sum(sum(examples[index].response_mask) for index in indices)
    total = 0.0
    budget = run.config.tokens_per_microbatch
    for part in microbatches(indices, lengths, tokens_per_microbatch=budget):
        with noisy_embeddings(model, neftune_alpha, [lengths[index] for index in part]):
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
