"""Stage: proximal policy optimisation."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import PPOConfig
from plumbline.trainer.stages.common import (
    BASE,
    REWARD_INPUTS,
    check_same_vocabulary,
    load_policy,
    on_device,
    rollout_parts,
    save_policy,
)

STAGE = Stage(
    name="trainer.ppo",
    version=2,
    config=PPOConfig,
    inputs={
        "policy": BASE,
        **REWARD_INPUTS,
        "reference": InputSpec(
            kinds=("policy",),
            required=False,
            description="what KL is measured from; absent means the policy itself",
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.ppo:run_ppo",
    description="Proximal policy optimisation against a reward, bounded by KL",
)


def run_ppo(config: PPOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records
    from plumbline.trainer.recipes.ppo import PPO

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds
    )
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device)
        sampler, scorer = rollout_parts(config, inputs, context, model, chat, device)
        reference = None
        if inputs.optional("reference") is not None:
            reference, _ = load_policy(inputs, "reference", config.template, device)
            check_same_vocabulary(model, reference)
        ppo = PPO(model, chat, sampler, scorer, config, context, reference=reference)
        outcome = ppo.train(prompts)
        save_policy(model, chat, ppo.run, context)
    write_records(context.output_dir / "rollouts.parquet", outcome.rollouts, Rollout)
    return StageResult(
        metrics={
            "score.initial": outcome.initial_scores.value,
            "score.initial_std": outcome.initial_score_std,
            "score.final": outcome.final_scores.value,
            "kl": outcome.final_kl.value,
            "kl.upper": outcome.final_kl.high,
            "iterations": float(outcome.iterations),
            "rolled_back": float(outcome.rolled_back),
        }
    )
