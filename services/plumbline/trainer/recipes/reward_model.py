"""Reward models from preferences, and how well they rank held-out pairs.

Legend: B pairs of a step.

Source: Llama 2, arXiv:2307.09288, section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from plumbline.core.statistics import Estimate, proportion
from plumbline.data.records import Grade, Preference, content_id
from plumbline.models.packing import PromptGroup, group_pair
from plumbline.models.reward import RewardModel
from plumbline.trainer.batches import microbatches, step_batches
from plumbline.trainer.config import RewardModelConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.losses.bradley_terry import bradley_terry_loss

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
    margin: float
    chosen_is_safe: bool | None
    rejected_is_safe: bool | None


def encode_pairs(
    model: RewardModel, preferences: Sequence[Preference], *, margin: str
) -> list[EncodedPair]:
    """Token ids of preferences; ungraded pairs have no margin."""
    table = MARGINS[margin]
    return [
        EncodedPair(
            group_pair(
                model.encode(preference.prompt, preference.chosen),
                model.encode(preference.prompt, preference.rejected),
            ),
            table.get(preference.grade, 0.0) if preference.grade else 0.0,
            preference.chosen_is_safe,
            preference.rejected_is_safe,
        )
        for preference in preferences
    ]


def train_reward_model(
    model: RewardModel,
    pairs: Sequence[EncodedPair],
    run: TrainingRun,
    config: RewardModelConfig,
    plan: Sequence[Sequence[int]],
) -> None:
    """Train on every step of a plan.

    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    model.train()
    for step in range(run.resume(), len(plan)):
        metrics = _train_step(model, pairs, config, plan[step], step=step)
        norm = run.apply_gradients()
        rates = {"learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, len(plan), {**metrics, **rates})
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
        scores = model.score_groups([pair.group for pair in members]).view(-1, 2)
        chosen, rejected = scores.unbind(dim=1)
        margins = torch.tensor([pair.margin for pair in members], device=chosen.device)
        losses, correct = bradley_terry_loss(chosen, rejected, margins)
        loss = losses.sum() / len(indices)
        if config.safety_loss_coef and labelled:
            safety = _safety_loss(chosen, rejected, members, denominator=labelled)
            loss = loss + config.safety_loss_coef * safety
        loss_sum += loss.item()
        check_finite(loss_sum, step=step, batch=f"pairs {list(part)[:8]}")
        loss.backward()
        correct_sum += float(correct.sum())
    return {"loss": loss_sum, "accuracy": correct_sum / len(indices)}


def _labelled_responses(pairs: Sequence[EncodedPair]) -> int:
    return sum((p.chosen_is_safe is not None) + (p.rejected_is_safe is not None) for p in pairs)


def _safety_loss(
    chosen: Tensor, rejected: Tensor, pairs: Sequence[EncodedPair], *, denominator: int
) -> Tensor:
    """Binary cross entropy of the scores against the safety labels, where there are any."""
    labels = [p.chosen_is_safe for p in pairs] + [p.rejected_is_safe for p in pairs]
    known = torch.tensor([label is not None for label in labels], device=chosen.device)
    targets = torch.tensor([float(bool(label)) for label in labels], device=chosen.device)
    losses = F.binary_cross_entropy_with_logits(
        torch.cat([chosen, rejected]), targets, reduction="none"
    )
    return (losses * known).sum() / denominator


@dataclass(frozen=True, slots=True)
class RankingReport:
    """Accuracy on held-out pairs, whole and by group, beside trivial rankings."""

    overall: Estimate
    groups: Mapping[str, Estimate]
    """By `grade.<grade>`, `agreement.unanimous`, `agreement.split` and `kind.<kind>`."""
    length_baseline: Estimate
    """The longer (or shorter, whichever ranked more training pairs right) response wins."""
    majority_baseline: Estimate
    """Always the side that was chosen more often in training; sides are drawn by digest."""

    def metrics(self) -> dict[str, float]:
        """Flat figures: accuracy, accuracy.low, accuracy.high, accuracy.<group>, baseline.*."""
        figures = {
            "accuracy": self.overall.value,
            "accuracy.low": self.overall.low,
            "accuracy.high": self.overall.high,
            "baseline.length": self.length_baseline.value,
            "baseline.majority": self.majority_baseline.value,
            "pairs.test": float(self.overall.n),
        }
        for name, estimate in self.groups.items():
            figures[f"accuracy.{name.removeprefix('agreement.')}"] = estimate.value
        return figures

    def to_json(self) -> dict[str, Any]:
        """Every estimate with its interval and sample size."""
        return {
            "accuracy": self.overall.to_dict(),
            "groups": {name: estimate.to_dict() for name, estimate in self.groups.items()},
            "baselines": {
                "length": self.length_baseline.to_dict(),
                "majority": self.majority_baseline.to_dict(),
            },
        }


def evaluate_ranking(
    model: RewardModel,
    train: Sequence[Preference],
    test: Sequence[Preference],
    *,
    tokens_per_batch: int,
) -> RankingReport:
    """Rank held-out pairs; a tie counts as wrong."""
    prompts = [p.prompt for p in test]
    scores = model.score_responses(
        prompts + prompts,
        [p.chosen for p in test] + [p.rejected for p in test],
        tokens_per_batch=tokens_per_batch,
    )
    chosen, rejected = scores.split(len(test))
    correct = (chosen > rejected).tolist()
    return RankingReport(
        overall=_share(correct),
        groups=_by_group(test, correct),
        length_baseline=_share(_baseline(train, test, _longer_is_chosen)),
        majority_baseline=_share(_baseline(train, test, _first_is_chosen)),
    )


def _share(correct: Sequence[bool]) -> Estimate:
    return proportion(sum(correct), len(correct))


def _by_group(test: Sequence[Preference], correct: Sequence[bool]) -> dict[str, Estimate]:
    groups: dict[str, list[bool]] = {}
    for preference, right in zip(test, correct, strict=True):
        names = []
        if preference.grade is not None:
            names.append(f"grade.{preference.grade.value}")
        if preference.agreement is not None:
            names.append(f"agreement.{'unanimous' if preference.agreement == 1 else 'split'}")
        if preference.metadata.get("kind"):
            names.append(f"kind.{preference.metadata['kind']}")
        for name in names:
            groups.setdefault(name, []).append(right)
    return {name: _share(members) for name, members in sorted(groups.items())}


def _baseline(
    train: Sequence[Preference],
    test: Sequence[Preference],
    feature: Callable[[Preference], bool | None],
) -> list[bool]:
    """Predict by one binary feature, in the direction that fits the training pairs better."""
    known = [value for value in map(feature, train) if value is not None]
    direction = 2 * sum(known) >= len(known)
    return [feature(preference) == direction for preference in test]


def _longer_is_chosen(preference: Preference) -> bool | None:
    """None for a tie, which no direction ranks right."""
    lead = len(preference.chosen) - len(preference.rejected)
    return lead > 0 if lead else None


def _first_is_chosen(preference: Preference) -> bool:
    """Whether the chosen response would have stood first; the digest of the pair draws the side."""
    digest = content_id(*sorted((preference.chosen, preference.rejected)))
    first = min(preference.chosen, preference.rejected)
    return (int(digest[-1], 16) % 2 == 0) == (preference.chosen == first)
