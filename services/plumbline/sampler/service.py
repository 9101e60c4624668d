"""SamplerService: translates messages; `SamplerEngine` decides. Errors map in core.rpc."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable

import grpc

from plumbline.core.errors import CancelledError, DeadlineExceededError
from plumbline.core.rpc import remaining_s, run_blocking, stream_blocking
from plumbline.data.wire import messages_from_wire, template_from_wire
from plumbline.sampler.engine import Policy, PromptResponses, SamplerEngine, SamplingOptions
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc as pb_grpc
from plumbline.v1 import types_pb2

_FINISH_REASONS = {
    "stop": types_pb2.FINISH_REASON_STOP,
    "length": types_pb2.FINISH_REASON_LENGTH,
}


class SamplerService(pb_grpc.SamplerServiceServicer):
    """Serves one engine."""

    def __init__(self, engine: SamplerEngine) -> None:
        self._engine = engine

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        deltas = stream_blocking(
            self._engine.generate,
            request.policy,
            messages_from_wire(request.prompt),
            options_from_wire(request.parameters),
            seed=request.parameters.seed,
            template=template_from_wire(request.prompt_template),
        )
        sequence = response_tokens = 0
        async for delta in deltas:
            response_tokens += len(delta.tokens)
            message = pb.GenerateResponse(
                sequence=sequence,
                delta=delta.text,
                token_ids=[token.token_id for token in delta.tokens],
                logprobs=[token.logprob for token in delta.tokens],
                policy_id=delta.policy_id,
            )
            if delta.finish_reason is not None:
                message.finish_reason = _FINISH_REASONS[delta.finish_reason]
                message.usage.prompt_tokens = delta.prompt_tokens
                message.usage.response_tokens = response_tokens
            sequence += 1
            yield message

    async def SampleResponses(
        self, request: pb.SampleResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.SampleResponsesResponse:
        prompts = [messages_from_wire(prompt) for prompt in request.prompts]
        abandoned = threading.Event()
        try:
            policy_id, samples = await run_blocking(
                self._engine.sample,
                request.policy,
                prompts,
                options_from_wire(request.parameters, tuple(request.temperatures)),
                k=request.responses_per_prompt or 1,
                seeds=list(request.seeds) or [request.parameters.seed] * len(prompts),
                template=template_from_wire(request.prompt_template),
                before_step=_stop_when(abandoned),
            )
        finally:
            # A thread cannot be interrupted: when the caller is gone, the next step sees this.
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
            self._engine.compute_logprobs,
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
        policy = await run_blocking(self._engine.load, request.policy)
        return pb.LoadPolicyResponse(policy=_policy_to_wire(policy))

    async def GetPolicy(
        self, request: pb.GetPolicyRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPolicyResponse:
        policy = await run_blocking(self._engine.policy, request.policy)
        return pb.GetPolicyResponse(policy=_policy_to_wire(policy))


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
    )


def _stop_when(abandoned: threading.Event) -> Callable[[], None]:
    """A check that raises once nobody waits for the answer."""

    def check() -> None:
        if abandoned.is_set():
            raise CancelledError("the caller went away while responses were being drawn")
        remaining = remaining_s()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceededError(
                "the deadline passed while responses were being drawn; allow more time, or ask for "
                "fewer or shorter responses"
            )

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
