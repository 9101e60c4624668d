"""Configuration of the reward service and of its stage."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline.data.judging import DEFAULT_PRINCIPLES, PAIR_ANSWERS, PAIR_QUESTION
from plumbline.data.template import Template

Head = Literal["helpfulness", "safety", "combined"]
LENGTH_MULTIPLE = 16
"""Rows are padded to a multiple of this many tokens, so that few lengths occur: rows of one length
share a forward pass, and on a CPU a score's bits depend on its own length alone."""


class RewardConfig(BaseModel):
    """Bounds of one reward process, and how heads combine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_models: int = Field(4, ge=1)
    """Reward models kept in memory; the least recently used one makes room."""
    max_model_bytes: int = Field(64 * 2**30, gt=0)
    """Weights kept in memory; the model in use is kept whatever its size."""
    tokens_per_batch: int = Field(8192, ge=1)
    """Padded tokens of one forward pass."""
    length_multiple: int = Field(LENGTH_MULTIPLE, ge=1)
    max_delay_s: float = Field(0.002, ge=0)
    """How long a response waits for others to share a forward pass with, when the models rest."""
    max_items_per_request: int = Field(4096, ge=1)
    max_queued_items: int = Field(16384, ge=1)
    """Responses that wait, of all calls together and once for each head; more are refused."""
    safety_threshold: float = Field(0.15, gt=0, lt=1)
    """Below this probability the combined head takes the safety score."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @model_validator(mode="after")
    def _a_request_fits_into_the_queue(self) -> Self:
        if self.max_items_per_request > self.max_queued_items:
            raise ValueError(
                f"max_items_per_request={self.max_items_per_request} is above "
                f"max_queued_items={self.max_queued_items}: such a request could never be served"
            )
        return self


class PairJudgeConfig(BaseModel):
    """A policy compares two responses by principles, asked in both orders.

    Sources: Bai et al. 2022, Constitutional AI, arXiv:2212.08073, section 4.1; Lee et al. 2023,
    RLAIF, arXiv:2309.00267, section 2.1, for both orders.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = ""
    """Artifact id, tag or directory; empty takes the sampler's default."""
    principles: tuple[str, ...] = Field(DEFAULT_PRINCIPLES, min_length=1)
    principles_per_question: int = Field(1, gt=0)
    """Drawn by seed for each pair; their answers are averaged."""
    question: str = PAIR_QUESTION
    """Places: {principle}, {conversation}, {first}, {second}."""
    answers: tuple[str, str] = PAIR_ANSWERS
    """For the response that stands first, and for the other."""
    seed: int = Field(0, ge=0)
    tie_margin: float = Field(0.0, ge=0, lt=0.5)
    """Probabilities nearer to one half are ties."""
    template: Template = "chat"

    @model_validator(mode="after")
    def _can_be_asked_and_answered(self) -> Self:
        missing = [place for place in ("{first}", "{second}") if place not in self.question]
        if missing:
            raise ValueError(f"question has no place for {', '.join(missing)}")
        if self.answers[0] == self.answers[1]:
            raise ValueError(f"answers={self.answers}; accepted: two that differ")
        return self


class TritonClientConfig(BaseModel):
    """How the reward service calls Triton."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str = Field(min_length=1)
    """host:port of Triton's gRPC endpoint."""
    shared_memory: bool = False
    """Hand token ids over in memory that Triton maps; for a Triton on this machine."""
    shared_memory_bytes: int = Field(4 * 2**20, ge=4096)
    """Of each connection's region; a request that does not fit travels in its message."""
    max_calls: int = Field(32, ge=1)
    """Requests to Triton in progress."""
    max_queued_items: int = Field(16384, ge=1)
    """Responses that wait, of all calls together; more are refused."""
    first_backoff_s: float = Field(0.05, gt=0)
    """Wait before the second attempt; each further wait is twice as long, up to the last."""
    last_backoff_s: float = Field(1.0, gt=0)
    timeout_s: float = Field(600.0, gt=0)
    """Of calls that come without a deadline."""


class TritonExportConfig(BaseModel):
    """How Triton runs the reward models of a repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cpu", "gpu"] = "cpu"
    instances: int = Field(1, ge=1)
    """Processes of each model; on GPUs, for each of them."""
    threads: int = Field(2, ge=1)
    """torch threads of each process."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_batch_size: int = Field(64, ge=1)
    """Rows of one execution."""
    max_queue_delay_us: int = Field(2000, ge=0)
    """How long a request waits for others to share an execution with, microseconds."""
    max_queue_size: int = Field(4096, ge=1)
    """Waiting requests of each model; more are refused."""
    tokens_per_batch: int = Field(8192, ge=1)
    """Padded tokens of one forward pass; an execution makes as many passes as it needs."""
    length_multiple: int = Field(LENGTH_MULTIPLE, ge=1)
    safety_threshold: float = Field(0.15, gt=0, lt=1)
    """Below this probability the combined head takes the safety score."""

    @property
    def preferred_batch_sizes(self) -> tuple[int, ...]:
        """Powers of two from an eighth of the largest batch up to it."""
        sizes = (self.max_batch_size // part for part in (8, 4, 2, 1))
        return tuple(sorted({size for size in sizes if size > 1}))


class ScoreConfig(BaseModel):
    """Stage `reward.score`: scores of rollouts under one or more heads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: tuple[Head, ...] = ("helpfulness",)
    """`helpfulness` and `safety` need the input of their name, `combined` both."""
    risky_kinds: tuple[str, ...] = ("harmful",)
    """Kinds of prompts whose combined score is the safety score."""
    items_per_call: int = Field(512, ge=1, le=4096)
    """Responses scored in one call to the reward service."""
    timeout_s: float = Field(600.0, gt=0)
    """Deadline of one call."""

    @model_validator(mode="after")
    def _some_head(self) -> Self:
        if not self.heads:
            raise ValueError("heads is empty; accepted: helpfulness, safety, combined")
        return self
