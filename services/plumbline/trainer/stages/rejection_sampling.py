"""Stage: fine-tuning on the best of K responses."""

from __future__ import annotations

from plumbline.core.errors import ConfigError
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
    version=3,
    config=RejectionSamplingConfig,
    inputs={
        "policy": BASE,
        **REWARD_INPUTS,
        "replay": InputSpec(
            kinds=("conversations", "corpus"),
            required=False,
            description="demonstrations mixed in, against forgetting",
        ),
        "pool": InputSpec(
            kinds=("policy", "rollouts"),
            required=False,
            many=True,
            description="rollouts of all earlier policies, or of a larger one: they compete",
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
    from plumbline.trainer.datasets import read_all
    from plumbline.trainer.recipes.rejection_sampling import prepare_pool, train_rejection_sampling

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds
    )
    prompts = draw_some(prompts, config.max_prompts, seed=config.seed)
    replay, _ = read_conversations(inputs, "replay")
    earlier, _ = read_all(
        [artifact.path for artifact in inputs.many("pool")], Rollout, names=("rollouts.parquet",)
    )
    if not earlier and not config.responses_per_prompt:
        raise ConfigError(
            "responses_per_prompt=0 draws nothing, and no input 'pool' was given",
            field="responses_per_prompt",
        )
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device, trained=config)
        sampler, scorer = rollout_parts(config, inputs, context, model, chat, device)
        pool = prepare_pool(earlier, prompts, scorer, chat)
        run, selections, rollouts = train_rejection_sampling(
            model, prompts, sampler, scorer, config, context, chat=chat, replay=replay, pool=pool
        )
        save_policy(model, chat, run, context)
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    last = selections[-1]
    tuned = {} if last.temperature is None else {"temperature": last.temperature}
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "score.mean": last.mean_score,
            "score.best": last.best_score,
            "prompts": float(len(prompts)),
            "prompts.kept": float(last.prompts),
            "prompts.from_pool": float(last.from_pool),
            "pool": float(len(pool)),
            **tuned,
        }
    )
