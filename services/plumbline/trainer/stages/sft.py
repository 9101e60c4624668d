"""Stage: supervised fine-tuning."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.stages.common import (
    BASE,
    context_length,
    load_policy,
    on_device,
    read_conversations,
    save_policy,
)

STAGE = Stage(
    name="trainer.sft",
    version=2,
    config=SFTConfig,
    inputs={
        "base": BASE,
        "conversations": InputSpec(
            kinds=("conversations", "corpus"),
            many=True,
            description="demonstrations; assistant turns are learned",
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.sft:run_sft",
    description="Supervised fine-tuning on conversations",
)


def run_sft(config: SFTConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.sft import encode_conversations, plan_steps, train_sft

    conversations, refused = read_conversations(inputs, "conversations", config.on_error)
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "base", config.template, device, trained=config)
        limit = min(config.max_length, context_length(model))
        dataset = encode_conversations(conversations, chat, max_length=limit)
        plan = plan_steps(
            dataset.examples,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            max_steps=config.max_steps,
        )
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_sft(model, dataset.examples, run, plan, pad_id=chat.pad_id, start=run.resume())
        save_policy(model, chat, run, context)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "examples": float(len(dataset.examples)),
            "examples.cut": float(dataset.cut),
            "examples.left_out": float(dataset.left_out),
            "records.refused": float(refused),
            "steps": float(len(plan)),
        }
    )
