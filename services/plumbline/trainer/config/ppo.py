"""Proximal policy optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumbline.trainer.config.on_policy import OnPolicyConfig


class PPOConfig(OnPolicyConfig):
    """Proximal policy optimisation against a reward, with a KL penalty."""

    epochs: int = Field(2, gt=0)
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(0.1, ge=0)
    """Weight of the value loss."""
    value_model: Literal["shared", "separate"] = "shared"
    """`shared`: a head on the policy's backbone. `separate`: a backbone of its own."""
    value_warmup_iterations: int = Field(0, ge=0)
    """First iterations in which only the values learn."""
    whiten_scores: bool = True
    whiten_advantages: bool = True
    pretraining_coef: float = Field(0.0, ge=0)
    """Weight of next-token cross entropy on the input `pretraining`, against forgetting (PPO-ptx).
    Source: Ouyang et al. 2022, arXiv:2203.02155, equation 2."""
    pretraining_batch_size: int = Field(16, gt=0)
    """Pretraining texts in each gradient step."""
    pretraining_length: int = Field(256, gt=1)
    """Tokens; longer texts lose their end."""
