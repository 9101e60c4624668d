"""Rollouts from a SamplerService: records to requests and back.

Works with any synchronous stub; used by the stage, by training against a remote sampler, and by
evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Message, Prompt, Rollout, content_id
from plumbline.data.template import Template
from plumbline.data.wire import prompt_to_wire, template_to_wire
from plumbline.sampler.seeds import prompt_seeds
from plumbline.v1 import sampler_pb2, types_pb2

_FINISH_REASONS = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
}
_MAX_CALL_BYTES = 8 * 2**20
"""Half of the platform's message limit, because the estimate below is one."""
_BYTES_PER_TOKEN = 20
"""Of a response: an id, two logprobs and some text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRequest:
    """How rollouts are drawn."""

    k: int = 1
    """Responses per prompt."""
    temperatures: tuple[float, ...] = (1.0,)
    """Response j uses temperatures[j mod length]."""
    top_p: float = 1.0
    top_k: int = 0
    max_response_tokens: int = 128
    stop: tuple[str, ...] = ()
    template: Template = "chat"
    """How prompts are laid out."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InvalidInputError(f"k={self.k}; accepted: 1 or more", field="k")
        if not self.temperatures:
            raise InvalidInputError("no temperature; accepted: 1 or more", field="temperatures")


def sample_rollouts(
    stub: Any,
    policy: str,
    prompts: Sequence[Prompt],
    request: SamplingRequest,
    *,
    seed: int = 0,
    responses_per_call: int = 1024,
    timeout_s: float = 900.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """Draw rollouts, in as many calls as the limits on messages and deadlines ask for.

    Args:
        stub: a SamplerService stub of `connect("sampler")`.
        policy: artifact id, tag or directory that the service can read.
        seed: with a prompt's id it gives the prompt's seed, so neither the order of prompts nor
            the division into calls changes a response.
        timeout_s: deadline of each call.
        on_progress: called with (prompts done, prompts in all) after each call; what it raises
            ends the work.
    Returns:
        k rollouts for each prompt, in the order of the prompts.
    """
    seeds = prompt_seeds(seed, [prompt.id for prompt in prompts])
    rollouts: list[Rollout] = []
    for start, end in _calls(prompts, request, responses_per_call):
        chunk = prompts[start:end]
        response = stub.SampleResponses(
            sampling_to_wire(policy, chunk, request, seeds[start:end]), timeout=timeout_s
        )
        rollouts += rollouts_from_wire(response, chunk, request)
        if on_progress is not None:
            on_progress(end, len(prompts))
    return rollouts


def sampling_to_wire(
    policy: str, prompts: Sequence[Prompt], request: SamplingRequest, seeds: Sequence[int]
) -> sampler_pb2.SampleResponsesRequest:
    """The call that draws these responses; one seed per prompt."""
    return sampler_pb2.SampleResponsesRequest(
        policy=policy,
        prompts=[prompt_to_wire(prompt.messages) for prompt in prompts],
        responses_per_prompt=request.k,
        parameters=types_pb2.SamplingParameters(
            top_p=request.top_p,
            top_k=request.top_k,
            max_response_tokens=request.max_response_tokens,
            stop=request.stop,
        ),
        temperatures=request.temperatures,
        seeds=seeds,
        prompt_template=template_to_wire(request.template),
    )


def rollouts_from_wire(
    response: sampler_pb2.SampleResponsesResponse,
    prompts: Sequence[Prompt],
    request: SamplingRequest,
) -> list[Rollout]:
    """Rollouts of the prompts that were asked; they carry the prompts' kind and metadata."""
    rollouts = []
    for prompt, samples in zip(prompts, response.samples, strict=True):
        for j, sampled in enumerate(samples.responses):
            temperature = request.temperatures[j % len(request.temperatures)]
            rollouts.append(
                _rollout(response.policy_id, prompt, samples, sampled, temperature=temperature)
            )
    return rollouts


def compute_logprobs(
    stub: Any,
    policy: str,
    pairs: Sequence[tuple[Sequence[Message], str]],
    *,
    template: Template = "chat",
    pairs_per_call: int = 256,
    timeout_s: float = 900.0,
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Token ids and logprobs (nats, temperature 1) of (prompt, response) pairs, in their order.

    The end-of-sequence token is added to each response.
    """
    requests = (
        sampler_pb2.ComputeLogprobsRequest(
            policy=policy,
            pairs=[
                types_pb2.PromptResponse(prompt=prompt_to_wire(prompt), response=response)
                for prompt, response in pairs[start : start + pairs_per_call]
            ],
            prompt_template=template_to_wire(template),
        )
        for start in range(0, len(pairs), pairs_per_call)
    )
    return [
        (tuple(one.token_ids), tuple(one.logprobs))
        for request in requests
        for one in stub.ComputeLogprobs(request, timeout=timeout_s).responses
    ]


def rollout_logprobs(
    stub: Any,
    policy: str,
    rollouts: Sequence[Rollout],
    *,
    template: Template = "chat",
    rollouts_per_call: int = 256,
    timeout_s: float = 900.0,
) -> list[tuple[float, ...]]:
    """Logprobs (nats, temperature 1) of the very tokens that were sampled, in their order.

    Unlike `compute_logprobs` it neither encodes text again nor adds an end to a response that was
    cut off; the policy's tokenizer must be the one that the rollouts were drawn with.
    """
    requests = (
        sampler_pb2.ComputeLogprobsRequest(
            policy=policy,
            pairs=[types_pb2.PromptResponse(prompt=prompt_to_wire(r.prompt)) for r in chunk],
            responses=[sampler_pb2.ResponseTokens(token_ids=r.response_token_ids) for r in chunk],
            prompt_template=template_to_wire(template),
        )
        for start in range(0, len(rollouts), rollouts_per_call)
        for chunk in [rollouts[start : start + rollouts_per_call]]
    )
    return [
        tuple(one.logprobs)
        for request in requests
        for one in stub.ComputeLogprobs(request, timeout=timeout_s).responses
    ]


def _rollout(
    policy_id: str,
    prompt: Prompt,
    samples: sampler_pb2.PromptSamples,
    sampled: types_pb2.SampledResponse,
    *,
    temperature: float,
) -> Rollout:
    metadata = {"kind": prompt.kind, "risk_category": prompt.risk_category, "split": prompt.split}
    return Rollout(
        id=content_id(policy_id, prompt.id, sampled.seed, temperature, list(sampled.token_ids)),
        prompt_id=prompt.id,
        prompt=tuple(prompt.messages),
        response=sampled.text,
        prompt_token_ids=tuple(samples.prompt_token_ids),
        response_token_ids=tuple(sampled.token_ids),
        logprobs=tuple(sampled.logprobs),
        untempered_logprobs=tuple(sampled.untempered_logprobs),
        finish_reason=_FINISH_REASONS[sampled.finish_reason],
        temperature=temperature,
        seed=sampled.seed,
        policy_id=policy_id,
        metadata={**prompt.metadata, **{name: value for name, value in metadata.items() if value}},
    )


def _calls(
    prompts: Sequence[Prompt], request: SamplingRequest, responses_per_call: int
) -> Iterator[tuple[int, int]]:
    """Ranges of prompts, one per call; a prompt's k responses stay in one call."""
    start, size_bytes = 0, 0
    response_bytes = request.k * request.max_response_tokens * _BYTES_PER_TOKEN
    for index, prompt in enumerate(prompts):
        cost = response_bytes + 8 * sum(len(message.content) for message in prompt.messages)
        full = (index - start + 1) * request.k > responses_per_call
        if index > start and (full or size_bytes + cost > _MAX_CALL_BYTES):
            yield start, index
            start, size_bytes = index, 0
        size_bytes += cost
    if start < len(prompts):
        yield start, len(prompts)
