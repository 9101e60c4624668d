"""Rejection-sampling fine-tuning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plumbline.trainer.config.rollouts import RolloutConfig


class RejectionSamplingConfig(RolloutConfig):
    """Best of K: sample, keep the best response to each prompt, fine-tune on it."""

    learning_rate: float = Field(1e-5, gt=0)
    split: str = "train"
    responses_per_prompt: int = Field(8, gt=1)
    """K."""
    temperatures: tuple[Annotated[float, Field(gt=0, le=10)], ...] = ()
    """Response k is drawn at temperatures[k mod length]; empty means all at `temperature`."""
    top_p: float = Field(1.0, gt=0, le=1)
    rounds: int = Field(1, gt=0)
    """Times that sampling and fine-tuning repeat, each from the newest policy."""
    keep_unfinished: bool = False
    """Whether a response without end-of-sequence token may be kept."""
    minimum_score: float | None = None
    """Prompts whose best score is lower teach nothing; None keeps all."""
    epochs: int = Field(2, gt=0)
    batch_size: int = Field(64, gt=0)
    max_length: int = Field(512, gt=1)
    max_prompts: int | None = Field(None, gt=0)
    """Prompts used, drawn by seed; None uses all."""
