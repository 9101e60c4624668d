"""Stage: Kahneman-Tversky optimisation."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import KTOConfig
from plumbline.trainer.stages.common import (
    BASE,
    context_length,
    load_policy,
    on_device,
    save_policy,
)

STAGE = Stage(
    name="trainer.kto",
    version=1,
    config=KTOConfig,
    inputs={
        "policy": BASE,
        "responses": InputSpec(
            kinds=("preferences",), many=True, description="responses labelled good or bad"
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.kto:run_kto",
    description="Kahneman-Tversky optimisation on single labelled responses",
)


def run_kto(config: KTOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.records import LabelledResponse
    from plumbline.trainer.datasets import read_all
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.kto import encode_responses, plan_steps, train_kto

    paths = [artifact.path for artifact in inputs.many("responses")]
    records, refused = read_all(paths, LabelledResponse, on_error=config.on_error)
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device, trained=config)
        limit = min(config.max_length, context_length(model))
        responses = encode_responses(records, chat, max_length=limit)
        plan = plan_steps(responses, config)
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_kto(model, responses, run, config, plan, pad_id=chat.pad_id)
        save_policy(model, chat, run, context)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "kl": run.curves[-1]["kl"],
            "responses": float(len(responses)),
            "responses.desirable": float(sum(item.desirable for item in responses)),
            "records.refused": float(refused),
        }
    )
