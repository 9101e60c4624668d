"""Reward models from preferences.

Legend: B pairs of a step.

Source: Llama 2, arXiv:2307.09288, section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Grade, Preference
from plumbline.models.packing import PromptGroup, group_pair
from plumbline.models.reward import RewardModel
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.config import RewardModelConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.held_out import EarlyStop, HeldOutFigure
from plumbline.trainer.losses.bradley_terry import bradley_terry_loss, safety_classification_loss

MARGINS: Mapping[str, Mapping[Grade, float]] = {
    "small": {
        Grade.SIGNIFICANTLY_BETTER: 1.0,
        Grade.BETTER: 2 / 3,
        Grade.SLIGHTLY_BETTER: 1 / 3,
        Grade.NEGLIGIBLY_BETTER: 0.0,
    },
    "large": {
        Grade.SIGNIFICANTLY_BETTER: 3.0,
        Grade.BETTER: 2.0,
        Grade.SLIGHTLY_BETTER: 1.0,
        Grade.NEGLIGIBLY_BETTER: 0.0,
    },
    "off": {},
}
"""Lead of the chosen score by grade. Source: Llama 2, arXiv:2307.09288, table 27."""


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One preference as token ids: what both sides begin with, then chosen and rejected."""

    group: PromptGroup
    response_lengths: tuple[int, int]
    """Tokens at the end of either text that are its response."""
    margin: float
    chosen_is_safe: bool | None
    rejected_is_safe: bool | None


def encode_pairs(
    model: RewardModel, preferences: Sequence[Preference], *, margin: str
) -> list[EncodedPair]:
    """Token ids of preferences; ungraded pairs have no margin."""
    table = MARGINS[margin]
    pairs = []
    for preference in preferences:
        chosen, chosen_length = model.encode_parts(preference.prompt, preference.chosen)
        rejected, rejected_length = model.encode_parts(preference.prompt, preference.rejected)
        pairs.append(
            EncodedPair(
                group_pair(chosen, rejected),
                (chosen_length, rejected_length),
                table.get(preference.grade, 0.0) if preference.grade else 0.0,
                preference.chosen_is_safe,
                preference.rejected_is_safe,
            )
        )
    return pairs


def train_reward_model(
    model: RewardModel,
    pairs: Sequence[EncodedPair],
    run: TrainingRun,
    config: RewardModelConfig,
    plan: Sequence[Sequence[int]],
    *,
    held_out: Sequence[EncodedPair] = (),
) -> None:
    """Train on every step of a plan.

    Args:
        held_out: pairs of which an early stop watches the loss; the best weights are gone back to.
    Raises:
        FailedPreconditionError: the loss is not finite.
        InvalidInputError: safety labels are to count, and no pair carries one.
    """
    if config.safety_loss_coef and not _labelled_responses(pairs):
        raise InvalidInputError(
            f"safety_loss_coef={config.safety_loss_coef}, but none of {len(pairs)} pairs says "
            "whether its responses are safe; accepted: labelled pairs, or safety_loss_coef=0",
            field="safety_loss_coef",
        )
    start = run.resume()
    measure = partial(held_out_loss, model, held_out, config)
    figure = HeldOutFigure("test.loss", measure, higher_is_better=False) if held_out else None
    early_stop = EarlyStop(run, figure)
    model.train()
    for step in range(start, len(plan)):
        if early_stop.stops:
            break
        metrics = _train_step(model, pairs, config, plan[step], step=step)
        norm = run.apply_gradients()
        rates = {"learning_rate": run.learning_rate, "gradient_norm": norm}
        tested = early_stop.check(step + 1)
        run.end_unit(step + 1, len(plan), {**metrics, **rates, **tested}, keep=bool(tested))
    early_stop.restore_best()
    model.eval()


def plan_steps(pairs: Sequence[EncodedPair], config: RewardModelConfig) -> list[list[int]]:
    """Indices of each step's pairs."""
    return step_batches(
        [pair.group.tokens for pair in pairs],
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        max_steps=config.max_steps,
    )


@torch.no_grad()
def held_out_loss(
    model: RewardModel, pairs: Sequence[EncodedPair], config: RewardModelConfig
) -> float:
    """Mean ranking loss, margins included, of pairs that are not trained on."""
    was_training = model.training
    model.eval()
    lengths = [pair.group.tokens for pair in pairs]
    total = 0.0
    budget = config.tokens_per_microbatch
    for part in microbatches(range(len(pairs)), lengths, tokens_per_microbatch=budget):
        members = [pairs[index] for index in part]
        losses, _ = _ranking_losses(*_scores(model, members), members)
        total += float(losses.sum())
    model.train(was_training)
    return total / len(pairs)


def _train_step(
    model: RewardModel,
    pairs: Sequence[EncodedPair],
    config: RewardModelConfig,
    indices: Sequence[int],
    *,
    step: int,
) -> dict[str, float]:
    """Gradients of one step; returns its mean loss and accuracy."""
    lengths = {index: pairs[index].group.tokens for index in indices}
    labelled = _labelled_responses([pairs[index] for index in indices])
    loss_sum = correct_sum = 0.0
    budget = config.tokens_per_microbatch
    for part in microbatches(indices, lengths, tokens_per_microbatch=budget):
        members = [pairs[index] for index in part]
        chosen, rejected = _scores(model, members)
        losses, correct = _ranking_losses(chosen, rejected, members)
        loss = losses.sum() / len(indices)
        if config.safety_loss_coef and labelled:
            safety = _safety_loss(chosen, rejected, members, denominator=labelled)
            loss = loss + config.safety_loss_coef * safety
        loss_sum += loss.item()
        check_finite(loss_sum, step=step, batch=f"pairs {list(part)[:8]}")
        loss.backward()
        correct_sum += float(correct.sum())
    return {"loss": loss_sum, "accuracy": correct_sum / len(indices)}


def _scores(model: RewardModel, pairs: Sequence[EncodedPair]) -> tuple[Tensor, Tensor]:
    """Scores of the chosen and of the rejected responses, each [B]."""
    scores = model.score_groups(
        [pair.group for pair in pairs],
        response_lengths=[length for pair in pairs for length in pair.response_lengths],
    )
    chosen, rejected = scores.view(-1, 2).unbind(dim=1)
    return chosen, rejected


def _ranking_losses(
    chosen: Tensor, rejected: Tensor, pairs: Sequence[EncodedPair]
) -> tuple[Tensor, Tensor]:
    """Losses [B] under the pairs' margins, and which pairs are ranked right [B]."""
    margins = torch.tensor([pair.margin for pair in pairs], device=chosen.device)
    return bradley_terry_loss(chosen, rejected, margins)


def _labelled_responses(pairs: Sequence[EncodedPair]) -> int:
    return sum((p.chosen_is_safe is not None) + (p.rejected_is_safe is not None) for p in pairs)


def _safety_loss(
    chosen: Tensor, rejected: Tensor, pairs: Sequence[EncodedPair], *, denominator: int
) -> Tensor:
    """Mean safety loss over the step's labelled responses, as far as these pairs go."""
    labels = [p.chosen_is_safe for p in pairs] + [p.rejected_is_safe for p in pairs]
    is_labelled = torch.tensor([label is not None for label in labels], device=chosen.device)
    is_safe = torch.tensor([bool(label) for label in labels], device=chosen.device)
    losses = safety_classification_loss(torch.cat([chosen, rejected]), is_safe, is_labelled)
    return losses.sum() / denominator
