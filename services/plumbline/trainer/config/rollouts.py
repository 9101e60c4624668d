"""What methods share that learn from their own responses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from plumbline.data.template import Template
from plumbline.models.programmatic import LengthReward, SentimentReward, WordShareReward
from plumbline.trainer.config.base import ComputeConfig, Config, TrainingConfig


class CombinedReward(Config):
    """Score by the reward models given; both heads are combined as in Llama 2."""

    kind: Literal["reward_models"] = "reward_models"
    safety_threshold: float = Field(0.15, gt=0, lt=1)
    """Probability of being safe below which a response is judged by safety alone."""
    risky_kinds: tuple[str, ...] = ("harmful",)
    """Kinds of prompts that are judged by safety alone."""


Reward = Annotated[
    CombinedReward | SentimentReward | LengthReward | WordShareReward, Field(discriminator="kind")
]


class SamplingConfig(ComputeConfig):
    """How a policy's responses are drawn."""

    rollout: Literal["colocated", "remote"] = "colocated"
    """`remote` draws and scores through SamplerService and RewardService."""
    temperature: float = Field(1.0, gt=0, le=10)
    max_response_tokens: int = Field(128, gt=0)
    rows_per_batch: int = Field(256, gt=0)
    """Responses that are drawn together."""
    template: Template = "chat"


class RolloutConfig(SamplingConfig, TrainingConfig):
    """What methods share that learn from responses which a reward scores."""

    reward: Reward = CombinedReward()
    split: str = "rl"
    """Reads `prompts_<split>.parquet`, where the prompts' artifact has splits."""
    prompt_kinds: tuple[str, ...] = ()
    """Kinds of prompts used; empty uses all."""
    keep_rollouts: Literal["last", "all"] = "last"
    """Which rollouts the artifact holds: those of the last round or iteration, or all."""
