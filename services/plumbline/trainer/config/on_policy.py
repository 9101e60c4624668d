"""What methods share that learn from their own newest responses, iteration by iteration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.trainer.config.rollouts import RolloutConfig


class OnPolicyConfig(RolloutConfig):
    """Iterations, the shape of the scores, and the pull towards the reference."""

    learning_rate: float = Field(1e-6, gt=0)
    schedule: Literal["cosine", "constant"] = "constant"
    epsilon: float = Field(1e-5, gt=0)
    iterations: int = Field(30, gt=0)
    prompts_per_iteration: int = Field(128, gt=0)
    responses_per_prompt: int = Field(1, gt=0)
    epochs: int = Field(1, gt=0)
    """Passes over an iteration's rollouts."""
    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts held out; an early stop watches the mean score of replies to them."""
    minibatch_size: int = Field(64, gt=0)
    """Rollouts in one gradient step."""
    clip_range: float = Field(0.2, gt=0, lt=1)
    """How far the ratio of new to old probabilities may lead, from 1."""
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
    whiten_scores: bool = False
    """Scale each iteration's scores to mean 0 and variance 1."""
    score_clip: float | None = Field(None, gt=0)
    """Scores beyond +- this are cut, after whitening."""
    missing_eos_penalty: float = Field(0.0, ge=0)
    """Taken off the score, after whitening, where a response has no end-of-sequence token."""
    missing_eos_score: float | None = None
    """Replaces such a response's score altogether, after whitening."""

    @property
    def rollouts_per_iteration(self) -> int:
        return self.prompts_per_iteration * self.responses_per_prompt

    @model_validator(mode="after")
    def _minibatch_fits(self) -> Self:
        if self.minibatch_size > self.rollouts_per_iteration:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} exceeds the "
                f"{self.rollouts_per_iteration} rollouts of an iteration (prompts_per_iteration="
                f"{self.prompts_per_iteration} times responses_per_prompt="
                f"{self.responses_per_prompt})"
            )
        return self
