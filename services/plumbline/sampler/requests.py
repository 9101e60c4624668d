"""What is asked of the sampling engine, and what it gives back.

A request is a prompt with the responses to draw to it. Nothing here knows of models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from plumbline.core.errors import InvalidInputError, PlumblineError
from plumbline.sampler.seeds import MAX_SEED

STOP = "stop"
LENGTH = "length"

MAX_TEMPERATURE = 10.0
MAX_REPETITION_PENALTY = 10.0
MAX_LOGIT_BIAS = 100.0
MAX_BIASED_TOKENS = 1024
MAX_TOP_LOGPROBS = 20

StopCheck = Callable[[Sequence[int]], bool]
"""Given a response's tokens so far, whether to end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingParameters:
    """How the tokens of one response are drawn.

    Penalty and bias change the logits, the temperature divides them, then top-k, top-p and min-p
    each keep a set of the likeliest tokens: what is in all of them is drawn from.

    Raises:
        InvalidInputError: names the field, the value and the accepted range.
    """

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Smallest set of tokens with this mass, of what top-k left."""
    top_k: int = 0
    """Likeliest tokens kept; 0 keeps all."""
    min_p: float = 0.0
    """Tokens at least this fraction as likely as the likeliest are kept."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens in prompt or response, multiplies negative ones.
    Source: Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Nats added, by token id."""

    def __post_init__(self) -> None:
        self._check("temperature", 0 <= self.temperature <= MAX_TEMPERATURE, "0 to 10")
        self._check("top_p", 0 < self.top_p <= 1, "above 0, up to 1")
        self._check("top_k", self.top_k >= 0, "0 (all tokens) or a positive count")
        self._check("min_p", 0 <= self.min_p <= 1, "0 (all tokens) to 1")
        penalty = 0 < self.repetition_penalty <= MAX_REPETITION_PENALTY
        self._check("repetition_penalty", penalty, "above 0, up to 10")
        if len(self.logit_bias) > MAX_BIASED_TOKENS:
            raise InvalidInputError(
                f"logit_bias names {len(self.logit_bias)} tokens; accepted: up to "
                f"{MAX_BIASED_TOKENS}",
                field="logit_bias",
            )
        for token_id, bias in self.logit_bias.items():
            if not -MAX_LOGIT_BIAS <= bias <= MAX_LOGIT_BIAS:
                raise InvalidInputError(
                    f"logit_bias of token {token_id} is {bias}; accepted: "
                    f"-{MAX_LOGIT_BIAS:g} to {MAX_LOGIT_BIAS:g}",
                    field="logit_bias",
                )

    def _check(self, name: str, fits: bool, accepted: str) -> None:
        if not fits:
            raise InvalidInputError(
                f"{name}={getattr(self, name)}; accepted: {accepted}", field=name
            )

    @property
    def changes_logits(self) -> bool:
        """Whether logits are changed before the temperature divides them."""
        return self.repetition_penalty != 1 or bool(self.logit_bias)


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """One response to draw."""

    seed: int
    parameters: DrawingParameters
    max_tokens: int

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidInputError(f"seed={self.seed}; accepted: 0 to {MAX_SEED}", field="seed")
        if self.max_tokens < 1:
            raise InvalidInputError(
                f"max_response_tokens={self.max_tokens}; accepted: 1 or more",
                field="max_response_tokens",
            )


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have stood at a place."""

    token_id: int
    logprob: float
    """Nats under the policy itself."""


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """One token of a response."""

    token_id: int
    logprob: float
    """Nats under the distribution that it was drawn from; 0 at temperature 0."""
    untempered_logprob: float
    """Nats under the policy itself: temperature 1, nothing cut, biased or penalised."""
    finish_reason: str | None
    """Set on the last token only."""
    alternatives: tuple[Alternative, ...] = ()
    """The likeliest at its place, where they were asked for."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One response as tokens."""

    token_ids: tuple[int, ...]
    """The end-of-sequence token included when it was drawn."""
    logprobs: tuple[float, ...]
    """Nats, one per token, of the tempered and truncated distribution; 0 at temperature 0."""
    finish_reason: str
    """`stop` or `length`."""
    seed: int
    """Draws this response alone, as response 0 of its prompt."""
    untempered_logprobs: tuple[float, ...] = ()
    """Nats, one per token, under the policy itself."""
    alternatives: tuple[tuple[Alternative, ...], ...] = ()
    """By token, where they were asked for."""


@dataclass(slots=True, eq=False)
class GenerationRequest:
    """A prompt and the responses to draw to it; belongs to one engine once submitted.

    Args:
        prompt: token ids, at least one.
        responses: at least one.
        stop_check: ends a response after the token that it is true of.
        top_logprobs: alternatives to report with each token; None reports none.
        on_token: called in the engine's thread with (index of the response, token).
        on_end: called once in the engine's thread, when all responses are drawn or the request
            has failed.
        deadline: time by `time.monotonic` after which nobody waits.
        name: of the prompt, in what a refusal says.
    """

    prompt: tuple[int, ...]
    responses: tuple[ResponseSpec, ...]
    stop_check: StopCheck | None = None
    top_logprobs: int | None = None
    on_token: Callable[[int, DrawnToken], None] | None = None
    on_end: Callable[[], None] | None = None
    deadline: float | None = None
    name: str = "the prompt"
    results: list[Sampled | None] = field(init=False)
    """In the order of the responses; None until one is drawn."""
    error: PlumblineError | None = field(init=False, default=None)
    """Why the request ended without its responses."""
    cached_tokens: int = field(init=False, default=0)
    """Of the prompt, found in the cache."""
    submitted: float = field(init=False, default_factory=time.monotonic)
    """When it was made, by `time.monotonic`."""

    def __post_init__(self) -> None:
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise InvalidInputError(
                f"top_logprobs={self.top_logprobs}; accepted: 0 to {MAX_TOP_LOGPROBS}",
                field="top_logprobs",
            )
        self.results = [None] * len(self.responses)

    @property
    def drawn(self) -> list[Sampled]:
        """The responses; raises the request's error where it has one."""
        if self.error is not None:
            raise self.error
        return [sampled for sampled in self.results if sampled is not None]
