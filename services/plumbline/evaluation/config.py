"""Configuration of the evaluation stages."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from plumbline.data.template import Template
from plumbline.models.programmatic import AnyProgrammaticReward


class EvaluateConfig(BaseModel):
    """Stage `evaluation.evaluate`.

    Publishes `violation_rate.NAME`, `false_refusal.NAME`, `helpful_accuracy.NAME`, `coherence.NAME`
    and `rule_following.NAME` of the first split (those of a further split as
    `violation_rate.SPLIT.NAME` and so on), `reward.NAME` and `kl.NAME`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]{1,32}$")
    """Suffix of the published metrics, for example `v1`."""
    splits: tuple[str, ...] = Field(("heldout", "heldout_hard"), min_length=1)
    """Prompt files of the world: `prompts_<split>.parquet`."""
    max_prompts: int = Field(0, ge=0)
    """At most this many prompts of each split; 0 takes all."""
    seed: int = Field(0, ge=0)
    temperature: float = Field(0.0, ge=0, le=10)
    """0 judges the most likely reply."""
    top_p: float = Field(1.0, gt=0, le=1)
    max_response_tokens: int = Field(64, ge=1)
    kl_prompts: int = Field(256, ge=1)
    """Prompts of the first split that the KL is estimated on, by samples at temperature 1."""


class EvaluateRewardConfig(BaseModel):
    """Stage `evaluation.evaluate_reward`: a policy against a reward alone.

    Publishes `reward.NAME`, `reward_sd.NAME` (over single responses) and, with a reference,
    `kl.NAME` in nats per response and `kl_upper.NAME`, the end of its 95 % interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]{1,32}$")
    reward: AnyProgrammaticReward | None = None
    """None scores with the input `reward_model`, through RewardService."""
    template: Template = "chat"
    """Layout of prompts; policies without a chat template need another one."""
    split: str = "heldout"
    """Reads `prompts_<split>.parquet`, where the prompts' artifact has splits."""
    max_prompts: int = Field(0, ge=0)
    """First prompts only; 0 takes all."""
    responses_per_prompt: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    temperature: float = Field(1.0, gt=0, le=10)
    max_response_tokens: int = Field(64, ge=1)


class CompareConfig(BaseModel):
    """Stage `evaluation.compare`. Publishes `win_rate.CANDIDATE_over_BASELINE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleCheckConfig(BaseModel):
    """Stage `evaluation.check_rule`: does an imported rule change what it governs, and only that?

    Publishes `rule.followed` and `rule.unrelated_changed`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    governed_prompts: int = Field(100, ge=1)
    ungoverned_prompts: int = Field(100, ge=1)
    before: str = "1970-01-01"
    """A day on which the rule was not in force yet; replies of that day are the comparison."""
    as_of: str = "2026-01-01"
    """A day on which it is."""
    max_response_tokens: int = Field(64, ge=1)


class ReportConfig(BaseModel):
    """Stage `evaluation.report`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = "Alignment report"
    samples: int = Field(12, ge=0)
    """Sample replies shown."""
