"""REINFORCE, RLOO and GRPO: rewards of whole responses, and no value model.

Legend: B rollouts, prompt-major; K of them to a prompt; R tokens of the longest response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.config.policy_gradient import (
    GRPOConfig,
    PolicyGradientConfig,
    ReinforceConfig,
)
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import response_logprobs
from plumbline.trainer.losses.kl import kl_estimate
from plumbline.trainer.losses.policy_gradient import (
    group_advantages,
    leave_one_out_advantages,
    sequence_policy_loss,
    token_weights,
    weighted_policy_loss,
)
from plumbline.trainer.recipes.on_policy import Experience, mean_figures, minibatches

_RUNNING_MEAN = "running_mean"


class PolicyGradient:
    """The learner of `OnPolicyRun` for the three methods; the configuration says which."""

    modules: Mapping[str, nn.Module] = {}
    reads_states = False

    def __init__(
        self, model: PreTrainedModel, chat: ChatFormat, config: PolicyGradientConfig
    ) -> None:
        self._model, self._pad_id, self._config = model, chat.pad_id, config

    def values(self, groups: Sequence[PromptGroup], states: Tensor | None) -> None:
        """None: rewards are compared with each other."""

    def learn(
        self, experience: Experience, run: TrainingRun, iteration: int, kl_coef: float
    ) -> dict[str, float]:
        """All gradient steps of an iteration; returns their mean figures."""
        config = self._config
        advantages = self._advantages(experience, run, kl_coef)
        # Responses to a prompt stay together: their prompt is then computed once.
        plan = minibatches(
            len(advantages),
            size=config.minibatch_size,
            k=config.responses_per_prompt,
            epochs=config.epochs,
            seed=config.seed,
            iteration=iteration,
        )
        steps = []
        for rows in plan:
            figures = self.step(experience, advantages, rows, iteration, kl_coef)
            figures["gradient_norm"] = run.apply_gradients()
            steps.append(figures)
        idle = float((advantages == 0).float().mean())
        means = mean_figures(steps)
        return {**means, "idle_share": idle, "learning_rate": run.learning_rate}

    def step(
        self,
        experience: Experience,
        advantages: Tensor,
        rows: Sequence[int],
        iteration: int,
        kl_coef: float,
    ) -> dict[str, float]:
        """Gradients of one minibatch.

        Args:
            advantages: [B]
        """
        config = self._config
        penalised = config.kl_placement == "loss" and kl_coef > 0
        tokens = int(experience.mask[list(rows)].sum())
        totals = {"policy_loss": 0.0, "clip_share": 0.0} | ({"kl_loss": 0.0} if penalised else {})
        # What has no advantage has no gradient, unless the KL pulls on it.
        learning = [row for row in rows if penalised or advantages[row] != 0]
        for part in experience.microbatches(learning, config.tokens_per_microbatch):
            groups, width = experience.groups(part), experience.width(part)
            logprobs = response_logprobs(
                self._model, groups, pad_id=self._pad_id, temperature=config.temperature
            )
            mask = experience.mask[part, :width]
            weights = self._weights(mask, len(rows), tokens)
            old = experience.logprobs[part, :width]
            if isinstance(config, GRPOConfig):
                loss, clip_share = weighted_policy_loss(
                    logprobs, old, advantages[part], weights, clip_range=config.clip_range
                )
            else:
                loss, clip_share = sequence_policy_loss(
                    logprobs,
                    old,
                    advantages[part],
                    mask,
                    clip_range=config.clip_range,
                    denominator=len(rows),
                )
            totals["policy_loss"] += loss.item()
            totals["clip_share"] += clip_share.item()
            if penalised:
                kl = kl_estimate(
                    logprobs,
                    experience.ref_logprobs[part, :width],
                    estimator=config.kl_estimator,
                )
                kl_loss = kl_coef * (kl * weights).sum()
                totals["kl_loss"] += kl_loss.item()
                loss = loss + kl_loss
            check_finite(loss.item(), step=iteration, batch=f"rollouts of iteration {iteration}")
            loss.backward()
        return totals

    def _advantages(self, experience: Experience, run: TrainingRun, kl_coef: float) -> Tensor:
        """Advantages [B] of whole responses."""
        config, rewards = self._config, experience.scores
        if config.kl_placement == "reward":
            rewards = rewards - kl_coef * experience.kl.sum(dim=1)
        if isinstance(config, GRPOConfig):
            return group_advantages(
                rewards, config.responses_per_prompt, scale_by_std=config.scale_by_std
            )
        if not isinstance(config, ReinforceConfig):
            return leave_one_out_advantages(rewards, config.responses_per_prompt)
        if config.baseline == "none":
            return rewards
        if config.baseline == "batch":
            return leave_one_out_advantages(rewards, len(rewards))
        # The iteration's own rewards enter the mean only afterwards, which keeps it unbiased.
        own = float(rewards.mean())
        before = float(run.state.get(_RUNNING_MEAN, own))
        decay = config.running_decay
        run.state[_RUNNING_MEAN] = decay * before + (1 - decay) * own
        return rewards - before

    def _weights(self, mask: Tensor, responses: int, tokens: int) -> Tensor:
        """Weights [B, R] of the tokens within the minibatch's loss."""
        config = self._config
        if isinstance(config, GRPOConfig):
            return token_weights(
                mask,
                config.normalisation,
                responses=responses,
                tokens=tokens,
                length=config.max_response_tokens,
            )
        # A response's logprob is the sum of its tokens'.
        return mask.float() / responses
