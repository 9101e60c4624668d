"""Stage: safety context distillation data, to be learned by supervised fine-tuning."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import ContextDistillationConfig
from plumbline.trainer.stages.common import (
    REWARD_INPUTS,
    load_policy,
    new_sampler,
    new_scorer,
    on_device,
)

STAGE = Stage(
    name="trainer.context_distillation",
    version=1,
    config=ContextDistillationConfig,
    inputs={
        "policy": InputSpec(kinds=("policy",), description="replies with and without a preprompt"),
        "prompts": REWARD_INPUTS["prompts"],
        "safety": REWARD_INPUTS["safety"],
    },
    output_kind="conversations",
    queue="training",
    run="plumbline.trainer.stages.context_distillation:run_context_distillation",
    description="Keep replies that a safety preprompt made safer, without the preprompt",
)


def run_context_distillation(
    config: ContextDistillationConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.core.errors import FailedPreconditionError
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Conversation
    from plumbline.data.tables import write_records
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.recipes.context_distillation import distil_context

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds
    )
    prompts = draw_some(prompts, config.max_prompts, seed=config.seed)
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device)
        tokens = config.tokens_per_batch
        made = distil_context(
            prompts,
            new_sampler(config, inputs, context, model, chat),
            new_scorer(config, config.reward, inputs, context, device, tokens_per_batch=tokens),
            chat,
            config,
            progress=context.progress,
        )
    if not made.conversations:
        raise FailedPreconditionError(
            f"no preprompt made a reply to any of {len(prompts)} prompts safer by more than "
            f"minimum_gain={config.minimum_gain}",
            reason="NOTHING_KEPT",
        )
    write_records(context.output_dir / "conversations.parquet", made.conversations, Conversation)
    return StageResult(metrics=made.metrics())
