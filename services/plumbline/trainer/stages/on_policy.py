"""What the stages share that learn from their own responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plumbline.core.stages import InputSpec, StageContext, StageInputs, StageResult
from plumbline.trainer.config import OnPolicyConfig
from plumbline.trainer.stages.common import (
    BASE,
    REWARD_INPUTS,
    check_early_stop,
    check_same_vocabulary,
    load_policy,
    on_device,
    rollout_parts,
    save_policy,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plumbline.models.chat import ChatFormat
    from plumbline.trainer.recipes.on_policy import Learner

INPUTS = {
    "policy": BASE,
    **REWARD_INPUTS,
    "reference": InputSpec(
        kinds=("policy",),
        required=False,
        description="what KL is measured from; absent means the policy itself",
    ),
}


def run_on_policy(
    config: OnPolicyConfig,
    inputs: StageInputs,
    context: StageContext,
    new_learner: Callable[[PreTrainedModel, ChatFormat], Learner],
) -> StageResult:
    """Train a policy on its own responses and save it with its rollouts."""
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records
    from plumbline.trainer.datasets import split_prompts
    from plumbline.trainer.recipes.on_policy import OnPolicyRun

    prompts, test = split_prompts(
        read_prompts(inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds),
        test_fraction=config.test_fraction,
    )
    check_early_stop(config, len(test))
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device, trained=config)
        sampler, scorer = rollout_parts(config, inputs, context, model, chat, device)
        reference = None
        if inputs.optional("reference") is not None:
            reference, _ = load_policy(inputs, "reference", config.template, device)
            check_same_vocabulary(model, reference)
        learner = new_learner(model, chat)
        loop = OnPolicyRun(
            model, chat, sampler, scorer, learner, config, context, reference=reference
        )
        outcome = loop.train(prompts, held_out=test)
        save_policy(model, chat, loop.run, context)
    write_records(context.output_dir / "rollouts.parquet", outcome.rollouts, Rollout)
    return StageResult(metrics=outcome.metrics())
