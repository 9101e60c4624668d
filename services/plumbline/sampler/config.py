"""Configuration of the sampler and of its stage."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from plumbline.data.template import Template


class SamplerConfig(BaseModel):
    """Bounds of one sampler process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_policies: int = Field(4, ge=1)
    """Policies kept in memory; the least recently used one makes room."""
    max_policy_bytes: int = Field(64 * 2**30, gt=0)
    """Weights kept in memory; the policy in use is kept whatever its size."""
    max_rows: int = Field(256, ge=1)
    """Responses of one policy drawn at a time."""
    prefill_tokens: int | None = Field(None, ge=16)
    """Prompt tokens that a step computes at most; responses that are drawn wait for them. None
    fits the policy and the device: at most 256."""
    cache_bytes: int = Field(2 * 2**30, gt=0)
    """Of keys and values of one policy, taken as they are needed on a CPU."""
    max_waiting: int = Field(1024, ge=1)
    """Prompts that wait; further requests are RESOURCE_EXHAUSTED."""
    max_responses_per_request: int = Field(4096, ge=1)
    """Prompts times responses per prompt."""
    default_response_tokens: int = Field(256, ge=1)
    """When a request sets no max_response_tokens."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class SampleConfig(BaseModel):
    """Stage `sampler.sample`: several responses to each prompt of a split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "rl"
    """Reads `prompts_<split>.parquet`, or `prompts.parquet` where the artifact has only that."""
    kinds: tuple[str, ...] = ()
    """Kinds of prompts to keep; empty keeps all."""
    limit: int = Field(0, ge=0)
    """First prompts only; 0 takes all."""
    k: int = Field(4, ge=1, le=1024)
    """Responses per prompt."""
    temperatures: tuple[float, ...] = Field((1.0,), min_length=1)
    """Response j uses temperatures[j mod length]; each 0 to 10."""
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    seed: int = Field(0, ge=0, lt=2**63)
    max_response_tokens: int = Field(128, ge=1)
    stop: tuple[str, ...] = ()
    template: Template = "chat"
    """Layout of prompts; policies without a chat template need another one."""
    responses_per_call: int = Field(1024, ge=1, le=4096)
    """Responses asked for in one call to the sampler; progress and cancellation come between."""
    timeout_s: float = Field(900.0, gt=0)
    """Deadline of one call."""
