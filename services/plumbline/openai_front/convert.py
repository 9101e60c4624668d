"""From OpenAI's parameters to the sampler's messages."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.core.errors import InvalidInputError
from plumbline.core.rpc import MAX_MESSAGE_BYTES
from plumbline.data.records import Message, Role, user
from plumbline.data.wire import prompt_to_wire, template_to_wire
from plumbline.openai_front.config import FrontConfig
from plumbline.openai_front.requests import ChatBody, CompletionBody, SamplingBody
from plumbline.sampler.seeds import derive_seed, prompt_seeds
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import types_pb2

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}

_USUAL_TOKENS = 256
"""Of a response where the request sets no bound."""
_TOKEN_BYTES = 20
"""Of a token in the sampler's answer: id, two logprobs and some text."""
_ENTRY_BYTES = 24
"""Of a token or an alternative with its text and logprob."""


def sample_request(body: SamplingBody, seed: int, config: FrontConfig) -> pb.SampleResponsesRequest:
    """One call for all choices: choice i * n + k is response k to prompt i.

    Args:
        seed: of the request; see `seeds_of_prompts`.
    Raises:
        InvalidInputError: more choices than the front takes, or than fit in one answer.
    """
    prompts, template = _prompts(body)
    _check_choices(len(prompts), body.n, config.max_choices)
    _check_answer(body, len(prompts) * body.n)
    return pb.SampleResponsesRequest(
        policy=policy_reference(body.model, config),
        prompts=prompts,
        responses_per_prompt=body.n,
        parameters=_parameters(body, seed),
        seeds=seeds_of_prompts(seed, _texts(body)),
        prompt_template=template,
    )


def generate_requests(
    body: SamplingBody, seed: int, config: FrontConfig
) -> list[pb.GenerateRequest]:
    """One call for each choice, that draw what the one call of `sample_request` draws.

    Raises:
        InvalidInputError: more choices than the front streams at a time.
    """
    prompts, template = _prompts(body)
    _check_choices(len(prompts), body.n, config.max_streamed_choices)
    return [
        pb.GenerateRequest(
            policy=policy_reference(body.model, config),
            prompt=prompt,
            parameters=_parameters(body, derive_seed(prompt_seed, k)),
            prompt_template=template,
        )
        for prompt, prompt_seed in zip(prompts, seeds_of_prompts(seed, _texts(body)), strict=True)
        for k in range(body.n)
    ]


def policy_reference(model: str, config: FrontConfig) -> str:
    """The policy that a model's name means; empty is the sampler's default."""
    return config.default_policy if model in ("", "default") else model


def seeds_of_prompts(seed: int, texts: Sequence[str]) -> list[int]:
    """A seed for each prompt of a request, the same in whatever company the prompt comes.

    A prompt keeps the request's seed, so that it draws what it would draw alone; where it is
    repeated in order to get several responses, each repetition gets another seed.
    """
    first = {text: index for index, text in reversed(list(enumerate(texts)))}
    return [
        seed if first[text] == index else derived
        for index, (text, derived) in enumerate(zip(texts, prompt_seeds(seed, texts), strict=True))
    ]


def _prompts(body: SamplingBody) -> tuple[list[types_pb2.Prompt], types_pb2.PromptTemplate]:
    if isinstance(body, CompletionBody):
        prompts = [prompt_to_wire([user(text)]) for text in body.prompt]
        return prompts, types_pb2.PROMPT_TEMPLATE_PLAIN
    if isinstance(body, ChatBody):
        turns = [Message(_ROLES[turn.role], turn.content) for turn in body.messages]
        return [prompt_to_wire(turns)], template_to_wire(body.prompt_template)
    raise TypeError(f"{type(body).__name__} holds no prompt")


def _texts(body: SamplingBody) -> list[str]:
    """What tells the prompts of one request apart."""
    return body.prompt if isinstance(body, CompletionBody) else [""]


def _parameters(body: SamplingBody, seed: int) -> types_pb2.SamplingParameters:
    return types_pb2.SamplingParameters(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        max_response_tokens=body.max_response_tokens,
        seed=seed,
        stop=body.stop,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        logit_bias=body.logit_bias,
        top_logprobs=body.details,
    )


def _check_choices(prompts: int, n: int, limit: int) -> None:
    if prompts * n > limit:
        raise InvalidInputError(
            f"{prompts} prompts times n={n} are {prompts * n} choices; accepted: up to {limit} in "
            "one request",
            field="n" if n > 1 else "prompt",
            reason="INVALID_VALUE",
        )


def _check_answer(body: SamplingBody, choices: int) -> None:
    """The sampler answers in one message; one that is too large would be lost when it is made."""
    tokens = choices * (body.max_response_tokens or _USUAL_TOKENS)
    entries = 0 if body.details is None else 1 + body.details
    most_bytes = tokens * (_TOKEN_BYTES + entries * _ENTRY_BYTES)
    if most_bytes > MAX_MESSAGE_BYTES:
        raise InvalidInputError(
            f"{choices} choices of these lengths may take {most_bytes / 2**20:.0f} MiB; accepted: "
            f"up to {MAX_MESSAGE_BYTES / 2**20:.0f}; stream them, or ask for fewer, for shorter "
            "ones or for fewer logprobs",
            field="max_tokens" if choices == 1 else "n",
            reason="INVALID_VALUE",
        )
