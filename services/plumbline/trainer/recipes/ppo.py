"""Proximal policy optimisation with a per-token KL penalty and a value head.

Legend: B rollouts, R tokens of the longest response, N response tokens in all, H hidden size. The
value of a token is read at the state before it.

Sources: Schulman et al. 2017, arXiv:1707.06347; Stiennon et al. 2020, arXiv:2009.01325; Llama 2,
arXiv:2307.09288, section 3.2.3; for the mix-in of pretraining, Ouyang et al. 2022,
arXiv:2203.02155.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.batches import cyclic_indices
from plumbline.trainer.config.ppo import PPOConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import (
    counted_loss,
    response_logprobs,
    response_states,
    scatter_responses,
)
from plumbline.trainer.losses.advantages import gae, whiten
from plumbline.trainer.losses.ppo import ppo_policy_loss, ppo_value_loss, token_rewards
from plumbline.trainer.recipes.on_policy import Experience, mean_figures, minibatches


class ValueModel(nn.Module):
    """A linear value head, on the policy's backbone or on one of its own; starts at 0."""

    def __init__(self, policy: PreTrainedModel, *, separate: bool) -> None:
        super().__init__()
        hidden_size = policy.get_input_embeddings().weight.shape[1]
        self.backbone = copy.deepcopy(policy.base_model) if separate else None
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


@dataclass(frozen=True, slots=True)
class _Targets:
    """What the gradient steps of an iteration aim at; all [B, R]."""

    advantages: Tensor
    returns: Tensor
    values: Tensor


class PPO:
    """The learner of `OnPolicyRun`.

    Args:
        pretraining: token ids of texts that are mixed in against forgetting.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: ChatFormat,
        config: PPOConfig,
        *,
        pretraining: Sequence[Sequence[int]] = (),
    ) -> None:
        self._model, self._pad_id, self._config = model, chat.pad_id, config
        self._pretraining = [list(text[: config.pretraining_length]) for text in pretraining]
        self._values = ValueModel(model, separate=config.value_model == "separate")
        self._values.to(model.device)
        self.modules: Mapping[str, nn.Module] = {"value": self._values}
        self.reads_states = config.value_model == "shared"

    def values(self, groups: Sequence[PromptGroup], states: Tensor | None) -> Tensor:
        """Values [B, R] from the policy's states [N, H], or from a backbone of their own."""
        if self._values.backbone is not None:
            states = response_states(self._values.backbone, groups, pad_id=self._pad_id)
        return scatter_responses(self._values.head(states).squeeze(-1).float(), groups)

    def learn(
        self, experience: Experience, run: TrainingRun, iteration: int, kl_coef: float
    ) -> dict[str, float]:
        """All gradient steps of an iteration; returns their mean figures."""
        config = self._config
        targets = self.targets(experience, kl_coef)
        plan = minibatches(
            len(experience.responses),
            size=config.minibatch_size,
            k=1,
            epochs=config.epochs,
            seed=config.seed,
            iteration=iteration,
        )
        steps = []
        for rows in plan:
            figures = self.step(experience, targets, rows, iteration)
            if self._pretraining and config.pretraining_coef:
                figures["pretraining_loss"] = self._mix_in(run.optimizer_steps)
            figures["gradient_norm"] = run.apply_gradients()
            steps.append(figures)
        return {**mean_figures(steps), "learning_rate": run.learning_rate}

    def targets(self, experience: Experience, kl_coef: float) -> _Targets:
        """Advantages and returns from scores, KL and values."""
        config, mask = self._config, experience.mask
        values = experience.values
        if values is None:
            values = torch.zeros_like(experience.logprobs)
        rewards = token_rewards(experience.scores, experience.kl, mask, kl_coef=kl_coef)
        advantages, returns = gae(rewards, values, mask, gamma=config.gamma, lam=config.lam)
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        return _Targets(advantages, returns, values)

    def step(
        self, experience: Experience, targets: _Targets, rows: Sequence[int], iteration: int
    ) -> dict[str, float]:
        """Gradients of one minibatch."""
        config = self._config
        denominator = float(experience.mask[list(rows)].sum())
        policy_sum = value_sum = clip_sum = 0.0
        learns_policy = iteration >= config.value_warmup_iterations
        for part in experience.microbatches(rows, config.tokens_per_microbatch):
            groups, width = experience.groups(part), experience.width(part)
            states = response_states(self._model, groups, pad_id=self._pad_id)
            logprobs = response_logprobs(
                self._model,
                groups,
                pad_id=self._pad_id,
                temperature=config.temperature,
                states=states,
            )
            mask = experience.mask[part, :width]
            policy_loss, clip_share = ppo_policy_loss(
                logprobs,
                experience.logprobs[part, :width],
                targets.advantages[part, :width],
                mask,
                clip_range=config.clip_range,
                denominator=denominator,
            )
            value_loss = ppo_value_loss(
                # While only values learn, they must not move a backbone that they share.
                self.values(groups, states if learns_policy else states.detach()),
                targets.values[part, :width],
                targets.returns[part, :width],
                mask,
                clip_range=config.value_clip_range,
                denominator=denominator,
            )
            loss = config.value_coef * value_loss
            if learns_policy:
                loss = loss + policy_loss
            check_finite(loss.item(), step=iteration, batch=f"rollouts of iteration {iteration}")
            loss.backward()
            policy_sum += policy_loss.item()
            value_sum += value_loss.item()
            clip_sum += clip_share.item()
        return {"policy_loss": policy_sum, "value_loss": value_sum, "clip_share": clip_sum}

    def _mix_in(self, step: int) -> float:
        """Gradients of a batch of pretraining texts, which follows from the step's number."""
        config = self._config
        chosen = cyclic_indices(
            len(self._pretraining),
            start=step * config.pretraining_batch_size,
            size=config.pretraining_batch_size,
            seed=config.seed,
        )
        texts = [self._pretraining[index] for index in chosen]
        loss = counted_loss(
            self._model,
            texts,
            [[True] * len(text) for text in texts],
            denominator=float(sum(len(text) - 1 for text in texts)),
            pad_id=self._pad_id,
        )
        check_finite(loss.item(), step=step, batch=f"pretraining texts {chosen[:8]}")
        (config.pretraining_coef * loss).backward()
        return loss.item()
