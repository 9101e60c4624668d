"""Configuration of the reward service and of its stage."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Head = Literal["helpfulness", "safety", "combined"]


class RewardConfig(BaseModel):
    """Bounds of one reward process, and how heads combine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_models: int = Field(4, ge=1)
    """Reward models kept in memory; the least recently used one makes room."""
    max_model_bytes: int = Field(64 * 2**30, gt=0)
    """Weights kept in memory; the model in use is kept whatever its size."""
    tokens_per_batch: int = Field(8192, ge=1)
    """Padded tokens of one forward pass."""
    max_items_per_request: int = Field(4096, ge=1)
    safety_threshold: float = Field(0.15, gt=0, lt=1)
    """Below this probability the combined head takes the safety score."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class ScoreConfig(BaseModel):
    """Stage `reward.score`: scores of rollouts under one or more heads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: tuple[Head, ...] = ("helpfulness",)
    """`helpfulness` and `safety` need the input of their name, `combined` both."""
    risky_kinds: tuple[str, ...] = ("harmful",)
    """Kinds of prompts whose combined score is the safety score."""
    items_per_call: int = Field(512, ge=1, le=4096)
    """Responses scored in one call to the reward service."""
    timeout_s: float = Field(600.0, gt=0)
    """Deadline of one call."""

    @model_validator(mode="after")
    def _some_head(self) -> Self:
        if not self.heads:
            raise ValueError("heads is empty; accepted: helpfulness, safety, combined")
        return self
