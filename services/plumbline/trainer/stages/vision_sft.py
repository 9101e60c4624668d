"""Stage: supervised fine-tuning of a vision-language model."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import VisionSFTConfig
from plumbline.trainer.stages.common import on_device

STAGE = Stage(
    name="trainer.vision_sft",
    version=1,
    config=VisionSFTConfig,
    inputs={
        "base": InputSpec(kinds=("policy",), description="a vision-language model"),
        "conversations": InputSpec(
            kinds=("conversations", "corpus"),
            description="a JSON file of messages with <image> marks, beside the images",
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.vision_sft:run_vision_sft",
    description="Supervised fine-tuning on conversations about images",
)


def run_vision_sft(
    config: VisionSFTConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.data.image_conversations import read_image_conversations
    from plumbline.models.vision import load_vision_language, save_vision_language, train_only
    from plumbline.trainer.engine import TrainingRun, write_curves
    from plumbline.trainer.execution import prepare_layers
    from plumbline.trainer.recipes.vision_sft import (
        VisionFormat,
        plan_steps,
        train_vision_sft,
        turns_of,
    )

    conversations = read_image_conversations(inputs.one("conversations").path)
    with on_device(config, context) as device:
        model, processor = load_vision_language(inputs.one("base").path)
        trained = train_only(model, config.train)
        prepare_layers(model, config)
        model.to(device)
        layout = VisionFormat(processor)
        turns, lengths, left_out = turns_of(conversations, layout, max_length=config.max_length)
        plan = plan_steps(lengths, config)
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_vision_sft(model, layout, turns, run, plan)
        save_vision_language(model, processor, context.output_dir)
    write_curves(context.output_dir, run.curves)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "examples": float(len(turns)),
            "examples.left_out": float(left_out),
            "steps": float(len(plan)),
            **{f"parameters.{part}": float(count) for part, count in trained.items()},
        }
    )
