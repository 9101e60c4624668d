"""What a sampler offers, whichever backend draws: the native engine or another server.

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.sampler.requests import DrawingParameters, DrawnToken, Sampled


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How responses are drawn."""

    temperatures: tuple[float, ...] = (1.0,)
    """Response j uses temperatures[j mod length]; 0 takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all tokens."""
    max_response_tokens: int = 0
    """0 takes the engine's default."""
    stop: tuple[str, ...] = ()
    """The response ends before the first of these."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None
    """Alternatives told with each token; None tells none, nor the tokens' texts."""

    @property
    def drawing(self) -> DrawingParameters:
        """The parameters of one token, without the temperature.

        Raises:
            InvalidInputError: one is out of range.
        """
        return DrawingParameters(
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What can be told about a loaded policy."""

    id: str
    reference: str
    architecture: str
    parameters: int
    context_length: int
    """Prompt and response together, tokens."""
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class TokenDetail:
    """A token with its text, and what could have stood in its place."""

    token_id: int
    text: bytes
    logprob: float
    """Nats under the policy itself."""
    alternatives: tuple[TokenDetail, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A drawn response with its text."""

    text: str
    sampled: Sampled
    details: tuple[TokenDetail, ...] = ()
    """By token, where they were asked for."""


@dataclass(frozen=True, slots=True)
class PromptResponses:
    """The responses to one prompt."""

    prompt_token_ids: tuple[int, ...]
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed response. The last one has a finish_reason."""

    text: str
    tokens: tuple[DrawnToken, ...]
    policy_id: str
    prompt_tokens: int
    finish_reason: str | None = None
    details: tuple[TokenDetail, ...] = ()
    """By token, where they were asked for."""


class SamplerBackend(Protocol):
    """Draws responses from policies; `SamplerEngine` says what each method promises."""

    def load(self, reference: str, base: str = "") -> Policy:
        """Make a policy the default, loading it now."""
        ...

    def policy(self, reference: str = "") -> Policy:
        """Describe a policy; an empty reference means the default."""
        ...

    def policies(self) -> tuple[list[Policy], str]:
        """Policies at hand, and the default's reference."""
        ...

    def sample(
        self,
        reference: str,
        prompts: Sequence[Sequence[Message]],
        options: SamplingOptions,
        *,
        k: int,
        seeds: Sequence[int],
        template: Template = "chat",
        deadline: float | None = None,
        while_waiting: Callable[[], None] | None = None,
    ) -> tuple[str, list[PromptResponses]]:
        """The policy's id, and K responses to each prompt."""
        ...

    def generate(
        self,
        reference: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        template: Template = "chat",
    ) -> Iterator[Delta]:
        """One response, piece by piece."""
        ...

    def stream(
        self,
        reference: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        template: Template = "chat",
        deadline: float | None = None,
    ) -> AsyncGenerator[Delta]:
        """`generate` for an event loop."""
        ...

    def compute_logprobs(
        self,
        reference: str,
        pairs: Sequence[tuple[Sequence[Message], str]],
        *,
        token_ids: Sequence[Sequence[int]] = (),
        template: Template = "chat",
    ) -> tuple[str, list[tuple[list[int], list[float]]]]:
        """The policy's id, and (token ids, logprobs) of given responses."""
        ...

    def close(self) -> None:
        """End all requests."""
        ...
