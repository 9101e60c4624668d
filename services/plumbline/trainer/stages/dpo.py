"""Stage: direct preference optimisation."""

from __future__ import annotations

from plumbline.core.stages import Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import DPOConfig
from plumbline.trainer.stages.common import (
    BASE,
    PREFERENCES,
    context_length,
    load_policy,
    on_device,
    read_preferences,
    save_policy,
)

STAGE = Stage(
    name="trainer.dpo",
    version=2,
    config=DPOConfig,
    inputs={"policy": BASE, "preferences": PREFERENCES},
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.dpo:run_dpo",
    description="Direct preference optimisation",
)


def run_dpo(config: DPOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.datasets import preferences_for
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.dpo import (
        encode_pairs,
        plan_steps,
        reference_logprobs,
        train_dpo,
    )

    found, refused = read_preferences(inputs, "preferences", config.on_error)
    preferences = preferences_for(found, config.head)
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device)
        limit = min(config.max_length, context_length(model))
        pairs = encode_pairs(preferences, chat, max_length=limit)
        plan = plan_steps(pairs, config)
        reference = reference_logprobs(
            model, pairs, pad_id=chat.pad_id, tokens_per_batch=config.tokens_per_microbatch
        )
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_dpo(model, pairs, reference, run, config, plan, pad_id=chat.pad_id)
        save_policy(model, chat, run, context)
    last = run.curves[-1]
    return StageResult(
        metrics={
            "loss": last["loss"],
            "margin": last["margin"],
            "accuracy": last["accuracy"],
            "pairs": float(len(pairs)),
            "records.refused": float(refused),
        }
    )
