"""Configuration of stage `evaluation.temperature_curves`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline.data.template import Template
from plumbline.models.programmatic import AnyProgrammaticReward


class TemperatureCurvesConfig(BaseModel):
    """Stage `evaluation.temperature_curves`: rewards and Self-BLEU by temperature.

    Publishes `best_temperature.NAME` (of the highest expected best of `best_of` responses),
    `best_temperature_share.NAME` (share of bootstrap resamples that choose it too) and, at it,
    `best_reward.NAME`, `reward_gain.NAME` (best less median) and `self_bleu.NAME`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]{1,32}$")
    """Suffix of the published metrics, for example `v1`."""
    best_of: int = Field(0, ge=0)
    """N that the best temperature is chosen for; 0 takes all responses at a temperature."""
    resamples: int = Field(1000, ge=100, le=100_000)
    """Bootstrap resamples of the prompts."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of the draws and of the bootstrap."""
    reward: AnyProgrammaticReward | None = None
    """None scores with the reward models given, or else reads the scores of the rollouts."""
    score: str = ""
    """Which score of the rollouts counts, where nothing else scores; empty takes their only one."""

    split: str = "train"
    """Reads `prompts_<split>.parquet`. This and what follows is for responses drawn here."""
    kinds: tuple[str, ...] = ()
    """Kinds of prompts to keep; empty keeps all."""
    prompts_per_kind: int = Field(0, ge=0)
    """First prompts of each kind only; 0 takes all."""
    temperatures: tuple[Annotated[float, Field(ge=0, le=10)], ...] = Field(
        (0.4, 0.6, 0.8, 1.0, 1.2, 1.4), min_length=1
    )
    responses_per_temperature: int = Field(16, ge=2, le=1024)
    """M, to each prompt. Self-BLEU rises with it, so only equal M compare."""
    top_p: float = Field(1.0, gt=0, le=1)
    max_response_tokens: int = Field(128, ge=1)
    template: Template = "chat"
    """Layout of prompts; policies without a chat template need another one."""

    @model_validator(mode="after")
    def _temperatures_differ(self) -> Self:
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(
                f"temperatures={list(self.temperatures)} repeats one; accepted: different ones"
            )
        return self
