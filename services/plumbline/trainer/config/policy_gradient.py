"""REINFORCE, RLOO and GRPO: policy gradients without a value model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.trainer.config.on_policy import OnPolicyConfig


class PolicyGradientConfig(OnPolicyConfig):
    """What the three have in common."""

    kl_placement: Literal["reward", "loss"] = "reward"
    """`reward`: the response's KL is taken off its score before advantages are formed. `loss`: an
    estimate of the KL is added to the loss; with k2 its gradient is that of the KL, with k1 it is
    0 on average, with k3 (as GRPO was published) that of the KL the other way round."""


class ReinforceConfig(PolicyGradientConfig):
    """REINFORCE on whole responses. Source: Williams 1992, doi:10.1007/BF00992696."""

    baseline: Literal["none", "batch", "running"] = "batch"
    """What the reward is compared with: nothing, the mean of the iteration's other responses, or a
    running mean of earlier iterations (the first uses its own mean)."""
    running_decay: float = Field(0.9, ge=0, lt=1)
    """How much of the running mean an iteration keeps."""


class _GroupConfig(PolicyGradientConfig):
    prompts_per_iteration: int = Field(32, gt=0)
    responses_per_prompt: int = Field(4, gt=0)

    @model_validator(mode="after")
    def _groups_are_whole(self) -> Self:
        k = self.responses_per_prompt
        if k < 2:
            raise ValueError(
                f"responses_per_prompt={k}; accepted: 2 or more, which are compared with each other"
            )
        if self.minibatch_size % k:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} must be a multiple of "
                f"responses_per_prompt={k}, so that the responses to a prompt stay together"
            )
        return self


class RLOOConfig(_GroupConfig):
    """REINFORCE leave-one-out. Source: Ahmadian et al. 2024, arXiv:2402.14740."""


class GRPOConfig(_GroupConfig):
    """Group-relative policy optimisation. Source: Shao et al. 2024, arXiv:2402.03300."""

    kl_placement: Literal["reward", "loss"] = "loss"
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    scale_by_std: bool = True
    """Divide a group's advantages by the standard deviation of its rewards."""
    normalisation: Literal["response", "token", "length"] = "response"
    """What a token's loss is averaged over: its response and then all responses (as published); all
    tokens of the step (DAPO, arXiv:2503.14476); or max_response_tokens, so that long answers weigh
    no less (Dr. GRPO, arXiv:2503.20783)."""
