"""Stages of the trainer."""

from __future__ import annotations

from plumbline.trainer.stages import (
    context_distillation,
    dpo,
    ghost_attention,
    judge,
    kto,
    policy_gradient,
    ppo,
    pretrain,
    rejection_sampling,
    reward_model,
    sft,
    vision_sft,
)

STAGES = (
    pretrain.STAGE,
    sft.STAGE,
    reward_model.STAGE,
    rejection_sampling.STAGE,
    *policy_gradient.STAGES,
    ppo.STAGE,
    dpo.STAGE,
    kto.STAGE,
    ghost_attention.STAGE,
    context_distillation.STAGE,
    judge.STAGE,
    vision_sft.STAGE,
)
