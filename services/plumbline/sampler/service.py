"""SamplerService: translates messages; a backend decides. Errors map in core.rpc."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable

import grpc

from plumbline.core.errors import CancelledError
from plumbline.core.rpc import remaining_s, run_blocking
from plumbline.data.wire import messages_from_wire, template_from_wire
from plumbline.sampler.interface import (
    Delta,
    Policy,
    PromptResponses,
    SamplerBackend,
    SamplingOptions,
    TokenDetail,
)
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc as pb_grpc
from plumbline.v1 import types_pb2

_FINISH_REASONS = {
    "stop": types_pb2.FINISH_REASON_STOP,
    "length": types_pb2.FINISH_REASON_LENGTH,
}


class SamplerService(pb_grpc.SamplerServiceServicer):
    """Serves one backend."""

    def __init__(self, backend: SamplerBackend) -> None:
        self._backend = backend

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        deltas = self._backend.stream(
            request.policy,
            messages_from_wire(request.prompt),
            options_from_wire(request.parameters),
            seed=request.parameters.seed,
            template=template_from_wire(request.prompt_template),
            deadline=_deadline(),
        )
        sequence = response_tokens = 0
        # Closed here and not when it is collected, so that what it holds is free at once.
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                response_tokens += len(delta.tokens)
                yield _delta_to_wire(delta, sequence, response_tokens)
                sequence += 1

    async def SampleResponses(
        self, request: pb.SampleResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.SampleResponsesResponse:
        prompts = [messages_from_wire(prompt) for prompt in request.prompts]
        abandoned = threading.Event()
        deadline = _deadline()
        try:
            policy_id, samples = await run_blocking(
                self._backend.sample,
                request.policy,
                prompts,
                options_from_wire(request.parameters, tuple(request.temperatures)),
                k=request.responses_per_prompt or 1,
                seeds=list(request.seeds) or [request.parameters.seed] * len(prompts),
                template=template_from_wire(request.prompt_template),
                deadline=deadline,
                while_waiting=_stop_when(abandoned),
            )
        finally:
            # A thread cannot be interrupted: when the caller is gone, its next look sees this.
            abandoned.set()
        return pb.SampleResponsesResponse(
            samples=[_samples_to_wire(sample) for sample in samples],
            policy_id=policy_id,
            usage=types_pb2.Usage(
                prompt_tokens=sum(len(sample.prompt_token_ids) for sample in samples),
                response_tokens=sum(
                    len(response.sampled.token_ids)
                    for sample in samples
                    for response in sample.responses
                ),
            ),
        )

    async def ComputeLogprobs(
        self, request: pb.ComputeLogprobsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ComputeLogprobsResponse:
        pairs = [(messages_from_wire(pair.prompt), pair.response) for pair in request.pairs]
        policy_id, scored = await run_blocking(
            self._backend.compute_logprobs,
            request.policy,
            pairs,
            token_ids=[list(response.token_ids) for response in request.responses],
            template=template_from_wire(request.prompt_template),
        )
        return pb.ComputeLogprobsResponse(
            responses=[
                pb.TokenLogprobs(token_ids=token_ids, logprobs=logprobs)
                for token_ids, logprobs in scored
            ],
            policy_id=policy_id,
        )

    async def LoadPolicy(
        self, request: pb.LoadPolicyRequest, context: grpc.aio.ServicerContext
    ) -> pb.LoadPolicyResponse:
        policy = await run_blocking(self._backend.load, request.policy, request.base)
        return pb.LoadPolicyResponse(policy=_policy_to_wire(policy))

    async def GetPolicy(
        self, request: pb.GetPolicyRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPolicyResponse:
        policy = await run_blocking(self._backend.policy, request.policy)
        return pb.GetPolicyResponse(policy=_policy_to_wire(policy))

    async def ListPolicies(
        self, request: pb.ListPoliciesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListPoliciesResponse:
        policies, default = await run_blocking(self._backend.policies)
        return pb.ListPoliciesResponse(
            policies=[_policy_to_wire(policy) for policy in policies], default_policy=default
        )


def options_from_wire(
    parameters: types_pb2.SamplingParameters, temperatures: tuple[float, ...] = ()
) -> SamplingOptions:
    """Sampling options; absent fields take the defaults that the contract names.

    Args:
        temperatures: by response, in place of the parameters' one when there are any.
    """
    temperature = parameters.temperature if parameters.HasField("temperature") else 1.0
    return SamplingOptions(
        temperatures=temperatures or (temperature,),
        top_p=parameters.top_p if parameters.HasField("top_p") else 1.0,
        top_k=parameters.top_k,
        max_response_tokens=parameters.max_response_tokens,
        stop=tuple(parameters.stop),
        min_p=parameters.min_p,
        repetition_penalty=(
            parameters.repetition_penalty if parameters.HasField("repetition_penalty") else 1.0
        ),
        logit_bias=dict(parameters.logit_bias),
        top_logprobs=parameters.top_logprobs if parameters.HasField("top_logprobs") else None,
    )


def _deadline() -> float | None:
    """When the caller of this call stops waiting, by `time.monotonic`."""
    remaining = remaining_s()
    return None if remaining is None else time.monotonic() + remaining


def _delta_to_wire(delta: Delta, sequence: int, response_tokens: int) -> pb.GenerateResponse:
    message = pb.GenerateResponse(
        sequence=sequence,
        delta=delta.text,
        token_ids=[token.token_id for token in delta.tokens],
        logprobs=[token.logprob for token in delta.tokens],
        untempered_logprobs=[token.untempered_logprob for token in delta.tokens],
        details=[_detail_to_wire(detail) for detail in delta.details],
        policy_id=delta.policy_id,
    )
    if delta.finish_reason is not None:
        message.finish_reason = _FINISH_REASONS[delta.finish_reason]
        message.usage.prompt_tokens = delta.prompt_tokens
        message.usage.response_tokens = response_tokens
    return message


def _detail_to_wire(detail: TokenDetail) -> types_pb2.TokenDetail:
    return types_pb2.TokenDetail(
        token_id=detail.token_id,
        text=detail.text,
        logprob=detail.logprob,
        alternatives=[
            types_pb2.TokenAlternative(
                token_id=other.token_id, text=other.text, logprob=other.logprob
            )
            for other in detail.alternatives
        ],
    )


def _stop_when(abandoned: threading.Event) -> Callable[[], None]:
    """A check that raises once nobody waits for the answer."""

    def check() -> None:
        if abandoned.is_set():
            raise CancelledError("the caller went away while responses were being drawn")

    return check


def _samples_to_wire(samples: PromptResponses) -> pb.PromptSamples:
    return pb.PromptSamples(
        prompt_token_ids=samples.prompt_token_ids,
        responses=[
            types_pb2.SampledResponse(
                text=response.text,
                token_ids=response.sampled.token_ids,
                logprobs=response.sampled.logprobs,
                finish_reason=_FINISH_REASONS[response.sampled.finish_reason],
                seed=response.sampled.seed,
                untempered_logprobs=response.sampled.untempered_logprobs,
                details=[_detail_to_wire(detail) for detail in response.details],
            )
            for response in samples.responses
        ],
    )


def _policy_to_wire(policy: Policy) -> pb.Policy:
    return pb.Policy(
        id=policy.id,
        reference=policy.reference,
        architecture=policy.architecture,
        parameters=policy.parameters,
        context_length=policy.context_length,
        vocabulary_size=policy.vocabulary_size,
    )
