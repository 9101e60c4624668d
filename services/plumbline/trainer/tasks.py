"""Stages of the trainer."""

from __future__ import annotations

from plumbline.trainer.stages import (
    dpo,
    ppo,
    pretrain,
    rejection_sampling,
    reward_model,
    sft,
)

STAGES = tuple(
    module.STAGE for module in (pretrain, sft, reward_model, rejection_sampling, ppo, dpo)
)
