"""Proximal policy optimisation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.trainer.config.rollouts import RolloutConfig


class PPOConfig(RolloutConfig):
    """Proximal policy optimisation against a reward, with a KL penalty."""

    learning_rate: float = Field(1e-6, gt=0)
    schedule: Literal["cosine", "constant"] = "constant"
    epsilon: float = Field(1e-5, gt=0)
    iterations: int = Field(30, gt=0)
    prompts_per_iteration: int = Field(128, gt=0)
    responses_per_prompt: int = Field(1, gt=0)
    epochs: int = Field(2, gt=0)
    """Passes over an iteration's rollouts."""
    minibatch_size: int = Field(64, gt=0)
    """Rollouts in one gradient step."""
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)
    clip_range: float = Field(0.2, gt=0, lt=1)
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(0.1, ge=0)
    """Weight of the value loss."""
    value_model: Literal["shared", "separate"] = "shared"
    """`shared`: a head on the policy's backbone. `separate`: a backbone of its own."""
    value_warmup_iterations: int = Field(0, ge=0)
    """First iterations in which only the values learn."""
    kl_coef: float = Field(0.05, ge=0)
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    target_kl: float = Field(6.0, gt=0)
    """Nats per response; for the adaptive controller. Source: arXiv:1909.08593, section 2.2."""
    kl_horizon: int = Field(10000, gt=0)
    """Rollouts; how slowly the adaptive controller moves."""
    max_kl: float | None = Field(None, gt=0)
    """Hard bound, nats per response. Training stops once the upper end of the KL's 95 % interval
    passes it, and the policy goes back to the last one seen within it."""
    whiten_scores: bool = True
    """Scale each iteration's scores to mean 0 and variance 1."""
    score_clip: float | None = Field(None, gt=0)
    """Scores beyond +- this are cut, after whitening."""
    missing_eos_penalty: float = Field(0.0, ge=0)
    """Taken off the score, after whitening, where a response has no end-of-sequence token."""
    missing_eos_score: float | None = None
    """Replaces such a response's score altogether, after whitening."""
    whiten_advantages: bool = True

    @model_validator(mode="after")
    def _minibatch_fits(self) -> Self:
        rollouts = self.prompts_per_iteration * self.responses_per_prompt
        if self.minibatch_size > rollouts:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} exceeds the {rollouts} rollouts of an "
                f"iteration (prompts_per_iteration={self.prompts_per_iteration} times "
                f"responses_per_prompt={self.responses_per_prompt})"
            )
        return self
