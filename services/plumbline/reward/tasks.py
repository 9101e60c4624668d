"""Stages of the reward room."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.data.records import Rollout
from plumbline.data.tables import read_records, write_records
from plumbline.reward.config import ScoreConfig

STAGES = (
    Stage(
        name="reward.score",
        version=2,
        config=ScoreConfig,
        inputs={
            "rollouts": InputSpec(kinds=("rollouts",), description="responses to score"),
            "helpfulness": InputSpec(
                kinds=("reward-model",), required=False, description="scores helpfulness"
            ),
            "safety": InputSpec(
                kinds=("reward-model",), required=False, description="scores safety"
            ),
        },
        output_kind="rollouts",
        queue="scoring",
        run="plumbline.reward.tasks:run_score",
        description="Score rollouts with reward models",
    ),
)

_NEEDED = {
    "helpfulness": ("helpfulness",),
    "safety": ("safety",),
    "combined": ("helpfulness", "safety"),
}


def run_score(config: ScoreConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.reward.client import score_rollouts

    models = _models(config, inputs)
    rollouts = read_records(inputs.one("rollouts").path / "rollouts.parquet", Rollout)
    if not rollouts:
        raise InvalidInputError(
            "the rollouts artifact is empty; accepted: 1 rollout or more", field="inputs.rollouts"
        )
    scored = score_rollouts(
        context.connect("reward"),
        rollouts,
        heads=config.heads,
        **models,
        risky_kinds=config.risky_kinds,
        items_per_call=config.items_per_call,
        timeout_s=config.timeout_s,
        on_progress=lambda done, total: context.progress(done, total, "rollouts scored"),
    )
    write_records(context.output_dir / "rollouts.parquet", scored, Rollout)
    return StageResult(metrics=score_metrics(scored, config.heads))


def score_metrics(rollouts: Sequence[Rollout], heads: Sequence[str]) -> dict[str, float]:
    """Mean score by head."""
    means = {
        f"score_mean.{head}": fmean(rollout.scores[head] for rollout in rollouts) for head in heads
    }
    return {"rollouts": float(len(rollouts)), **means}


def _models(config: ScoreConfig, inputs: StageInputs) -> dict[str, str]:
    """Reward model ids by head; what the heads need must have been given."""
    models = {}
    for name in ("helpfulness", "safety"):
        artifact = inputs.optional(name)
        needed_by = [head for head in config.heads if name in _NEEDED[head]]
        if artifact is not None:
            models[name] = artifact.id
        elif needed_by:
            raise ConfigError(
                f"head {needed_by[0]!r} needs the input {name!r}, which was not given; "
                "give a reward model or leave the head out",
                field=f"inputs.{name}",
            )
    return models
