"""Stage: fine-tuning on the best of K responses."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import RejectionSamplingConfig
from plumbline.trainer.stages.common import (
    BASE,
    REWARD_INPUTS,
    load_policy,
    on_device,
    read_conversations,
    rollout_parts,
    save_policy,
)

STAGE = Stage(
    name="trainer.rejection_sampling",
    version=2,
    config=RejectionSamplingConfig,
    inputs={
        "policy": BASE,
        **REWARD_INPUTS,
        "replay": InputSpec(
            kinds=("conversations", "corpus"),
            required=False,
            description="demonstrations mixed in, against forgetting",
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.rejection_sampling:run_rejection_sampling",
    description="Fine-tune on the best of K sampled responses",
)


def run_rejection_sampling(
    config: RejectionSamplingConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.recipes.rejection_sampling import train_rejection_sampling

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds
    )
    prompts = draw_some(prompts, config.max_prompts, seed=config.seed)
    replay, _ = read_conversations(inputs, "replay")
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device, trained=config)
        sampler, scorer = rollout_parts(config, inputs, context, model, chat, device)
        run, selections, rollouts = train_rejection_sampling(
            model, prompts, sampler, scorer, config, context, chat=chat, replay=replay
        )
        save_policy(model, chat, run, context)
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "score.mean": selections[-1].mean_score,
            "score.best": selections[-1].best_score,
            "prompts": float(len(prompts)),
            "prompts.kept": float(selections[-1].prompts),
        }
    )
