"""Kahneman-Tversky optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumbline.data.template import Template
from plumbline.trainer.config.base import TrainingConfig


class KTOConfig(TrainingConfig):
    """Learning from single responses that are labelled good or bad."""

    learning_rate: float = Field(1e-6, gt=0)
    beta: float = Field(0.1, gt=0)
    """Pull towards the reference policy."""
    desirable_weight: float = Field(1.0, gt=0)
    undesirable_weight: float = Field(1.0, gt=0)
    """Where one kind is rarer, the paper wants weight times count of the two within 1 to 4/3."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=1)
    """Responses in one step; the reference point is estimated within it."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(1024, gt=1)
    """Prompt plus response, tokens; longer prompts lose their beginning."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"
