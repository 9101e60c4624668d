"""What every training method has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Head = Literal["helpfulness", "safety", "preference"]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfig(Config):
    """What every method has: optimizer, seed, checkpoints."""

    seed: int = Field(0, ge=0, lt=2**32)
    learning_rate: float = Field(gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    minimum_learning_rate_share: float = Field(0.1, ge=0, le=1)
    """Where the cosine ends, as a share of learning_rate."""
    warmup_share: float = Field(0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from 0."""
    minimum_warmup_steps: int = Field(0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    """Of matrices only; norms and biases do not decay."""
    max_gradient_norm: float = Field(1.0, gt=0)
    tokens_per_microbatch: int = Field(16384, gt=0)
    """Padded tokens in one forward pass; results do not depend on it beyond rounding."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps (PPO: iterations) between checkpoints; 0 keeps none."""
    log_every: int = Field(10, gt=0)
    """Steps (PPO: iterations) between entries of the curves."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _betas_are_decay_rates(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas}; accepted: two numbers from 0 to below 1")
        return self
