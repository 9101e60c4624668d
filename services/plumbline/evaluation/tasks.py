"""Stages of evaluation: replies come from SamplerService, scores from RewardService."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.core.errors import ConfigError
from plumbline.core.stages import (
    InputArtifact,
    InputSpec,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
)
from plumbline.core.statistics import Estimate
from plumbline.evaluation.config import (
    CompareConfig,
    EvaluateConfig,
    EvaluateRewardConfig,
    ReportConfig,
    RuleCheckConfig,
)
from plumbline.evaluation.identity.stage import STAGE as CHECK_IDENTITY
from plumbline.evaluation.temperatures.stage import STAGE as TEMPERATURE_CURVES
from plumbline.evaluation.values.stage import STAGE as CHECK_VALUES

if TYPE_CHECKING:
    from plumbline.data.records import Prompt, Rollout
    from plumbline.data.template import Template
    from plumbline.evaluation.engine import JudgedReply

_ANY_KIND = (
    "corpus",
    "conversations",
    "preferences",
    "rollouts",
    "policy",
    "reward-model",
    "knowledge-base",
    "report",
)
_POLICY = InputSpec(kinds=("policy",), description="the policy that is evaluated")
_REFERENCE = InputSpec(kinds=("policy",), required=False, description="what KL is measured from")
_REWARD_MODEL = InputSpec(kinds=("reward-model",), required=False)

STAGES = (
    Stage(
        name="evaluation.evaluate",
        version=2,
        config=EvaluateConfig,
        inputs={
            "policy": _POLICY,
            "world": InputSpec(kinds=("corpus",), description="held-out prompts and their judge"),
            "reference": _REFERENCE,
            "helpfulness": _REWARD_MODEL,
            "safety": _REWARD_MODEL,
        },
        output_kind="report",
        queue="evaluation",
        run="plumbline.evaluation.tasks:run_evaluate",
        description="Judge a policy's replies to held-out prompts",
    ),
    Stage(
        name="evaluation.evaluate_reward",
        version=2,
        config=EvaluateRewardConfig,
        inputs={
            "policy": _POLICY,
            "prompts": InputSpec(
                kinds=("corpus", "conversations", "rollouts", "preferences"),
                description="prompts_<split>.parquet, a file of prompts, or what holds prompts",
            ),
            "reference": _REFERENCE,
            "reward_model": _REWARD_MODEL,
        },
        output_kind="report",
        queue="evaluation",
        run="plumbline.evaluation.tasks:run_evaluate_reward",
        description="Measure a policy's mean reward and its KL from a reference",
    ),
    Stage(
        name="evaluation.compare",
        version=1,
        config=CompareConfig,
        inputs={
            "candidate": InputSpec(kinds=("report",)),
            "baseline": InputSpec(kinds=("report",)),
        },
        output_kind="report",
        queue="evaluation",
        run="plumbline.evaluation.tasks:run_compare",
        description="Win rate of one evaluated policy over another",
    ),
    Stage(
        name="evaluation.check_rule",
        version=1,
        config=RuleCheckConfig,
        inputs={
            "policy": _POLICY,
            "world": InputSpec(kinds=("corpus",)),
            "knowledge_base": InputSpec(kinds=("knowledge-base",)),
        },
        output_kind="report",
        queue="evaluation",
        run="plumbline.evaluation.tasks:run_check_rule",
        description="Does an imported rule change the replies that it governs, and only those?",
    ),
    Stage(
        name="evaluation.report",
        version=1,
        config=ReportConfig,
        inputs={"artifacts": InputSpec(kinds=_ANY_KIND, many=True)},
        output_kind="report",
        queue="evaluation",
        run="plumbline.evaluation.tasks:run_report",
        description="The run's HTML report",
    ),
    CHECK_IDENTITY,
    CHECK_VALUES,
    TEMPERATURE_CURVES,
)


def run_evaluate(config: EvaluateConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.records import Prompt, Rollout
    from plumbline.data.tables import read_records, write_records
    from plumbline.evaluation.engine import flat_metrics, summarise
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    policy, world = inputs.one("policy"), inputs.one("world")
    sampler = context.connect("sampler")
    replies: list[JudgedReply] = []
    rollouts: list[Rollout] = []
    prompts: dict[str, list[Prompt]] = {}
    for split in config.splits:
        found = read_records(world.path / f"prompts_{split}.parquet", Prompt)
        prompts[split] = found[: config.max_prompts] if config.max_prompts else found
    how = SamplingRequest(
        temperatures=(config.temperature,),
        top_p=config.top_p,
        max_response_tokens=config.max_response_tokens,
    )
    total = sum(len(found) for found in prompts.values())
    for split, asked in prompts.items():
        sampled = sample_rollouts(sampler, policy.id, asked, how, seed=config.seed)
        rollouts += sampled
        context.progress(len(rollouts), total, f"replies to {split}")
        replies += _judge(split, asked, sampled, _combined_scores(inputs, context, sampled))
    splits = {
        split: summarise([reply for reply in replies if reply.split == split])
        for split in config.splits
    }
    kl = _estimate_kl(config, inputs, context, prompts[config.splits[0]])
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    _write_report(
        context.output_dir,
        {
            "type": "evaluation",
            "name": config.name,
            "splits": {
                split: {metric: estimate.to_dict() for metric, estimate in rates.items()}
                for split, rates in splits.items()
            },
            "kl": kl.to_dict() if kl else None,
            "samples": _interleave_kinds([asdict(reply) for reply in replies]),
        },
    )
    published = flat_metrics(config.name, splits, kl)
    return StageResult(metrics=published, published=published)


def _judge(
    split: str,
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    rewards: Sequence[float | None],
) -> list[JudgedReply]:
    from plumbline.evaluation.engine import JudgedReply
    from plumbline.world.oracle import judge

    replies = []
    for prompt, rollout, reward in zip(prompts, rollouts, rewards, strict=True):
        verdict = judge(prompt, rollout.response)
        replies.append(
            JudgedReply(
                prompt_id=prompt.id,
                split=split,
                kind=prompt.kind,
                prompt="\n".join(message.content for message in prompt.messages),
                response=rollout.response,
                violates=verdict.violates,
                refuses=verdict.refuses,
                coherent=verdict.coherent,
                helpful=verdict.helpful,
                follows_rule=verdict.follows_rule,
                reward=reward,
            )
        )
    return replies


def _combined_scores(
    inputs: StageInputs, context: StageContext, rollouts: Sequence[Rollout]
) -> Sequence[float | None]:
    from plumbline.reward.client import score_rollouts

    helpfulness, safety = inputs.optional("helpfulness"), inputs.optional("safety")
    if helpfulness is None or safety is None:
        return [None] * len(rollouts)
    scored = score_rollouts(
        context.connect("reward"),
        rollouts,
        heads=["combined"],
        helpfulness=helpfulness.id,
        safety=safety.id,
    )
    return [rollout.scores["combined"] for rollout in scored]


def _estimate_kl(
    config: EvaluateConfig, inputs: StageInputs, context: StageContext, prompts: Sequence[Prompt]
) -> Estimate | None:
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    reference = inputs.optional("reference")
    if reference is None:
        return None
    # KL is a property of the untempered distribution, whatever temperature replies are judged at.
    sampled = sample_rollouts(
        context.connect("sampler"),
        inputs.one("policy").id,
        prompts[: config.kl_prompts],
        SamplingRequest(temperatures=(1.0,), max_response_tokens=config.max_response_tokens),
        seed=config.seed,
    )
    return _kl_of(sampled, inputs.one("policy"), reference, context)


def _kl_of(
    rollouts: Sequence[Rollout],
    policy: InputArtifact,
    reference: InputArtifact,
    context: StageContext,
    *,
    template: Template = "chat",
) -> Estimate:
    """KL of the policy from the reference by responses of the policy, drawn at temperature 1."""
    from plumbline.evaluation.engine import sequence_kl
    from plumbline.sampler.client import rollout_logprobs

    sampler = context.connect("sampler")
    return sequence_kl(
        rollout_logprobs(sampler, policy.id, rollouts, template=template),
        rollout_logprobs(sampler, reference.id, rollouts, template=template),
    )


def run_evaluate_reward(
    config: EvaluateRewardConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.core.statistics import mean, standard_deviation
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records

    prompts = read_prompts(inputs.one("prompts").path, split=config.split, limit=config.max_prompts)
    sampled = _sample_for_reward(config, inputs, context, prompts, config.temperature)
    scored = _score_by_reward(config, inputs, context, sampled)
    rewards = [score for rollout in scored for score in rollout.scores.values()]
    reward = mean(rewards)
    published = {
        f"reward.{config.name}": reward.value,
        f"reward_sd.{config.name}": standard_deviation(rewards),
    }
    kl = None
    if (reference := inputs.optional("reference")) is not None:
        if config.temperature != 1.0:
            sampled = _sample_for_reward(config, inputs, context, prompts, 1.0)
        kl = _kl_of(sampled, inputs.one("policy"), reference, context, template=config.template)
        published[f"kl.{config.name}"] = kl.value
        published[f"kl_upper.{config.name}"] = kl.high
    write_records(context.output_dir / "rollouts.parquet", scored, Rollout)
    _write_report(
        context.output_dir,
        {
            "type": "evaluation",
            "name": config.name,
            "splits": {"prompts": {"reward": reward.to_dict()}},
            "kl": kl.to_dict() if kl else None,
            "samples": [
                {
                    "prompt_id": rollout.prompt_id,
                    "kind": "",
                    "prompt": rollout.prompt[-1].content,
                    "response": rollout.response,
                    "violates": False,
                    "helpful": True,
                }
                for rollout in scored
            ],
        },
    )
    return StageResult(metrics=published, published=published)


def _sample_for_reward(
    config: EvaluateRewardConfig,
    inputs: StageInputs,
    context: StageContext,
    prompts: Sequence[Prompt],
    temperature: float,
) -> list[Rollout]:
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    return sample_rollouts(
        context.connect("sampler"),
        inputs.one("policy").id,
        prompts,
        SamplingRequest(
            k=config.responses_per_prompt,
            temperatures=(temperature,),
            max_response_tokens=config.max_response_tokens,
            template=config.template,
        ),
        seed=config.seed,
        on_progress=lambda done, total: context.progress(done, total, "prompts answered"),
    )


def _score_by_reward(
    config: EvaluateRewardConfig,
    inputs: StageInputs,
    context: StageContext,
    rollouts: Sequence[Rollout],
) -> list[Rollout]:
    """The rollouts with the one score that the config asks for.

    Raises:
        ConfigError: the config names a reward and a reward model is given, or neither.
    """
    from plumbline.models.programmatic import response_reward
    from plumbline.reward.client import score_rollouts

    model = inputs.optional("reward_model")
    if config.reward is not None:
        if model is not None:
            raise ConfigError(
                f"reward.kind={config.reward.kind!r} needs no reward model, but the input "
                "reward_model was given; accepted: one of the two",
                field="reward",
            )
        score = response_reward(config.reward)
        return [
            replace(rollout, scores={config.reward.kind: score(rollout.response)})
            for rollout in rollouts
        ]
    if model is None:
        raise ConfigError(
            "no reward is configured; accepted: reward, or the input reward_model", field="reward"
        )
    return score_rollouts(
        context.connect("reward"), rollouts, heads=["helpfulness"], helpfulness=model.id
    )


def run_compare(config: CompareConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.evaluation.engine import JudgedReply, win_rate

    candidate = _read_report(inputs.one("candidate"))
    baseline = _read_report(inputs.one("baseline"))
    rate = win_rate(
        [JudgedReply.from_dict(row) for row in candidate["samples"]],
        [JudgedReply.from_dict(row) for row in baseline["samples"]],
    )
    _write_report(
        context.output_dir,
        {
            "type": "comparison",
            "candidate": candidate["name"],
            "baseline": baseline["name"],
            "win_rate": rate.to_dict(),
        },
    )
    published = {f"win_rate.{candidate['name']}_over_{baseline['name']}": rate.value}
    return StageResult(metrics=published, published=published)


def run_check_rule(
    config: RuleCheckConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.core.statistics import proportion
    from plumbline.data.records import Prompt, ValueSpec
    from plumbline.data.tables import read_records
    from plumbline.retriever.client import respond
    from plumbline.world.oracle import judge

    policy, base = inputs.one("policy"), inputs.one("knowledge_base")
    rules = read_records(base.path / "values.parquet", ValueSpec)
    asked = read_records(inputs.one("world").path / "rule_prompts.parquet", Prompt)
    ids = {rule.id for rule in rules}
    governed = [prompt for prompt in asked if prompt.metadata.get("rule_id") in ids]
    governed = governed[: config.governed_prompts]
    others = [prompt for prompt in asked if "rule_id" not in prompt.metadata]
    others = others[: config.ungoverned_prompts]

    stub = context.connect("retriever")
    total = 2 * (len(governed) + len(others))
    done = 0

    def replies(prompts: Sequence[Prompt], as_of: str) -> list[str]:
        nonlocal done
        texts = []
        for prompt in prompts:
            texts.append(
                respond(
                    stub,
                    knowledge_base=base.id,
                    policy=policy.id,
                    messages=prompt.messages,
                    as_of=as_of,
                    temperature=0.0,
                    max_response_tokens=config.max_response_tokens,
                    # The policy alone is measured: what it does not follow is not mended.
                    max_revisions=0,
                )
            )
            done += 1
            context.progress(done, total, f"replies as of {as_of}")
        return texts

    before, after = replies(governed, config.before), replies(governed, config.as_of)
    others_before, others_after = replies(others, config.before), replies(others, config.as_of)
    followed = proportion(
        sum(judge(p, text).follows_rule is True for p, text in zip(governed, after, strict=True)),
        len(governed),
    )
    changed = proportion(
        sum(old != new for old, new in zip(others_before, others_after, strict=True)), len(others)
    )
    _write_report(
        context.output_dir,
        {
            "type": "rule_check",
            "rule": " ".join(rule.text for rule in rules),
            "followed": followed.to_dict(),
            "unrelated_changed": changed.to_dict(),
            "samples": [
                {"prompt": prompt.messages[-1].content, "before": old, "after": new}
                for prompt, old, new in zip(governed[:5], before, after, strict=False)
            ],
        },
    )
    published = {"rule.followed": followed.value, "rule.unrelated_changed": changed.value}
    return StageResult(metrics=published, published=published)


def run_report(config: ReportConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.evaluation.report import Node, render_report

    nodes = [
        Node(
            id=artifact.id,
            kind=artifact.kind,
            stage=artifact.manifest.lineage.stage,
            label=_label(artifact),
            path=artifact.path,
            inputs=tuple(
                source for found in artifact.manifest.lineage.inputs.values() for source in found
            ),
            metrics=artifact.manifest.metrics,
        )
        for artifact in inputs.many("artifacts")
    ]
    html = render_report(config.title, nodes, samples=config.samples)
    (context.output_dir / "report.html").write_text(html, encoding="utf-8")
    _write_report(context.output_dir, {"type": "run", "artifacts": [node.id for node in nodes]})
    return StageResult()


def _label(artifact: InputArtifact) -> str:
    """Operation, and what tells two artifacts of one operation apart."""
    lineage = artifact.manifest.lineage
    operation = lineage.stage.partition(".")[2] or lineage.stage
    detail = lineage.config.get("name") or lineage.config.get("head")
    return f"{operation}\n{detail}" if detail else operation


def _interleave_kinds(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One of each kind in turn, so that the first few show every kind."""
    turn: dict[str, int] = {}
    keyed = []
    for position, sample in enumerate(samples):
        turn[sample["kind"]] = turn.get(sample["kind"], 0) + 1
        keyed.append((turn[sample["kind"]], position))
    return [samples[position] for _, position in sorted(keyed)]


def _write_report(directory: Path, report: Mapping[str, Any]) -> None:
    text = json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")


def _read_report(artifact: InputArtifact) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((artifact.path / "report.json").read_text())
    return report
