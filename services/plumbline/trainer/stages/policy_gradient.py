"""Stages: REINFORCE, RLOO and GRPO."""

from __future__ import annotations

from plumbline.core.stages import Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import (
    GRPOConfig,
    PolicyGradientConfig,
    ReinforceConfig,
    RLOOConfig,
)
from plumbline.trainer.stages.on_policy import INPUTS, run_on_policy


def _stage(name: str, config: type[PolicyGradientConfig], description: str) -> Stage:
    return Stage(
        name=f"trainer.{name}",
        version=2,
        config=config,
        inputs=INPUTS,
        output_kind="policy",
        queue="training",
        run="plumbline.trainer.stages.policy_gradient:run_policy_gradient",
        description=description,
    )


STAGES = (
    _stage("reinforce", ReinforceConfig, "REINFORCE with a baseline, bounded by KL"),
    _stage("rloo", RLOOConfig, "REINFORCE with the prompt's other responses as the baseline"),
    _stage("grpo", GRPOConfig, "Group-relative policy optimisation, bounded by KL"),
)


def run_policy_gradient(
    config: PolicyGradientConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.trainer.recipes.policy_gradient import PolicyGradient

    return run_on_policy(
        config, inputs, context, lambda model, chat: PolicyGradient(model, chat, config)
    )
