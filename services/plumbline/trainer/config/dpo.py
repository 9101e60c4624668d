"""Direct preference optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumbline.data.template import Template
from plumbline.trainer.config.base import Head, TrainingConfig


class DPOConfig(TrainingConfig):
    """Direct preference optimisation."""

    learning_rate: float = Field(1e-6, gt=0)
    beta: float = Field(0.1, gt=0)
    """Pull towards the reference policy."""
    loss: Literal["sigmoid", "ipo", "conservative"] = "sigmoid"
    """`sigmoid` (DPO), `ipo`, or `conservative`: DPO that expects some labels to be wrong."""
    label_smoothing: float = Field(0.1, ge=0, lt=0.5)
    """Share of wrong labels that `conservative` expects."""
    average_logprobs: bool = False
    """Take the mean of a response's token logprobs in place of their sum, as is usual for `ipo`."""
    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts held out, as for reward models; unused when a `test` input is given."""
    head: Head = "preference"
    """Preferences marked for another head are left out; `preference` takes all."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=0)
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(1024, gt=1)
    """Prompt plus response, tokens; longer prompts lose their beginning."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"
