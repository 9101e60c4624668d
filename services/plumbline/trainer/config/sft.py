"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

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
    mix: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Weights of the inputs `conversations`, in their order: which share of an epoch's examples
    each gives, whatever it holds. Empty takes every example once."""
    pretraining_share: float = Field(0.0, ge=0, lt=1)
    """Share of an epoch's examples that are texts of the input `pretraining`, all of whose tokens
    count."""
    neftune_alpha: float = Field(0.0, ge=0)
    """Noise on the embeddings (NEFTune); its paper tries 5, 10 and 15. 0 adds none."""
    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the conversations held out, by their opening; unused with a `test` input."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"
    """What a broken record of a data file does."""
