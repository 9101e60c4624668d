"""From sampling options to OpenAI's parameters, and from its replies to what the engine gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openai

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PlumblineError,
    ResourceExhaustedError,
    UnavailableError,
)
from plumbline.data.records import Message
from plumbline.data.template import Template, plain_text, transcript_text
from plumbline.sampler.backends.config import OpenAIBackendConfig
from plumbline.sampler.backends.openai_tokens import details_of, tokens_of
from plumbline.sampler.backends.remote import draws_from_the_policy_itself
from plumbline.sampler.interface import Delta, Policy, Response, SamplingOptions
from plumbline.sampler.requests import LENGTH, STOP, Sampled


def is_chat(template: Template) -> bool:
    """Whether the endpoint's own template lays the messages out; else text goes there as it is."""
    return template == "chat"


def arguments(
    config: OpenAIBackendConfig,
    model: str,
    prompt: Sequence[Message],
    options: SamplingOptions,
    *,
    seed: int,
    temperature: float,
    template: Template,
) -> dict[str, Any]:
    """Arguments of `chat.completions.create` or `completions.create` for one response.

    What asks for nothing is left out, as endpoints refuse parameters that they do not know.
    """
    limit = options.max_response_tokens or config.default_response_tokens
    given: dict[str, Any] = {
        "model": model,
        "seed": seed,
        "temperature": temperature,
        "top_p": options.top_p,
    }
    if is_chat(template):
        given["messages"] = [message.to_row() for message in prompt]
        given[config.token_limit_parameter] = limit
        if config.logprobs or options.top_logprobs is not None:
            given["logprobs"] = True
        if options.top_logprobs is not None:
            given["top_logprobs"] = options.top_logprobs
    else:
        given["prompt"] = (plain_text if template == "plain" else transcript_text)(prompt)
        given["max_tokens"] = limit
        if config.logprobs or options.top_logprobs is not None:
            given["logprobs"] = options.top_logprobs or 0
    if options.stop:
        given["stop"] = list(options.stop)
    if options.logit_bias:
        given["logit_bias"] = {str(token): bias for token, bias in options.logit_bias.items()}
    extra = {**config.extra_body, **_extensions(options)}
    return {**given, "extra_body": extra} if extra else given


def _extensions(options: SamplingOptions) -> dict[str, Any]:
    """Parameters that OpenAI's own endpoint lacks, and that vLLM's and ours share."""
    found: dict[str, Any] = {}
    if options.top_k:
        found["top_k"] = options.top_k
    if options.min_p:
        found["min_p"] = options.min_p
    if options.repetition_penalty != 1:
        found["repetition_penalty"] = options.repetition_penalty
    return found


def policy_of(model: Any, reference: str) -> Policy:
    """What is told of a model; OpenAI's API tells its name, others tell more."""

    def told(*names: str) -> Any:
        return next((found for name in names if (found := getattr(model, name, None))), None)

    return Policy(
        id=told("policy_id") or model.id,
        reference=reference,
        architecture=told("architecture") or "",
        parameters=told("parameters") or 0,
        context_length=told("context_length", "max_model_len") or 0,
        vocabulary_size=told("vocabulary_size") or 0,
    )


def response_of(
    choice: Any, options: SamplingOptions, *, seed: int, temperature: float
) -> Response:
    """A choice of a reply that came as a whole.

    Raises:
        FailedPreconditionError: the response was withheld, or token details were asked for and the
            endpoint does not tell them.
    """
    finish_reason = _finish_reason(choice)
    own = draws_from_the_policy_itself(options, temperature)
    tokens = tokens_of(choice, finish_reason, own_distribution=own)
    message = getattr(choice, "message", None)
    text = (choice.text if message is None else message.content) or ""
    sampled = Sampled(
        token_ids=tuple(token.token_id for token in tokens.drawn),
        logprobs=tuple(token.logprob for token in tokens.drawn),
        finish_reason=finish_reason,
        seed=seed,
        untempered_logprobs=tuple(token.untempered_logprob for token in tokens.drawn),
    )
    return Response(text, sampled, details_of(tokens, options, text))


def delta_of(choice: Any, model: str, options: SamplingOptions) -> Delta:
    """A piece of a streamed choice; its prompt's tokens are told elsewhere. Raises as above."""
    finish_reason = None if choice.finish_reason is None else _finish_reason(choice)
    own = draws_from_the_policy_itself(options, options.temperatures[0])
    tokens = tokens_of(choice, finish_reason, own_distribution=own)
    piece = getattr(choice, "delta", None)
    text = (choice.text if piece is None else piece.content) or ""
    return Delta(text, tokens.drawn, model, 0, finish_reason, details_of(tokens, options, text))


def _finish_reason(choice: Any) -> str:
    """Raises FailedPreconditionError where the endpoint withheld the response."""
    if choice.finish_reason in (STOP, LENGTH):
        return str(choice.finish_reason)
    raise FailedPreconditionError(
        f"the endpoint ended the response with {choice.finish_reason!r}; accepted: {STOP} and "
        f"{LENGTH}",
        reason="RESPONSE_WITHHELD",
    )


def error_of(error: openai.APIError, endpoint: str) -> PlumblineError:
    """The error of the platform's tree for what the endpoint said.

    The endpoint's 401 and 403 are about this service's key: its callers cannot mend them.
    """
    said = f"{endpoint}: {error.message}"
    match error:
        case openai.APITimeoutError():
            return DeadlineExceededError(f"{endpoint} did not answer in time")
        case openai.APIConnectionError():
            return UnavailableError(f"{endpoint} does not answer: {error.__cause__ or error}")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return FailedPreconditionError(
                f"{said}; accepted: a key in PLUMBLINE_OPENAI_API_KEY that the endpoint knows",
                reason="ENDPOINT_REFUSES_KEY",
            )
        case openai.NotFoundError():
            return NotFoundError(said)
        case openai.RateLimitError():
            return ResourceExhaustedError(said)
        case openai.APIStatusError(status_code=504 | 408):
            return DeadlineExceededError(said)
        case openai.APIStatusError(status_code=code) if code < 500:
            return InvalidInputError(said, field=error.param)
    return UnavailableError(said)
