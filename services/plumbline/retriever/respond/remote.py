"""The sampler and the reward service as the loop asks them, over the platform's services."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from plumbline.data.records import Message
from plumbline.data.wire import prompt_to_wire
from plumbline.retriever.respond.config import RewardChecksConfig
from plumbline.retriever.respond.interfaces import Delta, Draw, Draws, Scores
from plumbline.v1 import reward_pb2, sampler_pb2, types_pb2

_FINISH_REASONS = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
}
_HEADS = {
    "helpfulness": reward_pb2.HEAD_HELPFULNESS,
    "safety": reward_pb2.HEAD_SAFETY,
    "combined": reward_pb2.HEAD_COMBINED,
}


@dataclass(frozen=True, slots=True)
class RemoteSampler:
    """Draws over a SamplerService.

    Args:
        stub: gives a stub of `aconnect("sampler")`; called with each request.
    """

    stub: Callable[[], Any]

    async def stream(
        self, policy: str, messages: Sequence[Message], options: Mapping[str, Any], seed: int
    ) -> AsyncGenerator[Delta, None]:
        """One reply as it is drawn; however this is left, the call does not go on."""
        call = self.stub().Generate(
            sampler_pb2.GenerateRequest(
                policy=policy,
                prompt=prompt_to_wire(messages),
                parameters=parameters_to_wire(options, seed),
            )
        )
        try:
            async for message in call:
                yield Delta(
                    text=message.delta,
                    response_tokens=len(message.token_ids),
                    finish_reason=_FINISH_REASONS.get(message.finish_reason, ""),
                    policy_id=message.policy_id,
                    prompt_tokens=message.usage.prompt_tokens,
                )
        finally:
            call.cancel()

    async def sample(
        self,
        policy: str,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        seed: int,
        *,
        k: int,
    ) -> Draws:
        """k whole replies of one call."""
        response = await self.stub().SampleResponses(
            sampler_pb2.SampleResponsesRequest(
                policy=policy,
                prompts=[prompt_to_wire(messages)],
                responses_per_prompt=k,
                parameters=parameters_to_wire(options, seed),
            )
        )
        (samples,) = response.samples
        return Draws(
            replies=tuple(
                Draw(reply.text, _FINISH_REASONS[reply.finish_reason])
                for reply in samples.responses
            ),
            policy_id=response.policy_id,
            prompt_tokens=response.usage.prompt_tokens,
            response_tokens=response.usage.response_tokens,
        )

    async def context_length(self, policy: str) -> int:
        """Of the policy that a request would get."""
        response = await self.stub().GetPolicy(sampler_pb2.GetPolicyRequest(policy=policy))
        length: int = response.policy.context_length
        return length


@dataclass(frozen=True, slots=True)
class RemoteScorer:
    """Scores over a RewardService.

    Args:
        stub: gives a stub of `aconnect("reward")`; called with each request.
    """

    stub: Callable[[], Any]
    config: RewardChecksConfig

    async def score(
        self,
        messages: Sequence[Message],
        replies: Sequence[str],
        *,
        heads: Sequence[str],
        risky: bool,
    ) -> Scores:
        """Logits of each reply under each head."""
        prompt = prompt_to_wire(messages)
        response = await self.stub().ScoreResponses(
            reward_pb2.ScoreResponsesRequest(
                items=[
                    reward_pb2.ScoredItem(
                        pair=types_pb2.PromptResponse(prompt=prompt, response=reply), risky=risky
                    )
                    for reply in replies
                ],
                heads=[_HEADS[head] for head in heads],
                models=reward_pb2.RewardModels(
                    helpfulness=self.config.helpfulness, safety=self.config.safety
                ),
            )
        )
        return Scores(
            by_reply=tuple(dict(result.scores) for result in response.results),
            reward_model_ids=dict(response.reward_model_ids),
        )


def parameters_to_wire(options: Mapping[str, Any], seed: int) -> types_pb2.SamplingParameters:
    """Sampling parameters with a seed."""
    parameters = types_pb2.SamplingParameters(seed=seed)
    json_format.ParseDict(dict(options), parameters)
    return parameters


def options_from_wire(parameters: types_pb2.SamplingParameters) -> dict[str, Any]:
    """Sampling parameters but for the seed, by their names in the contract."""
    options: dict[str, Any] = json_format.MessageToDict(
        parameters, preserving_proto_field_name=True
    )
    options.pop("seed", None)
    return options
