"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumbline.data.template import Template
from plumbline.trainer.config.base import TrainingConfig


class SFTConfig(TrainingConfig):
    """Supervised fine-tuning on the assistant turns of conversations."""

    learning_rate: float = Field(2e-5, gt=0)
    epochs: int = Field(2, gt=0)
    batch_size: int = Field(64, gt=0)
    """Examples in one step."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(512, gt=1)
    """Tokens; longer examples lose their beginning, or are left out where no response would
    remain in full."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"
    """What a broken record of a data file does."""
