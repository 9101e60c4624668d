"""Stage: rewards and Self-BLEU of a policy's responses by temperature."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.evaluation.temperatures.config import TemperatureCurvesConfig

if TYPE_CHECKING:
    from plumbline.data.records import Prompt, Rollout
    from plumbline.evaluation.temperatures.ladder import Ladder

_REWARD_MODEL = InputSpec(kinds=("reward-model",), required=False)

STAGE = Stage(
    name="evaluation.temperature_curves",
    version=1,
    config=TemperatureCurvesConfig,
    inputs={
        "rollouts": InputSpec(
            kinds=("rollouts",),
            required=False,
            description="responses drawn at several temperatures; or a policy and prompts",
        ),
        "policy": InputSpec(kinds=("policy",), required=False, description="draws the responses"),
        "prompts": InputSpec(
            kinds=("corpus", "conversations", "rollouts", "preferences"),
            required=False,
            description="prompts_<split>.parquet, a file of prompts, or what holds prompts",
        ),
        "helpfulness": _REWARD_MODEL,
        "safety": _REWARD_MODEL,
    },
    output_kind="report",
    queue="evaluation",
    run="plumbline.evaluation.temperatures.stage:run_temperature_curves",
    description="Best and median reward of N responses, and Self-BLEU, by temperature",
)


def run_temperature_curves(
    config: TemperatureCurvesConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Writes curves.json, report.json, the figures, and rollouts.parquet with their scores."""
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records
    from plumbline.evaluation.temperatures.curves import temperature_curves
    from plumbline.evaluation.temperatures.figures import draw_figures

    rollouts, ladder = _scored(config, inputs, context, _responses(config, inputs, context))
    _check_best_of(config, ladder.responses)
    best_of = config.best_of or ladder.responses
    curves = {
        "name": config.name,
        "policies": sorted({rollout.policy_id for rollout in rollouts}),
        **temperature_curves(ladder, resamples=config.resamples, seed=config.seed),
    }
    metrics = _metrics(config.name, curves, best_of)
    summary = {"type": "temperature_curves", "name": config.name, "best_of": best_of}
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    for name, content in {"curves": curves, "report": summary}.items():
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
        (context.output_dir / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    for name, drawing in draw_figures(curves).items():
        (context.output_dir / name).write_text(drawing, encoding="utf-8")
    return StageResult(metrics=metrics, published=metrics)


def _responses(
    config: TemperatureCurvesConfig, inputs: StageInputs, context: StageContext
) -> list[Rollout]:
    """The rollouts given, or new ones.

    Raises:
        ConfigError: neither rollouts nor a policy and prompts were given, or both.
    """
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import read_records

    given = [n for n in ("rollouts", "policy", "prompts") if inputs.optional(n) is not None]
    if given == ["rollouts"]:
        return read_records(inputs.one("rollouts").path / "rollouts.parquet", Rollout)
    if given != ["policy", "prompts"]:
        raise ConfigError(
            f"the inputs {', '.join(given) or 'none'} were given; accepted: rollouts alone, or "
            "policy and prompts",
            field="inputs",
        )
    _check_best_of(config, config.responses_per_temperature)
    prompts = read_prompts(inputs.one("prompts").path, split=config.split, kinds=config.kinds)
    return _draw(config, inputs, context, _first_of_kinds(prompts, config.prompts_per_kind))


def _draw(
    config: TemperatureCurvesConfig,
    inputs: StageInputs,
    context: StageContext,
    prompts: Sequence[Prompt],
) -> list[Rollout]:
    """Temperature by temperature under the same seeds.

    So that one more temperature changes no response of the others, and the draws of different
    temperatures, which are compared, differ by less than independent ones.
    """
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    sampler, policy = context.connect("sampler"), inputs.one("policy").id
    total = len(prompts) * len(config.temperatures)

    def draw_at(number: int, temperature: float) -> list[Rollout]:
        before = number * len(prompts)
        return sample_rollouts(
            sampler,
            policy,
            prompts,
            SamplingRequest(
                k=config.responses_per_temperature,
                temperatures=(temperature,),
                top_p=config.top_p,
                max_response_tokens=config.max_response_tokens,
                template=config.template,
            ),
            seed=config.seed,
            on_progress=lambda done, _: context.progress(before + done, total, "prompts answered"),
        )

    return [
        rollout
        for number, temperature in enumerate(config.temperatures)
        for rollout in draw_at(number, temperature)
    ]


def _first_of_kinds(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    seen: Counter[str] = Counter()
    kept = []
    for prompt in prompts:
        seen[prompt.kind] += 1
        if not limit or seen[prompt.kind] <= limit:
            kept.append(prompt)
    return kept


def _scored(
    config: TemperatureCurvesConfig,
    inputs: StageInputs,
    context: StageContext,
    rollouts: Sequence[Rollout],
) -> tuple[list[Rollout], Ladder]:
    """The rollouts with the score that counts, and arranged by it.

    Raises:
        ConfigError: both a reward and a reward model were given.
        InvalidInputError: the rollouts have no such score, or not as many at each temperature.
    """
    from plumbline.evaluation.temperatures.ladder import arrange, recorded_score
    from plumbline.models.programmatic import response_reward

    models = {n: a.id for n in ("helpfulness", "safety") if (a := inputs.optional(n)) is not None}
    name, scored = config.score, list(rollouts)
    if config.reward is not None:
        if models:
            raise ConfigError(
                f"reward.kind={config.reward.kind!r} needs no reward model, but "
                f"{', '.join(models)} was given; accepted: one of the two",
                field="reward",
            )
        name, reward = config.reward.kind, response_reward(config.reward)
        scored = [replace(r, scores={**r.scores, name: reward(r.response)}) for r in rollouts]
    elif models:
        name = "combined" if len(models) > 1 else next(iter(models))
        scored = _score_distinct(rollouts, name, models, context)
    return scored, arrange(scored, recorded_score(scored, name))


def _score_distinct(
    rollouts: Sequence[Rollout], head: str, models: Mapping[str, str], context: StageContext
) -> list[Rollout]:
    """Each response to a prompt is scored once, however often it was drawn.

    At low temperatures most draws are repeats.
    """
    from plumbline.reward.client import score_rollouts

    distinct = {(rollout.prompt_id, rollout.response): rollout for rollout in rollouts}
    scored = score_rollouts(
        context.connect("reward"),
        list(distinct.values()),
        heads=[head],
        helpfulness=models.get("helpfulness", ""),
        safety=models.get("safety", ""),
        on_progress=lambda done, total: context.progress(done, total, "responses scored"),
    )
    scores = {(rollout.prompt_id, rollout.response): rollout.scores[head] for rollout in scored}
    return [
        replace(r, scores={**r.scores, head: scores[r.prompt_id, r.response]}) for r in rollouts
    ]


def _check_best_of(config: TemperatureCurvesConfig, responses: int) -> None:
    """
    Raises:
        InvalidInputError: there are fewer responses than the best is wanted of.
    """
    if config.best_of > responses:
        raise InvalidInputError(
            f"best_of={config.best_of} with {responses} responses at each temperature; "
            f"accepted: 0 to {responses}",
            field="best_of",
        )


def _metrics(name: str, curves: Mapping[str, Any], best_of: int) -> dict[str, float]:
    best = curves["all"]["best"][best_of - 1]
    step = curves["all"]["temperatures"][curves["temperatures"].index(best["temperature"])]
    return {
        f"best_temperature.{name}": best["temperature"],
        f"best_temperature_share.{name}": best["share"],
        f"best_reward.{name}": best["value"],
        f"reward_gain.{name}": best["value"] - step["median"][best_of - 1]["value"],
        f"self_bleu.{name}": step["self_bleu"]["value"],
    }
