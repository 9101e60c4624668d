"""Rejection-sampling fine-tuning."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from plumbline.trainer.config.rollouts import RolloutConfig


class RejectionSamplingConfig(RolloutConfig):
    """Best of K: sample, keep the best response to each prompt, fine-tune on it."""

    learning_rate: float = Field(1e-5, gt=0)
    split: str = "train"
    responses_per_prompt: int = Field(8, ge=0)
    """K, beside those of the pool; 0 draws none, and the pool alone teaches: a small policy learns
    from what a larger one drew."""
    temperatures: tuple[Annotated[float, Field(gt=0, le=10)], ...] = ()
    """Response k is drawn at temperatures[k mod length]; empty means all at `temperature`."""
    candidate_temperatures: tuple[Annotated[float, Field(gt=0, le=10)], ...] = ()
    """Each round draws from some prompts at each of these, and then from all at the one with the
    highest mean of the best scores: the best temperature moves as the policy learns."""
    tuning_prompts: int = Field(64, gt=0)
    """Prompts that each candidate is tried on."""
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

    @model_validator(mode="after")
    def _one_way_to_choose_temperatures(self) -> Self:
        if self.candidate_temperatures and self.temperatures:
            raise ValueError(
                "temperatures and candidate_temperatures are both given; accepted: one of them"
            )
        if self.candidate_temperatures and not self.responses_per_prompt:
            raise ValueError(
                "candidate_temperatures need responses to try them on; responses_per_prompt=0"
            )
        return self
