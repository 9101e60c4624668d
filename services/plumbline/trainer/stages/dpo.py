"""Stage: direct preference optimisation."""

from __future__ import annotations

from plumbline.core.stages import Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import DPOConfig
from plumbline.trainer.stages.common import (
    BASE,
    PREFERENCES,
    TEST_PREFERENCES,
    check_early_stop,
    context_length,
    load_policy,
    on_device,
    save_policy,
    split_preferences,
)

STAGE = Stage(
    name="trainer.dpo",
    version=2,
    config=DPOConfig,
    inputs={"policy": BASE, "preferences": PREFERENCES, "test": TEST_PREFERENCES},
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.dpo:run_dpo",
    description="Direct preference optimisation",
)


def run_dpo(config: DPOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.dpo import (
        encode_pairs,
        evaluate_dpo,
        pair_logprobs,
        plan_steps,
        train_dpo,
    )

    train, test, refused = split_preferences(config, inputs)
    check_early_stop(config, len(test))
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device, trained=config)
        limit = min(config.max_length, context_length(model))
        pairs = encode_pairs(train, chat, max_length=limit)
        held_out = encode_pairs(test, chat, max_length=limit)
        reference = pair_logprobs(model, held_out, config, pad_id=chat.pad_id)
        plan = plan_steps(pairs, config)
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_dpo(
            model,
            pairs,
            run,
            config,
            plan,
            pad_id=chat.pad_id,
            held_out=held_out,
            held_out_reference=reference,
        )
        tested = (
            evaluate_dpo(model, held_out, reference, config, pad_id=chat.pad_id) if held_out else {}
        )
        save_policy(model, chat, run, context)
    last = run.curves[-1]
    return StageResult(
        metrics={
            "loss": last["loss"],
            "margin": last["margin"],
            "accuracy": last["accuracy"],
            "pairs": float(len(pairs)),
            "records.refused": float(refused),
            **tested,
        }
    )
