"""Reward models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumbline.data.template import Template
from plumbline.trainer.config.base import Head, TrainingConfig


class RewardModelConfig(TrainingConfig):
    """A Bradley-Terry reward model."""

    learning_rate: float = Field(1e-5, gt=0)
    warmup_share: float = Field(0.03, ge=0, lt=1)
    minimum_warmup_steps: int = Field(5, ge=0)
    head: Head = "preference"
    """Preferences marked for another head are left out; `preference` takes all."""
    margin: Literal["small", "large", "off"] = "small"
    """Lead demanded by grade, best to worst: small 1, 2/3, 1/3, 0; large 3, 2, 1, 0.
    Source: Llama 2, arXiv:2307.09288, table 27."""
    safety_loss_coef: float = Field(0.0, ge=0)
    """Weight of a binary cross entropy on the pairs' safety labels, for the safety head.
    Source: Llama 2, arXiv:2307.09288, appendix A.3.3."""
    pooling: Literal["auto", "last", "cls", "mean"] = "auto"
    """`auto`: last for decoders, mean for encoders."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=0)
    """Pairs in one step."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(512, gt=1)
    """Tokens; longer input loses its beginning."""
    max_pairs: int | None = Field(None, gt=0)
    """Training pairs used, drawn by seed; None uses all."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts held out, chosen by the digest of the prompt, so that no prompt is on
    both sides; unused when a `test` input is given."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"
