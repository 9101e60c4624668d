"""Stage: preferences of an AI judge between sampled responses."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import JudgeConfig
from plumbline.trainer.stages.common import load_policy, on_device

STAGE = Stage(
    name="trainer.judge",
    version=1,
    config=JudgeConfig,
    inputs={
        "rollouts": InputSpec(
            kinds=("rollouts", "policy"),
            many=True,
            description="responses to be compared, several to a prompt, of one policy or more",
        ),
        "judge": InputSpec(
            kinds=("policy",),
            description="another policy (RLAIF), or the one that replied (self-rewarding)",
        ),
    },
    output_kind="preferences",
    queue="training",
    run="plumbline.trainer.stages.judge:run_judge",
    description="Preferences of an AI judge, asked in both orders",
)


def run_judge(config: JudgeConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.core.errors import FailedPreconditionError
    from plumbline.data.records import Preference, Rollout
    from plumbline.data.tables import write_records
    from plumbline.trainer.datasets import read_all
    from plumbline.trainer.recipes.judge import LanguageModelJudge, judge_rollouts

    rollouts, _ = read_all(
        [artifact.path for artifact in inputs.many("rollouts")],
        Rollout,
        names=("rollouts.parquet",),
    )
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "judge", config.template, device)
        judge = LanguageModelJudge(model, chat, config)
        made = judge_rollouts(rollouts, judge, config, progress=context.progress)
    if not made.preferences:
        raise FailedPreconditionError(
            f"the judge has no preference in any of {len(made.verdicts)} pairs (tie_margin="
            f"{config.tie_margin})",
            reason="NOTHING_KEPT",
        )
    write_records(context.output_dir / "preferences.parquet", made.preferences, Preference)
    return StageResult(metrics=made.metrics())
