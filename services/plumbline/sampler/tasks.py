"""Stages of the sampler."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.data.prompts import read_prompts
from plumbline.data.records import Rollout
from plumbline.data.tables import write_records
from plumbline.sampler.config import SampleConfig

STAGES = (
    Stage(
        name="sampler.sample",
        version=2,
        config=SampleConfig,
        inputs={
            "policy": InputSpec(kinds=("policy",), description="draws the responses"),
            "prompts": InputSpec(
                kinds=("corpus", "rollouts", "preferences"),
                description="holds prompts_<split>.parquet or one file of prompts, or rollouts or "
                "preferences, whose prompts are taken once each",
            ),
        },
        output_kind="rollouts",
        queue="sampling",
        run="plumbline.sampler.tasks:run_sample",
        description="Draw several responses to each prompt",
    ),
)


def run_sample(config: SampleConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.kinds, limit=config.limit
    )
    rollouts = sample_rollouts(
        context.connect("sampler"),
        inputs.one("policy").id,
        prompts,
        SamplingRequest(
            k=config.k,
            temperatures=config.temperatures,
            top_p=config.top_p,
            top_k=config.top_k,
            max_response_tokens=config.max_response_tokens,
            stop=config.stop,
            template=config.template,
        ),
        seed=config.seed,
        responses_per_call=config.responses_per_call,
        timeout_s=config.timeout_s,
        on_progress=lambda done, total: context.progress(done, total, "prompts sampled"),
    )
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    return StageResult(metrics=rollout_metrics(rollouts))


def rollout_metrics(rollouts: list[Rollout]) -> dict[str, float]:
    """Counts, mean length and the share of responses that were cut off."""
    tokens = sum(len(rollout.response_token_ids) for rollout in rollouts)
    cut_off = sum(rollout.finish_reason == "length" for rollout in rollouts)
    return {
        "rollouts": float(len(rollouts)),
        "response_tokens_mean": tokens / len(rollouts),
        "cut_off_rate": cut_off / len(rollouts),
    }
