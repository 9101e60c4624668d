"""Supervised fine-tuning on conversations about images."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.trainer.config.base import TrainingConfig


class VisionSFTConfig(TrainingConfig):
    """Fine-tuning of a vision-language model on the assistant turns."""

    learning_rate: float = Field(2e-5, gt=0)
    train: Literal["connector", "language", "full"] = "language"
    """What learns: the connector between encoder and language model alone; connector and language
    model, the encoder frozen; or everything."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(16, gt=0)
    """Assistant turns in one step; they are computed one by one, as architectures lay out images in
    batches each in its own way."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(2048, gt=1)
    """Tokens, those of images among them; longer turns are left out."""

    @model_validator(mode="after")
    def _trains_parts_only(self) -> Self:
        given = [name for name in ("lora", "lisa", "early_stop") if getattr(self, name) is not None]
        if given or self.freeze:
            raise ValueError(f"{', '.join(given) or 'freeze'} is not taken here; accepted: train")
        return self
