"""Pre-training."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from plumbline.trainer.config.base import TrainingConfig


class PretrainConfig(TrainingConfig):
    """A byte-level BPE tokenizer and a small Llama, from text."""

    learning_rate: float = Field(3e-3, gt=0)
    vocab_size: int = Field(1024, ge=262)
    """Tokens: 6 control tokens, 256 bytes, and merges up to this number."""
    hidden_size: int = Field(128, gt=0)
    intermediate_size: int = Field(384, gt=0)
    layers: int = Field(4, gt=0)
    heads: int = Field(4, gt=0)
    context_length: int = Field(512, gt=1)
    """Longest sequence that the model accepts, tokens."""
    initializer_range: float = Field(0.02, gt=0)
    sequence_length: int = Field(128, gt=1)
    """Tokens in one packed training sequence."""
    batch_size: int = Field(32, gt=0)
    """Sequences in one step."""
    steps: int = Field(400, gt=0)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of 2 * heads={2 * self.heads}, "
                "because rotary positions turn pairs of dimensions"
            )
        if self.sequence_length > self.context_length:
            raise ValueError(
                f"sequence_length={self.sequence_length} exceeds "
                f"context_length={self.context_length}"
            )
        return self
